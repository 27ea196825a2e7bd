package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Offset is an event's place in the log. The first event has offset 1;
// offsets are gapless and grow in commit order.
type Offset int64

// String is the form of the CloudEvents attribute sequence: 20 digits.
func (o Offset) String() string { return fmt.Sprintf("%020d", int64(o)) }

// Append appends the form of String to dst.
func (o Offset) Append(dst []byte) []byte {
	var digits [20]byte
	for i, n := len(digits)-1, uint64(o); i >= 0; i, n = i-1, n/10 {
		digits[i] = byte('0' + n%10)
	}
	return append(dst, digits[:]...)
}

// OffsetRange is the offsets from From up to, not including, Past.
type OffsetRange struct{ From, Past Offset }

// LSN is a position in a source's write-ahead log.
type LSN uint64

// ParseLSN reads PostgreSQL's form, "16/B374D848".
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(hi, 16, 32)
	l, err2 := strconv.ParseUint(lo, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("parse LSN %q: want two hexadecimal numbers, as in 16/B374D848", s)
	}
	return LSN(h<<32 | l), nil
}

// String is PostgreSQL's form.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// Checkpoint says how much of a source is durable in the log.
//
// An event (commit, ordinal) that comes again after a reconnect is already in
// the log if Has says so.
type Checkpoint struct {
	Commit   LSN       // commit LSN of the last transaction in the log, wholly or in part
	Ordinal  int64     // its events with ordinals below this are in the log
	End      LSN       // every transaction that ends at or below is wholly in the log: what may be confirmed
	CommitAt time.Time // when that transaction committed; zero: not known
}

// Has reports whether the event is in the log.
func (c Checkpoint) Has(commit LSN, ordinal int64) bool {
	return commit < c.Commit || commit == c.Commit && ordinal < c.Ordinal
}

// LaneID numbers a lane: one subscription's reader of the log.
type LaneID int32

// SourceID numbers a source.
type SourceID int32

// RelationVersion numbers one version of a table: its columns, their types and
// its identity. 0 stands for none.
type RelationVersion int32
