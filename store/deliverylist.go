package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

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
	Offset       Offset           `json:"-"`                // of one event
	Past         DeliveryPlace    `json:"-"`                // only what is before it in a list; for Deliveries alone, as is
	Labels       Labels           `json:"-"`
}

// DeliveryPlace is a place in lists of deliveries, which begin with the newest
// offset. The zero one is the end.
type DeliveryPlace struct {
	Offset Offset
	Lane   LaneID
}

// clauses are the conditions on a delivery d of a lane c that f selects.
func (f *DeliveryFilter) clauses() *clauses {
	c := &clauses{}
	if f.Subscription != "" {
		c.and("c.subscription = ?", f.Subscription)
	}
	if len(f.Labels) > 0 {
		c.and("c.subscription IN ("+labelledSQL+"?)", f.Labels.json())
	}
	if f.State != "" {
		c.and("d.state = ?", string(f.State))
	}
	if f.Reason != "" {
		c.and("d.reason = ?", cleanText(f.Reason))
	}
	if f.Status != 0 {
		c.and("d.status = ?", f.Status)
	}
	if !f.Since.IsZero() {
		c.and("d.updated_at >= ?", f.Since)
	}
	if !f.Until.IsZero() {
		c.and("d.updated_at < ?", f.Until)
	}
	// Each event is looked up: as EXISTS, it may be looked for in a hash of all events.
	if f.Type != "" {
		typ := c.arg(cleanText(f.Type))
		c.and(`CASE WHEN d.event IS NULL THEN (SELECT e.type = ` + typ + ` FROM rowcall.events e WHERE e."offset" = d."offset")
    ELSE d.event->>'type' = ` + typ + ` END`)
	}
	if f.Key != "" {
		key := c.arg(cleanText(f.Key))
		c.and(`CASE WHEN cardinality(d.keys) > 0 THEN ` + key + ` = ANY(d.keys)
    WHEN d.event IS NULL THEN (SELECT ` + key + ` IN (e.key, e.old_key) FROM ` + everyEventSQL + ` e WHERE e."offset" = d."offset" LIMIT 1)
    ELSE ` + key + ` IN (d.event->>'key', d.event->>'old_key') END`)
	}
	return c
}

// The runs of deliveries that there is an index of, in the order of lists. A delivery's
// keys are those that it orders; one that orders none has the hashes of its event's.
const (
	firstKey     = `coalesce(d.key_hash, hashtextextended(d.keys[1], 0))`
	secondKey    = `coalesce(d.old_key_hash, hashtextextended(d.keys[2], 0))`
	firstKeyRun  = firstKey + ` = hashtextextended(?, 0)`
	secondKeyRun = secondKey + ` = hashtextextended(?, 0) AND ` + firstKey + ` <> ` + secondKey
	openRun      = `d.state <> 'dead'`
	eventRun     = `d."offset" = ?`
	laneRun      = `d.lane = ?`
	everyRun     = `true`
)

// run is one of them, with its value.
type run struct {
	sql    string
	values []any
}

// mostRuns is up to how many lanes are gone through each by itself: more are likely to
// have a fair share of all rows.
const mostRuns = 50

// runs are those that have all that f selects, and as little else as may be.
func (s *Store) runs(ctx context.Context, f *DeliveryFilter) ([]run, error) {
	if f.Offset != 0 {
		return []run{{eventRun, []any{int64(f.Offset)}}}, nil
	}
	if key := cleanText(f.Key); key != "" {
		return []run{{firstKeyRun, []any{key}}, {secondKeyRun, []any{key}}}, nil
	}
	if f.State == Retrying || f.State == Blocked {
		return []run{{openRun, nil}}, nil
	}
	if f.Subscription == "" && len(f.Labels) == 0 {
		return []run{{everyRun, nil}}, nil
	}
	c := &clauses{}
	if f.Subscription != "" {
		c.and("subscription = ?", f.Subscription)
	}
	if len(f.Labels) > 0 {
		c.and("subscription IN ("+labelledSQL+"?)", f.Labels.json())
	}
	rows, err := s.pool.Query(ctx, `SELECT lane FROM rowcall.cursors WHERE `+c.where()+` LIMIT `+c.arg(mostRuns+1), c.args...)
	if err != nil {
		return nil, err
	}
	lanes, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return nil, err
	}
	if len(lanes) > mostRuns {
		return []run{{everyRun, nil}}, nil
	}
	runs := make([]run, len(lanes))
	for i, lane := range lanes {
		runs[i] = run{laneRun, []any{lane}}
	}
	return runs, nil
}

// among is SQL for what is of a list from one place, not with it, up to another, with
// it: one SELECT a run, in parentheses.
func (c *clauses) among(runs []run, columns string, from, to DeliveryPlace, rest string) string {
	if from != (DeliveryPlace{}) {
		rest = c.bind(` AND (d."offset", d.lane) < (?, ?)`, int64(from.Offset), int32(from.Lane)) + rest
	}
	if to != (DeliveryPlace{}) {
		rest = c.bind(` AND (d."offset", d.lane) >= (?, ?)`, int64(to.Offset), int32(to.Lane)) + rest
	}
	parts := make([]string, len(runs))
	for i, r := range runs {
		parts[i] = `(SELECT ` + columns + ` FROM rowcall.deliveries d WHERE ` + c.bind(r.sql, r.values...) + rest + `)`
	}
	return strings.Join(parts, "\n  UNION ALL ")
}

// reach is the place up to which there are rows deliveries in one of the runs, and no
// more in any; zero: there are fewer in all of them.
func (s *Store) reach(ctx context.Context, runs []run, from DeliveryPlace, rows int64) (to DeliveryPlace, err error) {
	sql, args := reachSQL(runs, from, rows)
	err = s.pool.QueryRow(ctx, sql, args...).Scan(&to.Offset, &to.Lane)
	if errors.Is(err, pgx.ErrNoRows) {
		return DeliveryPlace{}, nil
	}
	return to, err
}

func reachSQL(runs []run, from DeliveryPlace, rows int64) (sql string, args []any) {
	c := &clauses{}
	last := c.bind(` ORDER BY d."offset" DESC, d.lane DESC OFFSET ? LIMIT 1`, rows-1)
	sql = `SELECT * FROM (` + c.among(runs, `d."offset", d.lane`, from, DeliveryPlace{}, last) + `) last ORDER BY "offset" DESC, lane DESC LIMIT 1`
	return sql, c.args
}

// leastRows is how many deliveries a list looks at first, and at least.
const leastRows = 1000

// Deliveries lists deliveries, newest offset first, with the attributes of their
// events: at most limit, that it found within about a time. It goes on from next; a
// page may be short, or empty, and not be the last: next alone is zero there.
func (s *Store) Deliveries(ctx context.Context, f DeliveryFilter, limit int, within time.Duration) (found []Delivery, next DeliveryPlace, err error) {
	runs, err := s.runs(ctx, &f)
	if err != nil {
		return nil, next, fmt.Errorf("list deliveries: %w", err)
	}
	at := f.Past
	for walk := newStride(within, max(leastRows, int64(limit)+1)); len(runs) > 0; {
		to, err := s.reach(ctx, runs, at, walk.size)
		if err != nil {
			return nil, next, fmt.Errorf("list deliveries: %w", err)
		}
		some, err := s.deliveriesAmong(ctx, &f, runs, at, to, limit+1-len(found))
		if err != nil {
			return nil, next, fmt.Errorf("list deliveries: %w", err)
		}
		if found = append(found, some...); len(found) > limit {
			last := found[limit-1]
			return found[:limit], DeliveryPlace{last.Offset, last.Lane}, nil
		}
		if at = to; at == (DeliveryPlace{}) || walk.over() {
			return found, at, nil
		}
	}
	return nil, next, nil
}

// deliveriesSQL lists what f selects from one place up to another.
func deliveriesSQL(f *DeliveryFilter, runs []run, from, to DeliveryPlace, limit int) (sql string, args []any) {
	c := f.clauses()
	sql = `
SELECT ` + deliveryColumns + `, c.subscription, coalesce(c.replay, ''), d.event
FROM (` + c.among(runs, `*`, from, to, ``) + `) d JOIN rowcall.cursors c ON c.lane = d.lane
WHERE ` + c.where() + `
ORDER BY d."offset" DESC, d.lane DESC LIMIT ` + c.arg(limit)
	return sql, c.args
}

func (s *Store) deliveriesAmong(ctx context.Context, f *DeliveryFilter, runs []run, from, to DeliveryPlace, limit int) ([]Delivery, error) {
	sql, args := deliveriesSQL(f, runs, from, to, limit)
	rows, err := s.pool.Query(ctx, sql, args...)
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

const eventsAtSQL = `
SELECT ` + eventColumns + ` FROM (
  SELECT *, sum(octet_length(data)) OVER (ORDER BY "offset" ROWS UNBOUNDED PRECEDING) AS bytes
  FROM rowcall.events WHERE "offset" = ANY($1::bigint[])) e
WHERE bytes <= $2 ORDER BY "offset"`

// ReadEvents reads the events of deliveries with their data: those that are nil
// stay so, and one that is gone by now becomes so.
func (s *Store) ReadEvents(ctx context.Context, of []Delivery) error {
	offsets := make([]int64, len(of))
	for i := range of {
		offsets[i] = int64(of[i].Offset)
	}
	events, err := s.queryEvents(ctx, len(of), eventsAtSQL, offsets, int64(readBytes))
	if err != nil {
		return fmt.Errorf("read events of deliveries: %w", err)
	}
	byOffset := make(map[Offset]*Event, len(events))
	for i := range events {
		byOffset[events[i].Offset] = &events[i]
	}
	for i := range of {
		d := &of[i]
		if d.Event == nil {
			continue
		}
		if d.Event = byOffset[d.Offset]; d.Event == nil { // large, or no longer in the log
			if d.Event, err = s.eventOf(ctx, d.Offset); err != nil {
				return fmt.Errorf("read events of deliveries: %w", err)
			}
		}
	}
	return nil
}

// readBytes is how much data ReadEvents reads at once; more comes one by one.
const readBytes = 8 << 20

// CountDeliveries counts the deliveries that a filter selects, for no longer than
// about within, but among 50,000 in any case, unless that is 0 or less: atLeast says
// that the time was up before the last was counted.
func (s *Store) CountDeliveries(ctx context.Context, f DeliveryFilter, within time.Duration) (n int64, atLeast bool, err error) {
	runs, err := s.runs(ctx, &f)
	if err != nil {
		return 0, false, fmt.Errorf("count deliveries: %w", err)
	}
	at, looked := DeliveryPlace{}, int64(0)
	for walk := newStride(within, 10*leastRows); len(runs) > 0; {
		if !time.Now().Before(walk.ends) && (within <= 0 || looked >= countedEach) {
			return n, true, nil
		}
		to, err := s.reach(ctx, runs, at, walk.size)
		if err != nil {
			return 0, false, fmt.Errorf("count deliveries: %w", err)
		}
		c := f.clauses()
		sql := `SELECT count(*) FROM (` + c.among(runs, `*`, at, to, ``) + `) d JOIN rowcall.cursors c ON c.lane = d.lane WHERE ` + c.where()
		var some int64
		if err := s.pool.QueryRow(ctx, sql, c.args...).Scan(&some); err != nil {
			return 0, false, fmt.Errorf("count deliveries: %w", err)
		}
		n += some
		if at = to; at == (DeliveryPlace{}) {
			break
		}
		looked += walk.size
		if walk.over() {
			walk.size = 10 * leastRows
		}
	}
	return n, false, nil
}
