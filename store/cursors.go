package store

import (
	"context"

	"github.com/rowcall/rowcall/subscriptions"
)

// Lane is one subscription's reader of the log, as its owner claimed it.
type Lane struct {
	ID           LaneID
	Epoch        int64
	Cursor       Offset        // everything below is settled or held by a delivery
	Ahead        []OffsetRange // settled above the cursor
	Following    bool
	HeldMS       int64
	Subscription subscriptions.Subscription
}

// ClaimLanes gives this instance every lane that has no live owner and returns
// all lanes that it owns now, their deliveries not included. Lanes whose id and
// subscription version are in have are left out of the answer, but for owned,
// which names every lane owned (what is missing there is gone).
func (s *Store) ClaimLanes(ctx context.Context, have map[LaneID]int64) (lanes []Lane, owned []LaneID, err error) {
	panic("unwritten")
}

// Settlement is what became of events, for all lanes of an instance.
type Settlement struct {
	Floor Offset // every lane that follows has settled all below; 0: leave
	Lanes []LaneSettlement
}

// LaneSettlement is what became of one lane's events since the last one.
type LaneSettlement struct {
	Lane      LaneID
	Epoch     int64
	Cursor    Offset
	Ahead     []OffsetRange
	Following bool // nothing is pending: the floor counts from now on
	HeldMS    int64
	Upsert    []Delivery // new or changed
	Delete    []Offset   // deliveries that ended
	Intents   []int64    // intents that were applied
}

// Settle records a settlement in one transaction. Lanes whose epoch has moved
// on are returned as fenced and not written; the others stand. ErrFenced where
// the whole instance has lost its lease: nothing was written. A lane whose rows
// the database refuses for a reason of their own (a permanent SQLSTATE) comes
// back in faulty with the error; the others stand.
func (s *Store) Settle(ctx context.Context, set Settlement) (fenced []LaneID, faulty map[LaneID]error, err error) {
	panic("unwritten")
}

// Backlogs returns, for every lane, its cursor and the number of its deliveries
// by state.
func (s *Store) Backlogs(ctx context.Context) ([]Backlog, error) { panic("unwritten") }

// Backlog is how far a lane is.
type Backlog struct {
	Lane                    LaneID
	Subscription            subscriptions.ID
	Cursor                  Offset // effective: the floor counted in
	Retrying, Blocked, Dead int64
	OldestAt                int64 // commit time of the event at the cursor, µs; 0: none is waiting
}
