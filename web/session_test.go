package web_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/web"
)

func TestNothingIsShownWithoutASession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/", "/subscriptions", "/subscriptions/new", "/failed", "/failed/deliveries", "/deliveries/dlv_1_1", "/events", "/sources", "/nowhere"} {
		for _, cookie := range []string{"", "rowcall=", "rowcall=" + api.NewKey(), "rowcall=%00", "__Host-rowcall=" + w.keys[api.ScopeAdmin]} {
			a := w.do(request{path: path, header: map[string]string{"Cookie": cookie}})
			if want := "/sign-in?next=" + url.QueryEscape(path); a.status != http.StatusSeeOther || a.header.Get("Location") != want {
				t.Errorf("%s with %q: %d to %s", path, cookie, a.status, a.header.Get("Location"))
			}
		}
	}
	a := w.do(request{method: "POST", path: "/subscriptions/new", form: url.Values{"name": {"x"}}})
	if a.status != http.StatusUnauthorized {
		t.Errorf("posting: %d", a.status)
	}
}

func TestSigningInGivesASessionAndNotTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keys[api.ScopeAdmin]
	a := w.do(request{method: "POST", path: "/sign-in", form: url.Values{"key": {" " + key + "\n"}, "next": {"/failed?state=dead"}}})
	cookie := a.header.Get("Set-Cookie")
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/failed?state=dead" || strings.Contains(cookie, key) {
		t.Errorf("%d to %s with %s", a.status, a.header.Get("Location"), cookie)
	}
	for _, want := range []string{"rowcall=rc_", "Path=/", "HttpOnly", "SameSite=Strict"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("cookie %q lacks %s", cookie, want)
		}
	}
	held, _, _ := strings.Cut(cookie, ";")
	signedIn := func() int {
		return w.do(request{path: "/", header: map[string]string{"Cookie": held}}).status
	}
	if status := signedIn(); status != http.StatusOK {
		t.Errorf("signed in: %d", status)
	}
	// Signing in again ends the session before, signing out this one.
	again := w.do(request{method: "POST", path: "/sign-in", form: url.Values{"key": {key}}, header: map[string]string{"Cookie": held}})
	if status := signedIn(); status != http.StatusSeeOther {
		t.Errorf("the session before: %d", status)
	}
	held, _, _ = strings.Cut(again.header.Get("Set-Cookie"), ";")
	w.do(request{method: "POST", path: "/sign-out", form: url.Values{}, header: map[string]string{"Cookie": held}})
	if status := signedIn(); status != http.StatusSeeOther {
		t.Errorf("after signing out: %d", status)
	}
}

func TestAWrongKeyIsToldWhyAndNotRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		key, want string
		status    int
	}{
		{"", "Paste an API key", http.StatusUnprocessableEntity},
		{api.NewKey(), "not known", http.StatusUnauthorized},
		{w.keys[api.ScopeAdmin][:70], "mistyped", http.StatusUnauthorized},
		{`"><script>alert(1)</script>`, "not known", http.StatusUnauthorized},
	} {
		a := w.do(request{method: "POST", path: "/sign-in", form: url.Values{"key": {c.key}}})
		if a.status != c.status || !strings.Contains(a.body, c.want) || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%q: %d %s", c.key, a.status, a.body)
		}
		if c.key != "" && strings.Contains(a.body, c.key) {
			t.Errorf("%q is repeated", c.key)
		}
	}
}

func TestWhatWasFilledInOutlivesTheSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	form := url.Values{"name": {"orders"}, "filter": {`data.row.note == "<b>"`}, "flag": {"a", "b"}}
	gone := map[string]string{"Cookie": "rowcall=rc_ended"}
	a := w.do(request{method: "POST", path: "/subscriptions/new", form: form, header: gone})
	if a.status != http.StatusUnauthorized || !strings.HasPrefix(a.header.Get("Set-Cookie"), "rowcall=;") {
		t.Errorf("%d %v", a.status, a.header)
	}
	for _, want := range []string{
		`action="/subscriptions/new"`, `name="name" value="orders"`, `name="filter" value="data.row.note == &#34;&lt;b&gt;&#34;"`,
		`name="flag" value="a"`, `name="flag" value="b"`, `href="/sign-in" target="_blank"`, "nothing was changed",
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the page lacks %s:\n%s", want, a.body)
		}
	}
	// Signed in again, what is sent again is done.
	form = url.Values{"name": {"kept"}, "events": {"**"}, "endpoint.url": {"https://example.com/hooks"}}
	if a := w.do(request{method: "POST", path: "/subscriptions/new", scope: api.ScopeWrite, form: form}); a.status != http.StatusSeeOther && !strings.Contains(a.body, "secret") {
		t.Errorf("sent again: %d %s", a.status, a.body)
	}
	huge := url.Values{"name": {strings.Repeat("x", 300<<10)}}
	if a := w.do(request{method: "POST", path: "/subscriptions/new", form: huge, header: gone}); a.status != http.StatusUnauthorized || len(a.body) > 10<<10 {
		t.Errorf("of a huge form: %d, %d bytes", a.status, len(a.body))
	}
}

func TestFailedSignInsAreCountedByTheVisitorsAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var got []int
	for range 11 {
		got = append(got, w.do(request{method: "POST", path: "/sign-in", form: url.Values{"key": {api.NewKey()}}}).status)
	}
	if want := append(slices.Repeat([]int{401}, 10), 429); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if w.session(api.ScopeRead) == "" {
		t.Error("a valid key does not sign in")
	}
}

func TestTheNextPageIsOneOfOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for next, want := range map[string]string{
		"/events?type=a": "/events?type=a", "": "/", "https://evil.test/": "/", "//evil.test": "/", `/\evil.test`: "/",
		"javascript:alert(1)": "/", "/\r\nSet-Cookie: a=b": "/", "events": "/",
	} {
		a := w.do(request{method: "POST", path: "/sign-in", form: url.Values{"key": {w.keys[api.ScopeRead]}, "next": {next}}})
		if a.header.Get("Location") != want {
			t.Errorf("%q leads to %q", next, a.header.Get("Location"))
		}
	}
}

func TestTheCookieIsSecureWhereTheBrowserSpeaksHTTPS(t *testing.T) {
	t.Parallel()
	public := func(address string) func(*web.Config) { return func(c *web.Config) { c.PublicURL = address } }
	tls := func(c *web.Config) { c.TLS, c.Listen = true, "10.0.0.5:8443" }
	for _, c := range []struct {
		name, host, prefix string
		secure             bool
		config             func(*web.Config)
	}{
		{"loopback", "127.0.0.1:8080", "rowcall=", false, func(*web.Config) {}},
		{"a proxy with TLS", "rowcall.example.com", "__Host-rowcall=", true, public("https://rowcall.example.com")},
		{"plain http where it is written", "rowcall.lan:8080", "rowcall=", false, public("http://rowcall.lan:8080")},
		{"our own TLS", "10.0.0.5:8443", "__Host-rowcall=", true, tls},
		{"the loopback beside a proxy", "localhost:8080", "rowcall=", false, public("https://rowcall.example.com")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.config)
			a := w.do(request{method: "POST", path: "/sign-in", host: c.host, form: url.Values{"key": {w.keys[api.ScopeRead]}}})
			cookie := a.header.Get("Set-Cookie")
			if !strings.HasPrefix(cookie, c.prefix) || strings.Contains(cookie, "Secure") != c.secure {
				t.Errorf("%d with %q", a.status, cookie)
			}
		})
	}
}

func TestTheConsoleIsNotOpenedUnderOtherNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *web.Config) { c.PublicURL, c.Listen = "https://rowcall.example.com", "0.0.0.0:8080" })
	for host, open := range map[string]bool{
		"localhost": true, "localhost:9": true, "LOCALHOST.": true, "127.0.0.1:8080": true, "[::1]:8080": true, "rowcall.example.com": true,
		"rowcall.example.com:443": true, "evil.test": false, "localhost.evil.test": false, "rowcall.example.com.evil.test": false,
		"10.0.0.5:8080": false, "0.0.0.0:8080": false, "127.0.0.1.nip.io": false, "": false, "[::1": false, "a b": false,
	} {
		r := request{path: "/sign-in", host: host}
		if host == "" {
			r.host = "."
		}
		a := w.do(r)
		want := http.StatusMisdirectedRequest
		if open {
			want = http.StatusOK
		}
		if a.status != want {
			t.Errorf("%q: %d", host, a.status)
		}
		if !open && !strings.Contains(a.body, "ROWCALL_PUBLIC_URL") {
			t.Errorf("%q: the remedy is not named", host)
		}
	}
}

func TestOtherSitesChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *web.Config) { c.PublicURL = "https://rowcall.example.com" })
	sub := w.subscribe(nil)
	for _, c := range []struct {
		header map[string]string
		status int
	}{
		{map[string]string{"Sec-Fetch-Site": "cross-site"}, http.StatusForbidden},
		{map[string]string{"Sec-Fetch-Site": "same-site"}, http.StatusForbidden},
		{map[string]string{"Origin": "https://evil.test"}, http.StatusForbidden},
		{map[string]string{"Origin": "null"}, http.StatusForbidden},
		{map[string]string{"Sec-Fetch-Site": "same-origin"}, http.StatusSeeOther},
		{map[string]string{"Origin": "http://localhost:8080"}, http.StatusSeeOther},
		{map[string]string{"Sec-Fetch-Site": "none"}, http.StatusSeeOther},
	} {
		for _, act := range []string{"pause", "resume"} {
			a := w.do(request{method: "POST", path: "/subscriptions/" + sub.ID + "/" + act, scope: api.ScopeAdmin, header: c.header, form: url.Values{"version": {"1"}}})
			if a.status != c.status {
				t.Errorf("%s with %v: %d", act, c.header, a.status)
			}
		}
	}
	for _, act := range []string{"pause", "resume", "delete", "rotate"} {
		w.do(request{path: "/subscriptions/" + sub.ID + "/" + act, scope: api.ScopeAdmin})
	}
	if now, err := w.api.Subscription(t.Context(), sub.ID); err != nil || now.State != "active" {
		t.Errorf("after looking at it: %+v, %v", now, err)
	}
}

// A browser sends no strict cookie along with a link from elsewhere.
func TestALinkFromElsewhereOpensAfterOneMoreLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.do(request{path: "/failed", header: map[string]string{"Sec-Fetch-Site": "cross-site"}})
	if a.status != http.StatusOK || a.header.Get("Refresh") != "0" || a.header.Get("Set-Cookie") != "" {
		t.Errorf("%d %v", a.status, a.header)
	}
}

func TestNoProviderIsOfferedWhereNoneIsConfigured(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if page := w.do(request{path: "/sign-in"}); strings.Contains(page.body, "oidc") || !strings.Contains(page.body, "With an API key") {
		t.Errorf("the sign-in page has\n%s", page.body)
	}
	for _, path := range []string{"/sign-in/oidc", "/sign-in/oidc/callback?state=a&code=b"} {
		if a := w.do(request{path: path}); a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/sign-in?") || strings.Contains(a.header.Get("Set-Cookie"), "rc_") {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
}
