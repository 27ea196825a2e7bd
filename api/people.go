package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/rowcall/rowcall/store"
)

// Person is somebody whom a provider that the operator trusts has vouched for.
type Person struct {
	Issuer, Subject string   // who it is, for ever
	Name            string   // as people know them; it may change
	Scopes          []string // what they may do; none: nothing, and their sessions end
}

// ErrNoScopes says that a person may do nothing here.
var ErrNoScopes = errors.New("the person has no scopes")

// SignIn makes a session for a person who has proved elsewhere who they are, and
// returns its token and end. Their rights are those of this sign-in from now on, in
// sessions that are there too; with none these end, and the error is ErrNoScopes.
// A session counts while Config.Rules are those of the sign-in.
//
// It is no route: whoever calls it vouches for the person.
func (a *API) SignIn(ctx context.Context, p Person, remote netip.Addr) (token string, expires time.Time, err error) {
	key := store.APIKey{Name: personName(p), Person: p.Issuer + " " + p.Subject, Scopes: p.Scopes, Rules: a.config.Rules}
	ctx = store.WithChange(ctx, &store.Change{Action: "sign-in", Remote: remote.Unmap().String()})
	if len(p.Scopes) == 0 {
		if err := a.store.EndPerson(ctx, key.Person); err != nil {
			return "", expires, err
		}
		a.auth.forgetAll(nil)
		return "", expires, ErrNoScopes
	}
	for _, s := range p.Scopes {
		if !slices.Contains(Scopes(), Scope(s)) {
			return "", expires, fmt.Errorf("sign in %s: there is no scope %q", key.Name, s)
		}
	}
	if err := a.store.SavePerson(ctx, &key); err != nil {
		return "", expires, err
	}
	a.auth.forgetAll(nil)
	token = NewKey()
	hash, err := HashKey(token)
	if err != nil {
		return "", expires, err
	}
	expires, err = a.store.AddSession(ctx, key.ID, hash, longestSession)
	return token, expires, err
}

// personName is a name that is fit for lists: no more than 100 characters, none of
// them one that is not seen, such as those that turn the text after them around.
func personName(p Person) string {
	seen := func(text string) string {
		return strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar {
				return -1
			}
			return r
		}, text))
	}
	name := []rune(cmp.Or(seen(p.Name), seen(p.Subject)))
	return string(name[:min(len(name), 100)])
}

// FailedSignIn counts a sign-in that failed elsewhere, by the address it came
// from, and returns how long that address is to wait; 0: it is within its allowance.
func (a *API) FailedSignIn(ctx context.Context, remote netip.Addr) time.Duration {
	return a.auth.failed(ctx, remote, "")
}
