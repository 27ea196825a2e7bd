package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

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
	Charged       int       // of Attempts: those that count against the budget
	DueAt         time.Time // of retrying; zero: at once
	FirstFailedAt time.Time
	HeldMS        int64
	Reason        string
	Status        int
	Error         string
	Version       int64  // of the subscription, where its filter or transform failed: nothing is tried before another one
	Ordering      string // which ordering Keys are of
	UpdatedAt     time.Time
	Subscription  subscriptions.ID // set by queries
	Replay        JobID            // set by queries: the replay it is of; empty: of none
	Event         *Event           // set by Delivery and Deliveries: attributes; by Delivery: data too. nil where it is gone
}

// deliveryColumns are what scanDelivery reads, of rowcall.deliveries d.
const deliveryColumns = `d.lane, d."offset", d.state, d.keys, coalesce(d.barrier, ''), d.attempts, d.due_at,
  d.first_failed_at, d.held_ms, d.reason, d.status, d.error, d.charged, d.version, d.ordering, d.updated_at`

func scanDelivery(row pgx.Row, more ...any) (Delivery, error) {
	var d Delivery
	var due, firstFailed *time.Time
	err := row.Scan(append([]any{
		&d.Lane, &d.Offset, &d.State, &d.Keys, &d.Barrier, &d.Attempts, &due,
		&firstFailed, &d.HeldMS, &d.Reason, &d.Status, &d.Error, &d.Charged, &d.Version, &d.Ordering, &d.UpdatedAt,
	}, more...)...)
	d.DueAt, d.FirstFailedAt, d.UpdatedAt = timeOf(due), timeOf(firstFailed), d.UpdatedAt.UTC()
	return d, err
}

// A lane is opened often, and may have a million dead letters: the two are not one
// query, so that those that nobody asks for are not read.
const (
	laneDeliveriesSQL = `
SELECT ` + deliveryColumns + ` FROM rowcall.deliveries d
WHERE d.lane = $1 AND d.state <> 'dead'
ORDER BY d."offset"`
	laneDeliveriesAndDeadSQL = `
SELECT ` + deliveryColumns + ` FROM rowcall.deliveries d
WHERE d.lane = $1 AND (d.state <> 'dead' OR cardinality(d.keys) > 0 OR d.barrier IS NOT NULL)
ORDER BY d."offset"`
)

// LaneDeliveries returns a lane's retrying and blocked deliveries by offset,
// without their events, and, with withDead, of the dead ones those that hold a
// key (on_dead: block).
func (s *Store) LaneDeliveries(ctx context.Context, lane LaneID, withDead bool) ([]Delivery, error) {
	sql := laneDeliveriesSQL
	if withDead {
		sql = laneDeliveriesAndDeadSQL
	}
	rows, err := s.pool.Query(ctx, sql, int32(lane))
	if err != nil {
		return nil, fmt.Errorf("read deliveries of lane %d: %w", lane, err)
	}
	deliveries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Delivery, error) { return scanDelivery(row) })
	if err != nil {
		return nil, fmt.Errorf("read deliveries of lane %d: %w", lane, err)
	}
	return deliveries, nil
}

const deliveriesAtSQL = `
SELECT ` + deliveryColumns + ` FROM rowcall.deliveries d WHERE d.lane = $1 AND d."offset" = ANY($2::bigint[])`

// DeliveriesAt returns those of a lane's deliveries that there are at offsets,
// without their events.
func (s *Store) DeliveriesAt(ctx context.Context, lane LaneID, at []Offset) (map[Offset]Delivery, error) {
	offsets := make([]int64, len(at))
	for i := range at {
		offsets[i] = int64(at[i])
	}
	rows, err := s.pool.Query(ctx, deliveriesAtSQL, int32(lane), offsets)
	if err != nil {
		return nil, fmt.Errorf("read deliveries of lane %d: %w", lane, err)
	}
	deliveries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Delivery, error) { return scanDelivery(row) })
	if err != nil {
		return nil, fmt.Errorf("read deliveries of lane %d: %w", lane, err)
	}
	found := make(map[Offset]Delivery, len(deliveries))
	for _, d := range deliveries {
		found[d.Offset] = d
	}
	return found, nil
}

const eventAttributesSQL = `
SELECT "offset", lsn, ordinal, time, source, generation, kind, relation, type, key, old_key, subject, id, given, NULL::bytea
FROM rowcall.events WHERE "offset" = ANY($1::bigint[]) ORDER BY "offset"`

// EventsAt returns the events that the log has at some offsets, without data.
func (s *Store) EventsAt(ctx context.Context, offsets []Offset) (map[Offset]*Event, error) {
	if len(offsets) == 0 {
		return nil, nil
	}
	events, err := s.queryEvents(ctx, len(offsets), eventAttributesSQL, offsets)
	if err != nil {
		return nil, fmt.Errorf("read %d events: %w", len(offsets), err)
	}
	byOffset := make(map[Offset]*Event, len(events))
	for i := range events {
		byOffset[events[i].Offset] = &events[i]
	}
	return byOffset, nil
}

// eventOf returns a copy of an event, nil where it is gone.
func (s *Store) eventOf(ctx context.Context, at Offset) (*Event, error) {
	e, err := s.Event(ctx, at)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	own := *e
	return &own, nil
}

const deliverySQL = `
SELECT ` + deliveryColumns + `, c.subscription, coalesce(c.replay, '')
FROM rowcall.deliveries d JOIN rowcall.cursors c ON c.lane = d.lane
WHERE d.lane = $1 AND d."offset" = $2`

// Delivery returns one with its event; ErrNotFound where it is not there.
func (s *Store) Delivery(ctx context.Context, lane LaneID, at Offset) (Delivery, error) {
	var id subscriptions.ID
	var replay JobID
	d, err := scanDelivery(s.pool.QueryRow(ctx, deliverySQL, int32(lane), int64(at)), &id, &replay)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err == nil {
		d.Subscription, d.Replay = id, replay
		d.Event, err = s.eventOf(ctx, at)
	}
	if err != nil {
		return Delivery{}, fmt.Errorf("read delivery %d of lane %d: %w", at, lane, err)
	}
	return d, nil
}
