package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// DeadRange is what a lane held for too long: a part of the log that it gave up,
// one row however many events. Its events stay readable while it is there, in
// the log or, once that drops them, beside it.
type DeadRange struct {
	ID           int64
	Lane         LaneID
	Subscription subscriptions.ID
	Range        OffsetRange
	Settled      []OffsetRange // of Range: settled before, or deliveries of their own
	Patterns     []string      // of the subscription, when the range was given up
	Filter       string        // likewise; empty: none
	Events       LogCount      // that the patterns match
	Reason       string
	CreatedAt    time.Time
	UpdatedAt    time.Time // when it last grew
	Job          JobID     // that retries it; empty: none. Events is then what it had when that began
}

// rangeGrows is the part of DeadRetention in which a range takes in what is
// given up next to it: a long outage leaves some thirty rows, not one a check.
const rangeGrows = 30

const (
	growRangeSQL = `
UPDATE rowcall.dead_ranges SET past = $3, settled = settled || $4::bigint[], events = events + $7, bytes = bytes + $8, updated_at = now()
WHERE lane = $1 AND past = $2 AND job IS NULL AND patterns = $5::text[] AND filter IS NOT DISTINCT FROM $6::text AND reason = $9
  AND created_at > now() - $10::interval AND cardinality(settled) < 4096`
	insertRangeSQL = `
INSERT INTO rowcall.dead_ranges (lane, "from", past, settled, patterns, filter, events, bytes, reason)
VALUES ($1, $2, $3, $4::bigint[], $5::text[], $6, $7, $8, $9)`
)

func (s *Store) addDeadRange(ctx context.Context, tx pgx.Tx, h HoldEnd, ended HoldEnded, settled []OffsetRange, patterns []string, filter *string) error {
	args := []any{
		int32(h.Lane), int64(ended.Range.From), int64(ended.Range.Past), rangesArray(settled), textArray(patterns), filter,
		ended.Events.Events, ended.Events.Bytes, cleanText(h.Reason),
	}
	tag, err := tx.Exec(ctx, growRangeSQL, append(args, s.config.DeadRetention/rangeGrows)...)
	if err == nil && tag.RowsAffected() == 0 {
		_, err = tx.Exec(ctx, insertRangeSQL, args...)
	}
	return err
}

// DeadRangeFilter selects dead ranges for a list. What is zero does not filter.
type DeadRangeFilter struct {
	Subscription subscriptions.ID
	Labels       Labels
	Below        int64 // ids below it
}

const deadRangeColumns = `r.id, r.lane, c.subscription, r."from", r.past, r.settled, r.patterns, coalesce(r.filter, ''), r.events, r.bytes,
  r.reason, r.created_at, r.updated_at, coalesce(r.job, '')`

const (
	deadRangesSQL = `
SELECT ` + deadRangeColumns + ` FROM rowcall.dead_ranges r JOIN rowcall.cursors c ON c.lane = r.lane
WHERE ($1 = '' OR c.subscription = $1) AND ($2 = 0 OR r.id < $2)
  AND ($3::jsonb = '{}' OR c.subscription IN (` + labelledSQL + `$3)) ORDER BY r.id DESC LIMIT $4`
	deadRangeSQL = `
SELECT ` + deadRangeColumns + ` FROM rowcall.dead_ranges r JOIN rowcall.cursors c ON c.lane = r.lane WHERE r.id = $1`
)

func scanDeadRange(row pgx.CollectableRow) (DeadRange, error) {
	var r DeadRange
	var settled []int64
	err := row.Scan(&r.ID, &r.Lane, &r.Subscription, &r.Range.From, &r.Range.Past, &settled, &r.Patterns, &r.Filter,
		&r.Events.Events, &r.Events.Bytes, &r.Reason, &r.CreatedAt, &r.UpdatedAt, &r.Job)
	r.Settled, r.CreatedAt, r.UpdatedAt = pairs(settled), r.CreatedAt.UTC(), r.UpdatedAt.UTC()
	return r, err
}

// DeadRanges lists dead ranges, newest first.
func (s *Store) DeadRanges(ctx context.Context, f DeadRangeFilter, limit int) ([]DeadRange, error) {
	rows, err := s.pool.Query(ctx, deadRangesSQL, f.Subscription, f.Below, f.Labels.json(), limit)
	if err != nil {
		return nil, fmt.Errorf("list dead ranges: %w", err)
	}
	ranges, err := pgx.CollectRows(rows, scanDeadRange)
	if err != nil {
		return nil, fmt.Errorf("list dead ranges: %w", err)
	}
	return ranges, nil
}

// DeadRange returns one; ErrNotFound where it is not there.
func (s *Store) DeadRange(ctx context.Context, id int64) (DeadRange, error) {
	rows, err := s.pool.Query(ctx, deadRangeSQL, id)
	if err != nil {
		return DeadRange{}, fmt.Errorf("read dead range %d: %w", id, err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanDeadRange)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return DeadRange{}, fmt.Errorf("read dead range %d: %w", id, err)
	}
	return r, nil
}

const discardRangeSQL = `
WITH gone AS (DELETE FROM rowcall.dead_ranges WHERE id = $1 AND job IS NULL RETURNING lane, events)
UPDATE rowcall.cursors c SET given_up = c.given_up + gone.events FROM gone WHERE c.lane = gone.lane`

// DiscardDeadRange gives a dead range up: its events are counted as discarded.
// ErrNotFound where it is not there, ErrConflict where it is being retried.
func (s *Store) DiscardDeadRange(ctx context.Context, id int64) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, discardRangeSQL, id)
		if err == nil && tag.RowsAffected() == 0 {
			if _, err = lockRange(ctx, tx, lockRangeSQL, id); err == nil {
				err = ErrConflict
			}
		}
		if err != nil {
			return err
		}
		return audit(ctx, tx, fmt.Sprint("dead-range/drg_", id), nil, nil)
	})
	if err != nil {
		return fmt.Errorf("discard dead range %d: %w", id, err)
	}
	return nil
}

// dropRangesSQL removes dead ranges that have reached their retention.
const dropRangesSQL = `
WITH gone AS (
  DELETE FROM rowcall.dead_ranges WHERE job IS NULL AND updated_at < clock_timestamp() - $1::interval RETURNING lane, events),
counts AS (SELECT lane, count(*) AS ranges, sum(events) AS events FROM gone GROUP BY lane),
counted AS (
  UPDATE rowcall.cursors c SET expired = c.expired + n.events FROM counts n WHERE c.lane = n.lane)
SELECT coalesce(sum(ranges), 0)::bigint, coalesce(sum(events), 0)::bigint FROM counts`

func (s *Store) dropDeadRanges(ctx context.Context) error {
	var ranges, events int64
	if err := s.pool.QueryRow(ctx, dropRangesSQL, s.config.DeadRetention).Scan(&ranges, &events); err != nil {
		return fmt.Errorf("drop dead ranges: %w", err)
	}
	if ranges > 0 {
		s.log.Info().Int64("ranges", ranges).Int64("events", events).Msg("dead ranges reached their retention")
	}
	return nil
}

// ------------------------------------------------------------ their events --

// keepStep is how many offsets of a partition, or deliveries of it, are kept in
// one transaction.
const keepStep = 5000

const (
	rangesOfSQL  = `SELECT id, "from", past, settled, patterns FROM rowcall.dead_ranges WHERE "from" < $2 AND past > $1 ORDER BY "from"`
	addKeptSQL   = `INSERT INTO rowcall.kept_partitions (first, past, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	keepEventSQL = `
INSERT INTO rowcall.kept_events (` + eventColumns + `)
SELECT ` + eventColumns + ` FROM rowcall.events e
WHERE e."offset" >= $1 AND e."offset" < $2 AND e.type = ANY($3::text[]) AND e.kind <> $6
  AND NOT EXISTS (SELECT FROM unnest($4::bigint[], $5::bigint[]) AS r ("from", past) WHERE e."offset" >= r."from" AND e."offset" < r.past)
ON CONFLICT DO NOTHING`
)

// keepRanges copies what dead ranges have of a partition of the log, which is
// about to go, in steps, and returns the ranges. It goes through all of them each
// time: what was kept before may have been for other ranges.
func (s *Store) keepRanges(ctx context.Context, first, past Offset) ([]DeadRange, error) {
	rows, err := s.pool.Query(ctx, rangesOfSQL, int64(first), int64(past))
	if err != nil {
		return nil, err
	}
	ranges, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (DeadRange, error) {
		var r DeadRange
		var settled []int64
		err := row.Scan(&r.ID, &r.Range.From, &r.Range.Past, &settled, &r.Patterns)
		r.Settled = pairs(settled)
		return r, err
	})
	if err != nil || len(ranges) == 0 {
		return nil, err
	}
	name := fmt.Sprintf("kept_%d", first)
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, addKeptSQL, int64(first), int64(past), name)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return attach(ctx, tx, "kept_events", name, fmt.Sprint(int64(first)), fmt.Sprint(int64(past)))
	})
	if err != nil {
		return nil, err
	}
	for at := first; at < past; at += keepStep {
		step := OffsetRange{at, min(at+keepStep, past)}
		if err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return s.keepStep(ctx, tx, step, ranges) }); err != nil {
			return nil, err
		}
	}
	return ranges, nil
}

func (s *Store) keepStep(ctx context.Context, tx pgx.Tx, step OffsetRange, ranges []DeadRange) error {
	for _, r := range ranges {
		from, past := max(step.From, r.Range.From), min(step.Past, r.Range.Past)
		if from >= past {
			continue
		}
		types, err := s.matchingTypes(ctx, tx, subscriptions.NewSet([][]string{r.Patterns}), from, past)
		if err != nil {
			return err
		}
		_, settled := split(r.Settled, from)
		settled, _ = split(settled, past)
		var starts, ends []int64
		for _, of := range settled {
			starts, ends = append(starts, int64(of.From)), append(ends, int64(of.Past))
		}
		if _, err := tx.Exec(ctx, keepEventSQL, int64(from), int64(past), types, starts, ends, int16(KindGap)); err != nil {
			return err
		}
	}
	return nil
}

// A partition of kept events whose ranges are gone; one that the log has not
// dropped yet is still being filled.
const emptyKeptSQL = `
SELECT k.first, k.name FROM rowcall.kept_partitions k, rowcall.log_head h
WHERE k.past <= h.oldest AND NOT EXISTS (SELECT FROM rowcall.dead_ranges r WHERE r."from" < k.past AND r.past > k.first)
ORDER BY k.first LIMIT 1`

const keepForDeliveriesSQL = `
UPDATE rowcall.deliveries d SET event = ` + keptColumns + `, data = e.data
FROM rowcall.kept_events e
WHERE e."offset" = d."offset" AND d.event IS NULL AND (d.lane, d."offset") IN (
  SELECT n.lane, n."offset" FROM rowcall.kept_events k JOIN rowcall.deliveries n ON n."offset" = k."offset"
  WHERE n.event IS NULL AND k."offset" < (SELECT oldest FROM rowcall.log_head) LIMIT $1)`

// keepForDeliveries gives deliveries that the retry of a dead range left their
// events: those may go with the range. It does so in steps, each on its own, as
// keepDeliveries does.
func (s *Store) keepForDeliveries(ctx context.Context) error {
	for {
		tag, err := s.pool.Exec(ctx, keepForDeliveriesSQL, keepStep)
		if err != nil {
			return fmt.Errorf("keep events for deliveries of retried dead ranges: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
	}
}

// dropKept drops what was kept for dead ranges that are gone.
func (s *Store) dropKept(ctx context.Context) error {
	for {
		var first Offset
		var name string
		err := s.pool.QueryRow(ctx, emptyKeptSQL).Scan(&first, &name)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find kept events to drop: %w", err)
		}
		if err := s.detachAndDrop(ctx, "kept_events", name); err != nil {
			return fmt.Errorf("drop partition %s: %w", name, err)
		}
		if _, err := s.pool.Exec(ctx, `DELETE FROM rowcall.kept_partitions WHERE first = $1`, int64(first)); err != nil {
			return fmt.Errorf("forget partition %s: %w", name, err)
		}
	}
}
