package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

func TestATestIsAnsweredWithWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := w.subscribe("paid", `"labels":{"team":"growth"}`)["id"].(string)
	w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/test", scope: api.ScopeDeliver}).problem(t, http.StatusServiceUnavailable, "unavailable")

	var asked []*subscriptions.Subscription
	var fails error
	var err error
	w.api, err = api.New(w.store, api.Config{
		URLs: anyURL{}, Registry: prometheus.NewRegistry(), Logger: zerolog.Nop(),
		Test: func(_ context.Context, sub *subscriptions.Subscription) (api.TestReply, error) {
			asked = append(asked, sub)
			return api.TestReply{
				Event: "test-1", WebhookID: "test-1", At: time.Now(), Duration: 12345 * time.Microsecond, Status: 422, Outcome: 1, Reason: "rejected",
				Detail: json.RawMessage(`{"body":"no"}`), Timings: store.Timings{Connect: time.Millisecond, FirstByte: 2 * time.Millisecond},
			}, fails
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.client(api.ScopeDeliver).TestSubscription(t.Context(), id)
	if err != nil || got.Outcome != "failed" || got.Reason != "rejected" || got.Status != 422 || got.DurationMS != 12.345 || string(got.Detail) != `{"body":"no"}` {
		t.Errorf("%+v, %v", got, err)
	}
	if d := got.Timings; d.DNS != nil || d.TLS != nil || d.Connect == nil || *d.Connect != 1 || d.FirstByte == nil || *d.FirstByte != 2 {
		t.Errorf("timings %+v", d)
	}
	if len(asked) != 1 || asked[0].Name != "paid" || len(asked[0].Secrets) != 1 {
		t.Errorf("asked for %+v", asked)
	}
	if trail := w.do(request{method: "GET", path: "/v1/audit?action=test-subscription", scope: api.ScopeAdmin}); !strings.Contains(trail.body, `"object":"subscription/`+id) {
		t.Errorf("audit: %s", trail.body)
	}
	fails = errors.New("prepare endpoint: no")
	if p := w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/test", scope: api.ScopeDeliver}).problem(t, http.StatusConflict, "conflict"); !strings.Contains(p.Detail, "prepare endpoint: no") {
		t.Errorf("%+v", p)
	}
	fails = nil

	other := w.newKey(`{"name":"other","scopes":["deliver"],"labels":{"team":"core"}}`).Key
	w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/test", key: other}).problem(t, http.StatusNotFound, "not-found")
	own := w.newKey(`{"name":"own","scopes":["deliver"],"labels":{"team":"growth"}}`).Key
	for i := range 11 {
		a := w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/test", key: own})
		if want := map[bool]int{true: 200, false: 429}[i < 10]; a.status != want {
			t.Fatalf("test %d: %d %s", i+1, a.status, a.body)
		}
	}
	_, err = w.client(api.ScopeDeliver).TestSubscription(t.Context(), id) // another key has its own allowance
	if err != nil {
		t.Error(err)
	}
}
