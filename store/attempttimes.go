package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// sliceRows is how many attempts a slice of the history may hold, as they were
// counted: some 20 ms of reading. Where most of it is passed over, it may hold
// passedRows.
const (
	sliceRows  = 50_000
	passedRows = 16 * sliceRows
)

// attemptTimes is how many attempts ended when, newest first, by the finest steps that
// are kept of a time.
type attemptTimes []attemptStep

type attemptStep struct {
	from, until time.Time
	rows        int64
}

// Where finer steps end, one of the wider may overlap them.
const attemptTimesSQL = `
SELECT at, step, sum(delivered + failed)::bigint FROM rowcall.attempt_counts
WHERE lane = 0 AND (step = 60 OR step = 900 AND at < clock_timestamp() - interval '110 minutes' OR step = 7200 AND at < clock_timestamp() - interval '46 hours')
GROUP BY at, step ORDER BY at DESC, step`

func (s *Store) attemptTimes(ctx context.Context) (attemptTimes, error) {
	rows, err := s.pool.Query(ctx, attemptTimesSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (attemptStep, error) {
		var one attemptStep
		var seconds int
		err := row.Scan(&one.from, &seconds, &one.rows)
		one.until = one.from.Add(time.Duration(seconds) * time.Second)
		return one, err
	})
}

// bound is how far back a slice that ends at a time may begin: so many rows, and no
// further than a ChartStep into what is not counted any more.
func (t attemptTimes) bound(end time.Time, most float64) time.Time {
	past, left := end, most
	for _, step := range t {
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
	return past.Add(-ChartStep)
}
