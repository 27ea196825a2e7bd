package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
)

func TestASubscriptionOfWhichNothingCanBeExpectedWarns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	if err := w.store.SetRelations(t.Context(), claim, []store.Relation{
		{Schema: "public", Name: "orders", Identity: "default", Captured: true, Key: []string{"id"}},
		{Schema: "public", Name: "logs", Identity: "nothing", Reason: "no key", Remedy: "ALTER TABLE public.logs REPLICA IDENTITY FULL"},
	}); err != nil {
		t.Fatal(err)
	}
	warnings := func(a answer) string {
		t.Helper()
		var out struct{ Warnings []string }
		a.into(t, &out)
		if a.status >= 300 || out.Warnings == nil {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return strings.Join(out.Warnings, "\n")
	}
	body := func(pattern string) string {
		return `{"name":"` + pattern + `","events":["` + pattern + `"],"endpoint":{"url":"https://receiver.test/x"}}`
	}
	a := w.do(request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: body("orders")})
	if got := warnings(a); !strings.Contains(got, `did you mean "public.orders.*"?`) {
		t.Errorf("created: %q", got)
	}
	var sub struct{ ID string }
	a.into(t, &sub)
	patch := func(pattern string) string {
		t.Helper()
		return warnings(w.do(request{method: "PATCH", path: "/v1/subscriptions/" + sub.ID, scope: api.ScopeWrite, body: `{"events":["` + pattern + `"]}`}))
	}
	if got := patch("public.logs.*"); !strings.Contains(got, "left out of capture: no key; what lets it in: ALTER TABLE public.logs REPLICA IDENTITY FULL") {
		t.Errorf("edited: %q", got)
	}
	if a := w.do(request{method: "GET", path: "/v1/subscriptions", scope: api.ScopeRead}); a.status != http.StatusOK || !strings.Contains(a.body, "left out of capture") {
		t.Errorf("listed: %d %s", a.status, a.body)
	}
	if got := warnings(w.do(request{method: "POST", path: "/v1/subscriptions/preview", scope: api.ScopeWrite, body: `{"events":["public.orders.insert"]}`})); !strings.Contains(got, `did you mean "public.orders.inserted"?`) {
		t.Errorf("previewed: %q", got)
	}
	if got := patch("public.orders.*"); got != "" {
		t.Errorf("of a table that is captured: %q", got)
	}
	if got := patch("user.*"); !strings.Contains(got, "somebody publishes them") {
		t.Errorf("of types that nobody published: %q", got)
	}
	w.publish(`{"type":"user.signed_up"}`, "application/json")
	deadline := time.Now().Add(20 * time.Second)
	for patch("user.*") != "" { // counted within a second
		if time.Now().After(deadline) {
			t.Fatal("a published type is not known")
		}
		<-time.After(50 * time.Millisecond)
	}
}
