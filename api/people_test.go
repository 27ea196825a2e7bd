package api_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/api"
)

func TestWhoAPersonIsStaysKnownAfterTheyLostAllRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	who := api.Person{Issuer: "https://login.example.com", Subject: "7 f", Name: "ada@example.com", Scopes: []string{"read"}}
	remote := netip.MustParseAddr("192.0.2.1")
	if _, _, err := w.api.SignIn(t.Context(), who, remote); err != nil {
		t.Fatal(err)
	}
	type key struct {
		ID, Name, Issuer, Subject string
		Person                    bool
		RevokedAt                 *string `json:"revoked_at"`
	}
	person := func(query string) (found []key) {
		t.Helper()
		var list struct{ Items []key }
		w.do(request{method: "GET", path: "/v1/api-keys" + query, scope: api.ScopeAdmin}).into(t, &list)
		for _, k := range list.Items {
			if k.Person {
				found = append(found, k)
			} else if k.Issuer+k.Subject != "" {
				t.Errorf("a key is %+v", k)
			}
		}
		return found
	}
	if got := person(""); len(got) != 1 || got[0].Issuer != who.Issuer || got[0].Subject != who.Subject || got[0].RevokedAt != nil {
		t.Errorf("signed in: %+v", got)
	}
	who.Scopes = nil
	if _, _, err := w.api.SignIn(t.Context(), who, remote); !errors.Is(err, api.ErrNoScopes) {
		t.Fatal(err)
	}
	if got := person(""); len(got) != 0 {
		t.Errorf("without rights: %+v", got)
	}
	if got := person("?revoked=true"); len(got) != 1 || got[0].Name != who.Name || got[0].Subject != who.Subject || got[0].RevokedAt == nil {
		t.Errorf("with those that ended: %+v", got)
	}
	trail := w.do(request{method: "GET", path: "/v1/audit?action=sign-in", scope: api.ScopeAdmin})
	if strings.Count(trail.body, `"person":"https://login.example.com 7 f"`) != 2 {
		t.Errorf("the audit trail says\n%s", trail.body)
	}
}

func TestASessionOfAPersonCountsWhereTheRulesOfTheirSignInAreInForce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *api.Config) { c.Rules = "first" })
	who := api.Person{Issuer: "https://login.example.com", Subject: "7", Name: "ada", Scopes: []string{"admin"}}
	remote := netip.MustParseAddr("192.0.2.1")
	signIn := func(a *api.API) string {
		t.Helper()
		token, _, err := a.SignIn(t.Context(), who, remote)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	under := func(rules string) *api.API {
		t.Helper()
		a, err := api.New(w.store, api.Config{URLs: anyURL{}, Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	counts := func(name string, a *api.API, token string, want int) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/v1/sessions", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		got := httptest.NewRecorder()
		a.Handler().ServeHTTP(got, r)
		if got.Code != want || want == http.StatusOK && !strings.Contains(got.Body.String(), `"person":true`) {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
	}
	const in, out = http.StatusOK, http.StatusUnauthorized
	before := signIn(w.api)
	counts("under the same rules", w.api, before, in)
	counts("a start under the same rules", under("first"), before, in)
	counts("a start without people", under(""), before, out)
	second := under("second")
	counts("a start under others", second, before, out)
	after := signIn(second)
	counts("signed in under these", second, after, in)
	counts("signed in under these, the session of before", second, before, in) // it is the same person's
	counts("under those of before", under("first"), after, out)
	// A key asks nobody's rules.
	if got := w.do(request{method: "GET", path: "/v1/sessions", scope: api.ScopeRead}); got.status != in || !strings.Contains(got.body, `"person":false`) {
		t.Errorf("a key: %d %s", got.status, got.body)
	}
}
