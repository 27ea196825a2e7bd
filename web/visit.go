package web

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/rowcall/rowcall/api/client"
)

// visit is one request of somebody who is signed in.
type visit struct {
	*http.Request
	console *Console
	w       http.ResponseWriter
	api     *client.Client
	user    client.Identity
	now     time.Time
}

// frame is what every page shows around its own view.
type frame struct {
	Title   string
	Section string // of the navigation
	Nav     []navItem
	User    client.Identity
	Ends    time.Time
	Dead    int64
	Held    int64
	Version string
	Notice  string
	Now     time.Time
	View    any
}

// open lets in who is signed in and answers errors.
func (c *Console) open(serve func(*visit) error) http.HandlerFunc {
	return c.openFor(visitTimeout, serve)
}

// openFor is open for what may take longer.
func (c *Console) openFor(timeout time.Duration, serve func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := c.session(r)
		if token == "" {
			c.askToSignIn(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		v := &visit{Request: r.WithContext(ctx), console: c, w: w, api: c.client(r, token), now: time.Now()}
		var err error
		if v.user, err = v.api.Identity(ctx); err != nil {
			if p, ok := errors.AsType[*client.Problem](err); ok && p.Type == client.RateLimited {
				c.askToSignIn(w, r) // many stale sessions from one address
				return
			}
		} else {
			err = serve(v)
		}
		if err != nil {
			v.fail(err)
		}
	}
}

// fail answers an error of the API by its kind.
func (v *visit) fail(err error) {
	p, ok := errors.AsType[*client.Problem](err)
	if !ok {
		v.console.log.Error().Str("path", v.URL.Path).Err(err).Msg("page failed")
		v.problem(http.StatusInternalServerError, "This page could not be made.", "Deliveries are not affected. The log of rowcall says why.")
		return
	}
	switch p.Type {
	case client.Unauthorized:
		v.console.askToSignIn(v.w, v.Request)
	case client.NotFound:
		v.problem(p.Status, "There is no such thing, or no longer.", "It may have been delivered, discarded or dropped by retention since the link was made.")
	case client.Forbidden:
		v.problem(p.Status, "Your key may not do this.", sentence(upperFirst(strings.Replace(p.Detail, "the route", "this", 1)))+" Nothing was changed.")
	case client.PreconditionFailed:
		v.problem(p.Status, "Somebody else changed it meanwhile.", "Nothing was changed. Look at it again first.")
	case client.Unavailable:
		v.problem(p.Status, "The store does not answer.",
			"Nothing is lost: what was captured is durable, the source keeps the rest, and deliveries go on when the store is back. Try again in a moment.")
	case client.Validation:
		title := "What was asked for is not valid."
		if v.Method == http.MethodGet {
			title = "The address asks for what there is not."
		}
		v.problem(p.Status, title, strings.TrimSpace(p.Detail+fieldText(p.Errors)))
	default:
		v.problem(p.Status, p.Title+".", p.Detail+fieldText(p.Errors))
	}
}

func fieldText(fields []client.FieldError) string {
	text := ""
	for _, f := range fields {
		text += " " + strings.TrimPrefix(f.Location, "query.") + ": " + strings.TrimSuffix(f.Message, ".") + "."
	}
	return text
}

// lacks answers whose key does not hold a scope.
func lacks(scope string) error {
	return &client.Problem{Type: client.Forbidden, Status: http.StatusForbidden, Detail: "this needs a key with scope " + scope}
}

// needs lets in whose key holds a scope: nobody is to fill in a form and be refused.
func needs(scope string, serve func(*visit) error) func(*visit) error {
	return func(v *visit) error {
		if !v.may(scope) {
			return lacks(scope)
		}
		return serve(v)
	}
}

func notFound(v *visit) error {
	v.problem(http.StatusNotFound, "There is no such page.", "The address may be mistyped.")
	return nil
}

type problemView struct {
	Title, Text string
	Links       []link
	Again       *keptForm // nil: nothing is to be sent again
}

type link struct{ To, Text string }

// problem says what is the matter and where to go from there.
func (v *visit) problem(status int, title, text string) {
	view := problemView{Title: title, Text: text}
	add := func(to, text string) { view.Links = append(view.Links, link{to, text}) }
	if status == http.StatusForbidden {
		add("/sign-in?next="+url.QueryEscape(localPath(v.URL.RequestURI())), "Sign in with another key")
	}
	switch at, _, _ := strings.Cut(strings.TrimPrefix(v.URL.Path, "/"), "/"); {
	case status == http.StatusServiceUnavailable && v.Method == http.MethodGet:
		add(v.URL.RequestURI(), "Load it again")
	case status == http.StatusServiceUnavailable && v.ParseForm() == nil:
		view.Again = &keptForm{v.URL.RequestURI(), v.PostForm}
	case status == http.StatusUnprocessableEntity && v.Method == http.MethodGet && v.URL.RawQuery != "":
		add(v.URL.Path, "The same without filters")
	case at == "deliveries":
		add("/failed", "Failed deliveries")
	default:
		for _, item := range v.nav() {
			if item.Path == "/"+at && v.URL.Path != item.Path {
				add(item.Path, item.Text)
			}
		}
	}
	if err := v.write(status, "problem", frame{Title: title, View: view}); err != nil {
		v.console.log.Error().Str("path", v.URL.Path).Err(err).Msg("page failed")
	}
}

// render answers with a page.
func (v *visit) render(name, section, title string, view any) error {
	return v.write(http.StatusOK, name, frame{Title: title, Section: section, View: view})
}

func (v *visit) write(status int, name string, f frame) error {
	f.User, f.Ends, f.Version, f.Now = v.user, expiry(v.user), v.console.config.Version, v.now
	f.Nav = v.nav()
	f.Notice = notices()[v.URL.Query().Get("done")]
	if f.Section != "" { // what failed must not fail twice
		f.Dead, f.Held = v.console.counts.of(v)
	}
	return v.console.pages.write(v.w, v.console, status, name, f)
}

// may reports whether the visitor's key holds a scope; buttons that would be
// refused are not shown.
func (v *visit) may(scope string) bool {
	return slices.Contains(v.user.Scopes, "admin") || slices.Contains(v.user.Scopes, scope)
}

func (v *visit) param(name string) string {
	text := chi.URLParam(v.Request, name)
	if plain, err := url.PathUnescape(text); err == nil && v.URL.RawPath != "" {
		return plain
	}
	return text
}

// form reads the body of a POST.
func (v *visit) form() (url.Values, error) {
	if err := v.ParseForm(); err != nil {
		return nil, &client.Problem{Type: client.TooLarge, Title: "The form could not be read", Status: http.StatusBadRequest, Detail: "it is too large or cut off"}
	}
	return v.PostForm, nil
}

// noting is the API with what the form says of why.
func (v *visit) noting() *client.Client {
	return v.api.Noting(strings.TrimSpace(v.PostFormValue("note")))
}

// redirect answers a POST that did what it should; done is one of notices.
func (v *visit) redirect(path, done string) error {
	if done != "" {
		sign := "?"
		if strings.Contains(path, "?") {
			sign = "&"
		}
		path += sign + "done=" + done
	}
	http.Redirect(v.w, v.Request, path, http.StatusSeeOther)
	return nil
}

// plainProblem answers whom nobody knows.
func (c *Console) plainProblem(w http.ResponseWriter, r *http.Request, status int, title, text string) {
	c.renderBare(w, r, status, "bare-problem", title, problemView{Title: title, Text: text})
}

func (c *Console) renderBare(w http.ResponseWriter, r *http.Request, status int, name, title string, view any) {
	f := frame{Title: title, Version: c.config.Version, Now: time.Now(), View: view}
	if err := c.pages.write(w, c, status, name, f); err != nil {
		c.log.Error().Str("path", r.URL.Path).Err(err).Msg("page failed")
	}
}

// write runs a template into memory, so that a page is whole or an error.
func (p *pages) write(w http.ResponseWriter, c *Console, status int, name string, f frame) error {
	var body bytes.Buffer
	if err := p.of(name).Execute(&body, f); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if _, err := w.Write(body.Bytes()); err != nil {
		c.log.Debug().Err(err).Msg("page not sent")
	}
	return nil
}

// counts are the numbers in the navigation, kept for a moment per visitor so
// that they cost a page nothing.
type counts struct {
	mu   sync.Mutex
	kept map[string]keptCounts
}

type keptCounts struct {
	dead, held int64
	until      time.Time
}

const (
	countsAge  = 5 * time.Second
	maxCounted = 1000
)

// of returns how many deliveries are dead and how many events are held, 0 where
// that is not known.
func (c *counts) of(v *visit) (dead, held int64) {
	if v.user.Key == "" {
		return 0, 0
	}
	c.mu.Lock()
	kept, ok := c.kept[v.user.Key]
	c.mu.Unlock()
	if ok && v.now.Before(kept.until) {
		return kept.dead, kept.held
	}
	found, err := v.api.Endpoints(v.Context(), client.BoardQuery{PageQuery: client.PageQuery{Limit: 1}})
	if err != nil {
		return 0, 0
	}
	c.keep(v, found.Totals)
	return found.Totals.Dead, found.Totals.Held
}

// keep remembers what a page has read anyway.
func (c *counts) keep(v *visit, totals client.BoardTotals) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil || len(c.kept) >= maxCounted {
		c.kept = map[string]keptCounts{}
	}
	c.kept[v.user.Key] = keptCounts{totals.Dead, totals.Held, v.now.Add(countsAge)}
}
