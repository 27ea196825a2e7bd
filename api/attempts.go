package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// outcomes are the words for store.Attempt's Outcome, by number.
func outcomes() []string { return []string{"delivered", "failed", "blocked", "unknown"} }

const outcomeBlocked = 2

// attempt is one HTTP try.
type attempt struct {
	ID           string           `json:"id"`
	At           time.Time        `json:"at" doc:"When it started."`
	Subscription subscriptions.ID `json:"subscription"`
	Delivery     string           `json:"delivery" doc:"Id of its delivery, if it has become one."`
	Sequence     string           `json:"sequence" pattern:"^[0-9]{20}$" doc:"The event's offset in the log."`
	Attempt      int              `json:"attempt" doc:"1 is the first try of the event."`
	DurationMS   float64          `json:"duration_ms"`
	Timings      timings          `json:"timings"`
	Status       int              `json:"status" doc:"HTTP status; 0: there was no response."`
	Outcome      string           `json:"outcome" enum:"delivered,failed,blocked,unknown"`
	Reason       string           `json:"reason" doc:"Empty when delivered."`
	Detail       json.RawMessage  `json:"detail,omitempty" doc:"Of failures: error, and what the endpoint said; of a batch only with its first event, and with the batch's webhook-id. Nothing of targets that are not allowed."`
	Event        *attemptedEvent  `json:"event,omitempty" doc:"The event that was tried, in lists: absent where the log holds it no more."`
}

// attemptedEvent says what was tried.
type attemptedEvent struct {
	ID           string    `json:"id"`
	Type         string    `json:"type"`
	Subject      string    `json:"subject"`
	PartitionKey string    `json:"partitionkey"`
	Time         time.Time `json:"time" doc:"When it was committed."`
}

// timings are how long an attempt's stages took.
type timings struct {
	DNS       *float64 `json:"dns_ms" doc:"null: there was none, as over a connection that was there, or it is not known."`
	Connect   *float64 `json:"connect_ms" doc:"All addresses that were tried."`
	TLS       *float64 `json:"tls_ms"`
	FirstByte *float64 `json:"first_byte_ms" doc:"From the start to the head of the response; null: none came, or it is not known."`
}

func showTimings(t store.Timings) timings {
	optional := func(d time.Duration) *float64 {
		if d == 0 {
			return nil
		}
		return new(milliseconds(d))
	}
	return timings{optional(t.DNS), optional(t.Connect), optional(t.TLS), optional(t.FirstByte)}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func showAttempt(at store.Attempt) attempt {
	out := attempt{
		ID: attemptID{at.At, at.Lane, at.Offset}.String(),
		At: at.At.UTC(), Subscription: at.Subscription, Delivery: deliveryID{at.Lane, at.Offset}.String(),
		Sequence: at.Offset.String(), Attempt: at.Attempt, DurationMS: milliseconds(at.Duration),
		Status: at.Status, Outcome: "unknown", Reason: at.Reason,
	}
	if n := int(at.Outcome); n >= 0 && n < len(outcomes()) {
		out.Outcome = outcomes()[n]
	}
	// What is said of a target that may not be called would map the network
	// behind us.
	if at.Outcome != outcomeBlocked {
		out.Timings = showTimings(at.Timings)
		if json.Valid(at.Detail) {
			out.Detail = at.Detail
		}
	}
	return out
}

type (
	attemptsInput struct {
		PageInput
		Subscription string `query:"subscription" doc:"Of this subscription (id)."`
		Event        string `query:"event" doc:"Of the event with this id."`
		Delivery     string `query:"delivery" doc:"Of the delivery with this id, also when it has ended."`
		Outcome      string `query:"outcome" enum:"delivered,failed,blocked,unknown"`
	}
	attemptsOutput struct{ Body page[attempt] }
	attemptPath    struct {
		ID string `path:"id" doc:"att_…"`
	}
	attemptOutput struct{ Body attempt }
)

func (a *API) registerAttempts() {
	handle(a, huma.Operation{
		OperationID: "list-attempts", Method: http.MethodGet, Path: "/v1/attempts", Tags: []string{"attempts"},
		Summary:     "List HTTP tries, newest first",
		Description: "A page may end before limit, and even be empty, where few of very many tries fit the filters: next_cursor alone says whether there is more.",
	}, ScopeRead, a.listAttempts)
	handle(a, huma.Operation{
		OperationID: "get-attempt", Method: http.MethodGet, Path: "/v1/attempts/{id}", Tags: []string{"attempts"},
		Summary: "Get an HTTP try",
	}, ScopeRead, a.getAttempt)
}

func (a *API) getAttempt(ctx context.Context, in *attemptPath) (*attemptOutput, error) {
	id, ok := parseAttemptID(in.ID)
	if !ok {
		return nil, store.ErrNotFound
	}
	try, err := a.store.Attempt(ctx, id.lane, id.offset, id.at)
	if err == nil {
		err = a.checkSeen(ctx, try.Subscription)
	}
	if err != nil {
		return nil, err
	}
	return &attemptOutput{Body: showAttempt(try)}, nil
}

func (a *API) listAttempts(ctx context.Context, in *attemptsInput) (*attemptsOutput, error) {
	out := &attemptsOutput{Body: page[attempt]{Items: []attempt{}}}
	subscription, err := filterID(in.Subscription)
	if err != nil {
		return nil, err
	}
	filters := joinFilters(in.Subscription, in.Event, in.Delivery, in.Outcome)
	position, err := openCursor("attempts", filters, in.Cursor)
	if err != nil {
		return nil, err
	}
	at, err := splitNumbers(position, 3)
	if err != nil {
		return nil, err
	}
	filter := store.AttemptFilter{Labels: restriction(ctx), Subscription: subscription}
	if position != "" {
		filter.Past = store.AttemptPlace{At: time.UnixMicro(at[0]).UTC(), Lane: store.LaneID(at[1]), Offset: store.Offset(at[2])}
	}
	if in.Outcome != "" {
		filter.Outcome = new(int16(slices.Index(outcomes(), in.Outcome)))
	}
	if in.Delivery != "" {
		id, ok := parseDeliveryID(in.Delivery)
		if !ok {
			return nil, invalid("query.delivery", "not a delivery's id")
		}
		filter.Lane, filter.Offset = id.lane, id.offset
	}
	if in.Event != "" {
		e, err := a.store.EventByID(ctx, in.Event)
		if errors.Is(err, store.ErrNotFound) {
			return out, nil // what retention has dropped, or never was, has no tries to show
		}
		if err != nil {
			return nil, err
		}
		if filter.Offset != 0 && filter.Offset != e.Offset {
			return out, nil
		}
		filter.Offset = e.Offset
	}
	var found []store.Attempt
	for look, more := startLooking(), true; more; {
		some, next, err := a.store.Attempts(ctx, filter, in.Limit-len(found), look.next(len(found)))
		if err != nil {
			return nil, err
		}
		found, filter.Past = append(found, some...), next
		more = len(found) < in.Limit && !next.At.IsZero() && look.left(len(found)) > 0
	}
	for _, try := range found {
		out.Body.Items = append(out.Body.Items, showAttempt(try))
	}
	if next := filter.Past; !next.At.IsZero() {
		out.Body.NextCursor = sealCursor("attempts", filters, joinNumbers(next.At.UnixMicro(), int64(next.Lane), int64(next.Offset)))
	}
	return out, a.addEvents(ctx, out.Body.Items, found)
}

// addEvents says of a page's tries which events they were of; found is them.
func (a *API) addEvents(ctx context.Context, items []attempt, found []store.Attempt) error {
	offsets := make([]store.Offset, len(items))
	for i := range items {
		offsets[i] = found[i].Offset
	}
	slices.Sort(offsets)
	events, err := a.store.EventsAt(ctx, slices.Compact(offsets))
	if err != nil {
		return err
	}
	for i := range items {
		if e := events[found[i].Offset]; e != nil {
			items[i].Event = &attemptedEvent{ID: e.ID(), Type: e.Type, Subject: e.SubjectText(), PartitionKey: e.Key, Time: e.CommittedAt()}
			if hides(ctx, e) {
				items[i].Event.Subject, items[i].Event.PartitionKey = "", ""
			}
		}
	}
	return nil
}
