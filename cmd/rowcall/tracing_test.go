package main

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/storetest"
)

// spans is a collector: it takes what an OTLP exporter sends over HTTP.
type spans struct {
	mu       sync.Mutex
	got      []*traces.Span
	services map[string]bool
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent collector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range sent.ResourceSpans {
		for _, a := range of.Resource.Attributes {
			if a.Key == "service.name" {
				s.services[a.Value.GetStringValue()] = true
			}
		}
		for _, scope := range of.ScopeSpans {
			s.got = append(s.got, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// of returns the spans of a trace by name.
func (s *spans) of(id string) map[string][]*traces.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string][]*traces.Span{}
	for _, span := range s.got {
		if hex.EncodeToString(span.TraceId) == id {
			found[span.Name] = append(found[span.Name], span)
		}
	}
	return found
}

func TestATraceGoesFromTheTransactionToTheEndpoint(t *testing.T) {
	t.Parallel()
	const (
		ofRow, rowParent   = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
		ofPost, postParent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	)
	took := &spans{services: map[string]bool{}}
	server := httptest.NewServer(took)
	t.Cleanup(server.Close)
	database := storetest.EmptyURL(t)
	execSQL(t, database, "CREATE TABLE orders (id int PRIMARY KEY)")
	env := serveEnv(t, database)
	p := serveProcess(t, append(env, "OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL, "OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_SERVICE_NAME=shop-webhooks"))
	key := valueOf(env, "ROWCALL_API_KEY")
	asking := []string{"ROWCALL_URL=http://" + p.addr, "ROWCALL_API_KEY=" + key}
	eventually(t, asking, "streaming", "sources")
	c := newClient(t, "http://"+p.addr, key)
	wanting, other := hooktest.Start(t, hooktest.Config{}), hooktest.Start(t, hooktest.Config{})
	for name, endpoint := range map[string]map[string]any{
		"wanting": {"url": wanting.URL(), "trace_context": true}, "other": {"url": other.URL()},
	} {
		if _, err := c.CreateSubscription(t.Context(), map[string]any{"name": name, "events": []string{"**"}, "endpoint": endpoint}); err != nil {
			t.Fatal(err)
		}
	}
	execSQL(t, database, `BEGIN; SELECT pg_logical_emit_message(true, 'rowcall.context', '{"traceparent":"00-`+ofRow+`-`+rowParent+`-01"}');
		INSERT INTO orders VALUES (1); COMMIT`)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.addr+"/v1/events", strings.NewReader(`{"type":"user.signed_up","data":{"a":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + key}, "Traceparent": {"00-" + ofPost + "-" + postParent + "-01"}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("publish: %v %v", resp, err)
	}
	_ = resp.Body.Close()
	for _, r := range []*hooktest.Receiver{wanting, other} {
		r.WaitFor(t, func(r *hooktest.Receiver) bool { return r.Counts().Succeeded == 2 })
	}
	waitFor(t, 30*time.Second, "all spans have come", func() bool {
		row, post := took.of(ofRow), took.of(ofPost)
		return len(row["capture"]) == 1 && len(row["append"]) == 1 && len(row["attempt"]) == 2 && len(post["append"]) == 1 && len(post["attempt"]) == 2
	}, func() string { return "row: " + names(took.of(ofRow)) + ", post: " + names(took.of(ofPost)) })

	row := took.of(ofRow)
	capture, appended := row["capture"][0], row["append"][0]
	if hex.EncodeToString(capture.ParentSpanId) != rowParent || string(appended.ParentSpanId) != string(capture.SpanId) {
		t.Errorf("capture is a child of %x, append of %x", capture.ParentSpanId, appended.ParentSpanId)
	}
	if capture.StartTimeUnixNano > appended.StartTimeUnixNano || appended.EndTimeUnixNano > capture.EndTimeUnixNano {
		t.Errorf("append lies outside of capture: %v, %v", appended, capture)
	}
	for _, d := range other.Deliveries() {
		if got := d.Header.Get("traceparent"); got != "" || strings.Contains(string(d.Body), ofPost) {
			t.Errorf("an endpoint that did not ask for it got the trace %s: %s", got, d.Body)
		}
	}
	for _, d := range wanting.Deliveries() {
		trace, parent := ofRow, rowParent
		if d.Type == "user.signed_up" {
			trace, parent = ofPost, postParent
		}
		got := d.Header.Get("traceparent")
		var sent bool
		for _, span := range took.of(trace)["attempt"] {
			sent = sent || got == "00-"+trace+"-"+hex.EncodeToString(span.SpanId)+"-01" && hex.EncodeToString(span.ParentSpanId) == parent
		}
		if !sent {
			t.Errorf("%s came with %q, which is no attempt of its trace", d.Type, got)
		}
	}
	took.mu.Lock()
	defer took.mu.Unlock()
	if !took.services["shop-webhooks"] {
		t.Errorf("the service is called %v", took.services)
	}
}

func names(spans map[string][]*traces.Span) string {
	var all []string
	for name := range spans {
		all = append(all, plural(len(spans[name]), name))
	}
	return strings.Join(all, ", ")
}

func TestTracesAreOffUnlessACollectorIsNamed(t *testing.T) {
	t.Parallel()
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"
	for name, test := range map[string]struct {
		environ []string
		want    bool
		fault   string
	}{
		"nothing":            {nil, false, ""},
		"an endpoint":        {[]string{endpoint}, true, ""},
		"one for traces":     {[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:4318/v1/traces"}, true, ""},
		"disabled":           {[]string{endpoint, "OTEL_SDK_DISABLED=true"}, false, ""},
		"no exporter":        {[]string{endpoint, "OTEL_TRACES_EXPORTER=none"}, false, ""},
		"another exporter":   {[]string{endpoint, "OTEL_TRACES_EXPORTER=zipkin"}, true, "OTEL_TRACES_EXPORTER"},
		"another protocol":   {[]string{endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, true, "OTEL_EXPORTER_OTLP_PROTOCOL"},
		"the right protocol": {[]string{endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &settings{env: lookupIn(test.environ)}
			if got := s.tracingWanted(); got != test.want {
				t.Errorf("wanted: %t", got)
			}
			text := ""
			if err := s.err(); err != nil {
				text = err.Error()
			}
			if (test.fault == "") != (text == "") || !strings.Contains(text, test.fault) {
				t.Errorf("faults: %s", text)
			}
		})
	}
}
