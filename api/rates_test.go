package api_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
)

func TestAKeyThatAsksTooOftenIsToldWhenToComeBackAndOthersAreServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var err error
	w.api, err = api.New(w.store, api.Config{URLs: anyURL{}, Registry: prometheus.NewRegistry(), Logger: zerolog.Nop(), Rate: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(scope api.Scope) answer { return w.do(request{method: "GET", path: "/v1/sources", scope: scope}) }
	if a := ask(api.ScopeRead); a.status != http.StatusOK || a.header.Get("RateLimit") != `"key";r=0;t=10` || a.header.Get("RateLimit-Policy") != `"key";q=1;w=10` {
		t.Errorf("first: %d %v", a.status, a.header)
	}
	for range 3 {
		a := ask(api.ScopeRead)
		p := a.problem(t, http.StatusTooManyRequests, "rate-limited")
		if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 1 || wait > 10 || !strings.Contains(p.Detail, "ROWCALL_API_RATE") {
			t.Errorf("Retry-After %q, %s", a.header.Get("Retry-After"), p.Detail)
		}
	}
	if a := ask(api.ScopeAdmin); a.status != http.StatusOK {
		t.Errorf("another key: %d %s", a.status, a.body)
	}
	// Who has no key is told so, and takes nothing from one who has.
	w.do(request{method: "GET", path: "/v1/sources"}).problem(t, http.StatusUnauthorized, "unauthorized")
}

func TestASessionSharesTheRateOfItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.do(request{method: "POST", path: "/v1/sessions", scope: api.ScopeRead})
	var session struct{ Token string }
	made.into(t, &session)
	var err error
	w.api, err = api.New(w.store, api.Config{URLs: anyURL{}, Registry: prometheus.NewRegistry(), Logger: zerolog.Nop(), Rate: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	if a := w.do(request{method: "GET", path: "/v1/sources", key: session.Token}); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.do(request{method: "GET", path: "/v1/sources", scope: api.ScopeRead}).problem(t, http.StatusTooManyRequests, "rate-limited")
}
