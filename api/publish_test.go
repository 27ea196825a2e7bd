package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
)

type receiptsJSON struct {
	Items []struct {
		ID, Source, Sequence string
		WebhookID            string `json:"webhook_id"`
		Duplicate            bool
	}
}

// publish posts a body that must be taken.
func (w *world) publish(body, media string) receiptsJSON {
	w.t.Helper()
	a := w.do(request{method: "POST", path: "/v1/events", scope: api.ScopePublish, body: body, header: map[string]string{"Content-Type": media}})
	if a.status != http.StatusAccepted {
		w.t.Fatalf("publish: %d %s", a.status, a.body)
	}
	var out receiptsJSON
	a.into(w.t, &out)
	return out
}

// logged reads the log.
func (w *world) logged() []store.Event {
	w.t.Helper()
	events, err := w.store.Read(w.t.Context(), 1, 10_000, 64<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	return events
}

func TestAPublishedEventIsInTheLogAsItWasWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	data := `{ "big": 12345678901234567890123, "a":1,"a":2, "text":"\u0000 <&> \ud800" }`
	got := w.publish(`{"type":"user.signed_up","key":"7","subject":"user 7","id":"a.b","source":"https://x.test/users?a=1","time":"2026-11-20T13:00:00.5+01:00",
		"traceparent":"00-1-2-01","data":`+data+`}`, "application/json")
	if len(got.Items) != 1 || got.Items[0].ID != "a.b" || got.Items[0].Sequence != "00000000000000000001" || got.Items[0].Duplicate {
		t.Fatalf("receipts %+v", got)
	}
	e := w.logged()[0]
	if string(e.Data) != data || e.Type != "user.signed_up" || e.Key != "user.signed_up/7" || e.Subject != "user 7" || e.Source != "https://x.test/users?a=1" {
		t.Errorf("logged %+v", e)
	}
	if e.Given.Time != "2026-11-20T13:00:00.5+01:00" || len(e.Given.Extensions) != 1 || e.Given.Extensions[0].Name != "traceparent" {
		t.Errorf("given %+v", e.Given)
	}
	for _, id := range []string{"a.b", got.Items[0].WebhookID} {
		a := w.do(request{method: "GET", path: "/v1/events/" + id, scope: api.ScopeRead})
		if a.status != 200 || !strings.Contains(a.body, data) || !strings.Contains(a.body, `"extensions":{"traceparent":"00-1-2-01"}`) {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
	}
	again := w.publish(`{"type":"user.signed_up","id":"a.b","source":"https://x.test/users?a=1"}`, "application/json")
	if !again.Items[0].Duplicate || again.Items[0].Sequence != got.Items[0].Sequence {
		t.Errorf("again: %+v", again)
	}
	least := w.publish(`[{"type":"order"},{"type":"order","key":9007199254740993,"data":null}]`, "application/json")
	log := w.logged()
	if least.Items[0].Source != "/sources/http" || log[1].Key != least.Items[0].ID || string(log[1].Data) != "null" || log[2].Key != "order/9007199254740993" {
		t.Errorf("%+v, logged %+v", least, log[1:])
	}
}

func TestTheCloudEventsSDKPublishesInEveryMode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	make1 := func(id string) event.Event {
		e := event.New()
		e.SetID(id)
		e.SetSource("https://example.com/orders?x=1#y")
		e.SetType("com.example.order.placed")
		e.SetSubject(`50% "off" Ω` + " 😀")
		e.SetTime(time.Date(2026, 11, 20, 12, 0, 0, 123456789, time.UTC))
		e.SetExtension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		e.SetExtension("partitionkey", "customer 7")
		e.SetExtension("weight", 7)
		e.SetExtension("retried", true)
		e.SetDataSchema("https://example.com/schema")
		if err := e.SetData(event.ApplicationJSON, map[string]any{"total": "99.90", "n": 1}); err != nil {
			t.Fatal(err)
		}
		return e
	}
	inBase64, bare := make1("base64"), make1("bare")
	inBase64.DataBase64 = true
	bare.DataEncoded = nil
	requests := map[string]func(ctx context.Context, url string) (*http.Request, error){
		"binary": func(ctx context.Context, url string) (*http.Request, error) {
			return cehttp.NewHTTPRequestFromEvent(binding.WithForceBinary(ctx), url, make1("binary"))
		},
		"structured": func(ctx context.Context, url string) (*http.Request, error) {
			return cehttp.NewHTTPRequestFromEvent(binding.WithForceStructured(ctx), url, make1("structured"))
		},
		"base64": func(ctx context.Context, url string) (*http.Request, error) {
			return cehttp.NewHTTPRequestFromEvent(binding.WithForceStructured(ctx), url, inBase64)
		},
		"bare": func(ctx context.Context, url string) (*http.Request, error) {
			return cehttp.NewHTTPRequestFromEvent(binding.WithForceBinary(ctx), url, bare)
		},
		"batch": func(ctx context.Context, url string) (*http.Request, error) {
			return cehttp.NewHTTPRequestFromEvents(ctx, url, []event.Event{make1("batch"), make1("batch 2")})
		},
	}
	for name, request1 := range requests {
		req, err := request1(t.Context(), "/v1/events")
		if err != nil {
			t.Fatal(err)
		}
		header := map[string]string{}
		for key := range req.Header {
			header[key] = req.Header.Get(key)
		}
		body := ""
		if req.Body != nil {
			read, err := io.ReadAll(req.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = string(read)
		}
		a := w.do(request{method: "POST", path: "/v1/events", scope: api.ScopePublish, body: body, header: header})
		if a.status != http.StatusAccepted {
			t.Errorf("%s: %d %s\n%v\n%s", name, a.status, a.body, header, body)
		}
	}
	seen := map[string]bool{}
	for _, e := range w.logged() {
		seen[e.PublicID] = true
		wantData := `{"n":1,"total":"99.90"}`
		if e.PublicID == "bare" {
			wantData = ""
		}
		got := []string{e.Source, e.Type, e.Subject, e.Key, string(e.Data), e.Given.Time}
		want := []string{"https://example.com/orders?x=1#y", "com.example.order.placed", `50% "off" Ω` + " 😀", "customer 7", wantData, "2026-11-20T12:00:00.123456789Z"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", e.PublicID, diff)
		}
		extensions := map[string]string{}
		for _, x := range e.Given.Extensions {
			extensions[x.Name] = x.Text()
		}
		if diff := cmp.Diff(map[string]string{
			"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "weight": "7", "retried": "true",
			"dataschema": "https://example.com/schema",
		}, extensions); diff != "" {
			t.Errorf("extensions of %s (-want +got):\n%s", e.PublicID, diff)
		}
	}
	if len(seen) != len(requests)+1 {
		t.Errorf("logged %v", seen)
	}
}

func TestAFaultyEventIsNamedByItsPlaceAndNothingIsTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const ce = `"specversion":"1.0","id":"1","source":"/s","type":"t"`
	deep := strings.Repeat(`[`, 65) + strings.Repeat(`]`, 65)
	for i, c := range []struct {
		media, body, locations string
		status                 int
	}{
		{"application/json", `{"type":"a b"}`, "body.type", 422},
		{"application/json", `{}`, "body.type", 422},
		{"application/json", `{"type":null}`, "body.type", 422},
		{"application/json", `{"type":"rowcall.subscription.parked"}`, "body.type", 422},
		{"application/json", `[{"type":"ok"},{"type":7,"id":"","key":{}},{"type":"x","time":"yesterday","sorce":"/x"}]`, "body[1].type body[1].id body[1].key body[2].time body[2].sorce", 422},
		{"application/json", `{"type":"x","type":"x"}`, "body.type", 422},
		{"application/json", `{"type":"x","Type":"x"}`, "body.Type", 422},
		{"application/json", `{"type":"x","se cret":"x"}`, "body", 422},
		{"application/json", `{"type":"x","key":"\u0000"}`, "body.key", 422},
		{"application/json", `{"type":"x","source":"a b"}`, "body.source", 422},
		{"application/json", `{"type":"x","id":"` + strings.Repeat("a", 513) + `"}`, "body.id", 422},
		{"application/json", `{"type":"x","id":"a\tb"}`, "body.id", 422},
		{"application/json", `{"type":"x","time":"2026-11-20T12:00:00+24:00"}`, "body.time", 422},
		{"application/json", `{"type":"x","time":"2026-11-20T12:00:00+23:60"}`, "body.time", 422},
		{"application/json", `{"type":"x","time":"9999-12-31T23:59:59-23:59"}`, "body.time", 422},
		{"application/json", `{"type":"x","time":"0000-01-01T00:00:00+23:59"}`, "body.time", 422},
		{"application/json", `{"type":"x","time":"2026-11-20T1:00:00Z"}`, "body.time", 422},
		{"application/json", `{"type":"x","time":"2026-11-20T12:00:00,5Z"}`, "body.time", 422},
		{"application/json", `{"type":"x","subject":"` + strings.Repeat("a", 1025) + `"}`, "body.subject", 422},
		{"application/json", `[]`, "body", 422},
		{"application/json", `["x"]`, "body[0]", 422},
		{"application/json", `"x"`, "body", 422},
		{"application/json", `{"type":"x","data":` + deep + `}`, "", 400},
		{"application/json", "{\"type\":\"x\",\"data\":\"\xff\"}", "", 400},
		{"application/json", `{"type":"x"`, "", 400},
		{"application/json", `{"type":"x"} {}`, "", 400},
		{"application/json", `{"type":"x","data":"` + strings.Repeat("a", 1<<20) + `"}`, "", 413},
		{"application/xml", `<x/>`, "", 415},
		{"text/plain", `{"type":"x"}`, "", 415},
		{"application/cloudevents+json", `{"specversion":"0.3","id":"1","source":"/s","type":"t"}`, "body.specversion", 422},
		{"application/cloudevents+json", `{"type":"t"}`, "body.specversion body.id body.source", 422},
		{"application/cloudevents+json", `{` + ce + `,"datacontenttype":"application/xml","data":"<x/>"}`, "body.datacontenttype", 422},
		{"application/cloudevents+json", `{` + ce + `,"data":1,"data_base64":"MQ=="}`, "body.data_base64", 422},
		{"application/cloudevents+json", `{` + ce + `,"data_base64":"AA=="}`, "body.data_base64", 422},
		{"application/cloudevents+json", `{` + ce + `,"data_base64":"?"}`, "body.data_base64", 422},
		{"application/cloudevents+json", `{` + ce + `,"my_ext":"x"}`, "body.my_ext", 422},
		{"application/cloudevents+json", `{` + ce + `,"ext":{}}`, "body.ext", 422},
		{"application/cloudevents+json", `{` + ce + `,"ext":2147483648}`, "body.ext", 422},
		{"application/cloudevents+json", `{` + ce + `,"ext":"` + strings.Repeat("a", 2049) + `"}`, "body.ext", 422},
		{"application/cloudevents-batch+json", `[{` + ce + `},{` + ce + `,"time":1}]`, "body[1].time", 422},
		{"application/cloudevents-batch+json", `{` + ce + `}`, "body", 422},
	} {
		a := w.do(request{method: "POST", path: "/v1/events", scope: api.ScopePublish, body: c.body, header: map[string]string{"Content-Type": c.media}})
		var p problemJSON
		a.into(t, &p)
		if a.status != c.status || p.locations() != c.locations {
			t.Errorf("case %d, %.80s: %d %.300s", i, c.body, a.status, a.body)
		}
		if strings.Contains(a.body, "se cret") {
			t.Errorf("case %d: the answer repeats what was sent: %s", i, a.body)
		}
	}
	binary := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "t"}
	for name, value := range map[string]string{
		"Ce-Id": "", "Ce-Type": "a*", "Ce-Source": "a b", "Ce-Subject": "%ff", "Ce-Time": "x", "Ce-Data": "x", "Ce-Ext": strings.Repeat("a", 2049),
	} {
		header := map[string]string{}
		for n, v := range binary {
			header[n] = v
		}
		header[name] = value
		if name == "Ce-Id" {
			delete(header, name)
		}
		a := w.do(request{method: "POST", path: "/v1/events", scope: api.ScopePublish, body: `{}`, header: header})
		if p := a.problem(t, 422, "validation"); p.locations() != "header."+strings.ToLower(name) {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	escaped := map[string]string{"Ce-Subject": "50%25%20%E2%82%AC%", "Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "t"}
	if a := w.do(request{method: "POST", path: "/v1/events", scope: api.ScopePublish, body: `{`, header: escaped}); a.status != 400 {
		t.Errorf("data that is no JSON: %d %s", a.status, a.body)
	}
	if n := len(w.logged()); n != 0 {
		t.Errorf("%d events were taken", n)
	}
	w.do(request{method: "POST", path: "/v1/events", scope: api.ScopePublish, body: `{}`, header: escaped})
	if log := w.logged(); len(log) != 1 || log[0].Subject != "50% €%" {
		t.Errorf("logged %+v", log)
	}
}

func TestALargeArrayIsTakenWholeAndInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 10_000
	var body strings.Builder
	for i := range n {
		fmt.Fprintf(&body, `,{"type":"t","key":1,"data":%d}`, i)
	}
	got := w.publish("["+body.String()[1:]+"]", "application/json")
	if len(got.Items) != n || got.Items[n-1].Sequence != fmt.Sprintf("%020d", n) {
		t.Fatalf("%d receipts", len(got.Items))
	}
	for i, e := range w.logged() {
		if string(e.Data) != fmt.Sprint(i) {
			t.Fatalf("event %d has data %s", i, e.Data)
		}
	}
}

func TestATimeThatJSONCannotHoldHidesNoEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, at := range []string{"2026-11-20T12:00:00+24:00", "9999-12-31T23:59:59-24:00", "9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+01:00"} {
		if _, err := w.store.Publish(t.Context(), []store.Published{{ID: at, Type: "x", Given: store.Given{Time: at}}}); err != nil {
			t.Fatal(err)
		}
	}
	a := w.do(request{method: "GET", path: "/v1/events", scope: api.ScopeRead})
	var list struct{ Items []struct{ ID, Time string } }
	a.into(t, &list)
	if len(list.Items) != 4 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if e := list.Items[0]; e.Time != e.ID {
		t.Errorf("a time that can be written is shown as %s, not as %s", e.Time, e.ID)
	}
	if e := list.Items[3]; e.Time != "2026-11-19T12:00:00Z" {
		t.Errorf("%s is shown as %s", e.ID, e.Time)
	}
}

func TestAPublisherCannotSpeakForACapturedSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	forged := func(source string) string {
		return `{"specversion":"1.0","type":"public.orders.deleted","source":"` + source + `","id":"01-0000000001FFFFFF-0","subject":"id=1"}`
	}
	own := strings.Replace(forged("/sources/http"), `"specversion":"1.0",`, "", 1)
	for _, source := range []string{"/sources/main", "/sources/nobody", "/sources/rowcall", "/sources/", "/sources/http/x", "/sources/http?x"} {
		plain := strings.Replace(own, "/sources/http", source, 1)
		for _, c := range []struct{ media, body, location string }{
			{"application/json", plain, "body.source"},
			{"application/json", `[` + own + `,` + plain + `]`, "body[1].source"},
			{"application/cloudevents+json", forged(source), "body.source"},
			{"application/cloudevents-batch+json", `[` + forged("/shop") + `,` + forged(source) + `]`, "body[1].source"},
		} {
			a := w.do(request{method: "POST", path: "/v1/events", scope: api.ScopePublish, body: c.body, header: map[string]string{"Content-Type": c.media}})
			if p := a.problem(t, 422, "validation"); p.locations() != c.location {
				t.Errorf("%s in %s: %s", source, c.media, a.body)
			}
		}
		for _, written := range []string{source, strings.ReplaceAll(source, "s", "%73"), strings.ReplaceAll(source, "/", "%2F")} {
			header := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "01-0000000001FFFFFF-0", "Ce-Source": written, "Ce-Type": "public.orders.deleted"}
			a := w.do(request{method: "POST", path: "/v1/events", scope: api.ScopePublish, body: `{}`, header: header})
			if p := a.problem(t, 422, "validation"); p.locations() != "header.ce-source" {
				t.Errorf("%s in a header: %s", written, a.body)
			}
		}
		if _, err := w.store.Publish(t.Context(), []store.Published{{Type: "x", Given: store.Given{Source: source}}}); err == nil {
			t.Errorf("the store takes %s", source)
		}
	}
	if n := len(w.logged()); n != 0 {
		t.Errorf("%d events were taken", n)
	}
	w.publish(own, "application/json")
	w.publish(forged("/sources/http"), "application/cloudevents+json")
	w.publish(forged("/sourcesx/main"), "application/cloudevents+json")
	w.publish(forged("https://example.com/sources/main"), "application/cloudevents+json")
	if n := len(w.logged()); n != 3 {
		t.Errorf("%d events are there; want 3: one is a copy", n)
	}
}
