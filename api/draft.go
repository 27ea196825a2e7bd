package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Draft is the request of an attempt as people may see it.
type Draft struct {
	URL     string
	Header  http.Header // without secrets
	Body    []byte
	Batched bool // Body is an array, in which other events may go along
}

// Drafter makes the request of an attempt at a time, by the subscription as it
// is. replay is the replay it is of; empty: of none.
type Drafter func(sub *subscriptions.Subscription, e *store.Event, replay store.JobID, at time.Time, attempt int) (Draft, error)

// draft is what an endpoint is sent.
type draft struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers" doc:"Without secrets and signatures."`
	Body    string            `json:"body" doc:"Byte for byte what is signed and sent."`
	Batched bool              `json:"batched" doc:"The body is an array, in which other events may go along."`
	Attempt int               `json:"attempt" doc:"The last that was made; 1 where none was."`
	Version int64             `json:"version" doc:"Of the subscription, which this was made by."`
	Changed bool              `json:"changed" doc:"The subscription was changed since the last attempt, which may have been another."`
	Error   string            `json:"error,omitempty" doc:"Why nothing can be sent, such as a transform that fails."`
}

type draftOutput struct{ Body draft }

func (a *API) registerDraft() {
	handle(a, huma.Operation{
		OperationID: "get-delivery-request", Method: http.MethodGet, Path: "/v1/deliveries/{id}/request", Tags: []string{"deliveries"},
		Summary:     "Show the request of a delivery: headers and body",
		Description: "Made anew by the subscription as it is now. What depends on the event alone, such as webhook-id and body, is the same on every attempt.",
	}, ScopeRead, a.getDraft)
}

func (a *API) getDraft(ctx context.Context, in *deliveryPath) (*draftOutput, error) {
	id, ok := parseDeliveryID(in.ID)
	if !ok {
		return nil, store.ErrNotFound
	}
	d, err := a.store.Delivery(ctx, id.lane, id.offset)
	if err != nil {
		return nil, err
	}
	sub, err := a.subscription(ctx, string(d.Subscription))
	if err != nil {
		return nil, err
	}
	if d.Event == nil {
		return nil, store.ErrNotFound
	}
	if hides(ctx, d.Event) {
		return nil, newProblem(problemForbidden, "the key is restricted to some subscriptions by its labels, and the event is a notice, which may speak of others: it needs a key without labels")
	}
	out := draft{Headers: map[string]string{}, Attempt: max(1, d.Attempts), Version: sub.Version, Changed: d.Attempts > 0 && sub.UpdatedAt.After(d.UpdatedAt)}
	event, err := a.transformed(ctx, &sub.Spec, d.Event)
	if fault, ok := errors.AsType[*subscriptions.EvalError](err); ok {
		out.Error = fault.Error()
		return &draftOutput{Body: out}, nil
	}
	if err != nil {
		return nil, err
	}
	made, err := a.config.Draft(&sub, event, d.Replay, d.UpdatedAt, out.Attempt)
	if err != nil {
		out.Error = err.Error()
		return &draftOutput{Body: out}, nil
	}
	for name, values := range made.Header {
		out.Headers[name] = strings.Join(values, ", ")
	}
	out.URL, out.Body, out.Batched = made.URL, string(made.Body), made.Batched
	return &draftOutput{Body: out}, nil
}

// transformed is the event with the data that the subscription is sent of it. Its
// error is an EvalError where the transform fails on it.
func (a *API) transformed(ctx context.Context, spec *subscriptions.Spec, e *store.Event) (*store.Event, error) {
	if spec.Transform == nil {
		return e, nil
	}
	table, err := a.store.TableTypes(ctx, e.Relation)
	if err != nil {
		return nil, err
	}
	data, err := a.programs.Transform(*spec.Transform).Apply(ctx, subscriptions.Decode(subscriptions.Attributes{
		Type: e.Type, Subject: e.SubjectText(), Source: e.Source, Time: e.CommittedAt(), Key: e.Key,
	}, e.Data, table))
	if err != nil {
		return nil, err
	}
	own := *e
	own.Data = data
	return &own, nil
}
