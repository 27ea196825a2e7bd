package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

// bodyReader reads the members of a body that is a JSON object, and gathers what
// is wrong with them. A member that is missing or null leaves its value.
type bodyReader struct {
	members map[string]json.RawMessage
	null    map[string]bool // members that are there, and null
	faults  subscriptions.FieldErrors
}

// readBody takes a body apart. It refuses what is not known, what is given twice,
// and other letters' cases, as the parser of subscriptions does.
func readBody(raw []byte, known ...string) (*bodyReader, error) {
	if err := checkJSON(raw); err != nil {
		return nil, err
	}
	r := &bodyReader{members: map[string]json.RawMessage{}, null: map[string]bool{}}
	if !r.object(raw, "", known...) {
		return nil, newProblem(problemValidation, "", fieldError{"body", "must be a JSON object"})
	}
	return r, nil
}

// object takes an object apart whose place in the body is at ("" or "from.").
func (r *bodyReader) object(raw []byte, at string, known ...string) bool {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return false
	}
	for decoder.More() {
		token, err := decoder.Token()
		name, _ := token.(string)
		var value json.RawMessage
		if err != nil || decoder.Decode(&value) != nil {
			return false
		}
		_, twice := r.members[at+name]
		switch {
		case !slices.Contains(known, name):
			r.fault(locationOf(strings.TrimSuffix(at, "."), name), "is not known here; it takes %s", strings.Join(known, ", "))
		case twice || r.null[at+name]:
			r.fault(at+name, "is given more than once")
		case string(value) == "null":
			r.null[at+name] = true
		default:
			r.members[at+name] = value
		}
	}
	return true
}

func (r *bodyReader) fault(field, format string, args ...any) {
	r.faults = append(r.faults, subscriptions.FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

// err is what was wrong.
func (r *bodyReader) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	return r.faults
}

// read reads a member into out; what names its type in the fault. It reports
// whether there was one, of that type.
func (r *bodyReader) read(field, what string, out any) bool {
	raw, there := r.members[field]
	if !there {
		return false
	}
	if json.Unmarshal(raw, out) != nil {
		r.fault(field, "must be %s", what)
		return false
	}
	return true
}

const maxFilterText = 2048

// text reads a text that is fit for a filter.
func (r *bodyReader) text(field string) (text string) {
	if r.read(field, "a string", &text) && (text == "" || len(text) > maxFilterText || !plainText(text)) {
		r.fault(field, "must be text without control characters, 1 to %d bytes; leave it out for any", maxFilterText)
	}
	return text
}

// enum reads one of some texts.
func (r *bodyReader) enum(field string, of ...string) (text string) {
	if r.read(field, "a string", &text) && !slices.Contains(of, text) {
		r.fault(field, "must be one of %s", strings.Join(of, ", "))
	}
	return text
}

func (r *bodyReader) time(field string) time.Time {
	var text string
	if !r.read(field, "a string", &text) {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	at = at.UTC() // which may lead out of the years that JSON can hold
	if err != nil || at.Year() < 1 || at.Year() > 9999 || at.IsZero() {
		r.fault(field, "must be a time as in 2026-11-20T12:00:00Z")
	}
	return at
}

func (r *bodyReader) bool(field string) (v bool) {
	r.read(field, "true or false", &v)
	return v
}

// subscription reads the id of one.
func (r *bodyReader) subscription(field string) subscriptions.ID {
	var text string
	if !r.read(field, "a string", &text) {
		return ""
	}
	id, err := subscriptions.ParseID(text)
	if err != nil {
		r.fault(field, "is not a subscription's id")
	}
	return id
}
