package dispatch

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rowcall/rowcall/store"
)

// Headers and members of W3C trace context.
const (
	memberParent = "traceparent"
	memberState  = "tracestate"
	headerParent = "Traceparent"
	headerState  = "Tracestate"
)

// parentsKey is where a context has the traces of the events that an attempt is
// about: they are read before a transform takes the place of the data.
type parentsKey struct{}

// follow returns ctx with the traces that events belong to. It is asked only
// where attempts are traced or the endpoint is to know of them.
func follow(ctx context.Context, events ...*store.Event) context.Context {
	var parents []trace.SpanContext
	for _, e := range events {
		if e == nil {
			continue
		}
		if parent := traceOf(e); parent.IsValid() {
			parents = append(parents, parent)
		}
	}
	if parents == nil {
		return ctx
	}
	return context.WithValue(ctx, parentsKey{}, parents)
}

// traceOf is the trace that an event belongs to, by what its publisher gave or
// by the rowcall.context of its transaction; not valid: none.
func traceOf(e *store.Event) trace.SpanContext {
	carrier := propagation.MapCarrier{}
	switch {
	case e.Given != nil:
		carrier[memberParent] = e.Given.Trace
		for _, x := range e.Given.Extensions {
			if x.Name == memberParent || x.Name == memberState {
				carrier[x.Name] = x.Text()
			}
		}
	case bytes.Contains(e.Data, []byte(`"`+memberParent+`"`)):
		var data struct {
			Tx struct {
				Context struct {
					TraceParent string `json:"traceparent"`
					TraceState  string `json:"tracestate"`
				} `json:"context"`
			} `json:"tx"`
		}
		if json.Unmarshal(e.Data, &data) != nil {
			return trace.SpanContext{} // members of these names, but of another form
		}
		carrier[memberParent], carrier[memberState] = data.Tx.Context.TraceParent, data.Tx.Context.TraceState
	default:
		return trace.SpanContext{}
	}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier)) //nolint:forbidigo // nothing is waited for
}

// traced is try where attempts are traced, or the endpoint is to know of the
// trace of its events: a span of its own in the trace of an event (of several:
// with links to theirs), and the header traceparent where the subscription wants
// it. Where attempts are not traced the header is that of the event, if it is one.
func (s *Sender) traced(ctx context.Context, t *Target, e *store.Event, more []*store.Event, attempt int) Reply {
	parents, _ := ctx.Value(parentsKey{}).([]trace.SpanContext)
	carried := trace.SpanContext{}
	if len(parents) == 1 {
		carried = parents[0]
	}
	var span trace.Span
	if s.tracer != nil {
		ctx, span = s.startSpan(ctx, parents, t, e, more, attempt)
		carried = span.SpanContext()
	}
	header := http.Header{}
	if t.traceContext {
		propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(ctx, carried), propagation.HeaderCarrier(header))
	}
	reply := s.send(ctx, t, e, more, attempt, header)
	if span != nil {
		endSpan(span, reply)
	}
	return reply
}

func (s *Sender) startSpan(ctx context.Context, parents []trace.SpanContext, t *Target, e *store.Event, more []*store.Event, attempt int) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("rowcall.subscription", strings.Join(t.header["Rowcall-Subscription"], "")),
		attribute.String("rowcall.event.id", e.ID()),
		attribute.String("rowcall.event.type", e.Type),
		attribute.Int64("rowcall.event.sequence", int64(e.Offset)),
		attribute.Int("rowcall.attempt", attempt),
		attribute.Int("rowcall.events", 1+len(more)),
		attribute.String("http.request.method", http.MethodPost),
		attribute.String("server.address", t.url.Hostname()),
	)}
	if len(parents) == 1 {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parents[0])
	} else {
		for _, parent := range parents {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: parent}))
		}
	}
	return s.tracer.Start(ctx, "attempt", options...)
}

func endSpan(span trace.Span, reply Reply) {
	if span.IsRecording() {
		verdict := Judge(reply)
		span.SetAttributes(attribute.String("rowcall.outcome", verdict.Outcome.String()))
		if reply.Status != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", reply.Status))
		}
		if verdict.Outcome != Delivered {
			span.SetAttributes(attribute.String("error.type", string(verdict.Reason)))
			span.SetStatus(codes.Error, string(verdict.Reason))
		}
	}
	span.End()
}

// carry puts trace context into the header, and takes away that of the attempt
// before.
func (env *envelope) carry(header http.Header) {
	for _, name := range []string{headerParent, headerState} {
		if values := header[name]; values != nil {
			env.header[name] = values
		} else {
			delete(env.header, name)
		}
	}
}
