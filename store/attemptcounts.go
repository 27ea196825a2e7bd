package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// Steps of attempt counts, and how long those of one are kept.
const (
	MinuteStep  = time.Minute      // for 2 hours
	QuarterStep = 15 * time.Minute // for 2 days
	ChartStep   = 2 * time.Hour    // for 8 days
)

const (
	// countAttemptsEvery is how far counts are behind the history at most, and
	// countAttemptsAsked how far they may be when somebody asks for them.
	countAttemptsEvery = 15 * time.Second
	countAttemptsAsked = 2 * time.Second
	// countSlack is how long after its end an attempt may be saved and still count:
	// longer, if the store was away.
	countSlack = time.Minute
)

// tookBounds are the bounds of durations, in µs, by which attempts are counted:
// from 1 ms on, two for every doubling, up to two minutes.
func tookBounds() []int64 {
	var bounds []int64
	for i := 0; ; i++ {
		bound := int64(1000 * math.Pow(2, float64(i)/2))
		if bound > 130_000_000 {
			return bounds
		}
		bounds = append(bounds, bound)
	}
}

const (
	lockAttemptsSQL = `SELECT mark, at FROM rowcall.attempts_counted FOR UPDATE SKIP LOCKED`
	// In a statement of its own, for its snapshot must not be older than the lock.
	countNowSQL      = `SELECT pg_current_snapshot()::text, clock_timestamp()`
	countAttemptsSQL = `
INSERT INTO rowcall.attempt_counts (step, lane, at, took, delivered, failed)
SELECT s.step, l.lane, to_timestamp(floor(extract(epoch FROM m.at) / s.step) * s.step), m.took, sum(m.delivered), sum(m.failed)
FROM (
  SELECT lane, date_trunc('minute', at + duration * interval '1 microsecond') AS at, width_bucket(duration::bigint, $5::bigint[]) AS took,
    count(*) FILTER (WHERE outcome = 0) AS delivered, count(*) FILTER (WHERE outcome <> 0) AS failed
  FROM (SELECT a.*, ` + attemptXID + ` AS xid FROM rowcall.attempts a WHERE a.at >= $4 AND ` + maybeFresh + `) fresh
  WHERE ` + freshXID + `
  GROUP BY 1, 2, 3) m
CROSS JOIN (VALUES (60), (900), (7200)) AS s (step)
CROSS JOIN LATERAL (VALUES (m.lane), (0)) AS l (lane)
GROUP BY 1, 2, 3, 4
ON CONFLICT (step, lane, at, took) DO UPDATE
SET delivered = attempt_counts.delivered + excluded.delivered, failed = attempt_counts.failed + excluded.failed`
	moveCountedSQL  = `UPDATE rowcall.attempts_counted SET mark = $1, at = $2`
	forgetCountsSQL = `
DELETE FROM rowcall.attempt_counts WHERE at < clock_timestamp() - CASE step WHEN 60 THEN interval '2 hours' WHEN 900 THEN interval '2 days' ELSE interval '8 days' END`
)

// countAttemptsOften counts until ctx ends.
func (s *Store) countAttemptsOften(ctx context.Context) error {
	return s.repeat(ctx, "count attempts", countAttemptsAsked, func(ctx context.Context) error {
		late := time.NewTimer(countAttemptsEvery - countAttemptsAsked)
		defer late.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
		case <-s.wanted:
		}
		ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errSlow)
		defer cancel()
		return s.countAttempts(ctx)
	})
}

// countAttempts counts what was saved since the last time, unless another instance
// is at it. What was counted moves with the counts: a crash leaves nothing to repair.
func (s *Store) countAttempts(ctx context.Context) error {
	longest, err := s.LongestTimeout(ctx)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var was, now AttemptMark
		var counted, at time.Time
		err := tx.QueryRow(ctx, lockAttemptsSQL).Scan(&was, &counted)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil {
			err = tx.QueryRow(ctx, countNowSQL).Scan(&now, &at)
		}
		if err != nil {
			return err
		}
		near, err := now.xmax()
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, countAttemptsSQL, string(was), string(now), near, counted.Add(-longest-countSlack), tookBounds()); err != nil {
			return err
		}
		if counted.Truncate(10*time.Minute) != at.Truncate(10*time.Minute) {
			if _, err := tx.Exec(ctx, forgetCountsSQL); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, moveCountedSQL, string(now), at)
		return err
	})
	if err != nil {
		return fmt.Errorf("count attempts: %w", err)
	}
	return nil
}

// wantCounts has the counts brought up to date soon: whoever asks again sees more.
func (s *Store) wantCounts() {
	select {
	case s.wanted <- struct{}{}:
	default:
	}
}

// AttemptCount is how the tries went that ended in a step of time.
type AttemptCount struct {
	At                time.Time // when the step begins
	Delivered, Failed int64
	took              []int64 // tries by tookBounds
}

// Took is the time, not more than which a share of the tries took; exact to a
// fifth of it. 0 where there were none.
func (c *AttemptCount) Took(share float64) time.Duration {
	var all int64
	for _, n := range c.took {
		all += n
	}
	if all == 0 {
		return 0
	}
	bounds := tookBounds()
	rank, below := share*float64(all), int64(0)
	for i, n := range c.took {
		if n == 0 || float64(below+n) < rank {
			below += n
			continue
		}
		low, high := int64(0), bounds[len(bounds)-1]
		if i > 0 {
			low = bounds[i-1]
		}
		if i < len(bounds) {
			high = bounds[i]
		}
		within := (rank - float64(below)) / float64(n)
		return time.Duration(float64(low)+within*float64(high-low)) * time.Microsecond
	}
	return time.Duration(bounds[len(bounds)-1]) * time.Microsecond
}

const attemptCountsSQL = `
SELECT at, took, sum(delivered)::bigint, sum(failed)::bigint FROM rowcall.attempt_counts
WHERE step = $1 AND at >= $2 AND CASE WHEN $3 = '' AND $4::jsonb = '{}' THEN lane = 0
  ELSE lane = ANY (ARRAY(SELECT c.lane FROM ` + everyLaneSQL + ` c WHERE ($3 = '' OR c.subscription = $3)
    AND ($4 = '{}' OR c.subscription IN (` + labelledSQL + `$4)))) END
GROUP BY at, took ORDER BY at`

// AttemptCounts returns the steps since a time in which there were tries, oldest
// first: of one subscription and its replays, of those with labels, or of all. They
// are some seconds behind the history, and no more than that while they are asked for.
func (s *Store) AttemptCounts(ctx context.Context, of subscriptions.ID, labels Labels, step time.Duration, since time.Time) ([]AttemptCount, error) {
	s.wantCounts()
	rows, err := s.pool.Query(ctx, attemptCountsSQL, int(step/time.Second), since, of, labels.json())
	if err != nil {
		return nil, fmt.Errorf("read attempt counts: %w", err)
	}
	var found []AttemptCount
	var at time.Time
	var took int
	var delivered, failed int64
	bounds := len(tookBounds())
	_, err = pgx.ForEachRow(rows, []any{&at, &took, &delivered, &failed}, func() error {
		if n := len(found); n == 0 || !found[n-1].At.Equal(at) {
			found = append(found, AttemptCount{At: at.UTC(), took: make([]int64, bounds+1)})
		}
		c := &found[len(found)-1]
		c.Delivered += delivered
		c.Failed += failed
		c.took[min(max(took, 0), bounds)] += delivered + failed
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read attempt counts: %w", err)
	}
	return found, nil
}

// Tries are how those of a subscription went that ended in a step of time.
type Tries struct {
	At                time.Time // when the step begins
	Delivered, Failed int64
	Own               int64 // of Delivered, those that no replay asked for
}

// Lane by lane, by the primary key: joined, the counts of every subscription would be
// read for those of one page.
const recentTriesSQL = `
WITH of AS MATERIALIZED (SELECT c.subscription, c.lane, c.replay FROM ` + everyLaneSQL + ` c WHERE c.subscription = ANY($1))
SELECT of.subscription, a.at, sum(a.delivered)::bigint, sum(a.failed)::bigint, coalesce(sum(a.delivered) FILTER (WHERE NOT of.replay), 0)::bigint
FROM of CROSS JOIN LATERAL (SELECT at, sum(delivered) AS delivered, sum(failed) AS failed FROM rowcall.attempt_counts
  WHERE step = $2 AND lane = of.lane AND at >= $3 GROUP BY at) a
GROUP BY of.subscription, a.at ORDER BY of.subscription, a.at`

// RecentTries returns the steps since a time in which there were tries, oldest
// first, of each of some subscriptions: AttemptCounts of many, in one query, without
// how long they took.
func (s *Store) RecentTries(ctx context.Context, of []subscriptions.ID, step time.Duration, since time.Time) (map[subscriptions.ID][]Tries, error) {
	s.wantCounts()
	rows, err := s.pool.Query(ctx, recentTriesSQL, of, int(step/time.Second), since)
	if err != nil {
		return nil, fmt.Errorf("read recent tries: %w", err)
	}
	found := make(map[subscriptions.ID][]Tries, len(of))
	var id subscriptions.ID
	var t Tries
	if _, err := pgx.ForEachRow(rows, []any{&id, &t.At, &t.Delivered, &t.Failed, &t.Own}, func() error {
		t.At = t.At.UTC()
		found[id] = append(found[id], t)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read recent tries: %w", err)
	}
	return found, nil
}

const headsAtSQL = `
SELECT coalesce((SELECT next FROM rowcall.log_times m WHERE m.at <= t.at ORDER BY m.at DESC LIMIT 1),
  CASE WHEN (SELECT oldest FROM rowcall.log_head) = 1 THEN 1 ELSE 0 END)
FROM unnest($1::timestamptz[]) WITH ORDINALITY AS t (at, n) ORDER BY t.n`

// HeadsAt returns how far the log had come at times, 0 where that is not known any
// more: to the second within the last hour, to the minute within two days.
func (s *Store) HeadsAt(ctx context.Context, at []time.Time) ([]Offset, error) {
	rows, err := s.pool.Query(ctx, headsAtSQL, slices.Clone(at))
	if err != nil {
		return nil, fmt.Errorf("read the log's times: %w", err)
	}
	heads, err := pgx.CollectRows(rows, pgx.RowTo[Offset])
	if err != nil {
		return nil, fmt.Errorf("read the log's times: %w", err)
	}
	return heads, nil
}

// SumAttempts is one count of several.
func SumAttempts(counts []AttemptCount) AttemptCount {
	sum := AttemptCount{took: make([]int64, len(tookBounds())+1)}
	for i := range counts {
		sum.Delivered += counts[i].Delivered
		sum.Failed += counts[i].Failed
		for j, n := range counts[i].took {
			sum.took[j] += n
		}
	}
	return sum
}
