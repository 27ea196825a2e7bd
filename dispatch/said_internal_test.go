package dispatch

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWhatAFailureIsRememberedBy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reply Reply
		want  string
	}{
		"an error":          {Reply{Err: errors.New("connection refused"), Body: []byte("x")}, "connection refused"},
		"words":             {Reply{Status: 422, Body: []byte("  total must\n\tbe positive\r\n")}, "total must be positive"},
		"JSON":              {Reply{Status: 400, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte("{\n  \"error\": \"no\"\n}")}, `{ "error": "no" }`},
		"a page":            {Reply{Status: 502, Body: []byte("<html><title>502</title>")}, ""},
		"a page that hides": {Reply{Status: 502, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}, Body: []byte("Bad Gateway")}, ""},
		"nothing":           {Reply{Status: 500}, ""},
	} {
		if got := c.reply.said(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	for n := range 4 { // cut in the middle of a character or not
		long := Reply{Status: 500, Body: []byte(strings.Repeat("x", n) + strings.Repeat("é", 4000))}
		if got := long.said(); len(got) > maxSaid || len(got) < maxSaid-4 || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
}
