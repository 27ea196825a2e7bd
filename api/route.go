package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"github.com/rowcall/rowcall/store"
)

// Scope is a right that a key may hold and a route asks for.
type Scope string

const (
	ScopeRead    Scope = "read"    // every GET but keys and audit
	ScopePublish Scope = "publish" // publish events
	ScopeDeliver Scope = "deliver" // pause, resume, retry, discard
	ScopeWrite   Scope = "write"   // make, change and delete subscriptions
	ScopeAdmin   Scope = "admin"   // everything
)

// Scopes lists every scope there is.
func Scopes() []Scope {
	return []Scope{ScopeRead, ScopePublish, ScopeDeliver, ScopeWrite, ScopeAdmin}
}

// requestTimeout bounds a request's work: it ends before the server stops
// writing, so that the caller hears of it.
const requestTimeout = 20 * time.Second

// securityName is the name of the security scheme in the OpenAPI document.
const securityName = "key"

// handle registers a route. The scope is checked before a byte of the body is
// read; body, query and path are checked before fn runs.
func handle[I, O any](a *API, op huma.Operation, scope Scope, fn func(context.Context, *I) (*O, error)) {
	if !slices.Contains(Scopes(), scope) {
		panic(fmt.Sprintf("route %s %s: no such scope: %q", op.Method, op.Path, scope))
	}
	route := op.Method + " " + op.Path
	op.Middlewares = huma.Middlewares{a.authorize(scope, obeysLabels(op.OperationID)), checkQuery}
	if op.RequestBody != nil {
		op.MaxBodyBytes = maxBody + 1
		op.SkipValidateBody = true // the handler's parser is the one judge of a body
		op.Middlewares = append(op.Middlewares, checkBodyHeaders)
	}
	if op.Method == http.MethodPost {
		op.Parameters = append(op.Parameters, idempotencyParam())
		op.Middlewares = append(op.Middlewares, a.idempotent)
		op.Errors = append(op.Errors, http.StatusConflict)
	}
	if audited(op) {
		op.Middlewares = append(op.Middlewares, takeNote)
		describeNote(&op)
	}
	op.Security = []map[string][]string{{securityName: {string(scope)}}}
	op.Extensions = map[string]any{"x-scope": string(scope)}
	var described map[string]*huma.MediaType
	var required bool
	if op.RequestBody != nil {
		described, required = maps.Clone(op.RequestBody.Content), op.RequestBody.Required
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		if err := checkBodyWhole(ctx); err != nil {
			return nil, a.problemOf(ctx, route, err)
		}
		asked, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		if audited(op) {
			asked = store.WithChange(asked, &store.Change{Actor: caller(ctx), Remote: remoteOf(ctx), Action: op.OperationID, Note: noteOf(ctx), Claim: claimOf(ctx)})
		}
		out, err := fn(asked, in)
		if err != nil {
			return nil, a.problemOf(ctx, route, err)
		}
		return out, nil
	})
	if op.RequestBody != nil {
		// The framework describes a raw body as bytes, and as one that must be
		// there; say again what is in it.
		op.RequestBody.Content, op.RequestBody.Required = described, required
	}
}

// refuse ends a request in a middleware.
func refuse(ctx huma.Context, p *problem) {
	_, w := humachi.Unwrap(ctx)
	writeProblem(w, p)
}

// checkQuery refuses parameters that the route does not know, that come twice,
// that are empty or are not fit for text in a database.
func checkQuery(ctx huma.Context, next func(huma.Context)) {
	r, _ := humachi.Unwrap(ctx)
	var known []string
	for _, p := range ctx.Operation().Parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		refuse(ctx, newProblem(problemMalformed, "the query string is not well formed"))
		return
	}
	var errs []fieldError
	for _, name := range slices.Sorted(maps.Keys(values)) {
		location := "query." + name
		switch got := values[name]; {
		case !slices.Contains(known, name):
			message := "unknown parameter; this route takes none"
			if len(known) > 0 {
				message = "unknown parameter; this route takes " + strings.Join(known, ", ")
			}
			errs = append(errs, fieldError{locationOf("query", name), message})
		case len(got) > 1:
			errs = append(errs, fieldError{location, "given more than once"})
		case got[0] == "":
			errs = append(errs, fieldError{location, "empty: leave it out"})
		case !plainText(got[0]) || len(got[0]) > 2048:
			errs = append(errs, fieldError{location, "want UTF-8 text without control characters, 2048 bytes at most"})
		}
	}
	if len(errs) > 0 {
		refuse(ctx, newProblem(problemValidation, "", errs...))
		return
	}
	next(ctx)
}

// plainText reports whether s is UTF-8 without control characters.
func plainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// setHeaders marks every answer as one that is not cached, sniffed or framed.
func setHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// tailPath is the route whose answer does not end.
const tailPath = "/v1/tail"

// answerHead answers HEAD as GET, without the body, which the server leaves out: load
// balancers ask so. Not where the answer would not end.
func (a *API) answerHead(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if route := chi.RouteContext(r.Context()); r.Method == http.MethodHead && route != nil && r.URL.Path != tailPath {
			route.RouteMethod = http.MethodGet
		}
		next.ServeHTTP(w, r)
	})
}

// methods are those that the route of a path takes.
func (a *API) methods(path string) (methods []string) {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		if !a.router.Match(chi.NewRouteContext(), method, path) {
			continue
		}
		methods = append(methods, method)
		if method == http.MethodGet && path != tailPath {
			methods = append(methods, http.MethodHead)
		}
	}
	return methods
}

// refuseBadPaths refuses paths that no route can mean.
func refuseBadPaths(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !plainText(r.URL.Path) || len(r.URL.Path) > 4096 {
			writeProblem(w, newProblem(problemMalformed, "the path is not UTF-8 text without control characters, 4096 bytes at most"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// recoverPanics turns a panic of a handler into an internal error of one request.
func (a *API) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tracked := &startedWriter{ResponseWriter: w}
		defer func() {
			reason := recover()
			if reason == nil {
				return
			}
			if reason == http.ErrAbortHandler { //nolint:errorlint // net/http compares so
				panic(reason)
			}
			a.log.Error().Str("method", r.Method).Str("panic", fmt.Sprint(reason)).Bytes("stack", debug.Stack()).Msg("handler panicked")
			if tracked.started {
				panic(http.ErrAbortHandler) // half an answer must not look whole
			}
			writeProblem(w, newProblem(problemInternal, "the log of rowcall says why"))
		}()
		next.ServeHTTP(tracked, r)
	})
}

// startedWriter knows whether an answer has begun.
type startedWriter struct {
	http.ResponseWriter
	started bool
}

func (w *startedWriter) WriteHeader(status int) {
	w.started = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *startedWriter) Write(p []byte) (int, error) {
	w.started = true
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *startedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
