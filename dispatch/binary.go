package dispatch

import (
	"strings"
	"unicode/utf8"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// jsonContent is the Content-Type of an event's data alone. Nothing writes to it.
var jsonContent = []string{"application/json"}

// describe sets the headers that say what the body is where that is the event's
// data alone: Content-Type, and for CloudEvents in binary mode the attributes.
// An event without data has no body, and none of a type.
func (env *envelope) describe(format subscriptions.Format, e *store.Event) {
	if len(e.Data) > 0 {
		env.header["Content-Type"] = jsonContent
	} else {
		delete(env.header, "Content-Type")
	}
	if format != subscriptions.CloudEventsBinary {
		return
	}
	set := func(name, value string) {
		if value == "" {
			delete(env.header, name) // what an event before this one left
			return
		}
		env.header[name] = []string{value}
	}
	id := e.PublicID
	if id == "" {
		id = string(e.AppendID(nil))
	}
	at := ""
	if e.Given != nil && e.Given.Time != "" {
		at = escapeAttribute(e.Given.Time)
	} else if t := e.CommittedAt(); t.Year() >= 0 && t.Year() <= 9999 {
		at = t.Format(timeLayout)
	}
	set("Ce-Id", escapeAttribute(id))
	set("Ce-Source", escapeAttribute(e.Source))
	set("Ce-Type", escapeAttribute(e.Type))
	set("Ce-Subject", escapeAttribute(e.SubjectText()))
	set("Ce-Time", at)
	set("Ce-Partitionkey", escapeAttribute(e.Key))
	set("Ce-Sequence", string(e.Offset.Append(nil)))
	for _, name := range env.extras {
		delete(env.header, name) // what an event before this one left
	}
	env.extras = env.extras[:0]
	if e.Given == nil {
		return
	}
	for _, x := range e.Given.Extensions {
		name := "Ce-" + strings.ToUpper(x.Name[:1]) + x.Name[1:]
		set(name, escapeAttribute(x.Text()))
		env.extras = append(env.extras, name)
	}
}

// escapeAttribute writes an attribute as a header's value by the HTTP binding of
// CloudEvents 1.0, 3.1.3.2: space, the double quote, the percent sign and all
// that is not printable ASCII as the percent-encoded bytes of their UTF-8. Bytes
// that are no UTF-8 become U+FFFD first, as in the structured form.
func escapeAttribute(s string) string {
	const hexdigits = "0123456789ABCDEF"
	plain := func(r rune) bool { return r > ' ' && r < 0x7f && r != '"' && r != '%' }
	clean := true
	for _, r := range s {
		clean = clean && plain(r)
	}
	if clean {
		return s
	}
	dst := make([]byte, 0, len(s)+16)
	for _, r := range s { // a byte that is no UTF-8 comes as U+FFFD
		if plain(r) {
			dst = append(dst, byte(r))
			continue
		}
		var room [utf8.UTFMax]byte
		for _, b := range room[:utf8.EncodeRune(room[:], r)] {
			dst = append(dst, '%', hexdigits[b>>4], hexdigits[b&15])
		}
	}
	return string(dst)
}
