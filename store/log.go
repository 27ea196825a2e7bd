package store

import "context"

// Append makes the batch durable for the source: events, checkpoint and head
// move in one transaction. It returns the offset of the first event (of the
// next one, when the batch is empty: then only the checkpoint moves).
//
// An error leaves either nothing or all of it in the log (a COMMIT whose answer
// was lost); calling Append again with the same batch is safe: it looks at the
// checkpoint first. ErrFenced: claim the source again.
func (s *Store) Append(ctx context.Context, claim SourceClaim, b *Batch) (Offset, error) {
	panic("unwritten")
}

// Read returns events from offset on, at most limit of them and, but for the
// first, at most maxBytes of data. It returns none at the head of the log.
// The slice is shared: callers do not write to it. Where retention has dropped
// from, reading starts at the oldest offset that is kept.
func (s *Store) Read(ctx context.Context, from Offset, limit int, maxBytes int64) ([]Event, error) {
	panic("unwritten")
}

// Head is the offset that the next event will get, as far as this instance
// knows. It costs an atomic load.
func (s *Store) Head() Offset { panic("unwritten") }

// Oldest is the oldest offset that is kept.
func (s *Store) Oldest(ctx context.Context) (Offset, error) { panic("unwritten") }

// Wait returns when Head is past the offset, or ctx ends.
func (s *Store) Wait(ctx context.Context, past Offset) error { panic("unwritten") }

// Event returns one event by offset: from the ring, the log, or a delivery
// that kept it. ErrNotFound where retention has dropped it.
func (s *Store) Event(ctx context.Context, at Offset) (*Event, error) { panic("unwritten") }

// EventByID finds an event by its CloudEvents id.
func (s *Store) EventByID(ctx context.Context, id string) (*Event, error) { panic("unwritten") }

// EventFilter selects events for a list.
type EventFilter struct {
	Type string // exact, or empty
	Key  string // exact, or empty
	Past Offset // only events below it; 0: from the newest
}

// Events lists events, newest first.
func (s *Store) Events(ctx context.Context, f EventFilter, limit int) ([]Event, error) {
	panic("unwritten")
}

// LogStats is what the log weighs.
type LogStats struct {
	Oldest, Head Offset
	Bytes        int64 // on disk, indexes included
}

// LogStats measures the log.
func (s *Store) LogStats(ctx context.Context) (LogStats, error) { panic("unwritten") }
