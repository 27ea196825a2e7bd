package store

import (
	"strconv"
	"strings"
	"time"
)

// Kind says what an event is, which decides how its attributes are made and
// what it orders.
type Kind int16

const (
	KindRow       Kind = iota // a row write; Key is <schema>.<table>/<subject>
	KindKeyless               // a row write of a table without key; Key is <schema>.<table>
	KindTruncate              // a barrier for its table; Key is <schema>.<table>
	KindMessage               // a logical message with prefix rowcall
	KindPublished             // published through the API
	KindNotice                // rowcall speaks of itself
	KindGap                   // not an event: a marker at which every lane holds until the gap is accepted
)

// Event is one row of the log. It is immutable, and its Data may be shared
// with other readers: nobody writes to it.
type Event struct {
	Offset     Offset
	LSN        LSN   // commit LSN; 0 for what no source transaction wrote
	Ordinal    int64 // its place in its transaction, counted before any filter
	Time       int64 // commit time, µs since 1970, UTC
	SourceID   SourceID
	Generation int32
	Kind       Kind
	Relation   RelationVersion // the table as it was when the row was written; 0: of no table
	Type       string
	Key        string // CloudEvents partitionkey
	OldKey     string // the other key of a key change, else empty
	Subject    string // of KindMessage and KindPublished; row events: see SubjectText
	PublicID   string // of KindPublished and KindNotice: the id they came with
	Source     string // "/sources/<name>", or what a publisher gave
	Data       []byte // the member data of the payload: JSON, sent byte for byte
	Given      *Given // of KindPublished; nil: nothing
}

// ID is the CloudEvents id: the same after every restart.
func (e *Event) ID() string { return string(e.AppendID(nil)) }

// AppendID appends the id, <generation>-<commit LSN, 16 hex digits>-<ordinal>,
// to dst; a published event keeps its own.
func (e *Event) AppendID(dst []byte) []byte {
	if e.PublicID != "" {
		return append(dst, e.PublicID...)
	}
	if e.Generation < 10 {
		dst = append(dst, '0')
	}
	dst = strconv.AppendInt(dst, int64(e.Generation), 10)
	dst = append(dst, '-')
	const hexdigits = "0123456789ABCDEF"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, hexdigits[uint64(e.LSN)>>shift&15])
	}
	dst = append(dst, '-')
	return strconv.AppendInt(dst, e.Ordinal, 10)
}

// SubjectText is the CloudEvents subject, empty where there is none. A row
// event's is the part of its key behind the first slash (table names hold none:
// they are percent-encoded).
func (e *Event) SubjectText() string {
	if e.Subject == "" && e.Kind == KindRow {
		_, subject, _ := strings.Cut(e.Key, "/")
		return subject
	}
	return e.Subject
}

// Table is the "<schema>.<table>" whose order a row event belongs to; empty
// for other events.
func (e *Event) Table() string {
	switch e.Kind {
	case KindRow:
		table, _, _ := strings.Cut(e.Key, "/")
		return table
	case KindKeyless, KindTruncate:
		return e.Key
	default:
		return ""
	}
}

// CommittedAt is Time as a time.Time in UTC.
func (e *Event) CommittedAt() time.Time { return time.UnixMicro(e.Time).UTC() }
