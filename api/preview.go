package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Bounds of a preview.
const (
	maxPreview      = 100         // events
	standardPreview = 20          // events
	previewTime     = time.Second // of looking for them, and at them
	previewBytes    = 4 << 20     // of bodies, and of the data of what is read at a time
	previewBatch    = 20          // events that are read at a time
)

// previewInput is the body of preview, as the document describes it.
type previewInput struct {
	Events      []string `json:"events"`
	Filter      *string  `json:"filter"`
	Transform   *string  `json:"transform"`
	OrderingKey *string  `json:"ordering_key"`
	Limit       int      `json:"limit" minimum:"1" maximum:"100" default:"20" doc:"How many of the newest events of these types to look at."`
}

// preview is what expressions make of the newest events.
type preview struct {
	Items    []previewed `json:"items" doc:"Newest first."`
	Warnings []string    `json:"warnings" doc:"As of a subscription with these members."`
	Partial  bool        `json:"partial" doc:"A second was over, or the bodies weigh 4 MiB, before limit events were looked at."`
}

// previewed is one event.
type previewed struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Subject  string          `json:"subject,omitempty"`
	Time     time.Time       `json:"time"`
	Sequence string          `json:"sequence"`
	Matched  *bool           `json:"matched" doc:"What the filter says; true without one; null: it fails on the event."`
	Key      *string         `json:"key" doc:"The value of ordering_key; without one, the partitionkey. null: it fails, and the event waits for all of its table."`
	Errors   []previewError  `json:"errors" doc:"What fails on the event."`
	Body     json.RawMessage `json:"body" doc:"The value of the transform; without one, data. null: it is not wanted, or one of the two fails."`
}

type previewError struct {
	Field   string `json:"field" enum:"filter,transform,ordering_key"`
	Message string `json:"message"`
}

// appendJSON writes bodies byte for byte, as event does its data.
func (p preview) appendJSON(dst []byte) ([]byte, error) {
	dst = append(dst, `{"items":[`...)
	for i, item := range p.Items {
		body := item.Body
		item.Body = nil
		text, err := encode(item)
		if err != nil {
			return nil, fmt.Errorf("write preview: %w", err)
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		// body is the last member, and null.
		dst = append(dst, text[:len(text)-len("null}\n")]...)
		if body == nil {
			body = json.RawMessage("null")
		}
		dst = append(append(dst, body...), '}')
	}
	warnings, err := encode(p.Warnings)
	if err != nil {
		return nil, fmt.Errorf("write preview: %w", err)
	}
	return fmt.Appendf(dst, `],"warnings":%s,"partial":%t}`, warnings, p.Partial), nil
}

type (
	previewRequest struct {
		RawBody []byte `contentType:"application/json"`
	}
	previewOutput struct{ Body preview }
)

func (a *API) registerPreview(tags []string, base string) {
	handle(a, huma.Operation{
		OperationID: "preview-subscription", Method: http.MethodPost, Path: base + "/preview", Tags: tags,
		Summary: "Try a filter, a transform and an ordering key on the newest events",
		Description: "Nothing is made or sent. The newest events of the log that the patterns match are looked at, at most limit of " +
			"them and for at most a second. What a subscription with these members would be refused for is refused here.",
		RequestBody: a.body(typeOf[previewInput](), "", map[string][]string{"PreviewInput": {"events"}}, "application/json"),
	}, ScopeWrite, a.previewSubscription)
}

func (a *API) previewSubscription(ctx context.Context, in *previewRequest) (*previewOutput, error) {
	spec, limit, err := parsePreview(in.RawBody)
	if err != nil {
		return nil, err
	}
	if err := checkNotices(ctx, spec.Events); err != nil {
		return nil, err
	}
	warnings, err := a.checkExpressions(ctx, spec)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, previewTime)
	defer cancel()
	out := &previewOutput{Body: preview{Items: []previewed{}, Warnings: warnings}}
	set := subscriptions.NewSet([][]string{spec.Events})
	filter := store.EventFilter{}
	for bytes := 0; ; {
		found, next, err := a.store.Events(ctx, filter, previewBatch, previewBytes)
		for i := range found {
			e := &found[i]
			if len(set.Match(e.Type)) == 0 {
				continue
			}
			var item previewed
			if item, err = a.preview(ctx, spec, e); err != nil {
				break
			}
			out.Body.Items = append(out.Body.Items, item)
			bytes += len(item.Body)
			if len(out.Body.Items) == limit {
				return out, nil
			}
			if bytes > previewBytes {
				out.Body.Partial = true
				return out, nil
			}
		}
		switch {
		case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
			out.Body.Partial = true
			return out, nil
		case err != nil:
			return nil, err
		case next == 0:
			return out, nil
		}
		filter.Past = next
	}
}

// preview looks at one event. Its error is that of ctx or of the store.
func (a *API) preview(ctx context.Context, spec *subscriptions.Spec, e *store.Event) (previewed, error) {
	item := previewed{
		ID: e.ID(), Type: e.Type, Subject: e.SubjectText(), Time: e.CommittedAt(), Sequence: e.Offset.String(), Errors: []previewError{},
	}
	table, err := a.store.TableTypes(ctx, e.Relation)
	if err != nil {
		return item, err
	}
	d := subscriptions.Decode(subscriptions.Attributes{
		Type: e.Type, Subject: item.Subject, Source: e.Source, Time: item.Time, Key: e.Key,
	}, e.Data, table)
	fails := func(err error) (bool, error) {
		fault, ok := errors.AsType[*subscriptions.EvalError](err)
		if !ok {
			return false, err
		}
		item.Errors = append(item.Errors, previewError{fault.Field, fault.Err.Error()})
		return true, nil
	}
	item.Matched = new(true)
	if spec.Filter != nil {
		matched, err := a.programs.Filter(*spec.Filter).Match(ctx, d)
		item.Matched = &matched
		if failed, err := fails(err); err != nil {
			return item, err
		} else if failed {
			item.Matched = nil
		}
	}
	item.Key = &e.Key
	if spec.OrderingKey != nil && e.Kind != store.KindTruncate {
		key, err := a.programs.OrderingKey(*spec.OrderingKey).Key(ctx, d)
		item.Key = &key
		if failed, err := fails(err); err != nil {
			return item, err
		} else if failed {
			item.Key = nil
		}
	}
	if item.Matched == nil || !*item.Matched {
		return item, nil
	}
	item.Body = e.Data
	if spec.Transform != nil {
		body, err := a.programs.Transform(*spec.Transform).Apply(ctx, d)
		item.Body = body
		if failed, err := fails(err); err != nil {
			return item, err
		} else if failed {
			item.Body = nil
		}
	}
	return item, nil
}

// parsePreview reads the body of preview. Its members are judged as those of a
// subscription.
func parsePreview(raw []byte) (*subscriptions.Spec, int, error) {
	r, err := readBody(raw, "events", "filter", "transform", "ordering_key", "limit")
	if err != nil {
		return nil, 0, err
	}
	limit := standardPreview
	var n float64
	if r.read("limit", "a number", &n) {
		if limit = int(n); n != math.Trunc(n) || n < 1 || n > maxPreview {
			r.fault("limit", "must be a whole number from 1 to %d", maxPreview)
		}
	}
	members := r.members
	delete(members, "limit")
	members["name"], members["endpoint"] = json.RawMessage(`"preview"`), json.RawMessage(`{"url":"https://example.com"}`)
	document, err := json.Marshal(members)
	if err != nil {
		return nil, 0, newProblem(problemMalformed, "the body is not JSON")
	}
	spec, specErr := subscriptions.ParseSpec(document)
	if err := joinFields(r.err(), specErr); err != nil {
		return nil, 0, err
	}
	return &spec, limit, nil
}
