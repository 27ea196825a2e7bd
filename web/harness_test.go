package web_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
	"github.com/rowcall/rowcall/web"
)

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

type anyURL struct{}

func (anyURL) CheckURL(string) error { return nil }

func draft(sub *subscriptions.Subscription, e *store.Event, replay store.JobID, at time.Time, attempt int) (api.Draft, error) {
	d, err := dispatch.NewDraft(sub, e, replay, at, attempt, "v0")
	return api.Draft(d), err
}

// world is a console over a real API and store, with a key for every scope.
type world struct {
	t       *testing.T
	store   *store.Store
	conn    *pgx.Conn
	handler http.Handler
	api     *client.Client
	keys    map[api.Scope]string
	cookies map[string]string // by key
}

func newWorld(t *testing.T, change ...func(*web.Config)) *world {
	t.Helper()
	address := storetest.URL(t)
	w := &world{t: t, store: storetest.OpenWith(t, store.Config{URL: address}), keys: map[api.Scope]string{}, cookies: map[string]string{}}
	var err error
	if w.conn, err = pgx.Connect(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.conn.Close(context.WithoutCancel(t.Context())) })
	for _, scope := range api.Scopes() {
		key := api.NewKey()
		hash, err := api.HashKey(key)
		if err != nil {
			t.Fatal(err)
		}
		scopes := []string{string(scope)}
		if scope != api.ScopeRead && scope != api.ScopeAdmin {
			scopes = append(scopes, "read")
		}
		w.exec(`INSERT INTO rowcall.api_keys (id, name, hash, scopes) VALUES ($1, $1, $2, $3)`, "key_"+string(scope), hash, scopes)
		w.keys[scope] = key
	}
	served, err := api.New(w.store, api.Config{URLs: anyURL{}, Draft: draft, Logger: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)})
	if err != nil {
		t.Fatal(err)
	}
	config := web.Config{API: served.Handler(), Listen: "127.0.0.1:8080", Version: "v0", Logger: zerolog.New(zerolog.NewTestWriter(t))}
	for _, f := range change {
		f(&config)
	}
	console, err := web.New(config)
	if err != nil {
		t.Fatal(err)
	}
	w.handler = console.Handler()
	server := httptest.NewServer(served.Handler())
	t.Cleanup(server.Close)
	if w.api, err = client.New(client.Config{BaseURL: server.URL, Key: w.keys[api.ScopeAdmin]}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.conn.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// request is a call of a browser; scope says whose session it has.
type request struct {
	method, path, host string
	scope              api.Scope
	form               url.Values
	header             map[string]string
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (w *world) do(r request) answer {
	w.t.Helper()
	var body io.Reader
	if r.form != nil {
		body = strings.NewReader(r.form.Encode())
	}
	if r.method == "" {
		r.method = http.MethodGet
	}
	req := httptest.NewRequestWithContext(w.t.Context(), r.method, r.path, body)
	req.Host = "localhost:8080"
	if r.host != "" {
		req.Host = r.host
	}
	if r.form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if r.scope != "" {
		req.Header.Set("Cookie", w.session(r.scope))
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	return answer{rec.Code, rec.Header(), rec.Body.String()}
}

// session signs in once per scope and returns the cookie.
func (w *world) session(scope api.Scope) string {
	w.t.Helper()
	if w.cookies[string(scope)] == "" {
		a := w.do(request{method: "POST", path: "/sign-in", form: url.Values{"key": {w.keys[scope]}}})
		cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
		if a.status != http.StatusSeeOther || cookie == "" {
			w.t.Fatalf("sign in with %s: %d %s", scope, a.status, a.body)
		}
		w.cookies[string(scope)] = cookie
	}
	return w.cookies[string(scope)]
}

// page gets a page as an admin and checks what every page has.
func (w *world) page(path string) string {
	w.t.Helper()
	a := w.do(request{path: path, scope: api.ScopeAdmin})
	if a.status != http.StatusOK || a.header.Get("Content-Security-Policy") != policy {
		w.t.Fatalf("%s: %d %v\n%s", path, a.status, a.header, a.body)
	}
	return a.body
}

// subscribe makes a subscription.
func (w *world) subscribe(more map[string]any) client.Subscription {
	w.t.Helper()
	body := map[string]any{"name": "orders", "events": []string{"public.**"}, "endpoint": map[string]any{"url": "https://receiver.test/hooks"}}
	for name, value := range more {
		body[name] = value
	}
	sub, err := w.api.CreateSubscription(w.t.Context(), body)
	if err != nil {
		w.t.Fatal(err)
	}
	return sub
}

// source makes a source.
func (w *world) source(name string) store.SourceClaim {
	w.t.Helper()
	claim, src, err := w.store.ClaimSource(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	src.Generation, src.SystemID, src.Slot, src.Publication = 1, "7", "rowcall_"+name, "rowcall_"+name
	if err := w.store.SetSourceIdentity(w.t.Context(), claim, src); err != nil {
		w.t.Fatal(err)
	}
	return claim
}

// write appends n events with the same data.
func (w *world) write(claim store.SourceClaim, n int, data string) store.Offset {
	w.t.Helper()
	return w.writeEach(claim, slices.Repeat([]string{data}, n)...)
}

// writeEach appends events in one transaction.
func (w *world) writeEach(claim store.SourceClaim, data ...string) store.Offset {
	w.t.Helper()
	var b store.Batch
	for i := range data {
		b.End(append(b.Begin(store.Event{
			LSN: 100, Ordinal: int64(i), Time: time.Now().UnixMicro(), SourceID: claim.ID, Generation: 1,
			Kind: store.KindRow, Type: "public.orders.inserted", Key: fmt.Sprintf("public.orders/id=%d", i),
		}), data[i]...))
	}
	b.Checkpoint = store.Checkpoint{Commit: 100, Ordinal: int64(len(data)), End: 101}
	first, err := w.store.Append(w.t.Context(), claim, &b)
	if err != nil {
		w.t.Fatal(err)
	}
	return first
}

// settle makes deliveries and attempts of a subscription.
func (w *world) settle(id string, deliveries []store.Delivery, attempts []store.Attempt) {
	w.t.Helper()
	lanes, _, err := w.store.ClaimLanes(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	at := slices.IndexFunc(lanes, func(l store.Lane) bool { return l.Subscription.ID == subscriptions.ID(id) })
	lane := lanes[at]
	for i := range deliveries {
		deliveries[i].Lane = lane.ID
	}
	for i := range attempts {
		attempts[i].Lane = lane.ID
	}
	fenced, faulty, err := w.store.Settle(w.t.Context(), store.Settlement{Lanes: []store.LaneSettlement{{
		Lane: lane.ID, Epoch: lane.Epoch, Cursor: w.store.Head(), Upsert: deliveries,
	}}})
	if err != nil || len(fenced)+len(faulty) > 0 {
		w.t.Fatalf("settle: %v, fenced %v, faulty %v", err, fenced, faulty)
	}
	if err := w.store.SaveAttempts(w.t.Context(), attempts); err != nil {
		w.t.Fatal(err)
	}
}
