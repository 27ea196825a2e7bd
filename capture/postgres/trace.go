package postgres

import (
	"context"
	"encoding/json"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rowcall/rowcall/store"
)

// tracedTransaction is a transaction whose rowcall.context names a trace.
type tracedTransaction struct {
	parent trace.SpanContext
	commit store.LSN
	at     time.Time // when it was committed, by the source's clock
	came   time.Time // when we read it
}

// noteTrace looks, at a logical message, whether the open transaction belongs to
// a trace. The last context that names one counts.
func (in *intake) noteTrace(d *decoder, message []byte) {
	if message[0] != 'M' || !d.open || len(d.context) == 0 {
		return
	}
	var given struct {
		TraceParent string `json:"traceparent"`
		TraceState  string `json:"tracestate"`
	}
	if json.Unmarshal(d.context, &given) != nil || given.TraceParent == "" {
		return
	}
	parent := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), //nolint:forbidigo // nothing is waited for
		propagation.MapCarrier{"traceparent": given.TraceParent, "tracestate": given.TraceState}))
	if !parent.IsValid() {
		return
	}
	found := tracedTransaction{parent: parent, commit: d.commit, at: d.committedAt(), came: time.Now()}
	if last := len(in.traces) - 1; last >= 0 && in.traces[last].commit == d.commit {
		in.traces[last] = found
		return
	}
	in.traces = append(in.traces, found)
}

// endTraces makes the spans of the transactions that an append, begun at began,
// has just made durable: capture, from the commit on the source, and in it append.
// A source whose clock is ahead of ours has capture begin when we read it.
func (s *session) endTraces(began time.Time) {
	s.mu.Lock()
	done := s.leaving
	s.leaving = nil
	s.mu.Unlock()
	now := time.Now()
	for _, t := range done {
		from := t.at
		if from.After(t.came) {
			from = t.came
		}
		ctx := trace.ContextWithRemoteSpanContext(context.Background(), t.parent) //nolint:forbidigo // nothing is waited for
		ctx, capture := s.config.Tracer.Start(ctx, "capture", trace.WithTimestamp(from), trace.WithAttributes(
			attribute.String("rowcall.source", s.config.Name), attribute.String("rowcall.lsn", t.commit.String())))
		_, appended := s.config.Tracer.Start(ctx, "append", trace.WithTimestamp(began))
		appended.End(trace.WithTimestamp(now))
		capture.End(trace.WithTimestamp(now))
	}
}
