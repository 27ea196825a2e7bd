package subscriptions

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxHeaders     = 20
	maxHeaderBytes = 8 << 10 // names and values together
)

// deniedHeaders frame the request, say where it came from, or are rowcall's own.
// An entry that ends in "*" stands for all names that start so.
var deniedHeaders = []string{
	"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect",
	"proxy-*", "forwarded", "x-forwarded-*", "cookie",
	"content-type", "content-encoding", "user-agent", "webhook-*", "rowcall-*", "ce-*",
	// Cloud metadata services ask for these as proof that no form sent the request.
	"metadata*", "x-aws-ec2-metadata-token*",
}

func (e *FieldErrors) checkHeaders(field string, headers map[string]string) {
	if len(headers) > maxHeaders {
		e.add(field, "must have at most %d members", maxHeaders)
		return
	}
	size := 0
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		path, lower := memberPath(field, name), strings.ToLower(name)
		size += len(name) + len(headers[name])
		e.check(path, checkHeaderName(lower))
		if seen[lower] {
			e.add(path, "is given more than once; upper and lower case are the same here")
		}
		seen[lower] = true
		e.check(path, checkHeaderValue(headers[name]))
	}
	if size > maxHeaderBytes {
		e.add(field, "must have at most %d bytes in all", maxHeaderBytes)
	}
}

func checkHeaderName(lower string) error {
	isToken := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}
	if lower == "" || strings.ContainsFunc(lower, func(r rune) bool { return !isToken(r) }) {
		return errors.New("must have a name of letters, digits and !#$%&'*+-.^_`|~")
	}
	for _, denied := range deniedHeaders {
		prefix, open := strings.CutSuffix(denied, "*")
		if lower == prefix || open && strings.HasPrefix(lower, prefix) {
			return errors.New("must not be set by a subscription; remove it")
		}
	}
	return nil
}

func checkHeaderValue(value string) error {
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return errors.New("must not have control characters, tabs or line breaks")
	}
	if strings.TrimSpace(value) != value {
		return errors.New("must not start or end with white space")
	}
	return nil
}

// checkText reports what keeps a text of people from being stored and shown.
// Lengths are in characters; lines allows tabs and line breaks.
func checkText(text string, least, most int, lines bool) error {
	if n := utf8.RuneCountInString(text); n < least || n > most {
		if n == 0 {
			return errors.New("is required")
		}
		return fmt.Errorf("must have at most %d characters", most)
	}
	bad := func(r rune) bool { return unicode.IsControl(r) && (!lines || r != '\n' && r != '\r' && r != '\t') }
	if !utf8.ValidString(text) || strings.ContainsFunc(text, bad) {
		return errors.New("must not have control characters")
	}
	return nil
}
