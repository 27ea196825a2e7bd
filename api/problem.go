package api

import (
	"context"
	"errors"
	"net/http"
	"regexp"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// problemKind is one kind of problem: its type URI is stable, programs tell
// problems apart by it.
type problemKind struct {
	uri    string
	title  string
	status int
}

var (
	problemMalformed    = problemKind{"/problems/malformed", "The request cannot be read", http.StatusBadRequest}
	problemUnauthorized = problemKind{"/problems/unauthorized", "A valid key is required", http.StatusUnauthorized}
	problemForbidden    = problemKind{"/problems/forbidden", "The key may not do this", http.StatusForbidden}
	problemNotFound     = problemKind{"/problems/not-found", "Not found", http.StatusNotFound}
	problemMethod       = problemKind{"/problems/method-not-allowed", "Method not allowed", http.StatusMethodNotAllowed}
	problemTimeout      = problemKind{"/problems/timeout", "The request took too long to arrive", http.StatusRequestTimeout}
	problemConflict     = problemKind{"/problems/conflict", "In conflict with what exists", http.StatusConflict}
	problemPrecondition = problemKind{"/problems/precondition-failed", "Changed in the meantime", http.StatusPreconditionFailed}
	problemTooLarge     = problemKind{"/problems/too-large", "The body is too large", http.StatusRequestEntityTooLarge}
	problemMediaType    = problemKind{"/problems/unsupported-media-type", "Unsupported media type", http.StatusUnsupportedMediaType}
	problemValidation   = problemKind{"/problems/validation", "Fields are not valid", http.StatusUnprocessableEntity}
	problemRateLimited  = problemKind{"/problems/rate-limited", "Too many requests", http.StatusTooManyRequests}
	problemInternal     = problemKind{"/problems/internal", "Internal error", http.StatusInternalServerError}
	problemUnavailable  = problemKind{"/problems/unavailable", "The store is not available", http.StatusServiceUnavailable}
)

// problemKinds lists every kind there is, by status.
func problemKinds() []problemKind {
	return []problemKind{
		problemMalformed, problemUnauthorized, problemForbidden, problemNotFound, problemMethod,
		problemTimeout, problemConflict, problemPrecondition, problemTooLarge, problemMediaType,
		problemValidation, problemRateLimited, problemInternal, problemUnavailable,
	}
}

// problem is an error as the caller sees it: an RFC 9457 problem. No member of
// it ever holds a value that the caller sent.
type problem struct {
	Type   string       `json:"type" doc:"What went wrong, for programs: stable."`
	Title  string       `json:"title" doc:"What went wrong, for people: the same for every problem of the type."`
	Status int          `json:"status" doc:"The HTTP status."`
	Detail string       `json:"detail,omitempty" doc:"What is the matter this time and, where there is one, the remedy."`
	Errors []fieldError `json:"errors,omitempty" doc:"One member per faulty field."`

	headers http.Header
}

// fieldError is a fault of one field. It never holds the value.
type fieldError struct {
	Location string `json:"location" doc:"Where the field stands: body.endpoint.url, query.limit, path.id."`
	Message  string `json:"message" doc:"What it should be."`
}

func newProblem(kind problemKind, detail string, errs ...fieldError) *problem {
	return &problem{Type: kind.uri, Title: kind.title, Status: kind.status, Detail: detail, Errors: errs}
}

// invalid is the problem of one faulty field.
func invalid(location, message string) *problem {
	return newProblem(problemValidation, "", fieldError{location, message})
}

func (p *problem) with(header, value string) *problem {
	if p.headers == nil {
		p.headers = http.Header{}
	}
	p.headers.Set(header, value)
	return p
}

// Error, GetStatus, GetHeaders and ContentType are what huma asks of an error.
func (p *problem) Error() string             { return p.Title }
func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) GetHeaders() http.Header   { return p.headers }
func (p *problem) ContentType(string) string { return "application/problem+json" }

// problemOf is the one way out for errors. What it does not know is logged, and
// told to the caller as an internal error without a word of its text.
func (a *API) problemOf(ctx context.Context, route string, err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if fields, ok := errors.AsType[subscriptions.FieldErrors](err); ok {
		return problemOfFields(fields)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return newProblem(problemNotFound, "there is no such thing, or no longer")
	case errors.Is(err, store.ErrConflict):
		return newProblem(problemConflict, "something like it exists, or it is not in the state that this needs")
	case ctx.Err() != nil || errors.Is(err, context.Canceled):
		return newProblem(problemUnavailable, "the request was given up").with("Retry-After", "1")
	case store.Unavailable(err) || errors.Is(err, context.DeadlineExceeded):
		// The store says its outage once; the caller is told by 503.
		a.log.Debug().Str("route", route).Err(err).Msg("store is not available to a request")
		return newProblem(problemUnavailable, "the store does not answer or does not take writes: try again").with("Retry-After", "2")
	}
	a.log.Error().Str("route", route).Err(err).Msg("request failed")
	return newProblem(problemInternal, "the log of rowcall says why")
}

// problemOfFields names the faulty fields of a body.
func problemOfFields(fields subscriptions.FieldErrors) *problem {
	p := newProblem(problemValidation, "")
	for _, f := range fields {
		location := "body"
		if f.Field != "" && f.Field[0] != '[' {
			location += "."
		}
		location += f.Field
		p.Errors = append(p.Errors, fieldError{location, f.Message})
	}
	return p
}

// memberForm is what a name has to be to stand in an answer, though nobody here knows
// it: the name of a member, or parameter, and no text that somebody put in its place.
var memberForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$`)

// locationOf is the place of a member that is not known, or that of what it is in
// where its name is none.
func locationOf(in, name string) string {
	if !memberForm.MatchString(name) {
		return in
	}
	if in == "" {
		return name
	}
	return in + "." + name
}

// locations that huma makes are of parameters we declared; anything else may
// be a name that the caller made up.
var locationForm = regexp.MustCompile(`^(path|query|header|body)(\.[A-Za-z_-]{1,40})?$`)

// problemOfHuma turns an error of the framework into a problem: the faulty
// value, and what an unexpected error says, stay behind.
func problemOfHuma(m *huma.ErrorModel) *problem {
	kind := problemInternal
	for _, k := range problemKinds() {
		if k.status == m.Status {
			kind = k
		}
	}
	p := newProblem(kind, "")
	switch kind.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestTimeout:
		p.Detail = m.Detail
	case http.StatusUnprocessableEntity:
		for _, e := range m.Errors {
			location := e.Location
			if !locationForm.MatchString(location) {
				location = "query"
			}
			p.Errors = append(p.Errors, fieldError{location, e.Message})
		}
	}
	return p
}

// writeProblem answers with a problem outside huma.
func writeProblem(w http.ResponseWriter, p *problem) {
	for name, values := range p.headers {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = marshal(w, p)
}
