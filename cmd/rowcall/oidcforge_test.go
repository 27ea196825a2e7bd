package main

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
	"github.com/rowcall/rowcall/web"
)

// forger is an issuer that signs whatever it is told to: what no honest one does.
type forger struct {
	server *httptest.Server
	key    *rsa.PrivateKey

	mu       sync.Mutex
	token    string
	userinfo map[string]any
	instead  map[string]http.HandlerFunc // by path: what it does in the place of its own
	meta     map[string]any              // said of itself beyond, or in the place of, its own
	redeemed []string                    // how rowcall named itself with each code: basic, post
}

// does has it answer otherwise from now on; nil: as it does by itself.
func (f *forger) does(path string, instead http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instead[path] = instead
}

// padded is an answer of its own, and larger than any.
func (f *forger) padded(answer any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		raw, _ := json.Marshal(answer)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append([]byte(`{"pad":"`+strings.Repeat("x", 2<<20)+`",`), raw[1:]...))
	}
}

// metadata is what it says of itself.
func (f *forger) metadata() map[string]any {
	all := map[string]any{
		"issuer": f.server.URL, "authorization_endpoint": f.server.URL + "/auth", "token_endpoint": f.server.URL + "/token",
		"jwks_uri": f.server.URL + "/jwks", "userinfo_endpoint": f.server.URL + "/me",
		"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
	}
	maps.Copy(all, f.meta)
	return all
}

// keys are those that it signs with.
func (f *forger) keys() map[string]any {
	return map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "kid": "1", "alg": "RS256", "use": "sig",
		"n": base64.RawURLEncoding.EncodeToString(f.key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(f.key.E)).Bytes()),
	}}}
}

func newForger(t *testing.T) *forger {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{key: key, instead: map[string]http.HandlerFunc{}}
	answer := func(v func() any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			instead := f.instead[r.URL.Path]
			if r.URL.Path == "/token" {
				how := "post"
				if _, _, basic := r.BasicAuth(); basic {
					how = "basic"
				}
				f.redeemed = append(f.redeemed, how)
			}
			f.mu.Unlock()
			if instead != nil {
				instead(w, r)
				return
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v())
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", answer(func() any { return f.metadata() }))
	mux.HandleFunc("/jwks", answer(func() any { return f.keys() }))
	mux.HandleFunc("/token", answer(func() any {
		all := map[string]any{"access_token": "x", "token_type": "Bearer", "expires_in": 60}
		if f.token != "" {
			all["id_token"] = f.token
		}
		return all
	}))
	mux.HandleFunc("/me", answer(func() any { return f.userinfo }))
	f.server = httptest.NewServer(mux)
	t.Cleanup(f.server.Close)
	return f
}

// sign makes a token; alg says how.
func (f *forger) sign(t *testing.T, alg string, with *rsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	text := part(map[string]any{"alg": alg, "kid": "1", "typ": "JWT"}) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	var signature []byte
	switch alg {
	case "RS256":
		var err error
		if signature, err = rsa.SignPKCS1v15(rand.Reader, with, crypto.SHA256, sum[:]); err != nil {
			t.Fatal(err)
		}
	case "HS256":
		mac := hmac.New(sha256.New, []byte("the-secret-of-the-client"))
		mac.Write([]byte(text))
		signature = mac.Sum(nil)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// signIn is rowcall's part of a sign-in by the forger, over a real store.
func (f *forger) signIn(t *testing.T) (*signIn, *api.API) {
	t.Helper()
	guard, err := dispatch.NewGuard(dispatch.GuardConfig{Allow: "private"})
	if err != nil {
		t.Fatal(err)
	}
	server, err := api.New(storetest.Open(t), api.Config{URLs: guard})
	if err != nil {
		t.Fatal(err)
	}
	transport := guard.Transport()
	t.Cleanup(transport.CloseIdleConnections)
	made := newSignIn(oidcConfig{
		issuer: f.server.URL, name: "forger", clientID: "rowcall", clientSecret: subscriptions.NewSecret("the-secret-of-the-client"),
		scopes: []string{"openid"}, claim: "realm.groups", roles: map[string][]string{"ops": {"read"}},
	}, transport, server, zerolog.New(zerolog.NewTestWriter(t)))
	return made.(*signIn), server
}

// good are claims that let ada in, changed; nil takes one out.
func (f *forger) good(change map[string]any) map[string]any {
	all := map[string]any{
		"iss": f.server.URL, "aud": "rowcall", "sub": "ada", "nonce": "the-nonce", "email": "ada@example.com", "email_verified": true,
		"realm": map[string]any{"groups": []string{"ops"}},
		"iat":   time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	}
	for name, value := range change {
		all[name] = value
		if value == nil {
			delete(all, name)
		}
	}
	return all
}

func TestATokenThatDoesNotHoldLetsNobodyIn(t *testing.T) {
	t.Parallel()
	f := newForger(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signIn, _ := f.signIn(t)
	type claims = map[string]any
	rs := func(change claims) string { return f.sign(t, "RS256", f.key, f.good(change)) }
	part := func(token string, i int) string { return strings.Split(token, ".")[i] }
	ada, eve := rs(nil), rs(claims{"sub": "eve"})
	for name, c := range map[string]struct {
		token    string
		userinfo claims
		status   int // 0: lets in
	}{
		"one that holds":                          {token: rs(nil)},
		"for several, of which we are one":        {token: rs(claims{"aud": []string{"rowcall", "other"}, "azp": "rowcall"})},
		"with groups at the userinfo endpoint":    {token: rs(claims{"realm": nil}), userinfo: claims{"sub": "ada", "realm": claims{"groups": "ops"}}},
		"what is signed beats the userinfo":       {token: rs(claims{"email": nil, "realm": claims{"groups": []string{}}}), userinfo: claims{"sub": "ada", "realm": claims{"groups": "ops"}}, status: 403},
		"userinfo about somebody else":            {token: rs(claims{"realm": nil}), userinfo: claims{"sub": "eve", "realm": claims{"groups": "ops"}}, status: 502},
		"another nonce":                           {token: rs(claims{"nonce": "another"}), status: 401},
		"no nonce":                                {token: rs(claims{"nonce": nil}), status: 401},
		"another audience":                        {token: rs(claims{"aud": "other"}), status: 401},
		"for several, made for another":           {token: rs(claims{"aud": []string{"rowcall", "other"}, "azp": "other"}), status: 401},
		"another issuer":                          {token: rs(claims{"iss": "https://evil.test"}), status: 401},
		"expired":                                 {token: rs(claims{"exp": time.Now().Add(-time.Minute).Unix()}), status: 401},
		"of tomorrow":                             {token: rs(claims{"nbf": time.Now().Add(24 * time.Hour).Unix()}), status: 401},
		"no expiry":                               {token: rs(claims{"exp": nil}), status: 401},
		"about nobody":                            {token: rs(claims{"sub": ""}), status: 401},
		"without a signature":                     {token: f.sign(t, "none", nil, f.good(nil)), status: 401},
		"signed with the client's secret":         {token: f.sign(t, "HS256", nil, f.good(nil)), status: 401},
		"signed with another's key":               {token: f.sign(t, "RS256", other, f.good(nil)), status: 401},
		"another's claims under a signature":      {token: part(ada, 0) + "." + part(eve, 1) + "." + part(ada, 2), status: 401},
		"an access token's hash of another":       {token: rs(claims{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}), status: 401},
		"no token at all":                         {status: 401},
		"no token but a text":                     {token: "x.y.z", status: 401},
		"nobody of the groups":                    {token: rs(claims{"realm": claims{"groups": []string{"others", "*"}}}), status: 403},
		"groups that are none":                    {token: rs(claims{"realm": "ops"}), userinfo: claims{"sub": "ada"}, status: 403},
		"a claim as large as it likes to be":      {token: rs(claims{"pad": strings.Repeat("x", 2<<20)}), status: 502},
		"a name of control characters and markup": {token: rs(claims{"email": "\x00\r\n<script>\u202e"})},
	} {
		f.mu.Lock()
		f.token, f.userinfo = c.token, c.userinfo
		f.mu.Unlock()
		// Each from an address of its own: failures are counted.
		remote := netip.AddrFrom4([4]byte{192, 0, 2, byte(len(name))})
		token, err := signIn.Finish(t.Context(), web.Flow{Nonce: "the-nonce", Verifier: strings.Repeat("v", 43), Redirect: "http://localhost/cb"}, web.Answer{Code: "c", Remote: remote})
		status := 0
		if e, ok := errors.AsType[*web.SignInError](err); ok {
			status = e.Status
		} else if err != nil {
			status = -1
		}
		if status != c.status || (token != "") != (c.status == 0) {
			t.Errorf("%s: %d, want %d (%v)", name, status, c.status, errors.Unwrap(err))
		}
	}
	// A burst of failures from one address waits; a person who holds gets in.
	f.mu.Lock()
	f.token = rs(claims{"nonce": "another"})
	f.mu.Unlock()
	remote, codes := netip.MustParseAddr("198.51.100.7"), map[int]int{}
	finish := func(ctx context.Context) (string, error) {
		return signIn.Finish(ctx, web.Flow{Nonce: "the-nonce"}, web.Answer{Code: "c", Remote: remote})
	}
	for range 12 {
		_, err := finish(t.Context())
		if e, ok := errors.AsType[*web.SignInError](err); ok {
			codes[e.Status]++
		}
	}
	f.mu.Lock()
	f.token = rs(nil)
	f.mu.Unlock()
	if _, err := finish(t.Context()); codes[401] != 10 || codes[429] != 2 || err != nil {
		t.Errorf("a burst: %v, then %v", codes, err)
	}
}

func TestAnAddressThatTheProviderHasNotVerifiedGivesNothing(t *testing.T) {
	t.Parallel()
	c := oidcConfig{claim: "email", roles: map[string][]string{"ada@x.com": {"admin"}}}
	for name, of := range map[string]struct {
		who    claims
		name   string
		scopes int
	}{
		"verified":        {claims{"sub": "1", "email": "ada@x.com", "email_verified": true}, "ada@x.com", 1},
		"verified, texts": {claims{"sub": "1", "email": "ada@x.com", "email_verified": "true"}, "ada@x.com", 1},
		"not verified":    {claims{"sub": "1", "email": "ada@x.com", "email_verified": false, "preferred_username": "eve"}, "eve", 0},
		"not said":        {claims{"sub": "1", "email": "ada@x.com"}, "1", 0},
		"said oddly":      {claims{"sub": "1", "email": "ada@x.com", "email_verified": 1}, "1", 0},
	} {
		if got := of.who.name(); got != of.name || len(c.scopesOf(of.who)) != of.scopes {
			t.Errorf("%s: %s with %v", name, got, c.scopesOf(of.who))
		}
	}
	for roles, warned := range map[string]bool{"*=read": true, "ops=read": false} {
		for _, domains := range []string{"", "example.com"} {
			s := &settings{env: lookupIn(nil), names: settingNames()}
			(&oidcFlags{OIDCIssuer: "https://login.example.com", OIDCClientID: "x", OIDCRoles: roles, OIDCEmailDomains: domains}).parse(s, nil)
			if err := s.err(); err != nil || len(s.warnings) > 0 != (warned && domains == "") {
				t.Errorf("%s of %q: %v, %v", roles, domains, s.warnings, err)
			}
		}
	}
}

func TestSettingsOfOpenIDConnectAreJudged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  []string
		want []string
	}{
		"nothing is fine": {},
		"a secret without an issuer": {
			[]string{"ROWCALL_OIDC_CLIENT_SECRET=hunter2"}, []string{"ROWCALL_OIDC_ISSUER is not set, though other settings"},
		},
		"an issuer alone": {
			[]string{"ROWCALL_OIDC_ISSUER=https://login.example.com"},
			[]string{"ROWCALL_OIDC_CLIENT_ID is not set", "/sign-in/oidc/callback", "ROWCALL_OIDC_ROLES is not set, so nobody"},
		},
		"an issuer that may not be called": {
			[]string{"ROWCALL_OIDC_ISSUER=http://10.0.0.1", "ROWCALL_OIDC_CLIENT_ID=x", "ROWCALL_OIDC_ROLES=*=read"}, []string{"ROWCALL_OIDC_ISSUER may not be called", "ROWCALL_EGRESS_ALLOW"},
		},
		"roles that are none": {
			[]string{"ROWCALL_OIDC_ISSUER=https://login.example.com", "ROWCALL_OIDC_CLIENT_ID=x", "ROWCALL_OIDC_ROLES=ops,=read,a=root,b=write"},
			[]string{`"ops", which gives nothing`, `"=read", which gives nothing`, `the scope "root"`, `lets "b" not read`},
		},
		"a comma outside of quotes": {
			[]string{"ROWCALL_OIDC_ISSUER=https://login.example.com", "ROWCALL_OIDC_CLIENT_ID=x", "ROWCALL_OIDC_ROLES=Ops, EU=read"},
			[]string{`has "Ops", which gives nothing`, `in quotes, as in "Ops, EU"=read`},
		},
		"a quote that does not end": {
			[]string{"ROWCALL_OIDC_ISSUER=https://login.example.com", "ROWCALL_OIDC_CLIENT_ID=x", `ROWCALL_OIDC_ROLES=a=read,"Ops, EU=read`},
			[]string{`has "\"Ops, EU=read", which is no value in quotes`},
		},
		"nothing behind quotes": {
			[]string{"ROWCALL_OIDC_ISSUER=https://login.example.com", "ROWCALL_OIDC_CLIENT_ID=x", `ROWCALL_OIDC_ROLES="Ops, EU",a=read`},
			[]string{`has "\"Ops, EU\",a=read", which is no value in quotes with = behind it`},
		},
		"a scope that is none, in quotes": {
			[]string{"ROWCALL_OIDC_ISSUER=https://login.example.com", "ROWCALL_OIDC_CLIENT_ID=x", `ROWCALL_OIDC_ROLES="Ops, EU"=root`},
			[]string{`gives "Ops, EU" the scope "root"`},
		},
	} {
		_, err := read(t, append(required(), c.env...))
		if (err != nil) != (len(c.want) > 0) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.want {
			if err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("%s: no %q in\n%v", name, want, err)
			}
		}
	}
	got, err := read(t, append(required(), "ROWCALL_CONFIG="+file(t, `
oidc_issuer: https://login.example.com/realms/a
oidc_client_id: rowcall
oidc_client_secret_file: `+file(t, "hunter2\n")+`
oidc_roles: [cn=ops=read, "*=deliver+read"]
oidc_scopes: [groups]
`)))
	who := claims{"groups": []any{"cn=ops", 7}}
	if err != nil || got.oidc.clientSecret.Reveal() != "hunter2" || got.oidc.name != "login.example.com" ||
		strings.Join(got.oidc.scopes, " ") != "openid groups" || strings.Join(got.oidc.scopesOf(who), " ") != "deliver read" {
		t.Errorf("a file of settings gives %+v, %v", got.oidc, err)
	}
}

func TestValuesOfAClaimMayHoldCommasAndQuotes(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]map[string][]string{
		`"CN=Ops,OU=EU"=read+deliver,admins=admin`: {"CN=Ops,OU=EU": {"read", "deliver"}, "admins": {"admin"}},
		` a=read , "b, ""c""" = read , "d"=admin,`: {"a": {"read"}, `b, "c"`: {"read"}, "d": {"admin"}},
		`say "x"=read,"*"=read`:                    {`say "x"`: {"read"}, "*": {"read"}},
	} {
		s := &settings{env: lookupIn(nil), names: settingNames()}
		got := map[string][]string{}
		(&oidcFlags{OIDCRoles: list}).parseRoles(s, got)
		if diff := cmp.Diff(want, got); diff != "" || s.err() != nil {
			t.Errorf("%s: %v\n%s", list, s.err(), diff)
		}
	}
	got, err := read(t, append(required(), "ROWCALL_CONFIG="+file(t, `
oidc_issuer: https://login.example.com
oidc_client_id: rowcall
oidc_roles:
  - '"Ops, EU"=read'
  - admins=admin
`)))
	if err != nil || strings.Join(got.oidc.scopesOf(claims{"groups": []any{"Ops, EU"}}), " ") != "read" {
		t.Errorf("a list in the file gives %v, %v", got.oidc.roles, err)
	}
}

func TestWhateverDecidesOnRightsIsInTheRules(t *testing.T) {
	t.Parallel()
	base := func() oidcConfig {
		return oidcConfig{issuer: "https://a", claim: "groups", roles: map[string][]string{"a": {"read", "deliver"}, "b": {"admin"}}, domains: []string{"x.com", "y.com"}}
	}
	same, other := base(), base()
	same.clientID, same.domains, same.roles["a"] = "x", []string{"y.com", "x.com"}, []string{"deliver", "read", "read"}
	if want := other.rules(); same.rules() != want {
		t.Error("what does not decide makes other rules")
	}
	seen := map[string]string{(&oidcConfig{}).rules(): "nobody signs in", other.rules(): "all"}
	for name, change := range map[string]func(*oidcConfig){
		"issuer":  func(c *oidcConfig) { c.issuer = "https://b" },
		"claim":   func(c *oidcConfig) { c.claim = "roles" },
		"scopes":  func(c *oidcConfig) { c.roles["a"] = []string{"read"} },
		"values":  func(c *oidcConfig) { delete(c.roles, "b") },
		"domains": func(c *oidcConfig) { c.domains = nil },
	} {
		c := base()
		change(&c)
		if twin, twice := seen[c.rules()]; twice {
			t.Errorf("other %s, and the rules of %s", name, twin)
		}
		seen[c.rules()] = name
	}
}
