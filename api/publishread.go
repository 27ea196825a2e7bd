package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const (
	maxEventID       = 512     // bytes
	maxEventText     = 1024    // bytes of key, subject, source
	maxExtension     = 2048    // bytes of a value
	maxExtensions    = 8 << 10 // bytes of all, names included
	maxExtensionName = 64
	maxEventFaults   = 100 // that an answer names
)

// readPublished reads the events of a request. Its error names every faulty
// member, with the place of its event.
func readPublished(header http.Header, body []byte) ([]store.Published, error) {
	media, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	switch {
	case media == mediaCloudEvent, media == mediaCloudEventBatch:
		return readStructured(body, true, media == mediaCloudEventBatch)
	case isBinary(header):
		return readBinary(header, body)
	default:
		return readStructured(body, false, len(bytes.TrimLeft(body, " \t\r\n")) > 0 && bytes.TrimLeft(body, " \t\r\n")[0] == '[')
	}
}

// readStructured reads one event, or an array of them, from JSON.
func readStructured(body []byte, cloud, many bool) ([]store.Published, error) {
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	raws := []json.RawMessage{body}
	if many {
		if err := json.Unmarshal(body, &raws); err != nil || len(raws) == 0 {
			return nil, invalid("body", "must be an array of one event at least")
		}
	}
	var faults []fieldError
	events := make([]store.Published, len(raws))
	for i, raw := range raws {
		r := eventReader{cloud: cloud, at: "body"}
		if many {
			r.at = fmt.Sprintf("body[%d]", i)
		}
		events[i] = r.read(raw)
		if faults = append(faults, r.faults...); len(faults) >= maxEventFaults {
			break
		}
	}
	if len(faults) > 0 {
		return nil, newProblem(problemValidation, "no event was taken", faults[:min(len(faults), maxEventFaults)]...)
	}
	return events, nil
}

// readBinary reads a CloudEvent in binary mode: attributes from headers, the
// body is its data.
func readBinary(header http.Header, body []byte) ([]store.Published, error) {
	if len(body) > 0 {
		if err := checkJSON(body); err != nil {
			return nil, err
		}
	}
	r := eventReader{cloud: true, at: "header", sep: ".ce-"}
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, canonical := range names {
		name, ok := strings.CutPrefix(strings.ToLower(canonical), "ce-")
		if !ok {
			continue
		}
		values := header[canonical]
		text := unescapeAttribute(values[0])
		switch {
		case len(values) > 1:
			r.fault(name, "is given more than once")
		case !utf8.ValidString(text):
			r.fault(name, "must be UTF-8, percent-encoded")
		case name == "data" || name == "data_base64" || name == "datacontenttype":
			r.fault(name, "has no place in binary mode: data is the body, its type is Content-Type")
		default:
			value, err := json.Marshal(text)
			if err != nil {
				r.fault(name, "must be UTF-8")
				continue
			}
			r.member(name, value)
		}
	}
	event := r.finish()
	event.Data = bytes.Clone(body) // the framework uses body again
	if len(r.faults) > 0 {
		return nil, newProblem(problemValidation, "no event was taken", r.faults[:min(len(r.faults), maxEventFaults)]...)
	}
	return []store.Published{event}, nil
}

// unescapeAttribute undoes the percent-encoding of CloudEvents' HTTP binding. A
// percent sign that begins no escape stands for itself: there are producers that
// encode nothing.
func unescapeAttribute(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(b))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// eventReader reads the members of one event.
type eventReader struct {
	cloud  bool   // it is a CloudEvent
	at     string // where it stands
	sep    string // between at and a member's name; empty: a dot
	event  store.Published
	seen   []string // members
	there  []string // those that are not null
	size   int      // of extensions
	faults []fieldError
}

func (r *eventReader) fault(member, message string) {
	location := r.at
	if member != "" {
		sep := r.sep
		if sep == "" {
			sep = "."
		}
		location += sep + member
	}
	r.faults = append(r.faults, fieldError{location, message})
}

// read reads a JSON object that checkJSON has let through.
func (r *eventReader) read(raw []byte) store.Published {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		r.fault("", "must be a JSON object")
		return r.event
	}
	for decoder.More() {
		token, err := decoder.Token()
		name, ok := token.(string)
		var value json.RawMessage
		if err == nil {
			err = decoder.Decode(&value)
		}
		if err != nil || !ok {
			if !errors.Is(err, io.EOF) {
				r.fault("", "cannot be read")
			}
			break
		}
		r.member(name, value)
		if len(r.faults) >= maxEventFaults {
			break
		}
	}
	return r.finish()
}

// member reads one member. Its name goes into a fault only where it has the form of one.
func (r *eventReader) member(name string, value json.RawMessage) {
	if slices.Contains(r.seen, name) {
		r.fault(locationOf("", name), "is given more than once")
		return
	}
	r.seen = append(r.seen, name)
	if string(value) == "null" && name != "data" {
		return
	}
	r.there = append(r.there, name)
	e := &r.event
	switch {
	case name == "type":
		e.Type = r.text(name, value, 0)
		if err := subscriptions.CheckType(e.Type); err != nil {
			r.fault(name, err.Error())
		}
	case name == "id":
		if e.ID = r.text(name, value, maxEventID); e.ID == "" {
			r.fault(name, "must not be empty")
		} else if !plainText(e.ID) {
			r.fault(name, "must not hold control characters: no path could name the event")
		}
	case name == "source":
		if e.Given.Source = r.text(name, value, maxEventText); e.Given.Source == "" {
			r.fault(name, "must not be empty")
		} else if _, err := url.Parse(e.Given.Source); err != nil || strings.ContainsAny(e.Given.Source, " <>\"{}|\\^`") {
			r.fault(name, "must be a URI reference, such as /shop or https://example.com/shop")
		} else if store.ReservedSource(e.Given.Source) {
			r.fault(name, "must not be below /sources/, which are rowcall's own, but for "+store.PublishedSource+": leave it out, or give one such as /shop")
		}
	case name == "subject":
		e.Subject = r.text(name, value, maxEventText)
	case name == "time":
		e.Given.Time = r.time(name, value)
	case name == "data":
		e.Data = value
	case name == "key" && !r.cloud:
		if value[0] != '"' {
			if _, err := strconv.ParseFloat(string(value), 64); err == nil || errors.Is(err, strconv.ErrRange) {
				e.Key = string(value) // a row's id, say
				break
			}
		}
		e.Key = r.text(name, value, maxEventText)
	case !r.cloud && (name == "traceparent" || name == "tracestate"):
		r.extension(name, value)
	case !r.cloud:
		r.fault(locationOf("", name), "is not known here; it takes type, id, source, key, subject, time, data, traceparent, tracestate")
	case name == "specversion":
		if text, ok := r.string(name, value, maxEventText); ok && text != "1.0" {
			r.fault(name, `must be "1.0"`)
		}
	case name == "datacontenttype":
		if text, ok := r.string(name, value, maxEventText); ok && !mediaTypeIs([]string{text}, []string{mediaJSON}) {
			r.fault(name, "must be application/json: data is delivered as JSON")
		}
	case name == "data_base64":
		r.base64(name, value)
	case name == "partitionkey":
		e.Key = r.text(name, value, maxEventText)
	case name == "sequence": // this log has its own
	default:
		r.extension(name, value)
	}
}

// string reads a string of at most so many bytes (0: unbounded).
func (r *eventReader) string(name string, value json.RawMessage, most int) (text string, ok bool) {
	switch err := json.Unmarshal(value, &text); {
	case err != nil:
		r.fault(name, "must be a string")
	case strings.ContainsRune(text, 0):
		r.fault(name, "must not hold U+0000")
	case most > 0 && len(text) > most:
		r.fault(name, fmt.Sprintf("must have at most %d bytes", most))
	default:
		return text, true
	}
	return "x", false // so that nothing else is said of it
}

func (r *eventReader) text(name string, value json.RawMessage, most int) string {
	text, _ := r.string(name, value, most)
	return text
}

// timeForm leaves out what time.Parse takes beyond RFC 3339: zones of 24 hours,
// which no JSON can be made of, hours of one digit, fractions behind a comma.
var timeForm = regexp.MustCompile(`T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func (r *eventReader) time(name string, value json.RawMessage) string {
	text, ok := r.string(name, value, maxEventText)
	if !ok {
		return ""
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || len(text) > 64 || !timeForm.MatchString(text) {
		r.fault(name, "must be a time by RFC 3339, such as 2026-11-20T12:00:00Z")
		return ""
	}
	if year := at.UTC().Year(); year < 0 || year > 9999 { // RFC 3339 has none for others
		r.fault(name, "must be in one of the years 0 to 9999, in UTC")
		return ""
	}
	return text
}

// base64 reads data that stands there in base64: JSON, as any data.
func (r *eventReader) base64(name string, value json.RawMessage) {
	text, ok := r.string(name, value, 0)
	if !ok {
		return
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		r.fault(name, "must be base64")
		return
	}
	if checkJSON(data) != nil {
		r.fault(name, "must be JSON in UTF-8, in base64: data is delivered as JSON")
	}
	r.event.Data = data
}

// extension keeps an extension attribute of CloudEvents.
func (r *eventReader) extension(name string, value json.RawMessage) {
	if !extensionName(name) {
		r.fault(locationOf("", name), "has a name that is not made of 1 to 64 lower-case letters and digits")
		return
	}
	switch value[0] {
	case '"':
		r.text(name, value, maxExtension)
	case 't', 'f':
	default:
		if _, err := strconv.ParseInt(string(value), 10, 32); err != nil {
			r.fault(name, "must be a string, a boolean or a whole number of 32 bits")
		}
	}
	if r.size += len(name) + len(value); r.size > maxExtensions {
		r.fault(name, fmt.Sprintf("is too much: all extension attributes have at most %d bytes", maxExtensions))
		return
	}
	r.event.Given.Extensions = append(r.event.Given.Extensions, store.Extension{Name: name, Value: value})
}

func extensionName(name string) bool {
	if name == "" || len(name) > maxExtensionName {
		return false
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// finish looks for what is missing, and makes the key.
func (r *eventReader) finish() store.Published {
	need := []string{"type"}
	if r.cloud {
		need = []string{"specversion", "id", "source", "type"}
	}
	for _, name := range need {
		if !slices.Contains(r.there, name) {
			r.fault(name, "is missing")
		}
	}
	if slices.Contains(r.there, "data") && slices.Contains(r.there, "data_base64") {
		r.fault("data_base64", "must not stand beside data")
	}
	e := &r.event
	if !r.cloud {
		if e.Key != "" {
			e.Key = e.Type + "/" + e.Key
		}
		if e.Data == nil {
			e.Data = json.RawMessage("null")
		}
	}
	slices.SortFunc(e.Given.Extensions, func(a, b store.Extension) int { return strings.Compare(a.Name, b.Name) })
	return *e
}
