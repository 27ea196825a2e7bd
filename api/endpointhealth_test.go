package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// knows settles what is known of a subscription's endpoint.
func (w *world) knows(id string, h store.EndpointHealth, deliveries ...store.Delivery) {
	w.t.Helper()
	lanes, _, err := w.store.ClaimLanes(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, lane := range lanes {
		if lane.Subscription.ID != subscriptions.ID(id) {
			continue
		}
		_, _, err := w.store.Settle(w.t.Context(), store.Settlement{Lanes: []store.LaneSettlement{{
			Lane: lane.ID, Epoch: lane.Epoch, Cursor: lane.Cursor, Health: &h, Upsert: deliveries,
		}}})
		if err != nil {
			w.t.Fatal(err)
		}
		return
	}
	w.t.Fatalf("subscription %s has no lane", id)
}

func TestTheHealthOfAnEndpointIsShownAsItsLaneSettledIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := w.subscribe("a", `"start":"earliest"`)["id"].(string)
	get := func() map[string]any {
		t.Helper()
		var h map[string]any
		w.do(request{method: "GET", path: "/v1/subscriptions/" + id + "/health", scope: api.ScopeRead}).into(t, &h)
		return h
	}
	check := func(what string, want map[string]any) {
		t.Helper()
		if diff := cmp.Diff(want, get()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	owed := func(events float64) map[string]any {
		return map[string]any{
			"matched": events, "waiting": events, "delivered": 0.0, "retrying": 0.0, "blocked": 0.0, "dead": 0.0, "dead_ranges": 0.0,
			"filtered": 0.0, "discarded": 0.0, "dropped": 0.0, "compacted": 0.0, "expired": 0.0, "unaccounted": 0.0,
		}
	}
	nothing := map[string]any{
		"health": "healthy", "since": nil, "reason": nil, "next_probe_at": nil, "failure_rate": nil, "last_success_at": nil,
		"hold": nil, "hold_error": nil, "held_since": nil, "opens_at": nil, "backlog": 0.0, "oldest": nil, "held_bytes": 0.0,
		"balance": owed(0),
	}
	check("of a new subscription", nothing)

	claim, _ := w.claim("main")
	w.write(claim, 100, 10, func(int) string { return `{"n":1}` })
	at := time.Now().UTC().Truncate(time.Second)
	stamp := func(d time.Duration) string { return at.Add(d).Format(time.RFC3339) }
	w.knows(id, store.EndpointHealth{
		State: "parked", Since: at.Add(-time.Hour), Reason: "refused", NextProbe: at.Add(time.Hour), LastSuccess: at.Add(-2 * time.Hour),
		FailureRate: 0.75, HeldSince: at.Add(-time.Hour), Origin: "https://receiver.test:443",
	})
	got := get()
	if oldest, ok := got["oldest"].(string); !ok || oldest == "" {
		t.Errorf("oldest: %v", got["oldest"])
	}
	delete(got, "oldest")
	if diff := cmp.Diff(map[string]any{
		"health": "parked", "since": stamp(-time.Hour), "reason": "refused", "next_probe_at": stamp(time.Hour), "failure_rate": 0.75,
		"last_success_at": stamp(-2 * time.Hour), "hold": "parked", "hold_error": nil, "held_since": stamp(-time.Hour), "opens_at": nil, "backlog": 10.0, "held_bytes": 70.0,
		"balance": owed(10),
	}, got); diff != "" {
		t.Errorf("of a parked endpoint (-want +got):\n%s", diff)
	}
	shown := func(member string) any {
		t.Helper()
		var one map[string]any
		w.do(request{method: "GET", path: "/v1/subscriptions/" + id, scope: api.ScopeRead}).into(t, &one)
		var list struct{ Items []map[string]any }
		w.do(request{method: "GET", path: "/v1/subscriptions", scope: api.ScopeRead}).into(t, &list)
		if len(list.Items) != 1 || list.Items[0][member] != one[member] {
			t.Errorf("the list shows another %s", member)
		}
		return one[member]
	}
	if h := shown("health"); h != "parked" {
		t.Errorf("the subscription shows %v", h)
	}
	w.knows(id, store.EndpointHealth{State: "parked", Since: at, NextProbe: at.Add(-time.Second), HeldSince: at})
	if h := shown("health"); h != "probing" || get()["reason"] != nil {
		t.Errorf("with a probe that is due the subscription shows %v, reason %v", h, get()["reason"])
	}
	w.knows(id, store.EndpointHealth{State: "recovering", Since: at})
	if h := shown("health"); h != "recovering" || get()["hold"] != nil {
		t.Errorf("the subscription shows %v, hold %v", h, get()["hold"])
	}
	w.knows(id, store.EndpointHealth{State: "healthy", Hold: "endpoint", HeldSince: at})
	if got := get(); got["hold"] != "endpoint" || got["held_since"] != stamp(0) || got["health"] != "healthy" {
		t.Errorf("of settings that cannot be used: %v", got)
	}
	// Half a year from now it opens for an hour.
	opens := time.Date(at.Year(), at.Month(), 1, 3, 0, 0, 0, time.UTC).AddDate(0, 6, 0)
	cron := fmt.Sprintf("0 3 1 %d *", opens.Month())
	w.do(request{
		method: "PATCH", path: "/v1/subscriptions/" + id, scope: api.ScopeWrite, body: `{"window":{"cron":"` + cron + `","for":"1h"}}`,
	})
	w.knows(id, store.EndpointHealth{State: "parked", NextProbe: at.Add(time.Hour)})
	if got := get(); got["hold"] != "window" || got["opens_at"] != opens.Format(time.RFC3339) {
		t.Errorf("of a window that is closed: %v until %v, want %v", got["hold"], got["opens_at"], opens)
	}
	if p := w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/probe", scope: api.ScopeDeliver}).problem(t, http.StatusConflict, "conflict"); p.Detail != "the window is closed until "+opens.Format(time.RFC3339) {
		t.Errorf("a probe while it is closed: %s", p.Detail)
	}
	// What a person asked for shows at once, also before the lane has heard of it.
	w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/pause", scope: api.ScopeDeliver})
	if got := get(); got["hold"] != "paused" {
		t.Errorf("of a paused subscription: %v", got)
	}
	for _, r := range []request{
		{method: "GET", path: "/v1/subscriptions/sub_unknown/health", scope: api.ScopeRead},
		{method: "GET", path: "/v1/subscriptions/" + string(subscriptions.NewID()) + "/health", scope: api.ScopeRead},
	} {
		w.do(r).problem(t, http.StatusNotFound, "not-found")
	}
}

func TestAProbeIsAskedForWhereAnEndpointIsParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := w.subscribe("a")["id"].(string)
	probe := request{method: "POST", path: "/v1/subscriptions/" + id + "/probe", scope: api.ScopeDeliver}
	refused := func(detail string) {
		t.Helper()
		if p := w.do(probe).problem(t, http.StatusConflict, "conflict"); p.Detail != detail {
			t.Errorf("refused with %q, want %q", p.Detail, detail)
		}
	}
	intents := func() int {
		t.Helper()
		found, err := w.store.Intents(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range found {
			if in.Action != "probe" || in.Actor != "key_deliver" || in.Offset != 0 {
				t.Errorf("intent %+v", in)
			}
		}
		return len(found)
	}
	refused("the endpoint is healthy: only a parked one is probed")
	w.knows(id, store.EndpointHealth{State: "recovering", Since: time.Now()})
	refused("the endpoint is recovering: only a parked one is probed")
	if n := intents(); n != 0 {
		t.Errorf("%d intents of what was refused", n)
	}
	w.knows(id, store.EndpointHealth{State: "parked", Since: time.Now(), NextProbe: time.Now().Add(time.Hour)})
	for range 3 {
		if a := w.do(probe); a.status != http.StatusAccepted || a.body != `{"id":"`+id+`","action":"probe"}`+"\n" {
			t.Errorf("probe: %d %s", a.status, a.body)
		}
	}
	if n := intents(); n != 1 {
		t.Errorf("%d intents, want one: the others ask for the same", n)
	}
	w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/pause", scope: api.ScopeDeliver})
	refused("the subscription is paused: resume it, and its endpoint is tried")
	w.do(request{method: "POST", path: probe.path, scope: api.ScopeRead}).problem(t, http.StatusForbidden, "forbidden")
	w.do(request{method: "POST", path: "/v1/subscriptions/" + string(subscriptions.NewID()) + "/probe", scope: api.ScopeDeliver}).
		problem(t, http.StatusNotFound, "not-found")
}
