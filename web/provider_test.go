package web_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/web"
)

// provider signs nobody in, and knows what it was asked.
type provider struct {
	flow  web.Flow
	back  string
	leave web.Leave
	err   error
}

func (p *provider) Name() string { return "login.example.com" }

func (p *provider) Start(_ context.Context, flow web.Flow) (string, error) {
	p.flow = flow
	return "https://login.example.com/auth", nil
}

func (p *provider) Finish(context.Context, web.Flow, web.Answer) (string, error) { return "", p.err }

func (p *provider) SignOut(_ context.Context, back string) (web.Leave, error) {
	p.back = back
	return p.leave, p.err
}

// begin begins a sign-in and returns its cookie.
func (w *world) begin(host string, header map[string]string) (cookie string) {
	w.t.Helper()
	a := w.do(request{path: "/sign-in/oidc", host: host, header: header})
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "https://login.example.com/auth" {
		w.t.Fatalf("%d %v", a.status, a.header)
	}
	cookie, _, _ = strings.Cut(a.header.Get("Set-Cookie"), ";")
	return cookie
}

func TestTheProviderSendsTheBrowserBackToThePublicAddress(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		public, host, want string
		tls                bool
	}{
		"a proxy that leaves out the port":    {"https://r.example:8443", "r.example", "https://r.example:8443", false},
		"a proxy that names us by itself":     {"https://r.example/", "127.0.0.1:8080", "https://r.example", false},
		"no public address":                   {"", "localhost:8080", "http://localhost:8080", false},
		"no public address, and our own TLS":  {"", "localhost:8443", "https://localhost:8443", true},
		"a public address, and our own TLS":   {"https://r.example", "localhost:8443", "https://r.example", true},
		"a public address without encryption": {"http://r.lan:8080", "r.lan:8080", "http://r.lan:8080", false},
	} {
		p := &provider{}
		w := newWorld(t, func(config *web.Config) { config.Provider, config.PublicURL, config.TLS = p, c.public, c.tls })
		w.begin(c.host, nil)
		if p.flow.Redirect != c.want+"/sign-in/oidc/callback" {
			t.Errorf("%s: %s", name, p.flow.Redirect)
		}
		a := w.do(request{path: "/sign-in/oidc/callback?state=a&code=b", host: c.host})
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, "Begin it again, at "+c.want+".") {
			t.Errorf("%s: begun elsewhere: %d\n%s", name, a.status, a.body)
		}
	}
}

func TestWhatTheProviderSaysOfAFaultIsShownAndLoggedInShort(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer
	p := &provider{err: &web.SignInError{Status: http.StatusBadGateway, Text: "It does not answer.", Err: errors.New(strings.Repeat("x", 1<<20))}}
	w := newWorld(t, func(config *web.Config) { config.Provider, config.Logger = p, zerolog.New(&logs) })
	for _, c := range []struct {
		query         url.Values
		status        int
		shown, logged string // logged: empty: nothing is
	}{
		{url.Values{"error": {"invalid_scope"}, "error_description": {"no scope <b>groups\r\n"}}, 403, "says &#34;invalid_scope&#34;", `invalid_scope\", \"no scope <b>groups\\r\\n`},
		{url.Values{"error": {"unauthorized_client" + strings.Repeat("y", 1<<16)}, "error_description": {strings.Repeat("z", 1<<16)}}, 403, "says &#34;unauthorized_client", "unauthorized_client"},
		{url.Values{"error": {"access_denied"}, "error_description": {"not of staff"}}, 403, "was cancelled", "not of staff"},
		{url.Values{}, 403, "did not sign you in. Begin again", ""},
		{url.Values{"code": {"c"}}, 502, "It does not answer.", "xxx"},
	} {
		logs.Reset()
		cookie := w.begin("", nil)
		c.query.Set("state", p.flow.State)
		a := w.do(request{path: "/sign-in/oidc/callback?" + c.query.Encode(), header: map[string]string{"Cookie": cookie}})
		if a.status != c.status || !strings.Contains(a.body, c.shown) || len(a.body) > 10_000 {
			t.Errorf("%s: %d\n%.2000s", c.shown, a.status, a.body)
		}
		if !strings.Contains(logs.String(), c.logged) || (logs.Len() > 0) != (c.logged != "") || logs.Len() > 1000 {
			t.Errorf("%s: the log has %d bytes: %.1000s", c.shown, logs.Len(), logs.String())
		}
	}
}

func TestASignInThatBeginsEndsTheSessionBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(config *web.Config) { config.Provider = &provider{} })
	signedIn := w.do(request{method: "POST", path: "/sign-in", form: url.Values{"key": {w.keys[api.ScopeRead]}}})
	cookie, _, _ := strings.Cut(signedIn.header.Get("Set-Cookie"), ";")
	with := map[string]string{"Cookie": cookie}
	if a := w.do(request{path: "/", header: with}); a.status != http.StatusOK {
		t.Fatalf("signed in: %d", a.status)
	}
	w.begin("", with)
	if a := w.do(request{path: "/", header: with}); a.status != http.StatusSeeOther {
		t.Errorf("the session of before: %d", a.status)
	}
}

func TestWhoeverCameByTheProviderIsToldOfItsOwnSession(t *testing.T) {
	t.Parallel()
	const end = "https://login.example.com/end?client_id=rowcall&a=%22b"
	var logs bytes.Buffer
	for name, c := range map[string]struct {
		leave                web.Leave
		err                  error
		to, refresh, contain string
	}{
		"it is offered":        {leave: web.Leave{Address: end}, contain: `<a class="button main" href="https://login.example.com/end?client_id=rowcall&amp;a=%22b">Sign out of login.example.com too</a>`},
		"it leads there":       {leave: web.Leave{Address: end, Leads: true}, refresh: "0; url=" + end, contain: "Next, login.example.com signs you out."},
		"there is none":        {to: "/sign-in"},
		"it does not answer":   {err: errors.New("no answer"), contain: "Go there to sign out of it."},
		"a link that is a lie": {leave: web.Leave{Address: "javascript:alert(1)"}, contain: `href="#ZgotmplZ"`},
	} {
		p := &provider{leave: c.leave, err: c.err}
		w := newWorld(t, func(config *web.Config) {
			config.Provider, config.PublicURL, config.Logger = p, "https://r.example/", zerolog.New(&logs)
		})
		a := w.do(request{path: "/signed-out"})
		if a.header.Get("Location") != c.to || (a.status == http.StatusOK) != (c.to == "") || a.header.Get("Refresh") != c.refresh ||
			!strings.Contains(a.body, c.contain) || a.header.Get("Content-Security-Policy") != policy {
			t.Errorf("%s: %d %v\n%s", name, a.status, a.header, a.body)
		}
		if p.back != "https://r.example/sign-in" {
			t.Errorf("%s: back is %s", name, p.back)
		}
	}
	if !strings.Contains(logs.String(), "no answer") {
		t.Errorf("the log has %s", logs.String())
	}
	w := newWorld(t, func(config *web.Config) { config.Provider = &provider{leave: web.Leave{Address: end, Leads: true}} })
	signedIn := w.do(request{method: "POST", path: "/sign-in", form: url.Values{"key": {w.keys[api.ScopeRead]}}})
	cookie, _, _ := strings.Cut(signedIn.header.Get("Set-Cookie"), ";")
	with := map[string]string{"Cookie": cookie}
	if a := w.do(request{path: "/signed-out", header: with}); a.status != http.StatusSeeOther || a.header.Get("Location") != "/" {
		t.Errorf("nobody has signed out: %d %v", a.status, a.header)
	}
	if a := w.do(request{method: "POST", path: "/sign-out", header: with}); a.status != http.StatusSeeOther || a.header.Get("Location") != "/sign-in" {
		t.Errorf("a key's session, which the provider knows nothing of: %d %v", a.status, a.header)
	}
}
