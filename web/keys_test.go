package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/api/client"
)

func TestEachPageOfTheNavigationOpensForWhoIsOfferedIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.source("shop")
	w.subscribe(map[string]any{"labels": map[string]any{"team": "growth"}})
	restricted, err := w.api.CreateAPIKey(t.Context(), client.NewAPIKey{Name: "growth", Scopes: []string{"read"}, Labels: map[string]string{"team": "growth"}})
	if err != nil {
		t.Fatal(err)
	}
	w.keys["growth"] = restricted.Key
	links := regexp.MustCompile(`<a href="(/[a-z]*)" data-key=`)
	for scope, want := range map[api.Scope]string{
		api.ScopeRead:  "/ /subscriptions /failed /events /attempts /replays /jobs /sources",
		api.ScopeAdmin: "/ /subscriptions /failed /events /attempts /replays /jobs /sources /keys /audit",
		"growth":       "/ /subscriptions /failed /attempts",
	} {
		var offered []string
		for _, m := range links.FindAllStringSubmatch(w.do(request{path: "/", scope: scope}).body, -1) {
			offered = append(offered, m[1])
			if a := w.do(request{path: m[1], scope: scope}); a.status != http.StatusOK {
				t.Errorf("%s is offered %s: %d", scope, m[1], a.status)
			}
		}
		if got := strings.Join(offered, " "); got != want {
			t.Errorf("%s is offered %s, want %s", scope, got, want)
		}
	}
}

func TestAKeyIsMadeShownOnceAndRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	form := url.Values{"name": {"ci"}, "scopes": {"read", "deliver"}, "labels": {"team=growth\r\n"}, "expires_at": {"90d"}}
	made := w.do(request{method: "POST", path: "/keys/new", scope: api.ScopeAdmin, form: form})
	text := regexp.MustCompile(`id="secret">([^<]+)<`).FindStringSubmatch(made.body)
	if made.status != http.StatusOK || text == nil {
		t.Fatalf("%d %s", made.status, made.body)
	}
	page := w.page("/keys")
	for _, want := range []string{"ci", "deliver, read", "team=growth", "never used", "in 89 d"} {
		if !strings.Contains(page, want) {
			t.Errorf("the list lacks %q", want)
		}
	}
	if strings.Contains(page, text[1]) {
		t.Error("the key is shown again")
	}
	w.keys["ci"] = text[1]
	if a := w.do(request{path: "/", scope: "ci"}); a.status != http.StatusOK {
		t.Errorf("signing in with it: %d", a.status)
	}
	all, err := w.api.APIKeys(t.Context(), client.PageQuery{})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(all.Items, func(k client.APIKey) bool { return k.Name == "ci" })
	link := "/keys/" + all.Items[at].ID + "/revoke"
	if asked := w.page(link); !strings.Contains(asked, "Revoke ci?") {
		t.Error("revoking does not ask")
	}
	if a := w.do(request{method: "POST", path: link, scope: api.ScopeAdmin, form: url.Values{}}); a.status != http.StatusSeeOther {
		t.Errorf("revoking: %d", a.status)
	}
	if a := w.do(request{path: "/", scope: "ci"}); a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/sign-in") {
		t.Errorf("its session goes on: %d", a.status)
	}
	if strings.Contains(w.page("/keys"), link) {
		t.Error("it is still listed")
	}
}

func TestFaultsOfAKeyStandBesideTheirFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		form  url.Values
		field string
	}{
		{url.Values{"name": {""}, "scopes": {"read"}}, "name"},
		{url.Values{"name": {"x"}}, "scopes"},
		{url.Values{"name": {"x"}, "scopes": {"admin"}, "labels": {"team=growth"}}, "labels"},
		{url.Values{"name": {"x"}, "scopes": {"read"}, "expires_at": {"soon"}}, "expires_at"},
		{url.Values{"name": {"x"}, "scopes": {"read"}, "expires_at": {"2001-01-01"}}, "expires_at"},
	} {
		a := w.do(request{method: "POST", path: "/keys/new", scope: api.ScopeAdmin, form: c.form})
		if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `id="p-`+c.field+`"`) {
			t.Errorf("%v: %d, and nothing beside %s", c.form, a.status, c.field)
		}
	}
	if a := w.do(request{path: "/keys", scope: api.ScopeRead}); a.status != http.StatusForbidden {
		t.Errorf("keys for one who may read: %d", a.status)
	}
}

func TestTheAuditTrailSaysWhoChangedWhatFromWhatToWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sub := w.subscribe(nil)
	if _, err := w.api.PatchSubscription(t.Context(), sub.ID, map[string]any{"endpoint": map[string]any{"timeout": "7s"}, "max_in_flight": 3}, 0); err != nil {
		t.Fatal(err)
	}
	page := w.page("/audit")
	for _, want := range []string{"patch subscription", "create subscription", "key_admin", `href="/subscriptions/` + sub.ID + `"`, "<del>15s</del>", "<ins>7s</ins>", "endpoint.timeout", "<ins>3</ins>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the trail lacks %q", want)
		}
	}
	page = w.page("/audit?action=create-subscription&object=" + url.QueryEscape("subscription/"+sub.ID) + "&actor=key_admin&within=1h")
	if !strings.Contains(page, "create subscription<") || strings.Contains(page, "patch subscription<") {
		t.Error("the filters do not filter")
	}
	if page = w.page("/audit?actor=key_nobody"); !strings.Contains(page, "No change fits") || !strings.Contains(page, "key_nobody") {
		t.Error("a filter that fits nothing does not say so")
	}
	if page = w.page("/subscriptions/" + sub.ID); !strings.Contains(page, "<ins>7s</ins>") {
		t.Error("the subscription's page lacks its history")
	}
}

func TestWhoMadeAKeyIsNamedAfterTheirOwnWasRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO rowcall.api_keys (id, name, hash, scopes, person, revoked_at) VALUES ('key_ada', 'ada@example.com', '\x01', '{admin}', 'https://login.example.com 7', now())`)
	w.exec(`INSERT INTO rowcall.api_keys (id, name, hash, scopes, created_by) VALUES ('key_hers', 'hers', '\x02', '{read}', 'key_ada')`)
	page := w.page("/keys")
	if !strings.Contains(page, "by ada@example.com") || strings.Contains(page, "/keys/key_ada/revoke") {
		t.Errorf("the keys are\n%s", page)
	}
}
