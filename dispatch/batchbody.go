package dispatch

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"unicode/utf8"

	"github.com/rowcall/rowcall/store"
)

// batchContent is the Content-Type of a batch, which may hold one event alone.
const batchContent = "application/cloudevents-batch+json"

// BatchID is the webhook-id of events that go in one POST: "batch-" and the
// first 32 hex digits of SHA-256 over the webhook-ids that they have alone, in
// their order, each with a line feed behind it. The same events in the same order
// have the same id.
func BatchID(events ...*store.Event) string {
	id, _ := appendBatchID(nil, nil, events[0], events[1:])
	return string(id)
}

// appendBatchID appends the webhook-id of a batch to dst; room is used for what
// is hashed, and returned as it has grown.
func appendBatchID(dst, room []byte, first *store.Event, more []*store.Event) (id, used []byte) {
	room = append(appendWebhookID(room[:0], first), '\n')
	for _, e := range more {
		room = append(appendWebhookID(room, e), '\n')
	}
	sum := sha256.Sum256(room)
	return hex.AppendEncode(append(dst, "batch-"...), sum[:16]), room
}

// appendBatch appends the events as a CloudEvents 1.0 JSON batch: an array of
// what AppendCloudEvent makes of each, without white space.
func appendBatch(dst []byte, first *store.Event, more []*store.Event) []byte {
	dst = AppendCloudEvent(append(dst, '['), first)
	for _, e := range more {
		dst = AppendCloudEvent(append(dst, ','), e)
	}
	return append(dst, ']')
}

// growForBatch makes room in a buffer for a batch at once.
func growForBatch(b []byte, first *store.Event, more []*store.Event) []byte {
	const around = 400 // bytes of an event beside its data, about
	n := around + len(first.Data)
	for _, e := range more {
		n += around + len(e.Data)
	}
	return slices.Grow(b, n)
}

// cloudEventSize is the length of what AppendCloudEvent appends.
func cloudEventSize(e *store.Event) int {
	n := len(`{"specversion":"1.0","id":,"source":,"type":,"datacontenttype":"application/json","sequence":"00000000000000000000"}`)
	if e.PublicID != "" {
		n += stringSize(e.PublicID)
	} else {
		n += len(`"-0123456789ABCDEF-"`) + max(2, digits(int64(e.Generation))) + digits(e.Ordinal)
	}
	n += stringSize(e.Source) + stringSize(e.Type)
	if subject := e.SubjectText(); subject != "" {
		n += len(`,"subject":`) + stringSize(subject)
	}
	if e.Given != nil && e.Given.Time != "" {
		n += len(`,"time":`) + stringSize(e.Given.Time)
	} else if at := e.CommittedAt(); at.Year() >= 0 && at.Year() <= 9999 {
		n += len(`,"time":""`) + len(timeLayout)
	}
	if e.Given != nil {
		for _, x := range e.Given.Extensions {
			n += len(`,"":`) + len(x.Name) + len(x.Value)
		}
	}
	if e.Key != "" {
		n += len(`,"partitionkey":`) + stringSize(e.Key)
	}
	if len(e.Data) > 0 {
		n += len(`,"data":`) + len(e.Data)
	}
	return n
}

// stringSize is the length of what appendString appends.
func stringSize(s string) int {
	n := len(s) + len(`""`)
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				n += len("\uFFFD") - 1
			}
			i += size - 1
		case b == '"' || b == '\\' || b == '\n' || b == '\r' || b == '\t':
			n++
		case b < ' ':
			n += len(`\u0000`) - 1
		}
	}
	return n
}

// digits is the length of n, which is not negative, in decimal.
func digits(n int64) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}
