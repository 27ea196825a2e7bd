package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/store"
)

// inProcess is a transport onto a handler, as the console has one; it holds the
// answers against the document.
type inProcess struct{ w *world }

func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	p.w.api.Handler().ServeHTTP(rec, req)
	conforms(p.w.t, p.w.doc(), request{method: req.Method, path: req.URL.EscapedPath()}, answer{rec.Code, rec.Header(), rec.Body.String()})
	return rec.Result(), nil
}

func (w *world) client(scope api.Scope) *client.Client {
	w.t.Helper()
	c, err := client.New(client.Config{BaseURL: "http://rowcall.test", Key: w.keys[scope], Transport: inProcess{w}})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func TestTheClientMakesChangesAndDeletesSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, c := t.Context(), w.client(api.ScopeAdmin)
	made, err := c.CreateSubscription(ctx, client.NewSubscription{
		Spec: client.Spec{
			Name: "typed", Events: []string{"public.**"}, Labels: map[string]string{"team": "growth"},
			Endpoint: client.Endpoint{URL: "https://r.test", Headers: map[string]string{"X-Env": "prod"}, Timeout: "3s"},
			Retry:    client.Retry{MaxAttempts: 3}, OnDead: "block", MaxInFlight: 9,
		},
		Start: "earliest",
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.Secret == "" || made.Version != 1 || made.Endpoint.Timeout != "3s" || made.Retry.MaxAttempts != 3 || made.Retry.Initial != "1s" || made.CreatedAt.IsZero() {
		t.Errorf("made %+v", made)
	}
	read, err := c.Subscription(ctx, made.ID)
	if err != nil {
		t.Fatal(err)
	}
	made.Secret = ""
	if diff := cmp.Diff(made, read); diff != "" {
		t.Errorf("(-created +read):\n%s", diff)
	}
	patched, err := c.PatchSubscription(ctx, made.ID, map[string]any{"labels": nil, "max_in_flight": 5}, made.Version)
	if err != nil || patched.MaxInFlight != 5 || len(patched.Labels) != 0 || patched.Version != 2 {
		t.Errorf("patched %+v, %v", patched, err)
	}
	_, err = c.PatchSubscription(ctx, made.ID, json.RawMessage(`{"max_in_flight":6}`), made.Version)
	wantProblem(t, err, client.PreconditionFailed)
	paused, err := c.PauseSubscription(ctx, made.ID)
	if err != nil || paused.State != "paused" {
		t.Errorf("paused %+v, %v", paused, err)
	}
	page, err := c.Subscriptions(ctx, client.SubscriptionQuery{State: "paused", Name: "typed"})
	if err != nil || len(page.Items) != 1 || page.NextCursor != nil {
		t.Errorf("list: %+v, %v", page, err)
	}
	resumed, err := c.ResumeSubscription(ctx, made.ID)
	if err != nil || resumed.State != "active" {
		t.Errorf("resumed %+v, %v", resumed, err)
	}
	rotated, err := c.RotateSecret(ctx, made.ID, "", 0)
	if err != nil || !strings.HasPrefix(rotated.Secret, "whsec_") || rotated.PreviousSecretEndsAt == nil {
		t.Errorf("rotated %+v, %v", rotated, err)
	}
	_, err = c.RotateSecret(ctx, made.ID, "1h", 0)
	wantProblem(t, err, client.Conflict)
	_, err = c.RotateSecret(ctx, made.ID, "0s", rotated.Version-1)
	wantProblem(t, err, client.PreconditionFailed)
	if rotated, err = c.RotateSecret(ctx, made.ID, "0s", rotated.Version); err != nil || rotated.PreviousSecretEndsAt != nil {
		t.Errorf("rotated %+v, %v", rotated, err)
	}
	// What was read can be sent back as it is, without what only answers have.
	if _, err := c.CreateSubscription(ctx, client.NewSubscription{Spec: client.Spec{Name: "copy", Events: read.Events, Endpoint: read.Endpoint}, Start: 1}); err != nil {
		t.Error(err)
	}
	wantProblem(t, c.DeleteSubscription(ctx, made.ID, 1), client.PreconditionFailed)
	if err := c.DeleteSubscription(ctx, made.ID, 0); err != nil {
		t.Error(err)
	}
	_, err = c.Subscription(ctx, made.ID)
	wantProblem(t, err, client.NotFound)
	_, err = c.CreateSubscription(ctx, client.NewSubscription{})
	p := wantProblem(t, err, client.Validation)
	if len(p.Errors) != 3 || !strings.Contains(p.Error(), "body.endpoint.url is required") {
		t.Errorf("problem reads %q", p)
	}
}

func wantProblem(t *testing.T, err error, kind string) *client.Problem {
	t.Helper()
	p, ok := errors.AsType[*client.Problem](err)
	if !ok || p.Type != kind {
		t.Fatalf("got %v, want a problem %s", err, kind)
	}
	return p
}

func TestTheClientReadsTheLogDeliveriesAndAttempts(t *testing.T) {
	t.Parallel()
	w, id, lane := failing(t)
	ctx, c := t.Context(), w.client(api.ScopeAdmin)
	if err := w.store.SaveAttempts(ctx, []store.Attempt{{At: time.Now(), Lane: lane, Offset: 1, Attempt: 1, Status: 500, Outcome: 1, Reason: "server_error"}}); err != nil {
		t.Fatal(err)
	}
	query := client.EventQuery{PageQuery: client.PageQuery{Limit: 2}, Type: "public.orders.inserted"}
	var ids []string
	for e, err := range client.All(ctx, query.PageQuery, func(ctx context.Context, p client.PageQuery) (client.Page[client.Event], error) {
		query.PageQuery = p
		return c.Events(ctx, query)
	}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	if want := []string{"01-0000000000000100-2", "01-0000000000000100-1", "01-0000000000000100-0"}; !slices.Equal(ids, want) {
		t.Errorf("events %v", ids)
	}
	e, err := c.Event(ctx, ids[0])
	if err != nil || string(e.Data) != `{"row":{"n":2}}` || e.Source != "/sources/shop" || e.Time.IsZero() {
		t.Errorf("event %+v, %v", e, err)
	}
	_, err = c.Event(ctx, "a/b?c#d")
	wantProblem(t, err, client.NotFound)
	deliveries, err := c.Deliveries(ctx, client.DeliveryQuery{
		Subscription: id, State: "dead", Reason: "rejected", Type: "public.orders.inserted", Key: "public.orders/id=2",
		Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour),
	})
	if err != nil || len(deliveries.Items) != 1 {
		t.Fatalf("deliveries %+v, %v", deliveries, err)
	}
	d, err := c.Delivery(ctx, deliveries.Items[0].ID)
	if err != nil || d.Status != 422 || d.Event == nil || string(d.Event.Data) != `{"row":{"n":2}}` || d.DueAt != nil || d.FirstFailedAt == nil {
		t.Errorf("delivery %+v, %v", d, err)
	}
	if err := errors.Join(c.RetryDelivery(ctx, d.ID), c.DiscardDelivery(ctx, d.ID)); err != nil {
		t.Error(err)
	}
	wantProblem(t, c.RetryDelivery(ctx, "dlv_9_9"), client.NotFound)
	attempts, err := c.Attempts(ctx, client.AttemptQuery{Subscription: id, Event: ids[2], Outcome: "failed"})
	if err != nil || len(attempts.Items) != 1 || attempts.Items[0].Reason != "server_error" || attempts.Items[0].Delivery != fmt.Sprintf("dlv_%d_1", lane) {
		t.Errorf("attempts %+v, %v", attempts, err)
	}
}

func TestTheClientReadsSourcesAndReadiness(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, c := t.Context(), w.client(api.ScopeAdmin)
	ready, err := c.Ready(ctx)
	if err != nil || ready.Ready || len(ready.Checks) != 2 || ready.Checks[1].Name != "sources" {
		t.Errorf("without a source: %+v, %v", ready, err)
	}
	claim, _ := w.claim("shop")
	if err := w.store.RecordGap(ctx, claim, store.Gap{Reason: "slot lost"}, store.Checkpoint{}); err != nil {
		t.Fatal(err)
	}
	page, err := c.Sources(ctx)
	if err != nil || len(page.Items) != 1 || page.Items[0].State != "gap" {
		t.Errorf("sources %+v, %v", page, err)
	}
	if n, err := c.AcceptGap(ctx, "shop"); err != nil || n != 1 {
		t.Errorf("accepted %d, %v", n, err)
	}
	s, err := c.Source(ctx, "shop")
	if err != nil || s.State != "starting" || len(s.Gaps) != 0 {
		t.Errorf("source %+v, %v", s, err)
	}
	if err := c.Healthy(ctx); err != nil {
		t.Error(err)
	}
	_, err = w.client(api.ScopeRead).AcceptGap(ctx, "shop")
	wantProblem(t, err, client.Forbidden)
}

func TestTheClientTellsStrangeAnswersFromProblems(t *testing.T) {
	t.Parallel()
	var seen *http.Request
	next := func(http.ResponseWriter) {}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		next(w)
	}))
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(client.Config{BaseURL: server.URL + "/base/", Key: "the-key", Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	next = func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"items":[],"next_cursor":null}`) }
	if _, err := c.Sources(t.Context()); err != nil || seen.URL.Path != "/base/v1/sources" || seen.Header.Get("Authorization") != "Bearer the-key" {
		t.Errorf("%v; asked for %s", err, seen.URL)
	}
	next = func(w http.ResponseWriter) { http.Error(w, "<html>bad gateway", http.StatusBadGateway) }
	_, err = c.Sources(t.Context())
	if p := wantProblem(t, err, "about:blank"); p.Status != http.StatusBadGateway {
		t.Errorf("%+v", p)
	}
	next = func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"type":"/problems/rate-limited","title":"t","status":429}`)
	}
	_, err = c.Sources(t.Context())
	if p := wantProblem(t, err, client.RateLimited); p.RetryAfter != 7*time.Second {
		t.Errorf("%+v", p)
	}
	next = func(w http.ResponseWriter) {
		w.Header().Set("Location", "http://elsewhere.test/")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	_, err = c.Sources(t.Context())
	if p := wantProblem(t, err, "about:blank"); p.Status != http.StatusTemporaryRedirect {
		t.Errorf("a redirect was followed: %+v", p)
	}
	next = func(w http.ResponseWriter) { _, _ = io.WriteString(w, `not JSON`) }
	if _, err = c.Sources(t.Context()); err == nil {
		t.Error("an answer that is no JSON was taken")
	}
	for _, bad := range []string{"", "rowcall.test", "ftp://rowcall.test", "http://", "http://key@rowcall.test", "http://rowcall.test?x=1", "http://rowcall.test#x"} {
		if _, err := client.New(client.Config{BaseURL: bad}); err == nil || !strings.Contains(err.Error(), "BaseURL") {
			t.Errorf("BaseURL %q: %v", bad, err)
		}
	}
}
