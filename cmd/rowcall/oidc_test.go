package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store/storetest"
)

// provider is a certified OpenID provider of others, with one client: rowcall.
type provider struct {
	t        *testing.T
	address  string
	accounts string // the file that says who there is
}

// newProvider takes an address for one; nobody listens there before start.
func newProvider(t *testing.T) *provider {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return &provider{t: t, address: l.Addr().String(), accounts: filepath.Join(t.TempDir(), "accounts.json")}
}

// person says who somebody is.
func (p *provider) person(name string, groups ...string) {
	p.t.Helper()
	raw, err := json.Marshal(map[string]any{name: map[string]any{
		"name": name, "email": name + "@example.com", "email_verified": true, "groups": append([]string{}, groups...),
	}})
	if err == nil {
		err = os.WriteFile(p.accounts, raw, 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// start runs it, for a console at an address.
func (p *provider) start(console string) {
	p.t.Helper()
	library, err := filepath.Abs("../../.tools/browser/node_modules/oidc-provider/lib/index.js")
	if err == nil {
		_, err = os.Stat(library)
	}
	if err != nil {
		p.t.Fatalf("oidc-provider, which .ci/setup test installs, is missing: %v", err)
	}
	c := exec.CommandContext(p.t.Context(), "node", "testdata/provider.mjs")
	c.Env = []string{
		"PATH=" + os.Getenv("PATH"), "LIBRARY=" + library, "ADDRESS=" + p.address,
		"REDIRECT=" + console + "/sign-in/oidc/callback", "BACK=" + console + "/sign-in", "ACCOUNTS=" + p.accounts,
	}
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "listening" {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return
		}
	}
	p.t.Fatalf("the provider ended: %s", said.String())
}

// console starts rowcall with a provider and returns the address that people open.
// It is localhost and the provider 127.0.0.1, which are two sites to a browser.
func (p *provider) console(change ...string) (address string, c config) {
	p.t.Helper()
	settings, err := read(p.t, append(required(), append([]string{
		"ROWCALL_EGRESS_ALLOW=private", "ROWCALL_OIDC_ISSUER=http://" + p.address, "ROWCALL_OIDC_CLIENT_ID=rowcall",
		"ROWCALL_OIDC_CLIENT_SECRET=a-secret-of-the-client", "ROWCALL_OIDC_SCOPES=profile,email,groups",
		"ROWCALL_OIDC_ROLES=ops=read+deliver,admins=admin",
	}, change...)...))
	if err != nil {
		p.t.Fatal(err)
	}
	c = newConfig(p.t, storetest.EmptyURL(p.t))
	c.oidc = settings.oidc
	var logs bytes.Buffer
	c.logger = zerolog.New(zerolog.SyncWriter(&logs)).Level(zerolog.InfoLevel)
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("rowcall's log:\n%s", logs.String())
		}
		for _, secret := range []string{"a-secret-of-the-client", "id_token", "code="} {
			if strings.Contains(logs.String(), secret) {
				p.t.Errorf("the log holds %q", secret)
			}
		}
	})
	address = start(p.t, c)
	return "http://localhost" + address[strings.LastIndexByte(address, ':'):], c
}

// visitor is a browser as far as cookies and redirects go.
type visitor struct {
	t      *testing.T
	client *http.Client
}

func newVisitor(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// visited is an answer.
type visited struct {
	status int
	header http.Header
	body   string
	at     *url.URL
}

func (p visited) to() string {
	u, err := p.at.Parse(p.header.Get("Location"))
	if err != nil {
		return ""
	}
	return u.String()
}

func (v *visitor) do(method, address string, form url.Values) visited {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return visited{resp.StatusCode, resp.Header, string(body), req.URL}
}

func (v *visitor) get(address string) visited { v.t.Helper(); return v.do("GET", address, nil) }

var formAction = regexp.MustCompile(`action="([^"]+)"`)

// begin begins a sign-in at the console and goes through the pages of the provider
// as a person, up to the address that it sends the browser back to.
func (v *visitor) begin(console, next, person string) (callback string) {
	v.t.Helper()
	at := v.get(console + "/sign-in/oidc?next=" + url.QueryEscape(next))
	for range 20 {
		switch {
		case strings.HasPrefix(at.to(), console) && at.header.Get("Location") != "":
			return at.to()
		case at.header.Get("Location") != "":
			at = v.get(at.to())
		case strings.Contains(at.body, `name="login"`):
			at = v.do("POST", formAction.FindStringSubmatch(at.body)[1], url.Values{"prompt": {"login"}, "login": {person}, "password": {"x"}})
		case strings.Contains(at.body, `value="consent"`):
			at = v.do("POST", formAction.FindStringSubmatch(at.body)[1], url.Values{"prompt": {"consent"}})
		default:
			v.t.Fatalf("%s: %d\n%s", at.at, at.status, at.body)
		}
	}
	v.t.Fatal("the provider sends us around in circles")
	return ""
}

// session reports whether the visitor has one that counts.
func (v *visitor) session(console string) bool {
	v.t.Helper()
	return v.get(console+"/").status == http.StatusOK
}

// with is an address with other parameters.
func with(t *testing.T, address string, pairs ...string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func TestWhatAProviderSendsBackCountsOnceAndWhereItWasAskedFor(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.person("ada", "ops")
	console, _ := p.console()
	p.start(console)
	refused := func(name string, got visited, status int, text string) {
		t.Helper()
		if got.status != status || !strings.Contains(got.body, text) {
			t.Errorf("%s: %d, want %d with %q\n%s", name, got.status, status, text, got.body)
		}
		for _, cookie := range got.header.Values("Set-Cookie") {
			if strings.HasPrefix(cookie, "rowcall=rc_") {
				t.Errorf("%s: a session is given", name)
			}
		}
	}
	const notBegun, notHeld = "was not begun here", "does not hold"

	attacker, victim := newVisitor(t), newVisitor(t)
	stolen := attacker.begin(console, "/", "ada")
	refused("another's answer", victim.get(stolen), 400, notBegun)
	victim.get(console + "/sign-in/oidc") // has begun one too
	refused("another's answer, in the middle of a sign-in", victim.get(stolen), 400, notBegun)

	begun := victim.begin(console, "/", "ada")
	code, _ := url.Parse(stolen)
	refused("another's code under the victim's state", victim.get(with(t, begun, "code", code.Query().Get("code"))), 401, notHeld)
	refused("the right one after that", victim.get(begun), 400, notBegun)

	refused("no state", victim.get(with(t, victim.begin(console, "/", "ada"), "state", "")), 400, notBegun)
	refused("another issuer", victim.get(with(t, victim.begin(console, "/", "ada"), "iss", "https://evil.test")), 401, notHeld)
	refused("no issuer", victim.get(with(t, victim.begin(console, "/", "ada"), "iss", "")), 401, notHeld)
	refused("a refusal", victim.get(with(t, victim.begin(console, "/", "ada"), "error", "access_denied", "error_description", "<b>x")), 403, "was cancelled")
	refused("no code", victim.get(with(t, victim.begin(console, "/", "ada"), "code", "")), 403, "did not sign you in")
	if victim.session(console) {
		t.Fatal("the victim has a session")
	}

	// Once is enough, and the page that it leads to is one of ours.
	for next, to := range map[string]string{
		"/failed?state=dead": "/failed?state=dead", "https://evil.test/": "/", "//evil.test": "/", `/\evil.test`: "/", "/" + strings.Repeat("a", 2000): "/",
	} {
		callback := victim.begin(console, next, "ada")
		held := victim.client.Jar.Cookies(&url.URL{Scheme: "http", Host: strings.TrimPrefix(console, "http://"), Path: "/"})
		if got := victim.get(callback); got.status != 200 || got.header.Get("Refresh") != "0; url="+to {
			t.Errorf("to %s: %d, Refresh %q\n%s", next, got.status, got.header.Get("Refresh"), got.body)
		}
		if !victim.session(console) {
			t.Fatal("no session")
		}
		replayer := newVisitor(t)
		refused("the answer again", victim.get(callback), 400, notBegun)
		if next == "//evil.test" { // one is enough: failures are counted
			replayer.client.Jar.SetCookies(&url.URL{Scheme: "http", Host: strings.TrimPrefix(console, "http://"), Path: "/"}, held)
			refused("the answer again, with the cookie of then", replayer.get(callback), 401, notHeld)
		}
	}
}

func TestAPersonMayWhatTheirGroupsMayAtEverySignIn(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.person("ada", "ops", "*", "nobody")
	console, c := p.console("ROWCALL_OIDC_EMAIL_DOMAINS=example.com,EXAMPLE.org")
	p.start(console)
	env := clientEnv(strings.TrimPrefix(console, "http://"), c)
	list := func() []struct {
		ID, Name string
		Scopes   []string
		Person   bool
	} {
		t.Helper()
		var found []struct {
			ID, Name string
			Scopes   []string
			Person   bool
		}
		got := call(t, env, "keys", "list", "-o", "json")
		if err := json.Unmarshal([]byte(got.stdout), &found); err != nil {
			t.Fatalf("%v: %s%s", err, got.stdout, got.stderr)
		}
		return found
	}
	v := newVisitor(t)
	signIn := func(status int, text string) {
		t.Helper()
		if got := v.get(v.begin(console, "/", "ada")); got.status != status || !strings.Contains(got.body, text) {
			t.Fatalf("sign-in: %d, want %d with %q\n%s", got.status, status, text, got.body)
		}
	}
	signIn(200, "You are signed in")
	made := list()
	at := len(made) - 1
	if made[0].Person {
		at = 0
	}
	ada := made[at]
	if len(made) != 2 || ada.Name != "ada@example.com" || fmt.Sprint(ada.Scopes) != "[deliver read]" {
		t.Fatalf("keys are %+v", made)
	}
	// Another browser of the same person gets more, and so does this one.
	p.person("ada", "ops", "admins")
	other := newVisitor(t)
	if got := other.get(other.begin(console, "/", "ada")); got.status != 200 {
		t.Fatalf("sign-in: %d %s", got.status, got.body)
	}
	if got := v.get(console + "/keys"); got.status != 200 {
		t.Errorf("the session of before, after a group came: %d", got.status)
	}
	// What was taken away is gone at the next sign-in, and for sessions that are there.
	p.person("ada")
	if got := other.get(other.begin(console, "/", "ada")); got.status != 403 || !strings.Contains(got.body, "ada@example.com, who may not use rowcall") {
		t.Errorf("without a group: %d\n%s", got.status, got.body)
	}
	if v.session(console) || other.session(console) {
		t.Error("a session outlives the group that it came by")
	}
	if left := list(); len(left) != 1 {
		t.Errorf("left: %+v", left)
	}
	p.person("ada", "ops")
	signIn(200, "You are signed in")
	// A start under other settings does not know what these gave.
	changed := c
	changed.oidc.roles = map[string][]string{"ops": {"read"}}
	for _, name := range []string{"same", "other"} { // in this order: the other one ends the session
		in := c
		if name == "other" {
			in = changed
		}
		in.instance += name
		address := start(t, in)
		if v.session("http://localhost"+address[strings.LastIndexByte(address, ':'):]) != (name == "same") {
			t.Errorf("a start under %s settings: a session counts %v", name, name != "same")
		}
	}
	signIn(200, "You are signed in")
	// It is offered to sign out of the provider as well.
	out := v.do("POST", console+"/sign-out", url.Values{})
	if out.to() != console+"/signed-out" {
		t.Fatalf("signing out leads to %s", out.to())
	}
	offer := v.get(out.to())
	if want := "http://" + p.address + "/session/end?client_id=rowcall"; offer.status != 200 || offer.header.Get("Refresh") != "" || !strings.Contains(offer.body, `href="`+want+`"`) {
		t.Errorf("no offer of %s in\n%s", want, offer.body)
	} else if got := v.get(want); got.status != 200 || !strings.Contains(got.body, `value="yes"`) {
		t.Errorf("the provider does not ask: %d\n%s", got.status, got.body)
	}
	if v.session(console) {
		t.Error("the session outlives signing out")
	}
	if got := list(); len(got) != 2 || got[at].ID != ada.ID {
		t.Errorf("back again as %+v, was %+v", got, ada)
	}
	trail := call(t, env, "keys", "list").stdout // people stand among the keys, named
	if !strings.Contains(trail, "ada@example.com") {
		t.Errorf("keys list shows\n%s", trail)
	}
	// A domain that is not allowed, and an address that nobody verified.
	for _, claims := range []string{`"ada@evil.com","email_verified":true`, `"ada@example.com"`, `"example.com","email_verified":true`} {
		if err := os.WriteFile(p.accounts, []byte(`{"ada":{"groups":["ops"],"email":`+claims+`}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		signIn(403, "may not use rowcall")
	}
}

func TestAPersonSignsInByAProviderInTheBrowser(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.person("ada", "ops")
	console, c := p.console("ROWCALL_OIDC_SIGN_OUT=true")
	env := clientEnv(strings.TrimPrefix(console, "http://"), c)
	if got := call(t, env, "subs", "create", "--name=orders", "--events=a.b", "--endpoint=http://127.0.0.1:9/h"); got.code != exitOK {
		t.Fatalf("create: %+v", got)
	}
	b := newBrowser(t, console)
	const button = `a[href^="/sign-in/oidc"]`

	// The provider is down: the console says so, and takes keys as ever.
	b.open("/failed")
	b.check("the sign-in page")
	b.press(button)
	if text := b.eval("document.body.innerText"); !strings.Contains(text, "does not answer") || !strings.Contains(text, "use an API key") {
		t.Errorf("the provider is down, and the page says\n%s", text)
	}
	b.check("the sign-in page with a fault")
	b.do(chromedp.SendKeys(chromedp.CSS("#key"), c.apiKey.Reveal()))
	b.press("form[action='/sign-in'] button")
	if at := b.eval("location.pathname"); at != "/failed" {
		t.Errorf("a key leads to %s", at)
	}
	b.press("form[action='/sign-out'] button")

	// It comes up.
	p.start(console)
	waitFor(t, patience, "the provider is found", func() bool {
		b.open("/sign-in?next=/subscriptions")
		b.press(button)
		return strings.HasPrefix(b.eval("location.href"), "http://"+p.address)
	}, func() string { return b.eval("location.href + '\\n' + document.body.innerText") })
	b.do(chromedp.SendKeys(chromedp.CSS("input[name=login]"), "ada"), chromedp.SendKeys(chromedp.CSS("input[name=password]"), "x"))
	b.press("button[type=submit]")
	b.press("button[type=submit]") // consents
	b.await("the page that was asked for", `location.pathname === "/subscriptions" && document.readyState === "complete"`)
	if text := b.eval("document.body.innerText"); !strings.Contains(text, "ada@example.com") || !strings.Contains(text, "orders") {
		t.Errorf("signed in, and the page says\n%s", text)
	}
	b.check("the page after signing in")

	// What she does is hers.
	id := b.eval(`document.querySelector("a[href^='/subscriptions/sub_']").getAttribute("href").split("?")[0]`)
	b.open(id + "/pause")
	b.press("form.confirm button.main")
	// She signs out, of the provider as well, and is back: it asks who is there again.
	b.press("form[action='/sign-out'] button")
	b.await("the provider's page for signing out", `location.href.startsWith("http://`+p.address+`/session/end?") && document.readyState === "complete"`)
	b.press("button[value=yes]")
	b.await("the way back", `location.href === "`+console+`/sign-in" && document.readyState === "complete"`)
	b.press(button)
	b.await("the provider's page for signing in", `document.querySelector("input[name=login]") !== null`)
	b.open("/")
	if at := b.eval("location.pathname"); at != "/sign-in" {
		t.Errorf("signed out, and at %s", at)
	}
	b.do(chromedp.SendKeys(chromedp.CSS("#key"), c.apiKey.Reveal()))
	b.press("form[action='/sign-in'] button")
	b.open("/audit")
	if text := b.eval("document.body.innerText"); !strings.Contains(text, "ada@example.com") || !strings.Contains(text, "pause subscription") {
		t.Errorf("the audit trail says\n%s", text)
	}
}
