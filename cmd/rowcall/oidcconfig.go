package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/subscriptions"
)

// oidcFlags say who may sign in to the console without a key.
type oidcFlags struct {
	OIDCIssuer       string `name:"oidc-issuer" placeholder:"URL" help:"OpenID Connect provider that people sign in to the console by; by default none."`
	OIDCClientID     string `name:"oidc-client-id" placeholder:"ID" help:"What the provider knows rowcall as."`
	OIDCClientSecret string `name:"oidc-client-secret" secret:"" hidden:"" help:"The client's secret; a public client has none."`
	OIDCScopes       string `name:"oidc-scopes" default:"openid,profile,email" placeholder:"LIST" help:"What is asked of the provider; by default ${default}."`
	OIDCClaim        string `name:"oidc-claim" default:"groups" placeholder:"NAME" help:"Claim that says what a person is, a.b for a member; by default ${default}."`
	OIDCRoles        string `name:"oidc-roles" placeholder:"LIST" help:"What its values may do, as in ops=read+deliver,admins=admin; in quotes where there is a comma; * is everybody who signs in."`
	OIDCSignOut      bool   `name:"oidc-sign-out" help:"Signing out signs out of the provider as well, and comes back to <public URL>/sign-in, which it has to know; by default that is offered."`
	OIDCEmailDomains string `name:"oidc-email-domains" placeholder:"LIST" help:"Only people with a verified e-mail address in these domains; by default any."`
}

// oidcConfig is how people sign in to the console; no issuer: by keys alone.
type oidcConfig struct {
	issuer, name string // name: for people
	clientID     string
	clientSecret subscriptions.Secret
	scopes       []string
	claim        string
	roles        map[string][]string // value of the claim → scopes
	domains      []string            // lower case; none: any
	signOut      bool                // signing out leads to the provider's
}

// everybody is the value of a role that all who sign in have.
const everybody = "*"

// parse checks the settings.
func (f *oidcFlags) parse(s *settings, guard *dispatch.Guard) oidcConfig {
	if f.OIDCIssuer == "" {
		if f.OIDCClientID+f.OIDCClientSecret+f.OIDCRoles+f.OIDCEmailDomains != "" || f.OIDCSignOut {
			s.add(fault{envName("oidc_issuer"), "is not set, though other settings of OpenID Connect are", "name the provider, as in https://login.example.com, or unset the others"})
		}
		return oidcConfig{}
	}
	c := oidcConfig{
		issuer: f.OIDCIssuer, clientID: f.OIDCClientID, clientSecret: subscriptions.NewSecret(f.OIDCClientSecret),
		scopes: items(f.OIDCScopes), claim: f.OIDCClaim, roles: map[string][]string{}, signOut: f.OIDCSignOut,
	}
	if u, err := url.Parse(f.OIDCIssuer); err == nil {
		c.name = u.Host
	}
	if guard != nil {
		if err := guard.CheckURL(f.OIDCIssuer); err != nil {
			s.add(fault{envName("oidc_issuer"), "may not be called (" + err.Error() + ")", "write it as the provider does, as in https://login.example.com"})
		}
	}
	if c.clientID == "" {
		s.add(fault{envName("oidc_client_id"), "is not set, though " + envName("oidc_issuer") + " is", "register rowcall with the provider, with the redirect address <ROWCALL_PUBLIC_URL>/sign-in/oidc/callback"})
	}
	if !slices.Contains(c.scopes, "openid") {
		c.scopes = append([]string{"openid"}, c.scopes...)
	}
	for _, domain := range items(f.OIDCEmailDomains) {
		c.domains = append(c.domains, strings.ToLower(strings.TrimPrefix(domain, "@")))
	}
	f.parseRoles(s, c.roles)
	if scopes := c.roles[everybody]; len(scopes) > 0 && len(c.domains) == 0 {
		s.warn(fault{
			envName("oidc_roles"), "gives " + strings.Join(scopes, "+") + " to everybody whom " + c.name + " lets sign in, which at a public provider is everybody",
			"name the domains of their addresses in " + envName("oidc_email_domains") + ", or give rights to groups alone",
		})
	}
	return c
}

func (f *oidcFlags) parseRoles(s *settings, roles map[string][]string) {
	bad := func(problem string) {
		s.add(fault{envName("oidc_roles"), problem, `write what values of the claim may do, as in ops=read+deliver,admins=admin; one with a comma in quotes, as in "Ops, EU"=read`})
	}
	given, problems := splitRoles(f.OIDCRoles)
	for _, problem := range problems {
		bad(problem)
	}
	for _, role := range given {
		scopes := strings.Split(role.scopes, "+")
		for i, scope := range scopes {
			scopes[i] = strings.TrimSpace(scope)
			if !slices.Contains(api.Scopes(), api.Scope(scopes[i])) {
				bad(fmt.Sprintf("gives %q the scope %q, which there is not", role.value, scopes[i]))
			}
		}
		if !slices.Contains(scopes, string(api.ScopeRead)) && !slices.Contains(scopes, string(api.ScopeAdmin)) {
			bad(fmt.Sprintf("lets %q not read, and the console has nothing to show then", role.value))
		}
		roles[role.value] = append(roles[role.value], scopes...)
	}
	if len(given)+len(problems) == 0 && !s.faulty("oidc_roles") {
		bad("is not set, so nobody who signs in may do anything")
	}
}

// role is one part of ROWCALL_OIDC_ROLES.
type role struct{ value, scopes string }

// quotedRole is a role of a value in quotes, in which "" stands for a quote, and the
// comma that ends it.
var quotedRole = regexp.MustCompile(`^"((?:[^"]|"")+)"\s*=([^,"]*)(?:,|$)`)

// splitRoles splits a list of roles at the commas outside of quotes, and says of
// every part that is none what is wrong with it.
func splitRoles(list string) (roles []role, problems []string) {
	for rest := strings.TrimSpace(list); rest != ""; rest = strings.TrimLeft(rest, ", \t\r\n") {
		if found := quotedRole.FindStringSubmatch(rest); found != nil {
			roles, rest = append(roles, role{strings.ReplaceAll(found[1], `""`, `"`), found[2]}), rest[len(found[0]):]
			continue
		}
		if rest[0] == '"' {
			return roles, append(problems, fmt.Sprintf("has %.60q, which is no value in quotes with = behind it; a quote within stands twice", rest))
		}
		var item string
		item, rest, _ = strings.Cut(rest, ",")
		at := strings.LastIndexByte(item, '=')
		if at < 1 {
			problems = append(problems, fmt.Sprintf("has %q, which gives nothing", strings.TrimSpace(item)))
			continue
		}
		roles = append(roles, role{strings.TrimSpace(item[:at]), item[at+1:]})
	}
	return roles, problems
}

// items are the parts of a list with commas.
func items(list string) []string {
	var found []string
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item != "" {
			found = append(found, item)
		}
	}
	return found
}

// rules stand for all that decides on what somebody may do: another setting of it is
// another text.
func (c *oidcConfig) rules() string {
	roles := map[string][]string{}
	for value, scopes := range c.roles {
		roles[value] = slices.Compact(slices.Sorted(slices.Values(scopes)))
	}
	raw, err := json.Marshal([]any{c.issuer, c.claim, roles, slices.Sorted(slices.Values(c.domains))})
	if err != nil {
		panic(err) // texts, and lists of them
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// scopesOf is what somebody may do. An address that the provider has not verified
// is anybody's, and gives nothing.
func (c *oidcConfig) scopesOf(who claims) []string {
	scopes := slices.Clone(c.roles[everybody])
	values := who.values(c.claim)
	if c.claim == "email" && !who.verified() {
		values = nil
	}
	for _, value := range values {
		if value != everybody { // nobody becomes everybody by a name
			scopes = append(scopes, c.roles[value]...)
		}
	}
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

// emailAllowed reports whether somebody's e-mail address may be here.
func (c *oidcConfig) emailAllowed(who claims) bool {
	if len(c.domains) == 0 {
		return true
	}
	address := who.text("email")
	domain := strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
	return strings.Contains(address, "@") && slices.Contains(c.domains, domain) && who.verified()
}

// lacks reports whether claims lack what decides on somebody's rights, and whether
// they lack a name.
func (c *oidcConfig) lacks(has claims) (needed, name bool) {
	unsaid := has.text("email") == "" || has["email_verified"] == nil
	return has.values(c.claim) == nil || unsaid && (len(c.domains) > 0 || c.claim == "email"), has.name() == has.text("sub")
}

// claims are what a provider says of a person.
type claims map[string]any

// with are the claims with more of them, which are not signed: what is signed
// counts. That an address is verified is said of that address alone.
func (c claims) with(more claims) claims {
	all := maps.Clone(more)
	maps.Copy(all, c)
	if address := c.text("email"); address == "" {
		for _, claim := range []string{"email", "email_verified"} {
			delete(all, claim)
			if v, said := more[claim]; said {
				all[claim] = v
			}
		}
	} else if c["email_verified"] == nil && address != more.text("email") {
		delete(all, "email_verified")
	}
	return all
}

// text is a claim that is a text; else empty.
func (c claims) text(name string) string {
	text, _ := c[name].(string)
	return text
}

// verified reports whether the provider has verified the e-mail address. Some say
// so by a text.
func (c claims) verified() bool {
	verified, _ := c["email_verified"].(bool)
	return verified || c.text("email_verified") == "true"
}

// name is what people know the person as. An address that nobody has verified may
// be another's.
func (c claims) name() string {
	for _, claim := range []string{"email", "preferred_username", "name", "sub"} {
		if claim == "email" && !c.verified() {
			continue
		}
		if text := strings.TrimSpace(c.text(claim)); text != "" {
			return text
		}
	}
	return ""
}

// values are the texts of a claim, which may be a member of another one: a.b. nil:
// there is no such claim.
func (c claims) values(name string) []string {
	v, ok := c[name]
	if !ok {
		outer, inner, nested := strings.Cut(name, ".")
		members, isObject := c[outer].(map[string]any)
		if !nested || !isObject {
			return nil
		}
		return claims(members).values(inner)
	}
	found := []string{}
	switch v := v.(type) {
	case string:
		found = append(found, v)
	case []any:
		for _, item := range v {
			if text, ok := item.(string); ok {
				found = append(found, text)
			}
		}
	}
	return found
}
