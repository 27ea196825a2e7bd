package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
)

// listOffsets is how much of the log a list goes through before a page that has some
// ends: after store.ListTime at the latest. Of a type, most of it is jumped over.
const listOffsets = 250_000

// event is a row of the log as the API shows it: CloudEvents attributes and
// data, as they are delivered.
type event struct {
	SpecVersion     string          `json:"specversion" enum:"1.0"`
	ID              string          `json:"id" doc:"The same on every delivery; it is the webhook-id of row events."`
	Source          string          `json:"source"`
	Type            string          `json:"type" example:"public.orders.updated"`
	Subject         string          `json:"subject,omitempty" example:"id=42"`
	Time            time.Time       `json:"time" doc:"When it was committed; of a published event, what its publisher gave."`
	DataContentType string          `json:"datacontenttype" enum:"application/json"`
	PartitionKey    string          `json:"partitionkey" doc:"What it is ordered by."`
	Sequence        string          `json:"sequence" pattern:"^[0-9]{20}$" doc:"Its offset in the log."`
	Extensions      map[string]any  `json:"extensions,omitempty" doc:"Extension attributes that its publisher gave."`
	Data            json.RawMessage `json:"data,omitempty" doc:"As stored, byte for byte. Lists of deliveries leave it out."`
}

func showEvent(e *store.Event) event {
	out := event{
		SpecVersion: "1.0", ID: e.ID(), Source: e.Source, Type: e.Type, Subject: e.SubjectText(),
		Time: e.CommittedAt(), DataContentType: "application/json", PartitionKey: e.Key,
		Sequence: e.Offset.String(), Data: e.Data,
	}
	if e.Given == nil {
		return out
	}
	// A time that cannot be written would end every answer that holds the event.
	if at, err := time.Parse(time.RFC3339Nano, e.Given.Time); err == nil {
		for _, at := range []time.Time{at.UTC(), at} {
			if _, err := at.MarshalText(); err == nil {
				out.Time = at
			}
		}
	}
	for _, x := range e.Given.Extensions {
		if out.Extensions == nil {
			out.Extensions = map[string]any{}
		}
		out.Extensions[x.Name] = x.Value
	}
	return out
}

// appendJSON writes the attributes, and then the data as it is stored: a second
// encoder would touch its bytes, and refuse what is nested deeper than it likes.
func (e event) appendJSON(dst []byte) ([]byte, error) {
	data := e.Data
	e.Data = nil
	attributes, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write event: %w", err)
	}
	dst = append(dst, attributes...)
	if len(data) == 0 {
		return dst, nil
	}
	dst = append(dst[:len(dst)-1], `,"data":`...)
	return append(append(dst, data...), '}'), nil
}

type eventPage page[event]

func (p eventPage) appendJSON(dst []byte) ([]byte, error) {
	dst = append(dst, `{"items":[`...)
	for i, e := range p.Items {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = e.appendJSON(dst); err != nil {
			return nil, err
		}
	}
	next, err := json.Marshal(p.NextCursor)
	if err != nil {
		return nil, fmt.Errorf("write cursor: %w", err)
	}
	dst = append(append(dst, `],"next_cursor":`...), next...)
	return append(dst, '}'), nil
}

type (
	eventsInput struct {
		PageInput
		Type   string `query:"type" doc:"Exactly this type."`
		Key    string `query:"key" doc:"Exactly this partitionkey."`
		Filter string `query:"filter" doc:"On which this CEL expression is true, as a subscription's filter."`
	}
	eventsOutput struct{ Body eventPage }
	eventPath    struct {
		ID string `path:"id" doc:"The event's id."`
	}
	eventOutput struct{ Body event }
)

func (a *API) registerEvents() {
	handle(a, huma.Operation{
		OperationID: "list-events", Method: http.MethodGet, Path: "/v1/events", Tags: []string{"events"},
		Summary: "List events of the log, newest first",
		Description: "A page may end before limit, and even be empty, where payloads are large or few of very many events fit the filters: " +
			"next_cursor alone says whether there is more.",
	}, ScopeRead, a.listEvents)
	handle(a, huma.Operation{
		OperationID: "get-event", Method: http.MethodGet, Path: "/v1/events/{id}", Tags: []string{"events"},
		Summary: "Get an event",
	}, ScopeRead, a.getEvent)
}

func (a *API) listEvents(ctx context.Context, in *eventsInput) (*eventsOutput, error) {
	filters := joinFilters(in.Type, in.Key, in.Filter)
	position, err := openCursor("events", filters, in.Cursor)
	if err != nil {
		return nil, err
	}
	at, err := splitNumbers(position, 1)
	if err != nil {
		return nil, err
	}
	only, err := a.newSearch(in.Filter)
	if err != nil {
		return nil, err
	}
	filter := store.EventFilter{Type: in.Type, Key: in.Key, Past: store.Offset(at[0])}
	out := &eventsOutput{Body: eventPage{Items: []event{}}}
	look, top, bytes := startLooking(), cmp.Or(filter.Past, a.store.Head()), int64(0)
	for {
		batch, room := in.Limit-len(out.Body.Items)+1, max(0, maxPageBytes-bytes)
		if only != nil {
			batch, room = searchBatch, maxPageBytes // few of them are wanted
		}
		found, next, err := a.store.Events(ctx, filter, batch, room)
		if err != nil {
			return nil, err
		}
		more := func() (*eventsOutput, error) {
			out.Body.NextCursor = sealCursor("events", filters, joinNumbers(int64(filter.Past)))
			return out, nil
		}
		for i := range found {
			e := &found[i]
			if len(out.Body.Items) == in.Limit || bytes > 0 && bytes+int64(len(e.Data)) > maxPageBytes {
				return more()
			}
			filter.Past = e.Offset
			if selected, err := only.selects(ctx, e); err != nil {
				return nil, err
			} else if selected {
				out.Body.Items = append(out.Body.Items, showEvent(e))
				bytes += int64(len(e.Data))
			} else if look.left(len(out.Body.Items)) <= 0 {
				return more()
			}
		}
		if next == 0 {
			return out, nil
		}
		filter.Past = next
		n := len(out.Body.Items)
		if look.left(n) <= 0 || n > 0 && in.Type == "" && in.Key == "" && top-next >= listOffsets {
			return more()
		}
	}
}

func (a *API) getEvent(ctx context.Context, in *eventPath) (*eventOutput, error) {
	e, err := a.store.EventByID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if e.Kind == store.KindGap {
		return nil, store.ErrNotFound // a marker, not an event
	}
	return &eventOutput{Body: showEvent(e)}, nil
}
