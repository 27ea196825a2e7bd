package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// delivery is an event owed to a subscription that did not go at first pass.
type delivery struct {
	ID           string              `json:"id"`
	Subscription subscriptions.ID    `json:"subscription"`
	Replay       *store.JobID        `json:"replay" doc:"The replay that it is of; null: of none."`
	State        store.DeliveryState `json:"state" enum:"retrying,blocked,dead" doc:"retrying: due at due_at, or in flight; blocked: behind a retrying event of the same key; dead: ended, and kept."`
	Sequence     string              `json:"sequence" pattern:"^[0-9]{20}$" doc:"The event's offset in the log."`
	Keys         []string            `json:"keys" doc:"The keys it orders: two at a key change."`
	Attempts     int                 `json:"attempts" doc:"Tries that were charged."`
	DueAt        *time.Time          `json:"due_at" doc:"When a retrying one is tried next."`
	FirstFailed  *time.Time          `json:"first_failed_at"`
	Reason       string              `json:"reason" doc:"Why the last try failed."`
	Status       int                 `json:"status" doc:"HTTP status of the last try; 0: there was no response."`
	Error        string              `json:"error"`
	UpdatedAt    time.Time           `json:"updated_at"`
	Event        *event              `json:"event,omitempty" doc:"The event: in lists without data; absent where it is gone."`
}

func showDelivery(d store.Delivery) delivery {
	out := delivery{
		ID: deliveryID{d.Lane, d.Offset}.String(), Subscription: d.Subscription, State: d.State,
		Sequence: d.Offset.String(), Keys: d.Keys, Attempts: d.Attempts, DueAt: optionalTime(d.DueAt),
		FirstFailed: optionalTime(d.FirstFailedAt), Reason: d.Reason, Status: d.Status, Error: d.Error,
		UpdatedAt: d.UpdatedAt.UTC(),
	}
	if out.Keys == nil {
		out.Keys = []string{}
	}
	if d.Replay != "" {
		out.Replay = &d.Replay
	}
	if d.Event != nil {
		out.Event = new(showEvent(d.Event))
	}
	return out
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}

// appendJSON writes the event last, its data as it is stored.
func (d delivery) appendJSON(dst []byte) ([]byte, error) {
	e := d.Event
	d.Event = nil
	head, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("write delivery: %w", err)
	}
	dst = append(dst, head...)
	if e == nil {
		return dst, nil
	}
	dst = append(dst[:len(dst)-1], `,"event":`...)
	if dst, err = e.appendJSON(dst); err != nil {
		return nil, err
	}
	return append(dst, '}'), nil
}

type (
	deliveriesInput struct {
		PageInput
		Subscription string              `query:"subscription" doc:"Of this subscription (id)."`
		State        store.DeliveryState `query:"state" enum:"retrying,blocked,dead"`
		Reason       string              `query:"reason"`
		Status       int                 `query:"status" minimum:"100" maximum:"599" doc:"HTTP status of the last try."`
		Type         string              `query:"type" doc:"Of events of exactly this type."`
		Key          string              `query:"key" doc:"Ordered by exactly this key."`
		Event        string              `query:"event" doc:"Of the event with this id."`
		Filter       string              `query:"filter" doc:"Of events on which this CEL expression is true, as a subscription's filter."`
		Since        time.Time           `query:"since" doc:"Changed at or after this time."`
		Until        time.Time           `query:"until" doc:"Changed before this time."`
	}
	eventDeliveriesInput struct {
		PageInput
		ID string `path:"id" doc:"As in the event, or its webhook-id."`
	}
	deliveriesOutput struct{ Body page[delivery] }
	deliveryPath     struct {
		ID string `path:"id" doc:"dlv_…"`
	}
	deliveryOutput struct{ Body delivery }
	requested      struct {
		ID     string `json:"id"`
		Action string `json:"action" enum:"retry,discard"`
	}
	requestedOutput struct{ Body requested }
)

func (a *API) registerDeliveries() {
	tags := []string{"deliveries"}
	handle(a, huma.Operation{
		OperationID: "list-deliveries", Method: http.MethodGet, Path: "/v1/deliveries", Tags: tags,
		Summary: "List deliveries that did not go at first pass, newest event first",
		Description: "A page may end before limit, and even be empty, where few of very many deliveries fit the filters: " +
			"next_cursor alone says whether there is more.",
	}, ScopeRead, a.listDeliveries)
	handle(a, huma.Operation{
		OperationID: "list-event-deliveries", Method: http.MethodGet, Path: "/v1/events/{id}/deliveries", Tags: []string{"events"},
		Summary:     "List the deliveries of an event: where it did not go at first pass",
		Description: "What was delivered at first pass, and who does not want it, has none. A restricted key asks GET /v1/deliveries for an event.",
	}, ScopeRead, a.listEventDeliveries)
	handle(a, huma.Operation{
		OperationID: "get-delivery", Method: http.MethodGet, Path: "/v1/deliveries/{id}", Tags: tags,
		Summary: "Get a delivery with its event",
	}, ScopeRead, a.getDelivery)
	handle(a, huma.Operation{
		OperationID: "retry-delivery", Method: http.MethodPost, Path: "/v1/deliveries/{id}/retry", Tags: tags,
		Summary:       "Try a delivery again now, with a new budget",
		Description:   "Answered when the wish is recorded; the lane's owner applies it. The delivery is gone once it has succeeded.",
		DefaultStatus: http.StatusAccepted,
	}, ScopeDeliver, a.request("retry"))
	handle(a, huma.Operation{
		OperationID: "discard-delivery", Method: http.MethodPost, Path: "/v1/deliveries/{id}/discard", Tags: tags,
		Summary:       "Give a delivery up",
		Description:   "Answered when the wish is recorded; the lane's owner applies it. Events of its key that waited for it go on.",
		DefaultStatus: http.StatusAccepted,
	}, ScopeDeliver, a.request("discard"))
}

func (a *API) listDeliveries(ctx context.Context, in *deliveriesInput) (*deliveriesOutput, error) {
	subscription, err := filterID(in.Subscription)
	if err != nil {
		return nil, err
	}
	filters := joinFilters(in.Subscription, string(in.State), in.Reason, strconv.Itoa(in.Status), in.Type, in.Key, in.Event, in.Filter, stamp(in.Since), stamp(in.Until))
	position, err := openCursor("deliveries", filters, in.Cursor)
	if err != nil {
		return nil, err
	}
	at, err := splitNumbers(position, 2)
	if err != nil {
		return nil, err
	}
	only, err := a.newSearch(in.Filter)
	if err != nil {
		return nil, err
	}
	filter := store.DeliveryFilter{
		Subscription: subscription, State: in.State, Reason: in.Reason, Status: in.Status, Type: in.Type, Key: in.Key,
		Since: in.Since, Until: in.Until, Past: store.DeliveryPlace{Offset: store.Offset(at[0]), Lane: store.LaneID(at[1])}, Labels: restriction(ctx),
	}
	out := &deliveriesOutput{Body: page[delivery]{Items: []delivery{}}}
	if in.Event != "" {
		e, err := a.store.EventByID(ctx, in.Event)
		if errors.Is(err, store.ErrNotFound) {
			return out, nil // what retention has dropped, or never was, is owed to nobody
		}
		if err != nil {
			return nil, err
		}
		filter.Offset = e.Offset
	}
	look := startLooking()
	for more := true; more; {
		batch := in.Limit - len(out.Body.Items)
		if only != nil {
			batch = searchBatch // few of them are wanted
		}
		found, next, err := a.store.Deliveries(ctx, filter, batch, look.next(len(out.Body.Items)))
		if err != nil {
			return nil, err
		}
		selected, err := a.selectDeliveries(ctx, only, found)
		if err != nil {
			return nil, err
		}
		for i := range found {
			if !selected[i] {
				continue
			}
			hideNotice(ctx, &found[i])
			out.Body.Items = append(out.Body.Items, showDelivery(found[i]))
			if len(out.Body.Items) == in.Limit && (i+1 < len(found) || next != store.DeliveryPlace{}) {
				next = store.DeliveryPlace{Offset: found[i].Offset, Lane: found[i].Lane}
				break
			}
		}
		filter.Past = next
		more = len(out.Body.Items) < in.Limit && next != store.DeliveryPlace{} && look.left(len(out.Body.Items)) > 0
	}
	if filter.Past != (store.DeliveryPlace{}) {
		out.Body.NextCursor = sealCursor("deliveries", filters, joinNumbers(int64(filter.Past.Offset), int64(filter.Past.Lane)))
	}
	return out, nil
}

// listEventDeliveries is the list of one event's, which must be there.
func (a *API) listEventDeliveries(ctx context.Context, in *eventDeliveriesInput) (*deliveriesOutput, error) {
	if _, err := a.getEvent(ctx, &eventPath{ID: in.ID}); err != nil {
		return nil, err
	}
	return a.listDeliveries(ctx, &deliveriesInput{PageInput: in.PageInput, Event: in.ID})
}

// selectDeliveries says which of some deliveries' events are looked for, and takes
// the data out of them.
func (a *API) selectDeliveries(ctx context.Context, only *search, found []store.Delivery) ([]bool, error) {
	selected := make([]bool, len(found))
	if only != nil {
		if err := a.store.ReadEvents(ctx, found); err != nil {
			return nil, err
		}
	}
	for i := range found {
		d := &found[i]
		var err error
		if selected[i], err = only.selects(ctx, d.Event); err != nil {
			return nil, err
		}
		if d.Event != nil && d.Event.Data != nil {
			bare := *d.Event
			bare.Data = nil
			d.Event = &bare
		}
	}
	return selected, nil
}

func (a *API) getDelivery(ctx context.Context, in *deliveryPath) (*deliveryOutput, error) {
	id, ok := parseDeliveryID(in.ID)
	if !ok {
		return nil, store.ErrNotFound
	}
	d, err := a.store.Delivery(ctx, id.lane, id.offset)
	if err == nil {
		err = a.checkSeen(ctx, d.Subscription)
	}
	if err != nil {
		return nil, err
	}
	hideNotice(ctx, &d)
	return &deliveryOutput{Body: showDelivery(d)}, nil
}

// request records what a person wants of a delivery: only the lane's owner
// changes it.
func (a *API) request(action string) func(context.Context, *deliveryPath) (*requestedOutput, error) {
	return func(ctx context.Context, in *deliveryPath) (*requestedOutput, error) {
		id, ok := parseDeliveryID(in.ID)
		if !ok {
			return nil, store.ErrNotFound
		}
		if err := a.checkSeenDelivery(ctx, id); err != nil {
			return nil, err
		}
		err := a.store.Request(ctx, store.Intent{Lane: id.lane, Offset: id.offset, Action: action, Actor: caller(ctx)})
		if err != nil {
			return nil, err
		}
		return &requestedOutput{Body: requested{ID: in.ID, Action: action}}, nil
	}
}

// filterID reads a filter by subscription; empty stays empty.
func filterID(text string) (subscriptions.ID, error) {
	if text == "" {
		return "", nil
	}
	id, err := subscriptions.ParseID(text)
	if err != nil {
		return "", invalid("query.subscription", "not a subscription's id")
	}
	return id, nil
}

// stamp is a time as it stands in a cursor's filters.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
