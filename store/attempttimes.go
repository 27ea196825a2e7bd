package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// How many attempts a slice of the history holds at first, and at most, as they were
// counted: 50,000 are some 20 ms of reading. Where an index may pass over most of
// them, it holds more.
const (
	firstRows, mostRows             = 2_000, 50_000
	firstPassedRows, mostPassedRows = 10_000, 800_000
)

// attemptTimes is how many attempts ended when, newest first, by the finest steps that
// are kept of a time, and up to when they were counted.
type attemptTimes struct {
	steps   []attemptStep
	counted time.Time
}

type attemptStep struct {
	from, until time.Time
	rows        int64
}

// Where finer steps end, one of the wider may overlap them.
const attemptTimesSQL = `
SELECT at, step, sum(delivered + failed)::bigint FROM rowcall.attempt_counts
WHERE lane = 0 AND (step = 60 OR step = 900 AND at < clock_timestamp() - interval '110 minutes' OR step = 7200 AND at < clock_timestamp() - interval '46 hours')
GROUP BY at, step ORDER BY at DESC, step`

func (s *Store) attemptTimes(ctx context.Context) (t attemptTimes, err error) {
	if err := s.pool.QueryRow(ctx, `SELECT at FROM rowcall.attempts_counted`).Scan(&t.counted); err != nil {
		return t, err
	}
	rows, err := s.pool.Query(ctx, attemptTimesSQL)
	if err != nil {
		return t, err
	}
	t.steps, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (attemptStep, error) {
		var one attemptStep
		var seconds int
		err := row.Scan(&one.from, &seconds, &one.rows)
		one.until = one.from.Add(time.Duration(seconds) * time.Second)
		return one, err
	})
	return t, err
}

// bound is how far back a slice that ends at a time may begin: so many rows, and no
// further than a time into what has not been counted yet, or is not any more.
func (t *attemptTimes) bound(end time.Time, rows int64, beyond time.Duration) time.Time {
	if late := max(beyond, 2*countAttemptsEvery); end.Sub(t.counted) > late {
		return end.Add(-late)
	}
	past, left := end, float64(rows)
	for _, step := range t.steps {
		if !step.from.Before(past) {
			continue
		}
		if step.until.Before(past) {
			past = step.until
		}
		wide := past.Sub(step.from)
		rows := float64(step.rows) * float64(wide) / float64(step.until.Sub(step.from))
		if rows > left {
			return past.Add(-time.Duration(float64(wide) * left / rows)).Truncate(time.Microsecond)
		}
		past, left = step.from, left-rows
	}
	return past.Add(-min(beyond, ChartStep))
}
