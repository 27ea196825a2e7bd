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

const laneDeliveriesSQL = `
SELECT ` + deliveryColumns + ` FROM rowcall.deliveries d
WHERE d.lane = $1 AND (d.state <> 'dead' OR $2 AND (cardinality(d.keys) > 0 OR d.barrier IS NOT NULL))
ORDER BY d."offset"`

// LaneDeliveries returns a lane's retrying and blocked deliveries by offset,
// without their events, and, with withDead, of the dead ones those that hold a
// key (on_dead: block).
func (s *Store) LaneDeliveries(ctx context.Context, lane LaneID, withDead bool) ([]Delivery, error) {
	rows, err := s.pool.Query(ctx, laneDeliveriesSQL, int32(lane), withDead)
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

// DeliveryFilter selects deliveries for a list. What is zero does not filter.
type DeliveryFilter struct {
	Subscription subscriptions.ID `json:"-"`
	State        DeliveryState    `json:"state,omitempty"`
	Reason       string           `json:"reason,omitempty"`
	Status       int              `json:"status,omitempty"` // HTTP status of the last try
	Type         string           `json:"type,omitempty"`   // of the event, exact
	Key          string           `json:"key,omitempty"`    // exact: one it orders; where it orders none, one of the event
	Since        time.Time        `json:"since,omitzero"`   // of UpdatedAt: at or after it
	Until        time.Time        `json:"until,omitzero"`   // before it
	Past         Offset           `json:"-"`                // keyset, newest offset first: below (Past, PastLane)
	PastLane     LaneID           `json:"-"`
	Labels       Labels           `json:"-"` // for Deliveries alone
}

// deliveryMatches says whether a delivery d of a lane c is one that a
// DeliveryFilter selects, whose args are $1 to $8.
const deliveryMatches = `($1 = '' OR c.subscription = $1)
  AND ($2 = '' OR d.state = $2)
  AND ($3 = '' OR d.reason = $3)
  AND ($5 = '' OR cardinality(d.keys) = 0 OR $5 = ANY(d.keys))
  AND ($4 = '' AND ($5 = '' OR cardinality(d.keys) > 0)
    OR d.event IS NULL AND EXISTS (SELECT FROM rowcall.events e WHERE e."offset" = d."offset"
      AND ($4 = '' OR e.type = $4) AND ($5 = '' OR cardinality(d.keys) > 0 OR e.key = $5 OR e.old_key = $5))
    OR d.event IS NOT NULL AND ($4 = '' OR d.event->>'type' = $4)
      AND ($5 = '' OR cardinality(d.keys) > 0 OR d.event->>'key' = $5 OR d.event->>'old_key' = $5))
  AND ($6::timestamptz IS NULL OR d.updated_at >= $6)
  AND ($7::timestamptz IS NULL OR d.updated_at < $7)
  AND ($8::integer = 0 OR d.status = $8)`

// args are the parameters of deliveryMatches, and more.
func (f *DeliveryFilter) args(more ...any) []any {
	return append([]any{
		f.Subscription, string(f.State), cleanText(f.Reason), cleanText(f.Type), cleanText(f.Key), nullTime(f.Since), nullTime(f.Until), f.Status,
	}, more...)
}

const deliveriesSQL = `
SELECT ` + deliveryColumns + `, c.subscription, coalesce(c.replay, ''), d.event
FROM rowcall.deliveries d JOIN rowcall.cursors c ON c.lane = d.lane
WHERE ` + deliveryMatches + `
  AND ($9::bigint = 0 OR (d."offset", d.lane) < ($9, $10::integer))
  AND ($12::jsonb = '{}' OR c.subscription IN (` + labelledSQL + `$12))
ORDER BY d."offset" DESC, d.lane DESC LIMIT $11`

// Deliveries lists deliveries, newest offset first, with the attributes of
// their events.
func (s *Store) Deliveries(ctx context.Context, f DeliveryFilter, limit int) ([]Delivery, error) {
	deliveries, err := s.deliveries(ctx, f, limit)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return deliveries, nil
}

func (s *Store) deliveries(ctx context.Context, f DeliveryFilter, limit int) ([]Delivery, error) {
	rows, err := s.pool.Query(ctx, deliveriesSQL, f.args(int64(f.Past), int32(f.PastLane), limit, f.Labels.json())...)
	if err != nil {
		return nil, err
	}
	var keptOf [][]byte // of each delivery
	deliveries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Delivery, error) {
		var id subscriptions.ID
		var event []byte
		var replay JobID
		d, err := scanDelivery(row, &id, &replay, &event)
		d.Subscription, d.Replay = id, replay
		keptOf = append(keptOf, event)
		return d, err
	})
	if err != nil {
		return nil, err
	}
	offsets := make([]Offset, len(deliveries))
	for i := range deliveries {
		offsets[i] = deliveries[i].Offset
	}
	events, err := s.EventsAt(ctx, offsets)
	if err != nil {
		return nil, err
	}
	for i := range deliveries {
		d := &deliveries[i]
		switch e := events[d.Offset]; {
		case keptOf[i] != nil:
			d.Event, err = s.keptEvent(ctx, d.Offset, keptOf[i], nil)
		case e != nil:
			d.Event = e
		default: // dropped from the log since the rows were read: now the delivery keeps it
			d.Event, err = s.eventOf(ctx, d.Offset)
			if d.Event != nil {
				d.Event.Data = nil
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return deliveries, nil
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
