package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

// world is an API over a store of its own, with a key for every scope.
type world struct {
	t     *testing.T
	api   *api.API
	store *store.Store
	keys  map[api.Scope]string
	logs  *lockedBuffer
	doc   func() *openapi3.T
	url   string // of the database

	cipher *subscriptions.Cipher
}

func newWorld(t *testing.T, change ...func(*api.Config)) *world {
	t.Helper()
	url, cipher := storetest.URL(t), storetest.Cipher(t)
	w := &world{
		t: t, url: url, cipher: cipher, store: storetest.OpenWith(t, store.Config{URL: url, Cipher: cipher}),
		keys: map[api.Scope]string{}, logs: &lockedBuffer{},
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, scope := range api.Scopes() {
		key := api.NewKey()
		hash, err := api.HashKey(key)
		if err != nil {
			t.Fatal(err)
		}
		const insert = `INSERT INTO rowcall.api_keys (id, name, hash, scopes) VALUES ($1, $1, $2, ARRAY[$3])`
		if _, err := conn.Exec(t.Context(), insert, "key_"+string(scope), hash, string(scope)); err != nil {
			t.Fatal(err)
		}
		w.keys[scope] = key
	}
	config := api.Config{
		URLs: anyURL{}, Registry: prometheus.NewRegistry(), Logger: zerolog.New(w.logs),
		MetricsAge: time.Nanosecond,
		Draft: func(sub *subscriptions.Subscription, e *store.Event, replay store.JobID, at time.Time, attempt int) (api.Draft, error) {
			d, err := dispatch.NewDraft(sub, e, replay, at, attempt, "v0")
			return api.Draft(d), err
		},
	}
	for _, f := range change {
		f(&config)
	}
	w.api, err = api.New(w.store, config)
	if err != nil {
		t.Fatal(err)
	}
	w.doc = func() *openapi3.T { return loadDocument(t, w.api) }
	return w
}

// exec runs SQL beside the store.
func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(w.t.Context())) }()
	if _, err := conn.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// request is one call, made in process; its answer is held against the document.
type request struct {
	method, path string
	scope        api.Scope // whose key is sent; empty: none
	key          string    // in place of scope's
	body         string
	header       map[string]string
	remote       string
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (w *world) do(r request) answer {
	w.t.Helper()
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req := httptest.NewRequestWithContext(w.t.Context(), r.method, r.path, body)
	if r.remote != "" {
		req.RemoteAddr = r.remote
	}
	if key := r.key + w.keys[r.scope]; key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
		if value == "" {
			req.Header.Del(name)
		}
	}
	rec := httptest.NewRecorder()
	w.api.Handler().ServeHTTP(rec, req)
	a := answer{rec.Code, rec.Header(), rec.Body.String()}
	if w.doc != nil {
		conforms(w.t, w.doc(), r, a)
	}
	return a
}

// into reads an answer's JSON and fails the test where it is not.
func (a answer) into(t *testing.T, out any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), out); err != nil {
		t.Fatalf("read answer %d %q: %v", a.status, a.body, err)
	}
}

// problem checks that an answer is a problem of a type and returns it.
func (a answer) problem(t *testing.T, status int, kind string) problemJSON {
	t.Helper()
	var p problemJSON
	if a.status != status || a.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("got %d %s %s, want a problem with %d", a.status, a.header.Get("Content-Type"), a.body, status)
	}
	a.into(t, &p)
	if p.Type != "/problems/"+kind || p.Status != status || p.Title == "" {
		t.Errorf("got problem %+v, want %s with %d", p, kind, status)
	}
	return p
}

type problemJSON struct {
	Type, Title, Detail string
	Status              int
	Errors              []struct{ Location, Message string }
}

func (p problemJSON) locations() string {
	var out []string
	for _, e := range p.Errors {
		out = append(out, e.Location)
	}
	return strings.Join(out, " ")
}

// subscribe makes a subscription through the API and returns its JSON.
func (w *world) subscribe(name string, more ...string) map[string]any {
	w.t.Helper()
	members := append([]string{
		`"name":` + quote(name), `"events":["public.**"]`, `"endpoint":{"url":"https://receiver.test/hooks"}`,
	}, more...)
	a := w.do(request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: "{" + strings.Join(members, ",") + "}"})
	if a.status != http.StatusCreated {
		w.t.Fatalf("create %s: %d %s", name, a.status, a.body)
	}
	var out map[string]any
	a.into(w.t, &out)
	return out
}

// claim makes a source.
func (w *world) claim(name string) (store.SourceClaim, store.Source) {
	w.t.Helper()
	claim, src, err := w.store.ClaimSource(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	src.Generation, src.SystemID, src.Slot, src.Publication = 1, "7", "rowcall_"+name, "rowcall_"+name
	if err := w.store.SetSourceIdentity(w.t.Context(), claim, src); err != nil {
		w.t.Fatal(err)
	}
	return claim, src
}

// write appends n events of public.orders and returns the first one's offset.
// Data is made of the ordinal.
func (w *world) write(claim store.SourceClaim, lsn store.LSN, n int, data func(i int) string) store.Offset {
	w.t.Helper()
	return w.append(claim, lsn, n, "public.orders.inserted", data)
}

// append is write of events of a type.
func (w *world) append(claim store.SourceClaim, lsn store.LSN, n int, kind string, data func(i int) string) store.Offset {
	w.t.Helper()
	var b store.Batch
	for i := range n {
		e := store.Event{
			LSN: lsn, Ordinal: int64(i), Time: time.Now().UnixMicro(), SourceID: claim.ID, Generation: 1,
			Kind: store.KindRow, Type: kind, Key: fmt.Sprintf("public.orders/id=%d", i),
		}
		b.End(append(b.Begin(e), data(i)...))
	}
	b.Checkpoint = store.Checkpoint{Commit: lsn, Ordinal: int64(n), End: lsn + 1}
	first, err := w.store.Append(w.t.Context(), claim, &b)
	if err != nil {
		w.t.Fatal(err)
	}
	return first
}

// settle makes deliveries of the one lane of a subscription.
func (w *world) settle(id string, deliveries ...store.Delivery) store.LaneID {
	w.t.Helper()
	lanes, _, err := w.store.ClaimLanes(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, lane := range lanes {
		if lane.Subscription.ID != subscriptions.ID(id) {
			continue
		}
		for i := range deliveries {
			deliveries[i].Lane = lane.ID
		}
		fenced, faulty, err := w.store.Settle(w.t.Context(), store.Settlement{Lanes: []store.LaneSettlement{{
			Lane: lane.ID, Epoch: lane.Epoch, Cursor: w.store.Head(), Upsert: deliveries,
		}}})
		if err != nil || len(fenced)+len(faulty) > 0 {
			w.t.Fatalf("settle: %v, fenced %v, faulty %v", err, fenced, faulty)
		}
		return lane.ID
	}
	w.t.Fatalf("subscription %s has no lane", id)
	return 0
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// lockedBuffer is a log that many write to.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
