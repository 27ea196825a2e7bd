package store

import (
	"context"
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

// DeliveryState is where an event stands that did not go at first pass.
type DeliveryState string

const (
	Retrying DeliveryState = "retrying" // due at DueAt, or in flight
	Blocked  DeliveryState = "blocked"  // behind a retrying event of the same key
	Dead     DeliveryState = "dead"     // ended; kept for a person
)

// Delivery is one event owed to one subscription that did not go at first pass.
type Delivery struct {
	Lane          LaneID
	Offset        Offset
	State         DeliveryState
	Keys          []string // the keys it orders; two at a key change
	Barrier       string   // the table whose every key it waits for and holds
	Attempts      int
	DueAt         time.Time // of retrying; zero: at once
	FirstFailedAt time.Time
	HeldMS        int64
	Reason        string
	Status        int
	Error         string
	UpdatedAt     time.Time
	Subscription  subscriptions.ID // set by queries
	Event         *Event           // set by Delivery and Deliveries: attributes; by Delivery: data too. nil where it is gone
}

// LaneDeliveries returns a lane's retrying and blocked deliveries by offset,
// without their events, and, of the dead ones, those alone that hold their key
// (on_dead: block).
func (s *Store) LaneDeliveries(ctx context.Context, lane LaneID, withDead bool) ([]Delivery, error) {
	panic("unwritten")
}

// DeliveryFilter selects deliveries for a list.
type DeliveryFilter struct {
	Subscription subscriptions.ID
	State        DeliveryState
	Reason       string
	Type, Key    string
	Since, Until time.Time // of UpdatedAt
	Past         Offset    // keyset, newest offset first: below (Past, PastLane)
	PastLane     LaneID
}

// Deliveries lists deliveries, newest offset first.
func (s *Store) Deliveries(ctx context.Context, f DeliveryFilter, limit int) ([]Delivery, error) {
	panic("unwritten")
}

// Delivery returns one with its event.
func (s *Store) Delivery(ctx context.Context, lane LaneID, at Offset) (Delivery, error) {
	panic("unwritten")
}

// Intent is a person's wish about a delivery, for the lane's owner to apply.
type Intent struct {
	ID     int64
	Lane   LaneID
	Action string // retry, discard
	Offset Offset
	Actor  string
}

// RequestRetry and its kin leave an intent; ErrNotFound where there is no such delivery.
func (s *Store) Request(ctx context.Context, in Intent) error { panic("unwritten") }

// Intents returns the intents of the lanes that this instance owns.
func (s *Store) Intents(ctx context.Context) ([]Intent, error) { panic("unwritten") }
