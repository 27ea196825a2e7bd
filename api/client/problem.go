package client

import (
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Types of Problem, for telling them apart.
const (
	Malformed            = "/problems/malformed"
	Unauthorized         = "/problems/unauthorized"
	Forbidden            = "/problems/forbidden"
	NotFound             = "/problems/not-found"
	MethodNotAllowed     = "/problems/method-not-allowed"
	Timeout              = "/problems/timeout"
	Conflict             = "/problems/conflict"
	PreconditionFailed   = "/problems/precondition-failed"
	TooLarge             = "/problems/too-large"
	UnsupportedMediaType = "/problems/unsupported-media-type"
	Validation           = "/problems/validation"
	RateLimited          = "/problems/rate-limited"
	Internal             = "/problems/internal"
	Unavailable          = "/problems/unavailable"
)

// Problem is an error that the API answered with (RFC 9457).
type Problem struct {
	Type       string        `json:"type"`
	Title      string        `json:"title"`
	Status     int           `json:"status"`
	Detail     string        `json:"detail,omitempty"`
	Errors     []FieldError  `json:"errors,omitempty"`
	RetryAfter time.Duration `json:"-"` // 0: not said
}

// FieldError is a fault of one field: "body.endpoint.url", "query.limit".
type FieldError struct {
	Location string `json:"location"`
	Message  string `json:"message"`
}

// Error is a line for people: title, detail and every faulty field.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Title)
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for i, e := range p.Errors {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep + e.Location + " " + e.Message)
	}
	return b.String()
}

// problemOf reads a problem; what is not one (of a proxy, say) becomes one with
// the status alone.
func problemOf(resp *http.Response, body []byte) *Problem {
	var p Problem
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media != "application/problem+json" || json.Unmarshal(body, &p) != nil || p.Type == "" {
		p = Problem{Type: "about:blank", Title: "unexpected answer " + resp.Status}
	}
	p.Status = resp.StatusCode
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	return &p
}
