package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

// Names of the cookie that holds the session's token. The prefix has the browser
// refuse one that is not secure, or that a neighbour's host set.
const (
	secureCookie = "__Host-rowcall"
	plainCookie  = "rowcall"
)

// session returns the token a request carries; empty: none.
func (c *Console) session(r *http.Request) string {
	secure, _ := c.hosts.find(r.Host)
	cookie, err := r.Cookie(cookieName(secure))
	if err != nil {
		return ""
	}
	return cookie.Value
}

func cookieName(secure bool) string {
	if secure {
		return secureCookie
	}
	return plainCookie
}

// setSession puts a token into the browser until it ends; empty takes it out.
func (c *Console) setSession(w http.ResponseWriter, r *http.Request, token string) {
	secure, _ := c.hosts.find(r.Host)
	cookie := &http.Cookie{ //nolint:gosec // plain http is for the loopback, or where the operator wrote so
		Name: cookieName(secure), Value: token, Path: "/", Secure: secure, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
	if token == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}

type signInView struct {
	Next     string
	Problem  string
	Provider string // that signs people in too; empty: none
}

// renderSignIn shows the page that asks for a key.
func (c *Console) renderSignIn(w http.ResponseWriter, r *http.Request, status int, view signInView) {
	if c.config.Provider != nil {
		view.Provider = c.config.Provider.Name()
	}
	c.renderBare(w, r, status, "sign-in", "Sign in", view)
}

// showSignIn asks for a key.
func (c *Console) showSignIn(w http.ResponseWriter, r *http.Request) {
	c.renderSignIn(w, r, http.StatusOK, signInView{Next: localPath(r.URL.Query().Get("next"))})
}

// signIn exchanges a key for a session. A session that was there ends: nobody
// can have prepared the one that is used from now on.
func (c *Console) signIn(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		c.plainProblem(w, r, http.StatusBadRequest, "The form could not be read.", "Go back and send it again.")
		return
	}
	next := localPath(r.PostForm.Get("next"))
	refused := func(status int, problem string) {
		c.renderSignIn(w, r, status, signInView{Next: next, Problem: problem})
	}
	key := strings.TrimSpace(r.PostForm.Get("key"))
	if key == "" {
		refused(http.StatusUnprocessableEntity, "Paste an API key.")
		return
	}
	made, err := c.client(r, key).CreateSession(r.Context())
	if p, ok := errors.AsType[*client.Problem](err); ok {
		refused(p.Status, signInProblem(p))
		return
	}
	if err != nil {
		c.log.Error().Err(err).Msg("sign-in failed")
		refused(http.StatusInternalServerError, "rowcall could not answer. Its log says why.")
		return
	}
	if before := c.session(r); before != "" {
		_ = c.client(r, before).EndSession(r.Context()) // it may have ended by itself
	}
	c.setSession(w, r, made.Token)
	http.Redirect(w, r, next, http.StatusSeeOther) //nolint:gosec // localPath made it one of ours
}

func signInProblem(p *client.Problem) string {
	switch p.Type {
	case client.Unauthorized:
		return "This key does not sign in: " + p.Detail + "."
	case client.Forbidden:
		return "This key may not read, so the console has nothing to show it. Use a key with scope read."
	case client.Conflict:
		return "This is the token of a session. Use an API key."
	case client.RateLimited:
		return "Too many failed tries from this address. A valid key still works; else wait " + words(p.RetryAfter) + "."
	case client.Unavailable:
		return "The store does not answer, so no key can be looked up. Deliveries wait and are not lost. Try again in a moment."
	}
	return p.Error()
}

// signOut ends the session. Whoever came by the provider is told of its own.
func (c *Console) signOut(w http.ResponseWriter, r *http.Request) {
	next := "/sign-in"
	if token := c.session(r); token != "" {
		if who, err := c.client(r, token).Identity(r.Context()); err == nil && who.Person && c.config.Provider != nil {
			next = signedOutPath
		}
		if err := c.client(r, token).EndSession(r.Context()); err != nil {
			if p, ok := errors.AsType[*client.Problem](err); !ok || p.Type != client.Unauthorized {
				c.log.Warn().Err(err).Msg("session not ended: it ends by itself after half an hour")
			}
		}
	}
	c.setSession(w, r, "")
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// maxKept bounds what is handed back of a form, in bytes, to whom nobody knows.
const maxKept = 256 << 10

// keptForm is a form that could not be served, to be sent again.
type keptForm struct {
	To     string
	Fields url.Values
}

// askToSignIn answers a request that has no session that counts. A link from
// another site brings no strict cookie along: the page then loads itself once
// more, which does.
func (c *Console) askToSignIn(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		c.setSession(w, r, "")
		r.Body = http.MaxBytesReader(w, r.Body, maxKept)
		if err := r.ParseForm(); err != nil {
			c.plainProblem(w, r, http.StatusUnauthorized, "You are signed out.", "The session ended, and nothing was changed. Sign in and do it again.")
			return
		}
		c.renderBare(w, r, http.StatusUnauthorized, "session-ended", "You are signed out.", keptForm{r.URL.RequestURI(), r.PostForm})
		return
	}
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" && c.session(r) == "" {
		w.Header().Set("Refresh", "0")
		c.plainProblem(w, r, http.StatusOK, "One moment.", "If the page does not open by itself, load it again.")
		return
	}
	c.setSession(w, r, "")
	http.Redirect(w, r, "/sign-in?next="+url.QueryEscape(localPath(r.URL.RequestURI())), http.StatusSeeOther)
}

// localPath is a path of ours, whatever was asked for.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

// expiry is when a visitor's session ends, for the frame.
func expiry(user client.Identity) time.Time {
	if user.ExpiresAt == nil {
		return time.Time{}
	}
	return *user.ExpiresAt
}
