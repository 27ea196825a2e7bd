package store

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

const (
	lockRangeSQL = `
SELECT ` + deadRangeColumns + ` FROM rowcall.dead_ranges r JOIN rowcall.cursors c ON c.lane = r.lane WHERE r.id = $1 FOR UPDATE OF r`
	retryRangeSQL = `UPDATE rowcall.dead_ranges SET job = $2 WHERE id = $1`
)

// RetryDeadRange has the events of a dead range delivered: by a replay that takes
// them as the range has them, with the patterns and the filter that it was given up
// under. It sets j, of which CreatedBy says who asked. What is
// delivered, or becomes a dead letter, leaves the range; the rest is the range's
// again where the replay is cancelled or fails. ErrNotFound where it is not there,
// ErrConflict where it is being retried, ErrTooMany as in CreateJob.
func (s *Store) RetryDeadRange(ctx context.Context, id int64, j *Job) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := roomForJob(ctx, tx); err != nil {
			return err
		}
		r, err := lockRange(ctx, tx, lockRangeSQL, id)
		if err != nil {
			return err
		}
		if r.Job != "" {
			return ErrConflict
		}
		j.Subscription, j.Total, j.Bytes = r.Subscription, r.Events.Events, r.Events.Bytes
		j.Replay = ReplaySpec{From: r.Range.From, Past: r.Range.Past, Types: r.Patterns, DeadRange: id}
		if r.Filter != "" {
			j.Replay.Filter = &r.Filter
		}
		if err := s.createReplay(ctx, tx, j, r.Settled); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, retryRangeSQL, id, j.ID); err != nil {
			return err
		}
		return audit(ctx, tx, fmt.Sprint("dead-range/drg_", id), nil, map[string]any{"replay": j.ID})
	})
	if err != nil {
		return fmt.Errorf("retry dead range %d: %w", id, err)
	}
	return nil
}

func lockRange(ctx context.Context, tx pgx.Tx, sql string, of any) (DeadRange, error) {
	rows, err := tx.Query(ctx, sql, of)
	if err != nil {
		return DeadRange{}, err
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanDeadRange)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	return r, err
}

// retriedSQL is what a lane c that retries a dead range has counted, and its rows.
const retriedSQL = `(c.delivered + c.filtered + c.discarded + c.compacted + c.dropped + c.expired + c.given_up
  + (SELECT count(*) FROM rowcall.deliveries d WHERE d.lane = c.lane))`

const (
	ourRetrySQL = `
SELECT c."offset", c.ahead, c.replay, ` + retriedSQL + `
FROM rowcall.cursors c JOIN rowcall.leases l ON l.instance = c.owner AND l.instance = $1 AND l.epoch = $2
WHERE c.lane = $3 AND c.epoch = $4 FOR UPDATE OF c`
	rangeOfJobSQL = `
SELECT ` + deadRangeColumns + ` FROM rowcall.dead_ranges r JOIN rowcall.cursors c ON c.lane = r.lane WHERE r.job = $1 FOR UPDATE OF r`
	endRetriedSQL = `
UPDATE rowcall.deliveries SET state = 'dead', due_at = NULL, reason = coalesce(nullif(reason, ''), 'cancelled'), updated_at = now()
WHERE lane = $1 AND state <> 'dead'`
	returnRangeSQL = `
UPDATE rowcall.dead_ranges SET "from" = $2, settled = $3::bigint[], events = $4, bytes = $5, job = NULL, updated_at = now() WHERE id = $1`
	emptyRangeSQL    = `DELETE FROM rowcall.dead_ranges WHERE id = $1`
	leftOutSQL       = `UPDATE rowcall.cursors SET refiltered = refiltered + $2 WHERE lane = $1`
	countRangeAllSQL = `
SELECT type, count(*), coalesce(sum(octet_length(data)), 0)::bigint FROM (
  SELECT "offset", type, data, kind FROM rowcall.events WHERE "offset" >= greatest($1, (SELECT oldest FROM rowcall.log_head)) AND "offset" < $2
  UNION ALL SELECT "offset", type, data, kind FROM rowcall.kept_events
  WHERE "offset" >= $1 AND "offset" < least($2, (SELECT oldest FROM rowcall.log_head))) e
WHERE kind <> $3 AND NOT EXISTS (SELECT FROM unnest($4::bigint[], $5::bigint[]) AS r ("from", past) WHERE e."offset" >= r."from" AND e."offset" < r.past)
GROUP BY 1`
)

// ReturnDeadRange gives back to a dead range what its retry, which was cancelled or
// has failed, has not come to: what was tried and not delivered is dead letters, as
// what dies otherwise. It is the owner's of the replay's lane to call, while
// nothing of it runs. ErrFenced where it owns the lane no more; called again, it
// finds nothing left to do.
func (s *Store) ReturnDeadRange(ctx context.Context, lane LaneID, epoch int64) error {
	lease, ok := s.currentLease()
	if !ok {
		return fmt.Errorf("return dead range of lane %d: %w", lane, ErrFenced)
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return returnRange(ctx, tx, lease, lane, epoch) })
	if err != nil {
		return fmt.Errorf("return dead range of lane %d: %w", lane, err)
	}
	return nil
}

func returnRange(ctx context.Context, tx pgx.Tx, lease Lease, lane LaneID, epoch int64) error {
	var cursor Offset
	var flat []int64
	var job JobID
	var retried int64
	err := tx.QueryRow(ctx, ourRetrySQL, lease.Instance, lease.Epoch, int32(lane), epoch).Scan(&cursor, &flat, &job, &retried)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrFenced
	}
	if err != nil {
		return err
	}
	r, err := lockRange(ctx, tx, rangeOfJobSQL, job)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, endRetriedSQL, int32(lane)); err != nil {
		return err
	}
	left := LogCount{}
	_, settled := split(pairs(flat), cursor)
	if cursor < r.Range.Past {
		if left, err = countRange(ctx, tx, OffsetRange{cursor, r.Range.Past}, settled, r.Patterns); err != nil {
			return err
		}
	}
	if left.Events == 0 {
		_, err = tx.Exec(ctx, emptyRangeSQL, r.ID)
	} else {
		_, err = tx.Exec(ctx, returnRangeSQL, r.ID, int64(cursor), rangesArray(settled), left.Events, left.Bytes)
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, leftOutSQL, int32(r.Lane), r.Events.Events-retried-left.Events)
	return err
}

// countRange counts the events of a range that patterns match, but for those of
// settled, wherever they are kept.
func countRange(ctx context.Context, q querier, of OffsetRange, settled []OffsetRange, patterns []string) (sum LogCount, err error) {
	var from, past []int64
	for _, r := range settled {
		from, past = append(from, int64(r.From)), append(past, int64(r.Past))
	}
	rows, err := q.Query(ctx, countRangeAllSQL, int64(of.From), int64(of.Past), int16(KindGap), from, past)
	if err != nil {
		return sum, err
	}
	set := subscriptions.NewSet([][]string{patterns})
	var name string
	var c LogCount
	_, err = pgx.ForEachRow(rows, []any{&name, &c.Events, &c.Bytes}, func() error {
		if len(set.Match(name)) > 0 {
			sum = sum.plus(c)
		}
		return nil
	})
	return sum, err
}

const readKeptSQL = `
SELECT ` + eventColumns + ` FROM rowcall.kept_events WHERE "offset" >= $1 AND "offset" < $2 ORDER BY "offset" LIMIT $3`

// ReadRange is Read for the retry of a dead range: of what the log has dropped it
// returns what was kept for dead ranges. It goes on at next, below which there is
// no more; at past nothing is left.
func (s *Store) ReadRange(ctx context.Context, from, past Offset, limit int, maxBytes int64) (events []Event, next Offset, err error) {
	for range 3 {
		if from >= past {
			return nil, past, nil
		}
		if oldest := Offset(s.oldest.Load()); from < oldest {
			p := page{events: make([]Event, 0, min(limit, maxPage)), budget: min(maxBytes, math.MaxInt64)}
			next = min(oldest, past)
			events, err := s.queryPage(ctx, &p, readKeptSQL, int64(from), int64(next), limit)
			if err != nil {
				return nil, from, fmt.Errorf("read kept events: %w", err)
			}
			if p.budget < 0 || len(events) == limit {
				next = events[len(events)-1].Offset + 1
			}
			return events, next, nil
		}
		if events, err = s.Read(ctx, from, limit, maxBytes); err != nil {
			return nil, from, err
		}
		if len(events) == 0 {
			return nil, past, nil // a range ends below the head
		}
		if events[0].Offset == from {
			return events, events[len(events)-1].Offset + 1, nil
		}
		// It was dropped under us: what was kept of it comes first.
	}
	return nil, from, fmt.Errorf("read dead range: the log is dropped faster than it is read, at offset %d", from)
}
