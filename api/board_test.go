package api_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
)

type boardJSON struct {
	Items []struct {
		Name, Condition         string
		HoldError               string `json:"hold_error"`
		Dead, Retrying, Blocked int64
		Waiting                 struct{ Events, Bytes int64 }
	}
	NextCursor *string `json:"next_cursor"`
	Totals     struct {
		Conditions           map[string]int
		OnTheWay             int64 `json:"on_the_way"`
		Held, Retrying, Dead int64
		HeldBytes            int64 `json:"held_bytes"`
	}
}

func (b boardJSON) names() []string {
	names := []string{}
	for _, item := range b.Items {
		names = append(names, item.Name+" "+item.Condition)
	}
	return names
}

func TestEndpointsAreListedWorstFirstAndAddUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	failing := w.subscribe("b-failing", `"labels":{"team":"growth"}`)["id"].(string)
	dead := w.subscribe("c-dead")["id"].(string)
	quiet := w.subscribe("d-healthy")["id"].(string)
	w.do(request{method: "PATCH", path: "/v1/subscriptions/" + quiet, scope: api.ScopeWrite, body: `{"events":["other"]}`})
	paused := w.subscribe("a-paused")["id"].(string)
	w.do(request{method: "POST", path: "/v1/subscriptions/" + paused + "/pause", scope: api.ScopeDeliver})
	first := w.write(claim, 100, 3, func(int) string { return "{}" })
	w.settle(failing, store.Delivery{Offset: first, State: store.Retrying, Keys: []string{"k"}, DueAt: time.Now()},
		store.Delivery{Offset: first + 1, State: store.Blocked, Keys: []string{"k"}})
	w.settle(dead, store.Delivery{Offset: first, State: store.Dead, Keys: []string{"k"}})
	get := func(query string) boardJSON {
		t.Helper()
		a := w.do(request{method: "GET", path: "/v1/endpoints" + query, scope: api.ScopeRead})
		if a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, a.status, a.body)
		}
		var b boardJSON
		a.into(t, &b)
		return b
	}
	all := get("")
	if want := []string{"c-dead healthy", "b-failing failing", "a-paused paused", "d-healthy healthy"}; !slices.Equal(all.names(), want) {
		t.Errorf("listed %q, want %q", all.names(), want)
	}
	of := all.Totals
	if of.OnTheWay != 0 || of.Held != 4 || of.HeldBytes == 0 || of.Retrying != 1 || of.Dead != 1 || of.Conditions["healthy"] != 2 || of.Conditions["parked"] != 0 {
		t.Errorf("totals %+v", of)
	}
	var paged []string
	for query := "?limit=1"; ; {
		page := get(query)
		paged = append(paged, page.names()...)
		if page.Totals.Held != 4 {
			t.Errorf("totals of a page: %+v", page.Totals)
		}
		if page.NextCursor == nil {
			break
		}
		query = "?limit=1&cursor=" + *page.NextCursor
	}
	if !slices.Equal(paged, all.names()) {
		t.Errorf("by pages %q", paged)
	}
	for query, want := range map[string][]string{
		"?condition=paused": {"a-paused paused"}, "?label=team": {"b-failing failing"}, "?label=team%3Dgrowth": {"b-failing failing"}, "?label=team%3Dx": {},
		"?q=DEAD": {"c-dead healthy"}, "?q=" + url.QueryEscape("team=gro"): {"b-failing failing"}, "?q=other": {"d-healthy healthy"}, "?subscription=" + paused: {"a-paused paused"},
	} {
		if got := get(query).names(); !slices.Equal(got, want) {
			t.Errorf("%s lists %q, want %q", query, got, want)
		}
	}
	w.do(request{method: "GET", path: "/v1/endpoints?subscription=x", scope: api.ScopeRead}).problem(t, http.StatusUnprocessableEntity, "validation")
	w.do(request{method: "GET", path: "/v1/endpoints?q=x&cursor=" + *get("?limit=1").NextCursor, scope: api.ScopeRead}).
		problem(t, http.StatusUnprocessableEntity, "validation")
}

func TestTheLogNamesWhoKeepsItAsTheBoardDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	down := w.subscribe("down")["id"].(string)
	w.exec(`UPDATE rowcall.cursors SET health = '{"state":"parked","next_probe":"2020-01-01T00:00:00Z"}'`)
	w.subscribe("up")
	w.write(claim, 1, 3, func(int) string { return "{}" })
	var usage struct {
		Pins []struct{ Name, State, Health string }
	}
	w.do(request{method: "GET", path: "/v1/log", scope: api.ScopeRead}).into(t, &usage)
	var got []string
	for _, p := range usage.Pins {
		got = append(got, p.Name+" "+p.State+" "+p.Health)
	}
	slices.Sort(got)
	if want := []string{"down active probing", "up active healthy"}; !slices.Equal(got, want) {
		t.Errorf("pins %q, want %q", got, want)
	}
	var b boardJSON
	w.do(request{method: "GET", path: "/v1/endpoints?subscription=" + down, scope: api.ScopeRead}).into(t, &b)
	if !slices.Equal(b.names(), []string{"down probing"}) || b.Totals.Held != 3 {
		t.Errorf("board of one: %+v", b)
	}
	var s struct{ Totals struct{ Held int64 } }
	w.do(request{method: "GET", path: "/v1/subscriptions/" + down + "/stats", scope: api.ScopeRead}).into(t, &s)
	if s.Totals.Held != 3 {
		t.Errorf("stats of one: %+v", s)
	}
	w.do(request{method: "DELETE", path: "/v1/subscriptions/" + down, scope: api.ScopeWrite})
	a := w.do(request{method: "GET", path: "/v1/endpoints?subscription=" + down, scope: api.ScopeRead})
	if a.into(t, &b); a.status != http.StatusOK || len(b.Items) != 0 {
		t.Errorf("board of one that is gone: %d %s", a.status, a.body)
	}
}

func TestACursorOfALongNameIsTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, first := range []string{"a", "b"} {
		w.subscribe(first + strings.Repeat("😀", 99))
	}
	if got := w.pages("/v1/endpoints?limit=1"); len(got) != 2 {
		t.Errorf("listed %q", got)
	}
}

func TestASubscriptionWhoseExpressionFailsIsFaultyUntilItIsEdited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	held, some := w.subscribe("held")["id"].(string), w.subscribe("some")["id"].(string)
	first := w.write(claim, 100, 2, func(int) string { return "{}" })
	w.exec(`UPDATE rowcall.cursors SET health = '{"hold":"filter_error","hold_error":"no such key: total","hold_version":1}' WHERE subscription = $1`, held)
	// One on which it fails, where others go through.
	w.settle(some, store.Delivery{Offset: first, State: store.Blocked, Keys: []string{"k"}, Reason: "filter_error", Error: "no such key: total"})
	board := func() boardJSON {
		t.Helper()
		var b boardJSON
		w.do(request{method: "GET", path: "/v1/endpoints", scope: api.ScopeRead}).into(t, &b)
		return b
	}
	b := board()
	if want := []string{"held faulty", "some failing"}; !slices.Equal(b.names(), want) || b.Items[0].HoldError != "no such key: total" || b.Totals.Conditions["faulty"] != 1 {
		t.Errorf("board %+v, want %q", b, want)
	}
	if b.Totals.OnTheWay != 0 || b.Totals.Held != 3 {
		t.Errorf("totals %+v: what is held is not on its way", b.Totals)
	}
	w.do(request{method: "PATCH", path: "/v1/subscriptions/" + held, scope: api.ScopeWrite, body: `{"description":"edited"}`})
	if b := board(); !slices.Equal(b.names(), []string{"some failing", "held healthy"}) || b.Items[1].HoldError != "" {
		t.Errorf("edited: %+v", b)
	}
}

func TestDeliveriesAreGroupedByWhatWentWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	one, two := w.subscribe("one")["id"].(string), w.subscribe("two")["id"].(string)
	first := w.write(claim, 100, 6, func(int) string { return "{}" })
	of := func(i int, state store.DeliveryState, key, reason string, status int, text string) store.Delivery {
		return store.Delivery{
			Offset: first + store.Offset(i), State: state, Keys: []string{key}, Reason: reason, Status: status, Error: text,
			FirstFailedAt: time.Now().Add(time.Duration(i) * time.Second), DueAt: time.Now(),
		}
	}
	w.settle(one, of(0, store.Dead, "a", "rejected", 422, "old"), of(1, store.Dead, "a", "rejected", 422, "new"), of(2, store.Dead, "b", "rejected", 400, "x"),
		of(3, store.Retrying, "c", "timeout", 0, ""), of(4, store.Blocked, "c", "", 0, ""))
	w.settle(two, of(0, store.Dead, "a", "rejected", 422, "other"))
	type group struct {
		Subscription, State, Reason, Error string
		Status                             int
		Count, Keys                        int64
	}
	get := func(query string) []group {
		t.Helper()
		a := w.do(request{method: "GET", path: "/v1/deliveries/groups" + query, scope: api.ScopeRead})
		var page struct{ Items []group }
		if a.into(t, &page); a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, a.status, a.body)
		}
		return page.Items
	}
	want := []group{
		{one, "dead", "rejected", "new", 422, 2, 1},
		{one, "dead", "rejected", "x", 400, 1, 1},
		{two, "dead", "rejected", "other", 422, 1, 1},
		{one, "retrying", "timeout", "", 0, 1, 1},
		{one, "blocked", "", "", 0, 1, 1},
	}
	got := get("")
	sorted := func(gs []group) []group {
		slices.SortFunc(gs[1:], func(x, y group) int { return slices.Index(want, x) - slices.Index(want, y) })
		return gs
	}
	if !slices.Equal(sorted(got), want) {
		t.Errorf("got %+v", got)
	}
	if got := get("?subscription=" + two); len(got) != 1 || got[0] != want[2] {
		t.Errorf("of one subscription: %+v", got)
	}
	if got := get("?state=retrying&reason=timeout"); len(got) != 1 || got[0] != want[3] {
		t.Errorf("of a state and reason: %+v", got)
	}
	if got := get("?reason=rejected&status=400"); len(got) != 1 || got[0] != want[1] {
		t.Errorf("of a status: %+v", got)
	}
	for query, n := range map[string]int{"?reason=rejected&status=400": 1, "?reason=rejected&status=422": 3, "?status=500": 0} {
		a := w.do(request{method: "GET", path: "/v1/deliveries" + query, scope: api.ScopeRead})
		var page struct{ Items []struct{ ID string } }
		if a.into(t, &page); a.status != http.StatusOK || len(page.Items) != n {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	a := w.do(request{method: "POST", path: "/v1/deliveries/retry", scope: api.ScopeDeliver, body: `{"status":400,"dry_run":true}`})
	var count struct{ Total int }
	if a.into(t, &count); count.Total != 1 {
		t.Errorf("a bulk retry of a status is of %d: %s", count.Total, a.body)
	}
	if a := w.do(request{method: "POST", path: "/v1/deliveries/retry", scope: api.ScopeDeliver, body: `{"status":4}`}); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a bulk retry of no status: %d", a.status)
	}
	if got := get("?since=" + url.QueryEscape(time.Now().Add(time.Hour).Format(time.RFC3339))); len(got) != 0 {
		t.Errorf("of the future: %+v", got)
	}
}
