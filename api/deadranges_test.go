package api_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
)

func TestDeadRangesAreListedShownAndDiscarded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	w.write(claim, 0x100, 30, func(int) string { return `{"n":1}` })
	id, _ := w.subscribe("slow", `"start":"earliest"`)["id"].(string)
	other, _ := w.subscribe("other", `"start":"earliest"`)["id"].(string)
	lanes, _, err := w.store.ClaimLanes(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, past := range []store.Offset{11, 21, 31} { // of different reasons: else they were one
		for _, lane := range lanes {
			if string(lane.Subscription.ID) != id {
				continue
			}
			reason := []string{"hold_limit_age", "hold_limit_bytes"}[i%2]
			if _, err := w.store.EndHold(t.Context(), store.HoldEnd{Lane: lane.ID, Epoch: lane.Epoch, Past: past, Reason: reason}); err != nil {
				t.Fatal(err)
			}
		}
	}
	type found struct {
		Items []struct {
			ID, From, Past, Reason string
			Count, Bytes           int64
		}
		NextCursor *string `json:"next_cursor"`
	}
	list := func(query string) (f found) {
		t.Helper()
		a := w.do(request{method: "GET", path: "/v1/dead-ranges" + query, scope: api.ScopeRead})
		if a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		a.into(t, &f)
		return f
	}
	first := list("?limit=2&subscription=" + id)
	if len(first.Items) != 2 || first.NextCursor == nil {
		t.Fatalf("%+v", first)
	}
	rest := list("?limit=2&subscription=" + id + "&cursor=" + *first.NextCursor)
	if len(rest.Items) != 1 || rest.NextCursor != nil || len(list("?subscription="+other).Items) != 0 {
		t.Fatalf("%+v", rest)
	}
	oldest := rest.Items[0]
	if oldest.From != fmt.Sprintf("%020d", 1) || oldest.Past != fmt.Sprintf("%020d", 11) || oldest.Count != 10 || oldest.Bytes != 70 || oldest.Reason != "hold_limit_age" {
		t.Errorf("%+v", oldest)
	}
	path := "/v1/dead-ranges/" + oldest.ID
	if a := w.do(request{method: "GET", path: path, scope: api.ScopeRead}); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := w.do(request{method: "POST", path: path + "/discard", scope: api.ScopeRead}); a.status != http.StatusForbidden {
		t.Errorf("discard with a key that reads: %d", a.status)
	}
	if a := w.do(request{method: "POST", path: path + "/discard", scope: api.ScopeDeliver}); a.status != http.StatusNoContent {
		t.Errorf("discard: %d %s", a.status, a.body)
	}
	for _, gone := range []string{path, "/v1/dead-ranges/drg_007", "/v1/dead-ranges/x"} {
		w.do(request{method: "GET", path: gone, scope: api.ScopeRead}).problem(t, http.StatusNotFound, "not-found")
	}
	again := "/v1/dead-ranges/" + first.Items[0].ID
	w.do(request{method: "POST", path: again + "/retry", scope: api.ScopeRead}).problem(t, http.StatusForbidden, "forbidden")
	w.do(request{method: "POST", path: path + "/retry", scope: api.ScopeDeliver}).problem(t, http.StatusNotFound, "not-found")
	a := w.do(request{method: "POST", path: again + "/retry", scope: api.ScopeDeliver})
	var made struct {
		ID, State string
		Total     int64
		DeadRange string `json:"dead_range"`
	}
	if a.into(t, &made); a.status != http.StatusAccepted || made.State != "running" || made.Total != 10 || made.DeadRange != first.Items[0].ID ||
		a.header.Get("Location") != "/v1/replays/"+made.ID {
		t.Errorf("retry: %d %s", a.status, a.body)
	}
	for _, action := range []string{"/retry", "/discard"} {
		w.do(request{method: "POST", path: again + action, scope: api.ScopeDeliver}).problem(t, http.StatusConflict, "conflict")
	}
	var shown struct{ Retry string }
	if w.do(request{method: "GET", path: again, scope: api.ScopeRead}).into(t, &shown); shown.Retry != made.ID {
		t.Errorf("it shows retry %q, want %s", shown.Retry, made.ID)
	}
	if left := list(""); len(left.Items) != 2 {
		t.Errorf("%d are left", len(left.Items))
	}
}
