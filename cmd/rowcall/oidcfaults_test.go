package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
	"github.com/rowcall/rowcall/web"
)

// counted counts the sign-ins that failed by a person's fault.
type counted struct {
	people
	failed int
}

func (c *counted) FailedSignIn(ctx context.Context, remote netip.Addr) time.Duration {
	c.failed++
	return c.people.FailedSignIn(ctx, remote)
}

// says answers with a status and a JSON body.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func finish(ctx context.Context, s *signIn) (string, error) {
	return s.Finish(ctx, web.Flow{Nonce: "the-nonce", Verifier: strings.Repeat("v", 43), Redirect: "http://localhost/cb"},
		web.Answer{Code: "c", Remote: netip.MustParseAddr("192.0.2.1")})
}

func TestAFaultOfTheProviderIsNotThePersons(t *testing.T) {
	t.Parallel()
	const silent, otherwise, blocked, refused = "does not answer", "answers otherwise than it should", "may not call", "does not hold"
	const never = "http://169.254.169.254/x"
	private := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(private.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	const metadata = "/.well-known/openid-configuration"
	for name, c := range map[string]struct {
		meta   map[string]any
		path   string
		does   func(*forger) http.HandlerFunc
		claims map[string]any
		issuer string
		want   string // empty: lets in
	}{
		"metadata that is not there":       {path: metadata, does: func(*forger) http.HandlerFunc { return http.NotFound }, want: otherwise},
		"metadata later":                   {path: metadata, does: func(*forger) http.HandlerFunc { return says(503, "") }, want: silent},
		"metadata of another issuer":       {meta: map[string]any{"issuer": "https://login.example.com/"}, want: otherwise},
		"metadata that is no JSON":         {path: metadata, does: func(*forger) http.HandlerFunc { return says(200, "<html>") }, want: otherwise},
		"metadata without end":             {path: metadata, does: func(f *forger) http.HandlerFunc { return f.padded(f.metadata()) }, want: otherwise},
		"nobody listens":                   {issuer: gone.URL, want: silent},
		"a certificate that nobody trusts": {issuer: private.URL, want: "does not trust"},
		"metadata where we may not go":     {issuer: never, want: blocked},

		"a token later":               {path: "/token", does: func(*forger) http.HandlerFunc { return says(503, "") }, want: silent},
		"a token after too many":      {path: "/token", does: func(*forger) http.HandlerFunc { return says(429, `{"error":"slow_down"}`) }, want: silent},
		"another secret":              {path: "/token", does: func(*forger) http.HandlerFunc { return says(401, `{"error":"invalid_client"}`) }, want: otherwise},
		"no token endpoint":           {path: "/token", does: func(*forger) http.HandlerFunc { return http.NotFound }, want: otherwise},
		"a code that is none":         {path: "/token", does: func(*forger) http.HandlerFunc { return says(400, `{"error":"invalid_grant"}`) }, want: refused},
		"a token where we may not go": {meta: map[string]any{"token_endpoint": never}, want: blocked},

		"keys later":               {path: "/jwks", does: func(*forger) http.HandlerFunc { return says(500, "") }, want: silent},
		"keys that are not there":  {path: "/jwks", does: func(*forger) http.HandlerFunc { return http.NotFound }, want: otherwise},
		"keys without end":         {path: "/jwks", does: func(f *forger) http.HandlerFunc { return f.padded(f.keys()) }, want: otherwise},
		"keys cut short":           {path: "/jwks", does: func(*forger) http.HandlerFunc { return cutShort }, want: silent},
		"keys where we may not go": {meta: map[string]any{"jwks_uri": never}, want: blocked},
		"keys that sign otherwise": {path: "/jwks", does: func(*forger) http.HandlerFunc { return says(200, `{"keys":[]}`) }, want: refused},
		"userinfo without end": {claims: map[string]any{"realm": nil}, path: "/me", does: func(f *forger) http.HandlerFunc {
			return f.padded(map[string]any{"sub": "ada", "realm": map[string]any{"groups": "ops"}})
		}, want: otherwise},
		"userinfo later":               {claims: map[string]any{"realm": nil}, path: "/me", does: func(*forger) http.HandlerFunc { return says(503, "") }, want: silent},
		"userinfo for a name alone":    {claims: map[string]any{"email": nil}, path: "/me", does: func(*forger) http.HandlerFunc { return says(503, "") }},
		"a name of somebody else":      {claims: map[string]any{"email": nil}, path: "/me", does: func(*forger) http.HandlerFunc { return says(200, `{"sub":"eve","name":"Eve"}`) }},
		"userinfo where we may not go": {claims: map[string]any{"realm": nil}, meta: map[string]any{"userinfo_endpoint": never}, want: blocked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newForger(t)
			f.meta, f.token = c.meta, f.sign(t, "RS256", f.key, f.good(c.claims))
			if c.does != nil {
				f.does(c.path, c.does(f))
			}
			s, server := f.signIn(t)
			people := &counted{people: server}
			s.people = people
			if c.issuer != "" {
				s.config.issuer = c.issuer
			}
			_, err := finish(t.Context(), s)
			e, _ := errors.AsType[*web.SignInError](err)
			status := http.StatusBadGateway
			if c.want == refused {
				status = http.StatusUnauthorized
			}
			switch {
			case c.want == "" && err != nil, c.want != "" && e == nil:
				t.Errorf("%v (%v)", err, errors.Unwrap(err))
			case e != nil && (e.Status != status || !strings.Contains(e.Text, c.want)):
				t.Errorf("%d %s, want %d and %q (%v)", e.Status, e.Text, status, c.want, e.Err)
			}
			if people.failed > 0 != (c.want == refused) {
				t.Errorf("%d failures are counted", people.failed)
			}
		})
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// cutShort promises more than it sends.
func cutShort(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte(`{"keys":[`))
}

func TestWhatTheIssuerSaysOfItselfIsReadForAllAndAgain(t *testing.T) {
	t.Parallel()
	f := newForger(t)
	f.meta = map[string]any{}
	s, _ := f.signIn(t)
	const metadata = "/.well-known/openid-configuration"
	start := func(ctx context.Context) (string, error) {
		return s.Start(ctx, web.Flow{Redirect: "http://localhost/cb"})
	}

	// The first visitor goes while the issuer is asked.
	ctx, leave := context.WithCancel(t.Context())
	f.does(metadata, func(w http.ResponseWriter, _ *http.Request) {
		leave()
		f.mu.Lock()
		raw := f.metadata()
		f.mu.Unlock()
		writeJSON(w, raw)
	})
	_, _ = start(ctx)
	address, err := start(t.Context())
	if err != nil || !strings.HasPrefix(address, f.server.URL+"/auth?") || !strings.Contains(address, "redirect_uri=http%3A%2F%2Flocalhost%2Fcb") {
		t.Errorf("after a visitor who left: %s, %v", address, err)
	}
	// What was said an hour ago counts until something else is said.
	age := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.provider.at, s.failed = s.provider.at.Add(-2*oidcFresh), nil
	}
	age()
	f.does(metadata, says(503, ""))
	if address, err = start(t.Context()); err != nil || !strings.HasPrefix(address, f.server.URL+"/auth?") {
		t.Errorf("while it is down: %s, %v", address, err)
	}
	age()
	f.does(metadata, nil)
	f.mu.Lock()
	f.meta["authorization_endpoint"] = f.server.URL + "/moved"
	f.mu.Unlock()
	if address, err = start(t.Context()); err != nil || !strings.HasPrefix(address, f.server.URL+"/moved?") {
		t.Errorf("after it moved: %s, %v", address, err)
	}

	// A failure is logged once, however many come while it is remembered.
	f = newForger(t)
	f.does(metadata, says(503, strings.Repeat("x", 1000)))
	s, _ = f.signIn(t)
	for try, logged := range []bool{true, false, false} {
		_, err := start(t.Context())
		if e, ok := errors.AsType[*web.SignInError](err); !ok || !strings.Contains(e.Text, "does not answer") || (e.Err != nil) != logged {
			t.Errorf("try %d: %v, for the log %v", try, err, errors.Unwrap(err))
		}
	}
}

func TestACodeIsPostedOnceAndAsTheTokenEndpointWantsIt(t *testing.T) {
	t.Parallel()
	both := []string{"client_secret_basic", "client_secret_post", "private_key_jwt"}
	for name, c := range map[string]struct {
		methods []string
		takes   string
		refuses bool
		public  bool
		want    []string
	}{
		"post alone":                    {methods: both[1:], takes: "post", want: []string{"post", "post"}},
		"basic alone":                   {methods: both[:1], takes: "basic", want: []string{"basic", "basic"}},
		"both":                          {methods: both, takes: "basic", want: []string{"basic", "basic"}},
		"both, but for us post":         {methods: both, takes: "post", want: []string{"basic", "post", "post"}}, // tried once
		"it does not say":               {takes: "basic", want: []string{"basic", "basic"}},
		"it does not say, and is post":  {takes: "post", want: []string{"basic", "post", "post"}},
		"a client of no key":            {takes: "post", public: true, want: []string{"post", "post"}},
		"both, and the code is none":    {methods: both, takes: "basic", refuses: true, want: []string{"basic", "basic"}},
		"post for us, the code is none": {methods: both, takes: "post", refuses: true, want: []string{"basic", "post", "post"}},
		"neither for us":                {methods: both, takes: "nothing", want: []string{"basic", "post", "basic", "post"}},
		"basic alone, and not for us":   {methods: both[:1], takes: "post", want: []string{"basic", "basic"}},
	} {
		f := newForger(t)
		f.token = f.sign(t, "RS256", f.key, f.good(nil))
		if c.methods != nil {
			f.meta = map[string]any{"token_endpoint_auth_methods_supported": c.methods}
		}
		f.does("/token", func(w http.ResponseWriter, r *http.Request) {
			how := "post"
			if _, _, basic := r.BasicAuth(); basic {
				how = "basic"
			}
			switch {
			case how != c.takes:
				says(401, `{"error":"invalid_client"}`)(w, r)
			case c.refuses:
				says(400, `{"error":"invalid_grant"}`)(w, r)
			default:
				writeJSON(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": f.token})
			}
		})
		s, _ := f.signIn(t)
		if c.public {
			s.config.clientSecret = subscriptions.Secret{}
		}
		lets := slices.Contains(c.want, c.takes) && !c.refuses
		for range 2 {
			if _, err := finish(t.Context(), s); (err == nil) != lets {
				t.Errorf("%s: %v (%v)", name, err, errors.Unwrap(err))
			}
		}
		if !slices.Equal(f.redeemed, c.want) {
			t.Errorf("%s: asked %v, want %v", name, f.redeemed, c.want)
		}
	}
}

func TestUserinfoIsAskedForWhatIsMissingAndSaysItOfTheSamePerson(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config        oidcConfig
		has           claims
		needed, named bool
	}{
		"all is there":              {oidcConfig{claim: "groups"}, claims{"sub": "1", "groups": []any{}, "name": "Ada"}, false, false},
		"groups are missing":        {oidcConfig{claim: "groups"}, claims{"sub": "1", "name": "Ada"}, true, false},
		"a name is missing":         {oidcConfig{claim: "groups"}, claims{"sub": "1", "groups": "a"}, false, true},
		"an address, to be checked": {oidcConfig{claim: "groups", domains: []string{"x.com"}}, claims{"sub": "1", "groups": "a", "name": "Ada", "email": "a@x.com"}, true, false},
		"it was checked":            {oidcConfig{claim: "groups", domains: []string{"x.com"}}, claims{"sub": "1", "groups": "a", "email": "a@x.com", "email_verified": false}, false, true},
		"an address that counts":    {oidcConfig{claim: "email"}, claims{"sub": "1", "name": "Ada", "email": "a@x.com"}, true, false},
	} {
		if needed, named := c.config.lacks(c.has); needed != c.needed || named != c.named {
			t.Errorf("%s: needed %v, for a name %v", name, needed, named)
		}
	}
	for name, c := range map[string]struct {
		has, more claims
		address   string
		verified  bool
	}{
		"of the same address":    {claims{"email": "a@x.com"}, claims{"email": "a@x.com", "email_verified": true}, "a@x.com", true},
		"of another address":     {claims{"email": "victim@x.com"}, claims{"email": "a@x.com", "email_verified": true}, "victim@x.com", false},
		"of no address":          {claims{"email": "victim@x.com"}, claims{"email_verified": true}, "victim@x.com", false},
		"what is signed counts":  {claims{"email": "a@x.com", "email_verified": false}, claims{"email": "a@x.com", "email_verified": true}, "a@x.com", false},
		"signed, but of nothing": {claims{"email_verified": true}, claims{"email": "victim@x.com"}, "victim@x.com", false},
		"the other's altogether": {claims{}, claims{"email": "a@x.com", "email_verified": true}, "a@x.com", true},
	} {
		if all := c.has.with(c.more); all.text("email") != c.address || all.verified() != c.verified {
			t.Errorf("%s: %v", name, all)
		}
	}
}

func TestCheckAsksTheProviderToo(t *testing.T) {
	t.Parallel()
	f := newForger(t)
	env := []string{
		"ROWCALL_DATABASE_URL=" + storetest.EmptyURL(t), "ROWCALL_EGRESS_ALLOW=private",
		"ROWCALL_OIDC_CLIENT_ID=rowcall", "ROWCALL_OIDC_ROLES=ops=read",
	}
	for issuer, want := range map[string]string{f.server.URL: "✓ people", f.server.URL + "/": "✗ people"} {
		got := call(t, append(env, "ROWCALL_OIDC_ISSUER="+issuer), "check")
		if !strings.Contains(got.stdout, want) || strings.Contains(got.stdout, "ROWCALL_OIDC_ISSUER, letter by letter") != strings.HasSuffix(issuer, "/") {
			t.Errorf("%s: %s%s", issuer, got.stdout, got.stderr)
		}
	}
}
