package dispatch

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const (
	parentOne = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	parentTwo = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)

// answering answers every request with a status and keeps its header.
type answering struct {
	status int
	seen   []http.Header
}

func (a *answering) RoundTrip(req *http.Request) (*http.Response, error) {
	a.seen = append(a.seen, req.Header.Clone())
	return &http.Response{StatusCode: a.status, Body: http.NoBody, Header: http.Header{}}, nil
}

func tracedTarget(t testing.TB, carries bool, batch int) *Target {
	t.Helper()
	target, err := NewTarget(&subscriptions.Subscription{
		ID: "sub_01", Secrets: []subscriptions.Secret{subscriptions.NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=")},
		Spec: subscriptions.Spec{
			Endpoint: subscriptions.Endpoint{URL: "https://example.com/hook", TraceContext: carries}, Batch: subscriptions.Batch{MaxEvents: batch, MaxBytes: 1 << 20},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func eventOf(parent string) *store.Event {
	e := &store.Event{Offset: 7, LSN: 1, Generation: 1, Kind: store.KindRow, Type: "public.orders.updated", Key: "public.orders/id=1", Source: "/sources/main"}
	e.Data = []byte(`{"op":"update","row":{"traceparent":"no"},"tx":{"xid":1,"context":{"actor":"ann"}}}`)
	if parent != "" {
		e.Data = []byte(`{"op":"update","row":{"id":1},"tx":{"xid":1,"context":{"actor":"ann","traceparent":"` + parent + `","tracestate":"a=b"}}}`)
	}
	return e
}

func TestTheTraceOfAnEventGoesAlongOnlyWhereTheSubscriptionWantsIt(t *testing.T) {
	t.Parallel()
	published := &store.Event{Kind: store.KindPublished, Type: "a", PublicID: "1", Source: "/x", Data: []byte(`{}`)}
	published.Given = &store.Given{Trace: parentOne}
	itself := &store.Event{Kind: store.KindPublished, Type: "a", PublicID: "1", Source: "/x", Data: []byte(`{}`)}
	itself.Given = &store.Given{Trace: parentOne, Extensions: []store.Extension{{Name: "traceparent", Value: []byte(`"` + parentTwo + `"`)}}}
	for name, test := range map[string]struct {
		event   *store.Event
		carries bool
		want    string
	}{
		"a row's context":                      {eventOf(parentOne), true, parentOne},
		"a row's context, not wanted":          {eventOf(parentOne), false, ""},
		"a row without one":                    {eventOf(""), true, ""},
		"a context that is none":               {eventOf("00-zz-b7ad6b7169203331-01"), true, ""},
		"a request's header":                   {published, true, parentOne},
		"a request's header, not wanted":       {published, false, ""},
		"the event's own before its request's": {itself, true, parentTwo},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt := &answering{status: 200}
			s, target := NewSender(rt, "test"), tracedTarget(t, test.carries, 1)
			s.Try(follow(t.Context(), test.event), target, test.event, 1)
			s.Try(follow(t.Context(), eventOf("")), target, eventOf(""), 1) // by the same envelope, where that is kept
			if got := rt.seen[0].Get("traceparent"); got != test.want {
				t.Errorf("traceparent %q, want %q", got, test.want)
			}
			if got := rt.seen[1].Get("traceparent") + rt.seen[1].Get("tracestate"); got != "" {
				t.Errorf("the next event has the trace of the one before: %q", got)
			}
		})
	}
}

func TestAnAttemptIsASpanInTheTraceOfItsEvent(t *testing.T) {
	t.Parallel()
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	rt := &answering{status: 503}
	s := NewSender(rt, "test")
	s.tracer = provider.Tracer("test")
	event := eventOf(parentOne)
	s.Try(follow(t.Context(), event), tracedTarget(t, true, 1), event, 3)
	several := []*store.Event{eventOf(parentOne), eventOf(""), eventOf(parentTwo)}
	s.TryBatch(follow(t.Context(), several...), tracedTarget(t, true, 10), several, 1)

	spans := recorder.Ended()
	if len(spans) != 2 {
		t.Fatalf("%d spans", len(spans))
	}
	one, batch := spans[0], spans[1]
	if got := one.SpanContext().TraceID().String(); !strings.Contains(parentOne, got) || !one.Parent().IsRemote() {
		t.Errorf("the attempt is of trace %s", got)
	}
	if got, want := rt.seen[0].Get("traceparent"), one.SpanContext().SpanID().String(); !strings.Contains(got, want) || rt.seen[0].Get("tracestate") != "a=b" {
		t.Errorf("the endpoint got %s and %s, the span is %s", got, rt.seen[0].Get("tracestate"), want)
	}
	found := map[string]string{}
	for _, a := range one.Attributes() {
		found[string(a.Key)] = a.Value.String()
	}
	for name, want := range map[string]string{
		"rowcall.subscription": "sub_01", "rowcall.event.type": "public.orders.updated", "rowcall.attempt": "3",
		"http.response.status_code": "503", "rowcall.outcome": "failed", "error.type": "unavailable",
	} {
		if found[name] != want {
			t.Errorf("%s is %q, want %q", name, found[name], want)
		}
	}
	if batch.Parent().IsValid() || len(batch.Links()) != 2 {
		t.Errorf("a batch has the parent %v and %d links", batch.Parent(), len(batch.Links()))
	}
	linked := []trace.TraceID{batch.Links()[0].SpanContext.TraceID(), batch.Links()[1].SpanContext.TraceID()}
	if slices.Contains(linked, trace.TraceID{}) {
		t.Errorf("links to %v", linked)
	}
}

// Who traces nothing pays nothing.
func TestAnAttemptThatIsNotTracedAllocatesNothingForIt(t *testing.T) {
	rt := &quiet{resp: &http.Response{StatusCode: 200, Body: http.NoBody}}
	s, target, event := NewSender(rt, "test"), tracedTarget(t, false, 1), eventOf(parentOne)
	l := &lane{s: &session{sender: s, flightCtx: t.Context()}, target: target}
	bare := testing.AllocsPerRun(200, func() { s.send(l.s.flightCtx, target, event, nil, 1, nil) })
	whole := testing.AllocsPerRun(200, func() { s.Try(l.following(event), target, event, 1) })
	if whole > bare {
		t.Errorf("%v allocations, without a word of traces %v", whole, bare)
	}
}

type quiet struct{ resp *http.Response }

func (q *quiet) RoundTrip(*http.Request) (*http.Response, error) { return q.resp, nil }
