package dispatch_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// seen is what an endpoint got.
type seen struct {
	method string
	header http.Header
	body   string
	length int64
}

// endpoint keeps what it gets and answers 200.
type endpoint struct {
	mu   sync.Mutex
	seen []seen
}

func (e *endpoint) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, seen{r.Method, r.Header, string(body), r.ContentLength})
}

func (e *endpoint) all() []seen {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen
}

func startEndpoint(t *testing.T) (*endpoint, string) {
	t.Helper()
	e := &endpoint{}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return e, server.URL
}

// delivered makes attempts that must succeed.
func delivered(t *testing.T, sender *dispatch.Sender, target *dispatch.Target, events ...*store.Event) {
	t.Helper()
	for _, e := range events {
		if reply := sender.Try(t.Context(), target, e, 1); reply.Err != nil || reply.Status != 200 {
			t.Fatalf("status %d, error %v", reply.Status, reply.Err)
		}
	}
}

// ce are the headers of CloudEvents.
func ce(h http.Header) map[string]string {
	found := map[string]string{}
	for name, values := range h {
		if strings.HasPrefix(name, "Ce-") {
			found[strings.ToLower(name)] = strings.Join(values, "|")
		}
	}
	return found
}

func TestBinaryFormatSendsDataWithItsAttributesInHeaders(t *testing.T) {
	t.Parallel()
	receiver, address := startEndpoint(t)
	sub := testSubscription(address)
	sub.Format = subscriptions.CloudEventsBinary
	target, sender := newTarget(t, sub), newSender(t)
	full, bare := testEvent(), testEvent()
	full.PublicID, full.Kind = "a b", store.KindPublished
	full.Type, full.Key, full.Source = `user."é"`, "user/100%\n€😀\xff", "/sources/shop"
	bare.Key = ""
	full.Given = &store.Given{Time: "2026-11-20T13:00:00+01:00", Extensions: []store.Extension{
		{Name: "traceparent", Value: []byte(`"00-a b-01"`)}, {Name: "weight", Value: []byte("7")},
	}}
	delivered(t, sender, target, testEvent(), full, bare, testEvent()) // later ones use headers of earlier ones

	plain := map[string]string{
		"ce-specversion": "1.0", "ce-id": "01-0000000003F2A8C0-0", "ce-source": "/sources/shop", "ce-type": "public.orders.updated",
		"ce-subject": "id=42", "ce-time": "2026-11-20T12:00:00.123456Z", "ce-partitionkey": "public.orders/id=42", "ce-sequence": "00000000000000012345",
	}
	escaped := map[string]string{
		"ce-specversion": "1.0", "ce-id": "a%20b", "ce-source": "/sources/shop", "ce-type": "user.%22%C3%A9%22",
		"ce-traceparent": "00-a%20b-01", "ce-weight": "7",
		"ce-time": "2026-11-20T13:00:00+01:00", "ce-partitionkey": "user/100%25%0A%E2%82%AC%F0%9F%98%80%EF%BF%BD", "ce-sequence": "00000000000000012345",
	}
	if subject := full.SubjectText(); subject != "" {
		t.Fatalf("the published event has subject %q", subject)
	}
	without := map[string]string{}
	for name, value := range plain {
		if name != "ce-subject" && name != "ce-partitionkey" {
			without[name] = value
		}
	}
	for i, want := range []map[string]string{plain, escaped, without, plain} {
		got := receiver.all()[i]
		if diff := cmp.Diff(want, ce(got.header)); diff != "" {
			t.Errorf("headers of event %d (-want +got):\n%s", i, diff)
		}
		if got.body != string(testEvent().Data) || got.header.Get("Content-Type") != "application/json" || got.header.Get("Rowcall-Subscription") != "sub_01" {
			t.Errorf("event %d: body %s, headers %v", i, got.body, got.header)
		}
		if err := dispatch.Verify(testSecret, got.header, []byte(got.body), time.Now()); err != nil {
			t.Errorf("event %d: %v", i, err)
		}
	}
	if back, err := url.PathUnescape(receiver.all()[1].header.Get("Ce-Partitionkey")); err != nil || back != "user/100%\n€😀\uFFFD" {
		t.Errorf("the key reads back as %q, %v", back, err)
	}
}

func TestRawFormatSendsDataAndNothingElse(t *testing.T) {
	t.Parallel()
	receiver, address := startEndpoint(t)
	sub := testSubscription(address)
	sub.Format = subscriptions.Raw
	empty := testEvent()
	empty.Data = nil
	delivered(t, newSender(t), newTarget(t, sub), testEvent(), empty, testEvent())
	for i, want := range []string{string(testEvent().Data), "", string(testEvent().Data)} {
		got := receiver.all()[i]
		kind := "application/json"
		if want == "" {
			kind = "" // there is nothing that could be of a type
		}
		if got.body != want || got.length != int64(len(want)) || got.header.Get("Content-Type") != kind || len(ce(got.header)) > 0 {
			t.Errorf("event %d: body %q of %d bytes, headers %v", i, got.body, got.length, got.header)
		}
		if got.header.Get("Webhook-Id") != "01-0000000003F2A8C0-0" {
			t.Errorf("webhook-id %q", got.header.Get("Webhook-Id"))
		}
		if err := dispatch.Verify(testSecret, got.header, []byte(got.body), time.Now()); err != nil {
			t.Errorf("event %d: %v", i, err)
		}
	}
}
