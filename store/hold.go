package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// Holding is a lane that has not passed all of the log, as its owner looks at it.
type Holding struct {
	Lane     LaneID
	Cursor   Offset
	Waiting  LogCount // an upper bound: see Backlog
	MustPass Offset   // the log is full: what is below is to be given up; 0: nothing
	Overflow Offset   // from where on the first of its overflowed keys is owed; 0: none has overflowed
}

const holdingsSQL = `
SELECT c.lane, c."offset",
  CASE WHEN EXISTS (SELECT FROM rowcall.gaps g WHERE g.accepted_at IS NULL AND g.marker < c.must_pass) THEN 0 ELSE c.must_pass END, coalesce(s.spec->'events', '[]'), coalesce(o."from", 0)
FROM rowcall.cursors c JOIN rowcall.subscriptions s ON s.id = c.subscription
LEFT JOIN (SELECT lane, min("from") AS "from" FROM rowcall.overflows GROUP BY lane) o ON o.lane = c.lane
WHERE c.owner = $1 AND (NOT c.following OR o."from" < c.must_pass)
ORDER BY c.lane`

// Holdings returns the lanes of this instance that do not follow the head, and
// what waits for each.
func (s *Store) Holdings(ctx context.Context) ([]Holding, error) {
	found, err := s.holdings(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at what lanes hold: %w", err)
	}
	return found, nil
}

func (s *Store) holdings(ctx context.Context) ([]Holding, error) {
	rows, err := s.pool.Query(ctx, holdingsSQL, s.config.Instance)
	if err != nil {
		return nil, err
	}
	var lanes []Backlog
	var patterns [][]string
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Holding, error) {
		var h Holding
		var events []string
		err := row.Scan(&h.Lane, &h.Cursor, &h.MustPass, &events, &h.Overflow)
		lanes, patterns = append(lanes, Backlog{Cursor: h.Cursor}), append(patterns, events)
		return h, err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	if err := s.countLog(ctx); err != nil {
		return nil, err
	}
	s.backlogs.mu.Lock()
	defer s.backlogs.mu.Unlock()
	head, err := s.refreshTally(ctx)
	if err != nil {
		return nil, err
	}
	s.backlogs.tally.measure(lanes, make([]Offset, len(lanes)), subscriptions.NewSet(patterns), head)
	for i := range found {
		found[i].Waiting = lanes[i].Waiting
	}
	return found, nil
}

// LoggedBefore is an offset below which every event has been in the log for age,
// by the store's clock; 0: there is none. Its grain is a second, a minute beyond
// an hour, and an hour beyond two days.
func (s *Store) LoggedBefore(ctx context.Context, age time.Duration) (Offset, error) {
	var past Offset
	err := s.pool.QueryRow(ctx, heldSinceSQL, age).Scan(&past)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("read the log's times: %w", err)
	}
	return past, nil
}

const lastBytesSQL = `
SELECT coalesce(min("offset"), $2) FROM (
  SELECT "offset", sum(octet_length(data)) OVER (ORDER BY "offset" DESC) AS bytes
  FROM rowcall.events WHERE "offset" >= $1 AND "offset" < $2 AND type = ANY($3::text[]) AND kind <> $5) AS newest
WHERE bytes <= $4`

const typesSQL = `SELECT DISTINCT type FROM rowcall.events WHERE "offset" >= $1 AND "offset" < $2`

// LastBytes is the offset from which on no more than bytes of the events that
// patterns match are left in the log, of those from an offset on.
func (s *Store) LastBytes(ctx context.Context, patterns []string, from Offset, bytes int64) (Offset, error) {
	set := subscriptions.NewSet([][]string{patterns})
	past := s.Head()
	for past > from {
		block := max(from, (past-1)/blockSize*blockSize)
		c, err := s.countHeld(ctx, set, block, past)
		if err != nil {
			return 0, fmt.Errorf("find the last %d bytes: %w", bytes, err)
		}
		if c.Bytes > bytes {
			return s.lastBytes(ctx, set, block, past, bytes)
		}
		past, bytes = block, bytes-c.Bytes
	}
	return from, nil
}

// lastBytes is LastBytes within a block.
func (s *Store) lastBytes(ctx context.Context, set *subscriptions.Set, from, past Offset, bytes int64) (Offset, error) {
	types, err := s.matchingTypes(ctx, s.pool, set, from, past)
	if err == nil {
		err = s.pool.QueryRow(ctx, lastBytesSQL, int64(from), int64(past), types, bytes, int16(KindGap)).Scan(&past)
	}
	if err != nil {
		return 0, fmt.Errorf("find the last %d bytes: %w", bytes, err)
	}
	return past, nil
}

// matchingTypes are the types of [from, past) that set matches.
func (s *Store) matchingTypes(ctx context.Context, q querier, set *subscriptions.Set, from, past Offset) ([]string, error) {
	rows, err := q.Query(ctx, typesSQL, int64(from), int64(past))
	if err != nil {
		return nil, err
	}
	types := []string{}
	var name string
	_, err = pgx.ForEachRow(rows, []any{&name}, func() error {
		if len(set.Match(name)) > 0 {
			types = append(types, name)
		}
		return nil
	})
	return types, err
}

// HoldEnd says what a lane gives up of what it holds.
type HoldEnd struct {
	Lane   LaneID
	Epoch  int64
	Past   Offset // events below it
	Drop   bool   // they are dropped; else they become a dead range
	Rows   bool   // deliveries below Past are given up, too; else they stay owed
	Reason string

	Overflows bool // what overflowed keys are owed below Past is dropped, too
}

// HoldEnded is what became of a HoldEnd.
type HoldEnded struct {
	Range      OffsetRange // that the cursor passed
	Events     LogCount    // of them: those the subscription's patterns match
	Deliveries int64       // that were given up
}

const (
	lockHoldSQL = `
SELECT ` + effectiveCursor + `, c.ahead, coalesce(s.spec->'events', '[]'), s.spec->>'filter', h.next,
  coalesce((SELECT min(g.marker) FROM rowcall.gaps g WHERE g.accepted_at IS NULL AND g.marker >= ` + effectiveCursor + `), h.next)
FROM rowcall.cursors c
JOIN rowcall.subscriptions s ON s.id = c.subscription
JOIN rowcall.leases l ON l.instance = c.owner AND l.instance = $1 AND l.epoch = $2
CROSS JOIN rowcall.log_head h
WHERE c.lane = $3 AND c.epoch = $4 FOR UPDATE OF c`
	moveHeldSQL = `
UPDATE rowcall.cursors SET "offset" = $2, ahead = $3::bigint[], following = false, dropped = dropped + $4, overflowed = overflowed - $5 WHERE lane = $1`
	deadRowsSQL = `
UPDATE rowcall.deliveries SET state = 'dead', due_at = NULL, reason = $3, updated_at = now()
WHERE lane = $1 AND "offset" < $2 AND state <> 'dead'`
	overflowsOnSQL = `
UPDATE rowcall.overflows o SET "from" = $2 FROM rowcall.overflows was
WHERE o.lane = $1 AND o."from" < $2 AND was.lane = o.lane AND was.digest = o.digest RETURNING o.key, was."from", was.skip`
	// One pass over the log, however many keys there are.
	countOverflowsSQL = `
SELECT count(DISTINCT e."offset") FROM (
  SELECT "offset", unnest(ARRAY[key, old_key]) AS key FROM rowcall.events WHERE "offset" >= $3 AND "offset" < $4) AS e
JOIN unnest($1::text[], $2::bigint[], $5::bigint[]) AS p (key, "from", past) ON p.key = e.key AND e."offset" >= p."from" AND e."offset" < p.past`
	dropRowsSQL     = `DELETE FROM rowcall.deliveries WHERE lane = $1 AND "offset" < $2 AND state <> 'dead'`
	countSettledSQL = `
SELECT e.type, count(*), coalesce(sum(octet_length(e.data)), 0)::bigint
FROM unnest($1::bigint[], $2::bigint[]) AS r ("from", past)
JOIN rowcall.events e ON e."offset" >= r."from" AND e."offset" < r.past
WHERE e.kind <> $3 GROUP BY 1`
)

// EndHold has a lane give up what it holds: the cursor passes it, and it becomes
// a dead range, or is dropped, in one transaction. It does not pass the marker
// of a gap that nobody has accepted, nor the head.
//
// It is the owner's to call, while nothing of the lane is in flight and all is
// settled: it opens the lane anew from its row. ErrFenced where it owns the lane
// no more. Called again after an error that leaves in doubt whether it stands, it
// finds nothing left to do.
func (s *Store) EndHold(ctx context.Context, h HoldEnd) (ended HoldEnded, err error) {
	lease, ok := s.currentLease()
	if !ok || s.regress.noticed.Load() {
		return ended, fmt.Errorf("end hold of lane %d: %w", h.Lane, ErrFenced)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		ended, err = s.endHold(ctx, tx, lease, h)
		return err
	})
	if err != nil {
		return HoldEnded{}, fmt.Errorf("end hold of lane %d: %w", h.Lane, err)
	}
	return ended, nil
}

func (s *Store) endHold(ctx context.Context, tx pgx.Tx, lease Lease, h HoldEnd) (ended HoldEnded, err error) {
	var cursor, head, gap Offset
	var flat []int64
	var patterns []string
	var filter *string
	err = tx.QueryRow(ctx, lockHoldSQL, lease.Instance, lease.Epoch, int32(h.Lane), h.Epoch).Scan(&cursor, &flat, &patterns, &filter, &head, &gap)
	if errors.Is(err, pgx.ErrNoRows) {
		return ended, ErrFenced
	}
	if err != nil {
		return ended, err
	}
	past := min(h.Past, head, gap)
	if h.Rows {
		sql, args := dropRowsSQL, []any{int32(h.Lane), int64(past)}
		if !h.Drop {
			sql, args = deadRowsSQL, append(args, cleanText(h.Reason))
		}
		tag, err := tx.Exec(ctx, sql, args...)
		if err != nil {
			return ended, err
		}
		ended.Deliveries = tag.RowsAffected()
	}
	settled, ahead := split(pairs(flat), past)
	var owed int64 // to overflowed keys
	if h.Overflows {
		if owed, err = overflowsOn(ctx, tx, h.Lane, past, append([]OffsetRange{{0, min(past, cursor)}}, settled...)); err != nil {
			return ended, err
		}
		ended.Deliveries += owed
	}
	dropped := ended.Deliveries
	if !h.Drop {
		dropped = 0
	}
	if past <= cursor {
		if dropped > 0 {
			_, err = tx.Exec(ctx, moveHeldSQL, int32(h.Lane), int64(cursor), rangesArray(pairs(flat)), dropped, owed)
		}
		return ended, err
	}
	ended.Range = OffsetRange{From: cursor, Past: past}
	set := subscriptions.NewSet([][]string{patterns})
	if ended.Events, err = s.countHeld(ctx, set, cursor, past); err != nil {
		return ended, err
	}
	already, err := countSettled(ctx, tx, set, settled)
	if err != nil {
		return ended, err
	}
	ended.Events = ended.Events.minus(already)
	switch {
	case ended.Events.Events <= 0: // nothing of it was wanted
	case h.Drop:
		dropped += ended.Events.Events
	default:
		if err := s.addDeadRange(ctx, tx, h, ended, settled, patterns, filter); err != nil {
			return ended, err
		}
	}
	if _, err = tx.Exec(ctx, moveHeldSQL, int32(h.Lane), int64(past), rangesArray(ahead), dropped, owed); err != nil {
		return ended, err
	}
	// Overflowed keys are owed what the lane had passed, and nothing of this.
	_, err = tx.Exec(ctx, skipOverflowsSQL, int32(h.Lane), rangesArray(without(ended.Range, settled)))
	return ended, err
}

// overflowsOn has overflowed keys of a lane owed from past on, and counts the
// events that they were owed before: of those that the lane has passed.
func overflowsOn(ctx context.Context, tx pgx.Tx, lane LaneID, past Offset, passed []OffsetRange) (n int64, err error) {
	rows, err := tx.Query(ctx, overflowsOnSQL, int32(lane), int64(past))
	if err != nil {
		return 0, err
	}
	var keys []string
	var froms, pasts, skip []int64
	var key string
	var from Offset
	if _, err = pgx.ForEachRow(rows, []any{&key, &from, &skip}, func() error {
		for _, r := range passed {
			_, above := split([]OffsetRange{r}, from)
			for _, owed := range above {
				for _, of := range without(owed, pairs(skip)) {
					keys, froms, pasts = append(keys, key), append(froms, int64(of.From)), append(pasts, int64(of.Past))
				}
			}
		}
		return nil
	}); err != nil || len(keys) == 0 {
		return 0, err
	}
	err = tx.QueryRow(ctx, countOverflowsSQL, keys, froms, slices.Min(froms), int64(past), pasts).Scan(&n)
	return n, err
}

func countSettled(ctx context.Context, q querier, set *subscriptions.Set, settled []OffsetRange) (sum LogCount, err error) {
	err = eachSettled(ctx, q, settled, func(name string, c LogCount) {
		if len(set.Match(name)) > 0 {
			sum = sum.plus(c)
		}
	})
	return sum, err
}

// eachSettled counts the events of ranges, by type.
func eachSettled(ctx context.Context, q querier, settled []OffsetRange, each func(name string, c LogCount)) error {
	if len(settled) == 0 {
		return nil
	}
	var from, past []int64
	for _, r := range settled {
		from, past = append(from, int64(r.From)), append(past, int64(r.Past))
	}
	rows, err := q.Query(ctx, countSettledSQL, from, past, int16(KindGap))
	if err != nil {
		return err
	}
	var name string
	var c LogCount
	_, err = pgx.ForEachRow(rows, []any{&name, &c.Events, &c.Bytes}, func() error {
		each(name, c)
		return nil
	})
	return err
}

// pairs are ranges as a row has them: from, past, from, past, …
func pairs(flat []int64) []OffsetRange {
	var ranges []OffsetRange
	for i := 0; i+1 < len(flat); i += 2 {
		ranges = append(ranges, OffsetRange{From: Offset(flat[i]), Past: Offset(flat[i+1])})
	}
	return ranges
}

// split parts ranges at an offset.
func split(ranges []OffsetRange, at Offset) (below, above []OffsetRange) {
	for _, r := range ranges {
		if r.From < at {
			below = append(below, OffsetRange{r.From, min(r.Past, at)})
		}
		if r.Past > at {
			above = append(above, OffsetRange{max(r.From, at), r.Past})
		}
	}
	return below, above
}
