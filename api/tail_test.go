package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/store"
)

// following reads a tail over a real connection, with the server's own limits.
type following struct {
	t        *testing.T
	messages chan client.TailMessage
	ended    chan error
}

// serve serves the API as rowcall does and returns a client for a key.
func (w *world) serve(key string) *client.Client {
	w.t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = api.NewServer("", w.api.Handler())
	server.Start()
	w.t.Cleanup(server.CloseClientConnections)
	w.t.Cleanup(server.Close)
	transport := &http.Transport{}
	w.t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(client.Config{BaseURL: server.URL, Key: key, Transport: transport})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// follow follows until the test ends, from the moment at which it returns.
func follow(t *testing.T, c *client.Client, q client.TailQuery) *following {
	t.Helper()
	f := &following{t: t, messages: make(chan client.TailMessage), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for m, err := range c.Tail(ctx, q) {
			if err != nil {
				f.ended <- err
				return
			}
			select {
			case f.messages <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	if m := f.next(); m.Start == nil {
		t.Fatalf("the first message is %+v", m)
	}
	return f
}

const tailPatience = 30 * time.Second

func (f *following) next() client.TailMessage {
	f.t.Helper()
	select {
	case m := <-f.messages:
		return m
	case err := <-f.ended:
		f.t.Fatalf("the stream ended: %v", err)
	case <-time.After(tailPatience):
		f.t.Fatal("no message comes")
	}
	return client.TailMessage{}
}

// end waits for the stream's end and returns its error.
func (f *following) end() error {
	f.t.Helper()
	for {
		select {
		case <-f.messages:
		case err := <-f.ended:
			return err
		case <-time.After(tailPatience):
			f.t.Fatal("the stream does not end")
		}
	}
}

func (f *following) events(n int) (ids string) {
	f.t.Helper()
	for range n {
		m := f.next()
		if m.Event == nil {
			f.t.Fatalf("want an event, got %+v", m)
		}
		ids += " " + strings.TrimLeft(m.Event.Sequence, "0")
		if m.ID != m.Event.Sequence {
			f.t.Errorf("the id is %s, the sequence %s", m.ID, m.Event.Sequence)
		}
	}
	return strings.TrimSpace(ids)
}

func TestATailSendsEventsAsTheyAreAppended(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	w.write(claim, 0x100, 2, func(i int) string { return fmt.Sprintf(`{"row":{"n":%d}}`, i) })
	c := w.serve(w.keys[api.ScopeRead])
	all := follow(t, c, client.TailQuery{})
	one := follow(t, c, client.TailQuery{Key: "public.orders/id=1", Type: "*.orders.**"})
	none := follow(t, c, client.TailQuery{Of: "events", Type: "public.customers.*"})
	w.write(claim, 0x200, 3, func(i int) string {
		if i == 2 {
			return `{"long":"` + strings.Repeat("x", 70_000) + `"}`
		}
		return "{\"row\":\r\n{\"n\":\n" + fmt.Sprint(i) + "}}"
	})
	if got := all.events(2); got != "3 4" {
		t.Errorf("events %s", got)
	}
	if m := all.next(); m.Event == nil || m.Event.Data != nil || m.Event.Sequence != "00000000000000000005" {
		t.Errorf("an event of 70,000 bytes: %+v", m)
	}
	if m := one.next(); m.Event == nil || m.Event.ID != "01-0000000000000200-1" || string(m.Event.Data) != "{\"row\":\n{\"n\":\n1}}" {
		t.Errorf("of one key: %+v", m)
	}
	resumed := follow(t, c, client.TailQuery{After: "00000000000000000001"})
	if got := resumed.events(3); got != "2 3 4" {
		t.Errorf("after 1: %s", got)
	}
	select {
	case m := <-none.messages:
		t.Errorf("of another type: %+v", m)
	default:
	}
}

func TestATailThatIsFarBehindSaysWhatItPassedOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	for i := range 3 {
		w.write(claim, store.LSN(0x100*(i+1)), 5000, func(int) string { return "{}" })
	}
	f := follow(t, w.serve(w.keys[api.ScopeRead]), client.TailQuery{Of: "events", After: "5"})
	if got := f.events(1); got != "14901" {
		t.Errorf("goes on at %s", got)
	}
	f.events(99)
	if m := f.next(); m.Missed == nil || m.Missed.Events != 14_895 {
		t.Errorf("passed over: %+v", m.Missed)
	}
}

func TestATailSendsAttemptsOfAllInstancesOnceHoweverLongTheyTook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	growth := w.subscribe("growth", `"labels":{"team":"growth"}`)
	other := w.subscribe("other")
	growthID, _ := growth["id"].(string)
	otherID, _ := other["id"].(string)
	w.write(claim, 0x100, 3, func(int) string { return "{}" })
	lanes := map[string]store.LaneID{growthID: w.settle(growthID)}
	lanes[otherID] = w.laneOf(otherID)
	restricted := w.newKey(`{"name":"growth","scopes":["read"],"labels":{"team":"growth"}}`).Key

	c := w.serve(w.keys[api.ScopeRead])
	all := follow(t, c, client.TailQuery{Of: "attempts"})
	failed := follow(t, c, client.TailQuery{Outcome: "failed", Subscription: otherID})
	typed := follow(t, c, client.TailQuery{Of: "attempts", Type: "public.orders.*", Key: "public.orders/id=2"})
	own := follow(t, w.serve(restricted), client.TailQuery{})

	now := time.Now()
	save := func(lane store.LaneID, offset store.Offset, age time.Duration, outcome int16) {
		t.Helper()
		if err := w.store.SaveAttempts(t.Context(), []store.Attempt{{
			At: now.Add(-age), Lane: lane, Offset: offset, Attempt: 1, Duration: age, Status: 200 + 300*int(outcome), Outcome: outcome,
		}}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(f *following, subscription string, offset string) client.TailedAttempt {
		t.Helper()
		m := f.next()
		if m.Attempt == nil || m.Attempt.Subscription != subscription || strings.TrimLeft(m.Attempt.Sequence, "0") != offset {
			t.Fatalf("want the attempt of %s at %s, got %+v", subscription, offset, m.Attempt)
		}
		return *m.Attempt
	}
	save(lanes[growthID], 1, time.Millisecond, 0)
	if a := want(all, growthID, "1"); a.Type != "public.orders.inserted" || a.Key != "public.orders/id=0" || a.Outcome != "delivered" {
		t.Errorf("attempt %+v", a)
	}
	want(own, growthID, "1")
	save(lanes[otherID], 2, 14*time.Second, 1) // began before the tail did
	want(all, otherID, "2")
	want(failed, otherID, "2")
	save(lanes[otherID], 3, 0, 0)
	want(all, otherID, "3")
	want(typed, otherID, "3")
	save(lanes[growthID], 3, 0, 0)
	want(own, growthID, "3") // and nothing of the other in between
}

func TestATailRefusesWhatItCannotFollow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sub := w.subscribe("other")
	id, _ := sub["id"].(string)
	restricted := w.newKey(`{"name":"growth","scopes":["read"],"labels":{"team":"growth"}}`).Key
	for path, want := range map[string]string{
		"?of=nothing":                    "query.of",
		"?outcome=nothing":               "query.outcome",
		"?subscription=nothing":          "query.subscription",
		"?type=a..b":                     "query.type",
		"?of=events&subscription=" + id:  "query.of",
		"?of=events&outcome=failed":      "query.of",
		"?of=events&of=attempts&key=%00": "query.key query.of",
	} {
		p := w.do(request{method: "GET", path: "/v1/tail" + path, scope: api.ScopeRead}).problem(t, http.StatusUnprocessableEntity, "validation")
		if p.locations() != want {
			t.Errorf("%s: faults at %q", path, p.locations())
		}
	}
	for _, last := range []string{"x", "-1", "1.5", strings.Repeat("9", 30)} {
		p := w.do(request{method: "GET", path: "/v1/tail", scope: api.ScopeRead, header: map[string]string{"Last-Event-ID": last}}).
			problem(t, http.StatusUnprocessableEntity, "validation")
		if p.locations() != "header.Last-Event-ID" {
			t.Errorf("Last-Event-ID %s: faults at %q", last, p.locations())
		}
	}
	w.do(request{method: "GET", path: "/v1/tail?of=events", key: restricted}).problem(t, http.StatusForbidden, "forbidden")
	w.do(request{method: "GET", path: "/v1/tail?subscription=" + id, key: restricted}).problem(t, http.StatusNotFound, "not-found")
}

func TestATailEndsWithItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.newKey(`{"name":"k","scopes":["read"]}`)
	f := follow(t, w.serve(key.Key), client.TailQuery{})
	if a := w.do(request{method: "DELETE", path: "/v1/api-keys/" + key.ID, scope: api.ScopeAdmin}); a.status != http.StatusNoContent {
		t.Fatalf("revoke: %d %s", a.status, a.body)
	}
	if err := f.end(); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("ended with %v", err)
	}
}

func TestATailEndsWhenRowcallStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	draining := make(chan struct{})
	var err error
	w.api, err = api.New(w.store, api.Config{URLs: anyURL{}, Registry: prometheus.NewRegistry(), Logger: zerolog.Nop(), Draining: draining})
	if err != nil {
		t.Fatal(err)
	}
	f := follow(t, w.serve(w.keys[api.ScopeRead]), client.TailQuery{})
	close(draining)
	if err := f.end(); err == nil || !strings.Contains(err.Error(), "rowcall is stopping") {
		t.Errorf("ended with %v", err)
	}
}

func TestAKeyHasSoManyTailsAndNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.serve(w.keys[api.ScopeRead])
	for range 16 {
		follow(t, c, client.TailQuery{Of: "events"})
	}
	for _, err := range c.Tail(t.Context(), client.TailQuery{}) {
		if p := wantProblem(t, err, client.RateLimited); p.RetryAfter == 0 {
			t.Errorf("%+v", p)
		}
	}
	follow(t, w.serve(w.keys[api.ScopeAdmin]), client.TailQuery{Of: "events"}) // another key has its own
}

// laneOf is the lane of a subscription that was claimed before.
func (w *world) laneOf(id string) (lane store.LaneID) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(w.t.Context())) }()
	if err := conn.QueryRow(w.t.Context(), `SELECT lane FROM rowcall.cursors WHERE subscription = $1`, id).Scan(&lane); err != nil {
		w.t.Fatal(err)
	}
	return lane
}
