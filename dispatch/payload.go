package dispatch

import (
	"encoding/hex"
	"unicode/utf8"

	"github.com/rowcall/rowcall/store"
)

// timeLayout is RFC 3339 in UTC with microseconds: what PostgreSQL keeps.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// AppendCloudEvent appends the event to dst as a CloudEvents 1.0 structured
// JSON object. Its data goes in byte for byte. Attributes without a value are
// left out, and so is a time that RFC 3339 cannot write (year past 9999).
//
// The bytes depend on the event alone, so every try sends the same.
func AppendCloudEvent(dst []byte, e *store.Event) []byte {
	dst = append(dst, `{"specversion":"1.0","id":`...)
	if e.PublicID != "" {
		dst = appendString(dst, e.PublicID)
	} else {
		dst = append(dst, '"')
		dst = e.AppendID(dst)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"source":`...)
	dst = appendString(dst, e.Source)
	dst = append(dst, `,"type":`...)
	dst = appendString(dst, e.Type)
	if subject := e.SubjectText(); subject != "" {
		dst = append(dst, `,"subject":`...)
		dst = appendString(dst, subject)
	}
	if e.Given != nil && e.Given.Time != "" {
		dst = appendString(append(dst, `,"time":`...), e.Given.Time)
	} else if at := e.CommittedAt(); at.Year() >= 0 && at.Year() <= 9999 {
		dst = append(dst, `,"time":"`...)
		dst = at.AppendFormat(dst, timeLayout)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"datacontenttype":"application/json"`...)
	if e.Key != "" {
		dst = append(dst, `,"partitionkey":`...)
		dst = appendString(dst, e.Key)
	}
	dst = append(dst, `,"sequence":"`...)
	dst = e.Offset.Append(dst)
	dst = append(dst, '"')
	if e.Given != nil {
		for _, x := range e.Given.Extensions {
			dst = append(append(append(dst, `,"`...), x.Name...), `":`...)
			dst = append(dst, x.Value...)
		}
	}
	if len(e.Data) > 0 {
		dst = append(dst, `,"data":`...)
		dst = append(dst, e.Data...)
	}
	return append(dst, '}')
}

// WebhookID is the event's webhook-id: the same on every try, restart and
// replay, different for every event.
func WebhookID(e *store.Event) string { return string(appendWebhookID(nil, e)) }

// appendWebhookID appends the webhook-id: the event's id, or, since ids of
// others may hold anything, for a published event "e-" and the 32 hex digits of
// store.PublishedID.
func appendWebhookID(dst []byte, e *store.Event) []byte {
	if e.Kind != store.KindPublished || e.PublicID == "" {
		return e.AppendID(dst)
	}
	id := store.PublishedID(e.Source, e.PublicID)
	return hex.AppendEncode(append(dst, "e-"...), id[:])
}

// appendString appends s as a JSON string. Only what JSON requires is escaped;
// bytes that are no UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hexdigits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		if b >= ' ' && b != '"' && b != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexdigits[b>>4], hexdigits[b&15])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
