package api

import (
	"context"
	"net/http"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rowcall/rowcall/store"
)

// tracePublished notes the trace of a request with the events that it publishes,
// but for those that come with one of their own, so that attempts can belong to
// it. Where publishing is traced it begins a span, which end ends.
func (a *API) tracePublished(ctx context.Context, header http.Header, events []store.Published) (_ context.Context, end func(error)) {
	none := func(error) {}
	if header.Get("traceparent") == "" && a.config.Tracer == nil {
		return ctx, none
	}
	traced := propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
	if trace.SpanContextFromContext(traced).IsValid() {
		carrier := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(traced, carrier)
		for i := range events {
			own := func(x store.Extension) bool { return x.Name == "traceparent" }
			if !slices.ContainsFunc(events[i].Given.Extensions, own) {
				events[i].Given.Trace = carrier["traceparent"]
			}
		}
	}
	if a.config.Tracer == nil {
		return ctx, none
	}
	traced, span := a.config.Tracer.Start(traced, "append", trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.Int("rowcall.events", len(events))))
	return traced, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "not appended")
		}
		span.End()
	}
}
