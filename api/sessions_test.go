package api_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/rowcall/rowcall/api"
)

type sessionJSON struct {
	Key, Name, Token string
	Scopes           []string
	Session          bool
	ExpiresAt        *string `json:"expires_at"`
}

func TestASessionStandsForItsKeyUntilItIsEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.do(request{method: "POST", path: "/v1/sessions", scope: api.ScopeRead})
	var s sessionJSON
	if made.into(t, &s); made.status != http.StatusCreated {
		t.Fatalf("made: %d %s", made.status, made.body)
	}
	if !s.Session || s.Key != "key_read" || s.ExpiresAt == nil || !slices.Equal(s.Scopes, []string{"read"}) {
		t.Errorf("made %+v", s)
	}
	get := func(key string) (answer, sessionJSON) {
		a := w.do(request{method: "GET", path: "/v1/sessions", key: key})
		var got sessionJSON
		if a.status == http.StatusOK {
			a.into(t, &got)
		}
		return a, got
	}
	if _, got := get(s.Token); !got.Session || got.Key != "key_read" || got.Token != "" {
		t.Errorf("a session is %+v", got)
	}
	if _, got := get(w.keys[api.ScopeRead]); got.Session || got.Key != "key_read" {
		t.Errorf("a key is %+v", got)
	}
	if a := w.do(request{method: "GET", path: "/v1/subscriptions", key: s.Token}); a.status != http.StatusOK {
		t.Errorf("reading: %d %s", a.status, a.body)
	}
	w.do(request{method: "POST", path: "/v1/subscriptions", key: s.Token, body: "{}"}).problem(t, http.StatusForbidden, "forbidden")
	w.do(request{method: "POST", path: "/v1/sessions", key: s.Token}).problem(t, http.StatusConflict, "conflict")
	w.do(request{method: "DELETE", path: "/v1/sessions", scope: api.ScopeRead}).problem(t, http.StatusConflict, "conflict")
	if a := w.do(request{method: "DELETE", path: "/v1/sessions", key: s.Token}); a.status != http.StatusNoContent {
		t.Errorf("ending: %d %s", a.status, a.body)
	}
	// At once, although keys are remembered for a while.
	a, _ := get(s.Token)
	a.problem(t, http.StatusUnauthorized, "unauthorized")
	if a, _ := get(w.keys[api.ScopeRead]); a.status != http.StatusOK {
		t.Errorf("the key after its session ended: %d", a.status)
	}
}

func TestASessionsDeedsAreItsKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.subscribe("orders")["id"].(string)
	var s sessionJSON
	w.do(request{method: "POST", path: "/v1/sessions", scope: api.ScopeAdmin}).into(t, &s)
	var paused struct {
		Reason string `json:"state_reason"`
	}
	w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/pause", key: s.Token}).into(t, &paused)
	if paused.Reason != "paused through the API by key key_admin" {
		t.Errorf("reason %q", paused.Reason)
	}
}
