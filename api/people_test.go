package api_test

import (
	"errors"
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
