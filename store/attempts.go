package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

// Attempt is one HTTP try.
type Attempt struct {
	At       time.Time
	Lane     LaneID
	Offset   Offset
	Attempt  int // 1 is the first try of the event
	Duration time.Duration
	Status   int   // 0: no response
	Outcome  int16 // number of the outcome: 0 delivered, 1 failed, 2 blocked, 3 unknown
	Reason   string
	Detail   json.RawMessage // of failures
	// Set by queries.
	Subscription subscriptions.ID
}

// SaveAttempts writes history. It may lose rows when the database fails: history
// is not what delivery rests on.
func (s *Store) SaveAttempts(ctx context.Context, as []Attempt) error { panic("unwritten") }

// AttemptFilter selects attempts for a list.
type AttemptFilter struct {
	Subscription subscriptions.ID
	Offset       Offset // of one event; 0: of all
	Outcome      *int16
	Past         time.Time // keyset: older than it; zero: from the newest
	PastLane     LaneID    // and, at the same time, below (PastLane, PastOffset)
	PastOffset   Offset
}

// Attempts lists attempts, newest first.
func (s *Store) Attempts(ctx context.Context, f AttemptFilter, limit int) ([]Attempt, error) {
	panic("unwritten")
}
