package dispatch_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="

func testSubscription(url string) *subscriptions.Subscription {
	return &subscriptions.Subscription{
		ID: "sub_01", Secrets: []subscriptions.Secret{subscriptions.NewSecret(testSecret)},
		Spec: subscriptions.Spec{
			Endpoint: subscriptions.Endpoint{URL: url, Timeout: subscriptions.Duration(5 * time.Second)},
			Format:   subscriptions.CloudEvents, Signing: []string{"v1"},
		},
	}
}

func testEvent() *store.Event {
	return &store.Event{
		Offset: 12345, LSN: 0x3F2A8C0, Time: 1795176000123456, Generation: 1, Kind: store.KindRow,
		Type: "public.orders.updated", Key: "public.orders/id=42", Source: "/sources/shop",
		Data: []byte(`{"op":"update","row":{"id":42,"total":"99.90"}}`),
	}
}

func newTarget(t testing.TB, sub *subscriptions.Subscription) *dispatch.Target {
	t.Helper()
	target, err := dispatch.NewTarget(sub)
	if err != nil {
		t.Fatalf("NewTarget: %v", err)
	}
	return target
}

func newGuard(t testing.TB, config dispatch.GuardConfig) *dispatch.Guard {
	t.Helper()
	guard, err := dispatch.NewGuard(config)
	if err != nil {
		t.Fatalf("NewGuard: %v", err)
	}
	return guard
}

// newSender sends through a guard of its own that allows private targets.
func newSender(t testing.TB) *dispatch.Sender {
	t.Helper()
	transport := newGuard(t, dispatch.GuardConfig{Allow: "private"}).Transport()
	t.Cleanup(transport.CloseIdleConnections)
	return dispatch.NewSender(transport, "test")
}

func TestTryDeliversASignedEvent(t *testing.T) {
	t.Parallel()
	receiver := hooktest.Start(t, hooktest.Config{Secrets: []string{testSecret}})
	reply := newSender(t).Try(t.Context(), newTarget(t, testSubscription(receiver.URL())), testEvent(), 3)
	if got := dispatch.Judge(reply); got.Outcome != dispatch.Delivered || reply.Status != 200 {
		t.Fatalf("outcome: %+v (%v)", got, reply.Err)
	}
	d := receiver.Deliveries()[0]
	if d.Attempt != 3 || d.Subscription != "sub_01" || d.WebhookID != "01-0000000003F2A8C0-0" || d.Sequence != 12345 || d.Invalid != nil {
		t.Errorf("delivery: %+v", d)
	}
}

func TestAFailureKeepsStatusHeaderAndTheBeginningOfItsBody(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 3000) // 4 KiB falls on a border between characters
	for _, c := range []struct{ name, body, want string }{
		{"a short text", "no such user", "no such user"},
		{"nothing", "", ""},
		{"a long text", long, long[:4096]},
		{"a character cut by the bound", "x" + long, "x" + long[:4094]},
		{"bytes that are no UTF-8", "a\xff\xfeb", "a\uFFFDb"},
		{"NUL", "a\x00b", "a\uFFFDb"},
		{"64 KiB of NUL", strings.Repeat("\x00", 64<<10), strings.Repeat("\uFFFD", 4096/3)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			receiver := hooktest.Start(t, hooktest.Config{Reply: func(hooktest.Delivery) hooktest.Reply {
				return hooktest.Reply{Status: 422, Header: http.Header{"X-Why": {"because"}}, Body: c.body}
			}})
			reply := newSender(t).Try(t.Context(), newTarget(t, testSubscription(receiver.URL())), testEvent(), 1)
			if reply.Status != 422 || reply.Err != nil || reply.Header.Get("X-Why") != "because" || string(reply.Body) != c.want {
				t.Errorf("status %d, error %v, header %v, body %q", reply.Status, reply.Err, reply.Header, reply.Body)
			}
		})
	}
}

func TestASuccessKeepsNothingButItsStatus(t *testing.T) {
	t.Parallel()
	receiver := hooktest.Start(t, hooktest.Config{Reply: func(hooktest.Delivery) hooktest.Reply {
		return hooktest.Reply{Status: 202, Body: "queued"}
	}})
	reply := newSender(t).Try(t.Context(), newTarget(t, testSubscription(receiver.URL())), testEvent(), 1)
	if reply.Status != 202 || reply.Body != nil || reply.Header != nil || reply.Duration <= 0 || time.Since(reply.At) > time.Minute {
		t.Errorf("reply: %+v", reply)
	}
}

func TestRetryAfterIsReadAndClamped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status   int
		value    string
		low, top time.Duration
	}{
		{429, "", 0, 0},
		{429, "7", 7 * time.Second, 7 * time.Second},
		{503, "7", 7 * time.Second, 7 * time.Second},
		{500, "7", 0, 0},
		{422, "7", 0, 0},
		{429, " 7 ", 7 * time.Second, 7 * time.Second},
		{429, "0", time.Second, time.Second},
		{429, "-5", time.Second, time.Second},
		{429, "315360000", 24 * time.Hour, 24 * time.Hour},
		{429, "99999999999999999999", 24 * time.Hour, 24 * time.Hour},
		{429, "-99999999999999999999", time.Second, time.Second},
		{429, "soon", 0, 0},
		{429, "1.5", 0, 0},
		{429, "1e3", 0, 0},
		{503, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 59 * time.Minute, time.Hour},
		{503, time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), time.Second, time.Second},
		{503, "Fri, 31 Dec 9999 23:59:59 GMT", 24 * time.Hour, 24 * time.Hour},
	} {
		receiver := hooktest.Start(t, hooktest.Config{Reply: func(hooktest.Delivery) hooktest.Reply {
			return hooktest.Reply{Status: c.status, Header: http.Header{"Retry-After": {c.value}}}
		}})
		reply := newSender(t).Try(t.Context(), newTarget(t, testSubscription(receiver.URL())), testEvent(), 1)
		if reply.RetryAfter < c.low || reply.RetryAfter > c.top {
			t.Errorf("%d, %q: %v, want %v to %v", c.status, c.value, reply.RetryAfter, c.low, c.top)
		}
	}
}

// connections counts the connections that a server sees.
func connections(server *httptest.Server) *atomic.Int64 {
	var count atomic.Int64
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			count.Add(1)
		}
	}
	return &count
}

func TestAConnectionIsUsedAgainWhateverTheReply(t *testing.T) {
	t.Parallel()
	body := ""
	status := 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	count := connections(server)
	server.Start()
	t.Cleanup(server.Close)
	sender, target := newSender(t), newTarget(t, testSubscription(server.URL))
	for _, status = range []int{200, 204, 301, 400, 429, 500} {
		for _, body = range []string{"", "short", strings.Repeat("x", 60<<10)} {
			if status == 204 {
				body = ""
			}
			if reply := sender.Try(t.Context(), target, testEvent(), 1); reply.Status != status {
				t.Fatalf("reply: %+v", reply)
			}
		}
	}
	if got := count.Load(); got != 1 {
		t.Errorf("%d connections", got)
	}
}

func TestARequestIsNeverSentAgainByItself(t *testing.T) {
	t.Parallel()
	// The connection is used once, and then dies with the next request in it:
	// the case in which net/http repeats what it takes for safe.
	var requests atomic.Int64
	address := listen(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		for n := 0; ; n++ {
			req, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			if requests.Add(1); n == 1 {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	sender, target := newSender(t), newTarget(t, testSubscription("http://"+address+"/"))
	if reply := sender.Try(t.Context(), target, testEvent(), 1); reply.Status != 200 {
		t.Fatalf("first: %+v", reply)
	}
	if got := dispatch.Judge(sender.Try(t.Context(), target, testEvent(), 1)); got.Reason != dispatch.ReasonReset {
		t.Errorf("second: %+v", got)
	}
	if got := requests.Load(); got != 2 {
		t.Errorf("%d requests came, 2 were made", got)
	}
}

func TestARequestThatIsStillBeingReadIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	// What a transport does when a receiver answers before it has the request.
	var held []*http.Request
	sender := dispatch.NewSender(roundTripper(func(req *http.Request) (*http.Response, error) {
		held = append(held, req)
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	}), "test")
	target := newTarget(t, testSubscription("https://example.com/"))
	for n := range 10 {
		event := testEvent()
		event.Ordinal = int64(n)
		sender.Try(t.Context(), target, event, 1)
	}
	for n, req := range held {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := dispatch.Verify(testSecret, req.Header, body, time.Now()); err != nil {
			t.Errorf("request %d: %v", n, err)
		}
		if want := fmt.Sprintf("01-0000000003F2A8C0-%d", n); req.Header.Get("webhook-id") != want {
			t.Errorf("request %d: id %s", n, req.Header.Get("webhook-id"))
		}
	}
}

func TestAttemptsAtOnceDoNotMixTheirPayloads(t *testing.T) {
	t.Parallel()
	receiver := hooktest.Start(t, hooktest.Config{Secrets: []string{testSecret}})
	sender, target := newSender(t), newTarget(t, testSubscription(receiver.URL()))
	var sending sync.WaitGroup
	for worker := range 8 {
		sending.Go(func() {
			for n := range 50 {
				event := testEvent()
				event.Ordinal = int64(worker*1000 + n)
				event.Data = []byte(`"` + strings.Repeat(string(rune('a'+worker)), 100+n*100) + `"`)
				if reply := sender.Try(t.Context(), target, event, 1); reply.Status != 200 {
					t.Errorf("reply: %+v", reply)
				}
			}
		})
	}
	sending.Wait()
	ids := map[string]bool{}
	for _, d := range receiver.Deliveries() {
		ids[d.WebhookID] = true
	}
	if len(ids) != 400 || receiver.Counts().Invalid != 0 {
		t.Errorf("%d events, %+v", len(ids), receiver.Counts())
	}
}

func TestTheDeadlineIsTheEndpointsOrTheCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := roundTripper(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, context.Cause(req.Context())
		})
		sender := dispatch.NewSender(hang, "test")
		for given, want := range map[time.Duration]time.Duration{0: 15 * time.Second, time.Second: time.Second, 2 * time.Minute: 2 * time.Minute} {
			sub := testSubscription("https://example.com/")
			sub.Endpoint.Timeout = subscriptions.Duration(given)
			reply := sender.Try(t.Context(), newTarget(t, sub), testEvent(), 1)
			if reply.Duration != want || dispatch.Judge(reply).Reason != dispatch.ReasonTimeout {
				t.Errorf("timeout %v: %v after %v", given, reply.Err, reply.Duration)
			}
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
