package api_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

func once(key string) map[string]string { return map[string]string{"Idempotency-Key": key} }

func newSub(name string) string {
	return `{"name":"` + name + `","events":["a.b"],"endpoint":{"url":"https://r.test"}}`
}

func (w *world) sql(text string, args ...any) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(w.t.Context())) }()
	if _, err := conn.Exec(w.t.Context(), text, args...); err != nil {
		w.t.Fatal(err)
	}
}

func TestARequestThatComesAgainHasOneEffectAndOneAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	create := request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: newSub("a"), header: once("k 1")}
	first := w.do(create)
	if first.status != http.StatusCreated || first.header.Get("Idempotency-Replayed") != "" || !strings.Contains(first.body, "whsec_") {
		t.Fatalf("first: %d %s", first.status, first.body)
	}
	// Another process over the same store: what is known is not in memory.
	var err error
	other := *w
	other.store = storetest.OpenWith(t, store.Config{URL: w.url, Instance: "other", Cipher: w.cipher})
	if other.api, err = api.New(other.store, api.Config{URLs: anyURL{}, Registry: prometheus.NewRegistry(), Logger: zerolog.Nop()}); err != nil {
		t.Fatal(err)
	}
	for _, at := range []*world{w, &other} {
		again := at.do(create)
		if again.status != first.status || again.body != first.body || again.header.Get("Location") != first.header.Get("Location") ||
			again.header.Get("ETag") != first.header.Get("ETag") || again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("again: %d %s", again.status, again.body)
		}
	}
	changed := create
	changed.body = newSub("b")
	if p := w.do(changed).problem(t, http.StatusUnprocessableEntity, "validation"); p.locations() != "header.Idempotency-Key" {
		t.Errorf("another body: %+v", p)
	}
	elsewhere := create
	elsewhere.path = "/v1/subscriptions/preview"
	w.do(elsewhere).problem(t, http.StatusUnprocessableEntity, "validation")
	admin := changed
	admin.scope = api.ScopeAdmin
	if a := w.do(admin); a.status != http.StatusCreated {
		t.Errorf("of another API key: %d %s", a.status, a.body)
	}
	w.sql(`UPDATE rowcall.idempotency SET created_at = now() - interval '25 hours'`)
	changed.body = newSub("c")
	if a := w.do(changed); a.status != http.StatusCreated {
		t.Errorf("a day later: %d %s", a.status, a.body)
	}
	for _, key := range []string{"", strings.Repeat("x", 256), "a\x01", "ü"} {
		r := create
		r.header = map[string]string{"Idempotency-Key": key}
		if key == "" {
			continue // the harness takes it for none
		}
		w.do(r).problem(t, http.StatusUnprocessableEntity, "validation")
	}
}

func TestARequestThatFailedMayBeMendedUnderItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: `{"name":""}`, header: once("k")}
	w.do(r).problem(t, http.StatusUnprocessableEntity, "validation")
	r.body = newSub("a")
	if a := w.do(r); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestWhatAProcessLeftBehindIsNotCarriedOutTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: newSub("a"), header: once("k")}
	made := w.do(r)
	id := strings.TrimPrefix(made.header.Get("Location"), "/v1/subscriptions/")
	w.sql(`UPDATE rowcall.idempotency SET answer = NULL, claimed_at = now() - interval '1 hour'`)
	if p := w.do(r).problem(t, http.StatusConflict, "conflict"); !strings.Contains(p.Detail, "subscription/"+id) {
		t.Errorf("after its effect: %s", p.Detail)
	}
	w.sql(`UPDATE rowcall.idempotency SET object = '', claimed_at = now()`)
	if p := w.do(r).problem(t, http.StatusConflict, "conflict"); !strings.Contains(p.Detail, "being carried out") {
		t.Errorf("under way: %s", p.Detail)
	}
	if a := w.do(request{method: "DELETE", path: "/v1/subscriptions/" + id, scope: api.ScopeWrite}); a.status != http.StatusNoContent {
		t.Fatal(a.body)
	}
	w.sql(`UPDATE rowcall.idempotency SET claimed_at = now() - interval '2 minutes'`)
	if a := w.do(r); a.status != http.StatusCreated {
		t.Errorf("before its effect: %d %s", a.status, a.body)
	}

	// Who comes late finds that another has taken the request up, and changes nothing.
	late, _, err := w.store.ClaimIdempotency(t.Context(), store.IdempotencyKey{Actor: "key_write", Key: "late", Fingerprint: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	w.sql(`UPDATE rowcall.idempotency SET claim = claim + 1 WHERE key = 'late'`)
	spec, err := subscriptions.ParseSpec([]byte(newSub("late")))
	if err != nil {
		t.Fatal(err)
	}
	ctx := store.WithChange(t.Context(), &store.Change{Actor: "key_write", Action: "create-subscription", Claim: late})
	sub := subscriptions.Subscription{ID: subscriptions.NewID(), State: subscriptions.Active, Spec: spec, Secrets: []subscriptions.Secret{subscriptions.NewSigningSecret()}}
	if err := w.store.CreateSubscription(ctx, &sub, store.Start{Now: true}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a change under a claim that is lost: %v", err)
	}
	if _, err := w.store.Subscription(t.Context(), sub.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it was made: %v", err)
	}
}

func TestManyWhoAskAtOnceWithOneKeyMakeOneThing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := request{method: "POST", path: "/v1/events", scope: api.ScopePublish, body: `[{"type":"a.b","data":1},{"type":"a.b","id":"own","data":2}]`, header: once("k")}
	var asked sync.WaitGroup
	answers := make(chan answer, 20)
	for range cap(answers) {
		asked.Go(func() { answers <- w.do(r) })
	}
	asked.Wait()
	close(answers)
	bodies := map[string]bool{}
	for a := range answers {
		if a.status == http.StatusAccepted {
			bodies[a.body] = true
		} else if a.status != http.StatusConflict {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if len(bodies) != 1 {
		t.Errorf("answers %v", bodies)
	}
	// Also where the answer was lost: its ids are the same again.
	w.sql(`UPDATE rowcall.idempotency SET answer = NULL, claimed_at = '-infinity'`)
	if a := w.do(r); a.status != http.StatusAccepted || strings.Count(a.body, `"duplicate":true`) != 2 {
		t.Errorf("again: %d %s", a.status, a.body)
	}
	if events := w.do(request{method: "GET", path: "/v1/events", scope: api.ScopeRead}); strings.Count(events.body, `"type":"a.b"`) != 2 {
		t.Errorf("the log: %s", events.body)
	}
}

func TestAnswersAreKeptSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(request{method: "POST", path: "/v1/api-keys", scope: api.ScopeAdmin, body: `{"name":"n","scopes":["read"]}`, header: once("k")})
	conn, err := pgx.Connect(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var plain bool
	var object string
	err = conn.QueryRow(t.Context(), `SELECT position('scopes'::bytea in answer) > 0, object FROM rowcall.idempotency`).Scan(&plain, &object)
	if err != nil || plain || !strings.HasPrefix(object, "api-key/key_") {
		t.Errorf("kept in plain: %t, object %q, %v", plain, object, err)
	}
}

func TestEveryPostTakesAnIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for path, item := range loadDocument(t, w.api).Paths.Map() {
		if item.Post == nil {
			continue
		}
		if item.Post.Parameters.GetByInAndName("header", "Idempotency-Key") == nil {
			t.Errorf("POST %s does not say so", path)
		}
		filled := strings.NewReplacer("{id}", "x", "{name}", "x").Replace(path)
		r := request{method: "POST", path: filled, scope: api.ScopeAdmin, header: once(strings.Repeat("x", 300))}
		if item.Post.RequestBody != nil {
			r.body = "{}"
		}
		if p := w.do(r).problem(t, http.StatusUnprocessableEntity, "validation"); p.locations() != "header.Idempotency-Key" {
			t.Errorf("POST %s: faults at %q", path, p.locations())
		}
	}
}
