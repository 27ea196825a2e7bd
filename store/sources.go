package store

import (
	"context"
	"time"
)

// SourceState is what a source is doing.
type SourceState string

const (
	SourceStarting  SourceState = "starting"  // connecting, creating slot and publication
	SourceStreaming SourceState = "streaming" // changes arrive
	SourceWaiting   SourceState = "waiting"   // down or busy: trying again by itself; Reason says why
	SourceGap       SourceState = "gap"       // changes may be lost: a person must accept it
	SourceRefused   SourceState = "refused"   // cannot go on by itself: Reason and Hint say what to do
)

// Source is a watched database.
type Source struct {
	ID          SourceID
	Name        string
	Kind        string
	State       SourceState
	Reason      string // what is wrong, empty when nothing is
	Hint        string // what to do about it
	Generation  int32  // bumped when system id or timeline changes
	SystemID    string
	Timeline    int32
	Slot        string
	Publication string
	Intent      bool // the slot is being created by us
	HeartbeatAt time.Time
	LagBytes    int64
	WALStatus   string // pg_replication_slots.wal_status
	UpdatedAt   time.Time
	Checkpoint  Checkpoint
	Relations   []Relation
	Gaps        []Gap // those not accepted, oldest first
}

// Relation is a table as the source's capture sees it.
type Relation struct {
	Schema, Name string
	Identity     string // default, index, full, nothing
	Captured     bool
	Reason       string   // why it is left out
	Remedy       string   // SQL that would let it in
	Key          []string // columns of the key
}

// Gap is an interval in which continuity cannot be proven.
type Gap struct {
	ID         int64
	At         time.Time
	Reason     string
	From, To   LSN
	Marker     Offset // lanes hold here until it is accepted
	AcceptedAt time.Time
	AcceptedBy string
}

// SourceClaim is the right to append for a source. Epoch fences it.
type SourceClaim struct {
	ID    SourceID
	Name  string
	Epoch int64
}

// ClaimSource makes this instance the capturer of the source, creating its row
// at first; it raises the source's epoch, so whoever held it is fenced. While
// another live instance owns it, it returns ErrConflict.
func (s *Store) ClaimSource(ctx context.Context, name string) (SourceClaim, Source, error) {
	panic("unwritten")
}

// SetSourceIdentity saves who the source is and which slot and publication serve it.
func (s *Store) SetSourceIdentity(ctx context.Context, c SourceClaim, src Source) error {
	panic("unwritten")
}

// SetSourceState saves state, reason and hint (and nothing else).
func (s *Store) SetSourceState(ctx context.Context, c SourceClaim, state SourceState, reason, hint string) error {
	panic("unwritten")
}

// SourceProgress is what is observed while streaming.
type SourceProgress struct {
	HeartbeatAt time.Time // zero: leave
	LagBytes    int64
	WALStatus   string
}

// SetSourceProgress saves observations.
func (s *Store) SetSourceProgress(ctx context.Context, c SourceClaim, p SourceProgress) error {
	panic("unwritten")
}

// SetRelations replaces what is known of the source's tables.
func (s *Store) SetRelations(ctx context.Context, c SourceClaim, rs []Relation) error {
	panic("unwritten")
}

// RecordGap appends a gap marker to the log, records the gap and sets the
// source's state to gap, in one transaction. The checkpoint becomes next.
func (s *Store) RecordGap(ctx context.Context, c SourceClaim, g Gap, next Checkpoint) error {
	panic("unwritten")
}

// AcceptGaps accepts every open gap of a source: lanes go on past the markers.
func (s *Store) AcceptGaps(ctx context.Context, name, actor string) (int, error) {
	panic("unwritten")
}

// OpenGaps returns the markers at which lanes hold, in rising order.
func (s *Store) OpenGaps(ctx context.Context) ([]Offset, error) { panic("unwritten") }

// Sources lists all sources, by name; Source returns one.
func (s *Store) Sources(ctx context.Context) ([]Source, error) { panic("unwritten") }

// Source returns one source by name.
func (s *Store) Source(ctx context.Context, name string) (Source, error) { panic("unwritten") }
