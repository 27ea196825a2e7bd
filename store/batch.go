package store

import "encoding/binary"

// Batch collects events that go into the log together. It writes them, once,
// in the form of a binary COPY into rowcall.events, and the log's ring keeps
// slices of the same bytes: a batch that was appended belongs to the log, and
// is not used again.
//
// The caller sets Checkpoint to what is durable once the batch is.
type Batch struct {
	Checkpoint Checkpoint

	buf    []byte
	events []Event
	starts []int // of each tuple in buf
	data   []int // of each event's Data in buf
}

// Len is the number of events.
func (b *Batch) Len() int { return len(b.events) }

// Size is what they weigh on the wire, in bytes.
func (b *Batch) Size() int { return len(b.buf) }

// Next is an empty batch that goes on where b ends, with room for as much as b
// holds: a stream that fills batches of a size need not grow each of them.
func (b *Batch) Next() *Batch {
	n := len(b.events)
	return &Batch{
		Checkpoint: b.Checkpoint,
		buf:        make([]byte, 0, len(b.buf)+len(b.buf)/8),
		events:     make([]Event, 0, n),
		starts:     make([]int, 0, n),
		data:       make([]int, 0, n),
	}
}

// tupleFields is the number of columns of rowcall.events.
const tupleFields = 15

// pgEpoch is 2000-01-01 in µs since 1970.
const pgEpoch = 946684800 * 1e6

// Begin starts an event. The caller appends the event's data to the slice that
// it returns, in place, and gives the result to End:
//
//	b.End(append(b.Begin(e), `{"op":"insert"}`...))
//
// Offset and Data of e are not read, nor, where a source appends, Source.
func (b *Batch) Begin(e Event) []byte {
	b.starts = append(b.starts, len(b.buf))
	p := b.buf
	p = binary.BigEndian.AppendUint16(p, tupleFields)
	p = appendInt64(p, 0) // the offset, known once log_head is locked
	p = appendInt64(p, int64(e.LSN))
	p = appendInt64(p, e.Ordinal)
	p = appendInt64(p, e.Time-pgEpoch)
	p = appendInt32(p, int32(e.SourceID))
	p = appendInt32(p, e.Generation)
	p = binary.BigEndian.AppendUint32(p, 2)
	p = binary.BigEndian.AppendUint16(p, uint16(e.Kind))
	p = appendInt32(p, int32(e.Relation))
	p = appendText(p, e.Type)
	p = appendText(p, e.Key)
	p = appendNullText(p, e.OldKey)
	p = appendNullText(p, e.Subject)
	p = appendNullText(p, e.PublicID)
	p = appendNullText(p, e.Given.text())
	p = binary.BigEndian.AppendUint32(p, 0) // the length of data, known at End
	b.data = append(b.data, len(p))
	b.events = append(b.events, e)
	return p
}

// End ends the event that Begin started.
func (b *Batch) End(p []byte) {
	at := b.data[len(b.data)-1]
	binary.BigEndian.PutUint32(p[at-4:], uint32(len(p)-at))
	b.buf = p
}

// Abort drops the event that Begin started.
func (b *Batch) Abort() {
	last := len(b.events) - 1
	b.events, b.starts, b.data = b.events[:last], b.starts[:last], b.data[:last]
}

func appendInt64(p []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(p, 8), uint64(v))
}

func appendInt32(p []byte, v int32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(p, 4), uint32(v))
}

func appendText(p []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(p, uint32(len(s))), s...)
}

func appendNullText(p []byte, s string) []byte {
	if s == "" {
		return binary.BigEndian.AppendUint32(p, 0xffffffff)
	}
	return appendText(p, s)
}
