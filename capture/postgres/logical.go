package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/rowcall/rowcall/store"
)

// The prefixes of logical messages that mean something to us. Others are the
// application's own affair.
const (
	messagePrefix   = "rowcall"           // an event
	contextPrefix   = "rowcall.context"   // annotates the row events of its transaction that follow
	heartbeatPrefix = "rowcall.heartbeat" // ours
)

const (
	// maxContextBytes bounds a context: it stands in every event that follows.
	maxContextBytes = 8 << 10
	// maxKeyBytes bounds a message's type, key and subject: they are attributes.
	maxTypeBytes = 255
	maxKeyBytes  = 1024

	invalidType = "rowcall.message.invalid"
)

// logical reads a logical message.
func (d *decoder) logical(w *wire, b *store.Batch) (boundary, error) {
	flags := w.byte()
	w.uint64() // its own LSN
	prefix := w.string()
	content := w.bytes(w.uint32())
	if err := w.end(); err != nil {
		return boundary{}, err
	}
	if prefix != messagePrefix && prefix != contextPrefix && prefix != heartbeatPrefix {
		return boundary{}, nil
	}
	const transactional = 1
	if flags&transactional == 0 {
		// It was sent when it was written, even if its transaction rolls back: it
		// has no place in the order of commits.
		return boundary{kind: nontransactional}, nil
	}
	if !d.open {
		return boundary{}, errOutside
	}
	switch prefix {
	case heartbeatPrefix:
		if !strings.HasPrefix(string(content), d.config.heartbeat) {
			return boundary{}, nil // of another rowcall
		}
		return boundary{
			kind: heartbeating, commit: d.commit, time: d.committedAt(), heartbeat: string(content),
		}, nil
	case contextPrefix:
		if err := checkContext(content); err != nil {
			d.invalid(content, err, b)
			return boundary{}, nil
		}
		d.context = append(d.context[:0], content...)
		d.writeTx()
	default:
		d.published(content, b)
	}
	return boundary{}, nil
}

func checkContext(content []byte) error {
	switch i := skipSpace(content, 0); {
	case len(content) > maxContextBytes:
		return fmt.Errorf("a context has at most %d bytes", maxContextBytes)
	case !utf8.Valid(content):
		return errors.New("a context must be valid UTF-8")
	case i == len(content) || content[i] != '{' || !isJSON(content, new([]byte)):
		return errors.New("a context must be a JSON object")
	default:
		return nil
	}
}

// published appends the event that a message is, or says why it is none.
func (d *decoder) published(content []byte, b *store.Batch) {
	if int64(len(content)) > d.config.maxValueBytes {
		d.invalid(content, errors.New("the message is too long"), b)
		return
	}
	m, err := parseMessage(content)
	if err != nil {
		d.invalid(content, err, b)
		return
	}
	ordinal, fresh := d.next()
	if !fresh {
		return
	}
	event := d.event(ordinal)
	event.Kind, event.Type, event.Subject = store.KindMessage, m.typ, m.subject
	event.Key = m.typ + "/" + m.key
	if m.key == "" {
		event.Key = event.ID()
	}
	b.End(append(b.Begin(event), m.data...))
}

// invalid appends an event that shows a message of ours that is none, so that
// whoever wrote it can find it.
func (d *decoder) invalid(content []byte, reason error, b *store.Batch) {
	ordinal, fresh := d.next()
	if !fresh {
		return
	}
	event := d.event(ordinal)
	event.Kind, event.Type = store.KindMessage, invalidType
	event.Key = event.ID()
	p := append(b.Begin(event), `{"text":`...)
	lossy := false
	oversize := int64(len(content)) > d.config.maxValueBytes
	if oversize {
		p = append(p, "null"...)
	} else {
		p, lossy = appendJSONString(p, content)
	}
	p, _ = appendJSONString(append(p, `,"reason":`...), []byte(reason.Error()))
	if lossy {
		p = appendBase64(append(p, `,"lossy":{"text":`...), content)
		p = append(p, '}')
	}
	if oversize {
		p = fmt.Appendf(p, `,"oversize":{"text":%d}`, len(content))
	}
	b.End(append(p, '}'))
}

// message is a logical message with prefix rowcall.
type message struct {
	typ, key, subject string
	data              []byte // JSON, as it was written
}

// parseMessage reads {"type":…,"key":…,"subject":…,"data":…}. Members that it
// does not know, and those that come twice, are refused: a misspelt one would
// otherwise be lost in silence.
func parseMessage(content []byte) (message, error) {
	if !utf8.Valid(content) {
		return message{}, errors.New("a message must be valid UTF-8")
	}
	m := message{data: []byte("null")}
	seen := make(map[string]bool)
	err := eachMember(content, func(name string, value []byte) error {
		if seen[name] {
			return fmt.Errorf("member %q comes twice", name)
		}
		seen[name] = true
		var err error
		switch name {
		case "type":
			m.typ, err = parseText(name, value)
		case "key":
			if isJSONNumber(value) { // as jsonb_build_object writes an id
				m.key = string(value)
			} else {
				m.key, err = parseText(name, value)
			}
		case "subject":
			m.subject, err = parseText(name, value)
		case "data":
			m.data = value
		default:
			err = fmt.Errorf("member %q is not known; want type, key, subject, data", name)
		}
		return err
	})
	if err != nil {
		return message{}, err
	}
	switch {
	case m.typ == "":
		return message{}, errors.New("member type is missing")
	case len(m.key) > maxKeyBytes || len(m.subject) > maxKeyBytes:
		return message{}, fmt.Errorf("key and subject have at most %d bytes", maxKeyBytes)
	}
	return m, checkType(m.typ)
}

// eachMember yields the members of a JSON object.
func eachMember(s []byte, yield func(name string, value []byte) error) error {
	notObject := errors.New("a message must be a JSON object")
	var nest []byte
	i := skipSpace(s, 0)
	if !isJSON(s, &nest) || s[i] != '{' {
		return notObject
	}
	// It is valid, so every member is where it has to be.
	for i = skipSpace(s, i+1); s[i] != '}'; i = skipSpace(s, i) {
		if s[i] == ',' {
			i = skipSpace(s, i+1)
		}
		name, err := parseText("name", s[i:stringEnd(s, i)])
		if err != nil {
			return err
		}
		start := skipSpace(s, nameEnd(s, i))
		i = valueEnd(s, start, &nest)
		if err := yield(name, s[start:i]); err != nil {
			return err
		}
	}
	return nil
}

// parseText reads a member that is a string, or null, which is as good as none.
func parseText(member string, value []byte) (string, error) {
	var s *string
	if err := json.Unmarshal(value, &s); err != nil {
		return "", fmt.Errorf("member %s must be a string", member)
	}
	if s == nil {
		return "", nil
	}
	if strings.ContainsRune(*s, 0) {
		return "", fmt.Errorf("member %s must not hold U+0000", member)
	}
	return *s, nil
}

// checkType reports what keeps a text from being the type of an event: segments
// with dots between them, each in the form that names have in types, and none of
// ours.
func checkType(s string) error {
	if len(s) > maxTypeBytes {
		return fmt.Errorf("a type has at most %d bytes", maxTypeBytes)
	}
	for n, segment := range strings.Split(s, ".") {
		switch {
		case segment == "":
			return errors.New("a type must not have empty segments")
		case n == 0 && segment == messagePrefix:
			return errors.New("types that begin with rowcall are reserved")
		}
		for i := 0; i < len(segment); i++ {
			c := segment[i]
			if c >= utf8.RuneSelf || isPlain(c) {
				continue
			}
			if c != '%' || i+2 >= len(segment) || !isPercent(segment[i+1], segment[i+2]) {
				return fmt.Errorf("a type must have %%%02X in the place of %q", c, c)
			}
			i += 2
		}
	}
	return nil
}

// isPercent reports whether two digits stand for a byte that is to be
// percent-encoded, in the one form that it has.
func isPercent(high, low byte) bool {
	h, l := strings.IndexByte(upperHex, high), strings.IndexByte(upperHex, low)
	if h < 0 || l < 0 {
		return false
	}
	c := byte(h<<4 | l)
	return c < utf8.RuneSelf && !isPlain(c)
}
