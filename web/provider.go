package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// Provider signs people in by OpenID Connect.
type Provider interface {
	// Name is what the button says.
	Name() string
	// Start returns the address to send the browser to.
	Start(ctx context.Context, flow Flow) (address string, err error)
	// Finish redeems what came back for a session's token.
	Finish(ctx context.Context, flow Flow, answer Answer) (token string, err error)
	// SignOut returns how the provider's own session of the browser ends. Its error
	// says that the provider was not to be asked.
	SignOut(ctx context.Context, back string) (Leave, error)
}

// Leave is how people sign out of the provider as well.
type Leave struct {
	Address string // where the browser goes for it; empty: there is no such place
	Leads   bool   // signing out leads there by itself, and from there to back
}

// Flow is one sign-in that is under way: what only the browser that began it
// knows, and the address that the provider sends it back to.
type Flow struct {
	State, Nonce, Verifier string
	Redirect               string
}

// Answer is what the provider sent the browser back with.
type Answer struct {
	Code   string
	Issuer string     // RFC 9207; may be empty
	Remote netip.Addr // of the browser
}

// SignInError is why a sign-in by a provider ends, in words for whoever tries.
type SignInError struct {
	Status int
	Text   string
	Err    error // for the log; may be nil
}

func (e *SignInError) Error() string { return e.Text }
func (e *SignInError) Unwrap() error { return e.Err }

// The cookie of a sign-in that is under way is lax: the provider's redirect comes
// from another site and must bring it along. It holds random bytes, of which all
// that goes through the provider is made by hashing, and where to go then.
const (
	secureFlowCookie = "__Host-rowcall-sign-in"
	plainFlowCookie  = "rowcall-sign-in"
	flowTime         = 10 * time.Minute
	callbackPath     = "/sign-in/oidc/callback"
	maxNext          = 1024
)

func flowCookie(secure bool) string {
	if secure {
		return secureFlowCookie
	}
	return plainFlowCookie
}

// address is where people open the console: what the operator wrote, for a proxy
// may change the host, or leave out the port.
func (c *Console) address(r *http.Request) string {
	if c.config.PublicURL != "" {
		return strings.TrimRight(c.config.PublicURL, "/")
	}
	if secure, _ := c.hosts.find(r.Host); secure {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// flow makes what belongs to the random bytes of a cookie.
func (c *Console) flow(r *http.Request, seed []byte) Flow {
	derive := func(what string) string {
		sum := sha256.Sum256(append([]byte("rowcall sign-in "+what+"\x00"), seed...))
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return Flow{State: derive("state"), Nonce: derive("nonce"), Verifier: derive("verifier"), Redirect: c.address(r) + callbackPath}
}

// startSignIn sends the browser to the provider.
func (c *Console) startSignIn(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.URL.Query().Get("next"))
	if len(next) > maxNext {
		next = "/"
	}
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails: the program ends instead
	ctx, cancel := context.WithTimeout(r.Context(), visitTimeout)
	defer cancel()
	address, err := c.config.Provider.Start(ctx, c.flow(r, seed[:]))
	if err != nil {
		c.refuseSignIn(w, r, next, err)
		return
	}
	// It brings the session's cookie along, which the way back from the provider does not.
	if before := c.session(r); before != "" {
		_ = c.client(r, before).EndSession(r.Context()) // it may have ended by itself
	}
	value := base64.RawURLEncoding.EncodeToString(seed[:]) + "." + base64.RawURLEncoding.EncodeToString([]byte(next))
	c.setFlow(w, r, value, flowTime)
	http.Redirect(w, r, address, http.StatusSeeOther) //nolint:gosec // the address is the one that the provider names for this
}

func (c *Console) setFlow(w http.ResponseWriter, r *http.Request, value string, life time.Duration) {
	secure, _ := c.hosts.find(r.Host)
	cookie := &http.Cookie{ //nolint:gosec // plain http is for the loopback, or where the operator wrote so
		Name: flowCookie(secure), Value: value, Path: "/", Secure: secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		MaxAge: int(life.Seconds()),
	}
	if life == 0 {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}

// begun is the sign-in that this browser has begun.
func (c *Console) begun(r *http.Request) (flow Flow, next string, ok bool) {
	secure, _ := c.hosts.find(r.Host)
	cookie, err := r.Cookie(flowCookie(secure))
	if err != nil {
		return Flow{}, "/", false
	}
	seedText, nextText, _ := strings.Cut(cookie.Value, ".")
	seed, err := base64.RawURLEncoding.DecodeString(seedText)
	if err != nil || len(seed) != 32 {
		return Flow{}, "/", false
	}
	path, err := base64.RawURLEncoding.DecodeString(nextText)
	if err != nil {
		return Flow{}, "/", false
	}
	return c.flow(r, seed), localPath(string(path)), true
}

// finishSignIn takes the browser back from the provider. Whatever comes of it, the
// sign-in that was begun is over.
func (c *Console) finishSignIn(w http.ResponseWriter, r *http.Request) {
	flow, next, ok := c.begun(r)
	c.setFlow(w, r, "", 0)
	q := r.URL.Query()
	if !ok || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(flow.State)) != 1 {
		c.refuseSignIn(w, r, next, &SignInError{
			Status: http.StatusBadRequest,
			Text:   "This sign-in was not begun here, or took longer than ten minutes. Begin it again, at " + c.address(r) + ".",
		})
		return
	}
	if refused := q.Get("error"); refused != "" || q.Get("code") == "" {
		c.refuseSignIn(w, r, next, refusedBy(c.config.Provider.Name(), refused, q.Get("error_description")))
		return
	}
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	ctx, cancel := context.WithTimeout(r.Context(), visitTimeout)
	defer cancel()
	token, err := c.config.Provider.Finish(ctx, flow, Answer{Code: q.Get("code"), Issuer: q.Get("iss"), Remote: peer.Addr()})
	if err != nil {
		c.refuseSignIn(w, r, next, err)
		return
	}
	c.setSession(w, r, token)
	// The session's cookie is strict: it does not come along a redirect that began at
	// the provider, but does where this page leads on by itself.
	if to, err := url.Parse(next); err == nil {
		w.Header().Set("Refresh", "0; url="+to.RequestURI())
	}
	c.plainProblem(w, r, http.StatusOK, "You are signed in.", "If the page that you asked for does not open by itself, begin at the overview.")
}

// refusedBy says that the provider sent the browser back without signing anybody in.
func refusedBy(name, code, description string) *SignInError {
	e := &SignInError{Status: http.StatusForbidden, Text: name + " did not sign you in. Begin again, or use an API key."}
	switch code {
	case "":
		return e
	case "access_denied":
		e.Text = name + " says that the sign-in was cancelled, or that you may not use rowcall."
	default:
		e.Text = name + " did not sign you in, and says " + fmt.Sprintf("%.100q", code) + ". Begin again, or use an API key; where that does not help, rowcall's log says more."
	}
	e.Err = fmt.Errorf("the provider says %.100q, %.300q", code, description)
	return e
}

// refuseSignIn shows the sign-in page with what went wrong.
func (c *Console) refuseSignIn(w http.ResponseWriter, r *http.Request, next string, err error) {
	e, ok := errors.AsType[*SignInError](err)
	if !ok {
		e = &SignInError{Status: http.StatusInternalServerError, Text: "rowcall could not sign you in. Its log says why.", Err: err}
	}
	if e.Err != nil {
		c.log.Warn().Str(zerolog.ErrorFieldName, fmt.Sprintf("%.500s", e.Err)).Int("status", e.Status).Msg("sign-in by provider failed")
	}
	c.renderSignIn(w, r, e.Status, signInView{Next: next, Problem: e.Text})
}

const signedOutPath = "/signed-out"

type signedOutView struct {
	Provider string
	Leave
}

// showSignedOut tells people who signed in by the provider that its own session is
// not over, and where it ends, or leads there. It is a page because a form's answer
// must not lead elsewhere: the policy's form-action would stop it.
func (c *Console) showSignedOut(w http.ResponseWriter, r *http.Request) {
	if c.session(r) != "" { // nobody has signed out
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), visitTimeout)
	defer cancel()
	leave, err := c.config.Provider.SignOut(ctx, c.address(r)+"/sign-in")
	if err != nil {
		c.log.Warn().Str(zerolog.ErrorFieldName, fmt.Sprintf("%.500s", err)).Msg("the provider does not say where to sign out of it")
	} else if leave.Address == "" {
		http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
		return
	}
	if leave.Leads {
		w.Header().Set("Refresh", "0; url="+leave.Address)
	}
	c.renderBare(w, r, http.StatusOK, "signed-out", "Signed out", signedOutView{c.config.Provider.Name(), leave})
}
