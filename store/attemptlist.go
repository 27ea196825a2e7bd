package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// AttemptFilter selects attempts for a list. What is zero does not filter.
type AttemptFilter struct {
	Subscription subscriptions.ID
	Labels       Labels
	Lane         LaneID // of one lane; 0: of all
	Offset       Offset // of one event; 0: of all
	Outcome      *int16
	Past         AttemptPlace // only what is before it in a list

	lanes []int32 // all that Subscription and Labels select, if they are few
}

// AttemptPlace is a place in lists of attempts, which begin with the newest. The
// zero one is the end.
type AttemptPlace struct {
	At     time.Time
	Lane   LaneID // at the same time, those below (Lane, Offset) are behind it
	Offset Offset
}

// fewLanes is up to how many lanes are looked for by the index that knows which lanes a
// range has: it is read once for each.
const fewLanes = 8

// selectLanes finds the lanes that f selects; some: there may be attempts of them.
func (s *Store) selectLanes(ctx context.Context, f *AttemptFilter) (some bool, err error) {
	c := &clauses{}
	if f.Subscription != "" {
		c.and("subscription = ?", f.Subscription)
	}
	if len(f.Labels) > 0 {
		c.and("subscription IN ("+labelledSQL+"?)", f.Labels.json())
	}
	if len(c.sql) == 0 {
		return true, nil
	}
	rows, err := s.pool.Query(ctx, `SELECT DISTINCT lane FROM `+everyLaneSQL+` l WHERE `+c.where()+` LIMIT `+c.arg(fewLanes+1), c.args...)
	if err != nil {
		return false, err
	}
	f.lanes, err = pgx.CollectRows(rows, pgx.RowTo[int32])
	some = len(f.lanes) > 0
	if len(f.lanes) > fewLanes {
		f.lanes = nil
	}
	return some, err
}

// rare reports whether an index knows of most ranges that they have nothing f selects.
func (f *AttemptFilter) rare() bool { return len(f.lanes) > 0 || f.Outcome != nil && *f.Outcome > 1 }

// clauses are the conditions on an attempt a that began within a time.
func (f *AttemptFilter) clauses(from, until time.Time) *clauses {
	c := &clauses{}
	c.and("a.at >= ? AND a.at < ?", from, until)
	if past := f.Past; !past.At.IsZero() {
		c.and(`(a.at, a.lane, a."offset") < (?, ?, ?)`, past.At, int32(past.Lane), int64(past.Offset))
	}
	if len(f.lanes) > 0 {
		c.and("a.lane = ANY(?)", f.lanes)
	}
	if len(f.lanes) == 0 && f.Subscription != "" {
		c.and("a.lane IN (SELECT lane FROM "+everyLaneSQL+" l WHERE subscription = ?)", f.Subscription)
	}
	if len(f.lanes) == 0 && len(f.Labels) > 0 {
		c.and("a.lane IN (SELECT lane FROM "+everyLaneSQL+" l WHERE subscription IN ("+labelledSQL+"?))", f.Labels.json())
	}
	if f.Offset != 0 {
		c.and(`a."offset" = ?`, int64(f.Offset))
	}
	if f.Lane != 0 {
		c.and("a.lane = ?", int32(f.Lane))
	}
	if f.Outcome != nil {
		c.and("a.outcome = ?", *f.Outcome)
	}
	return c
}

// Attempts lists attempts, newest first: at most limit, that it found within about a
// time. It goes on from next; a page may be short, or empty, and not be the last:
// next alone is zero there. Those of a deleted subscription are listed while no
// subscription is asked for.
//
// It goes back in time by slices. The newest page of a busy history reads a second of
// it, by the BRIN index on time, and not a day. Behind that, what was counted says how
// far a slice may go: over a quiet time at once, into a busy one a little. Of few lanes,
// and of rare outcomes, an index knows the parts of it that have none. One event's
// attempts are found by the other index.
func (s *Store) Attempts(ctx context.Context, f AttemptFilter, limit int, within time.Duration) (found []Attempt, next AttemptPlace, err error) {
	oldest, err := s.oldestAttempt(ctx)
	if err != nil || oldest.IsZero() {
		return nil, next, err
	}
	if some, err := s.selectLanes(ctx, &f); err != nil || !some {
		if err != nil {
			err = fmt.Errorf("list attempts: %w", err)
		}
		return nil, next, err
	}
	// An attempt's time is of the clock of the machine that made it, which may be
	// ahead of ours: the first slice has no end.
	from := time.Now()
	until := from.AddDate(1000, 0, 0)
	if past := f.Past.At; !past.IsZero() {
		until = past.Add(time.Microsecond)
		if past.Before(from) {
			from = past
		}
	}
	var known *attemptTimes
	first, most := int64(firstRows), int64(mostRows)
	if f.rare() {
		first, most = firstPassedRows, mostPassedRows
	}
	newest := f.Past.At.IsZero() && !f.rare()
	for walk := newStride(within, first); until.After(oldest); newest = false {
		switch {
		case f.Offset != 0:
			from = oldest
		case newest:
			from = from.Add(-time.Second).Truncate(time.Microsecond)
		default:
			if known == nil {
				times, err := s.attemptTimes(ctx)
				if err != nil {
					return nil, next, fmt.Errorf("list attempts: %w", err)
				}
				known = &times
			}
			walk.size = min(max(walk.size, first), int64(ChartStep.Seconds())*first)
			from = known.bound(from, min(walk.size, most), time.Duration(walk.size/first)*time.Second)
		}
		if from.Before(oldest) {
			from = oldest
		}
		slice, err := s.attemptSlice(ctx, &f, from, until, limit+1-len(found))
		if err != nil {
			return nil, next, fmt.Errorf("list attempts: %w", err)
		}
		if found = append(found, slice...); len(found) > limit {
			last := found[limit-1]
			return found[:limit], AttemptPlace{last.At, last.Lane, last.Offset}, nil
		}
		if until = from; walk.over() && until.After(oldest) {
			return found, AttemptPlace{At: until}, nil
		}
	}
	return found, next, nil
}

func attemptsSQL(f *AttemptFilter, from, until time.Time, limit int) (sql string, args []any) {
	c := f.clauses(from, until)
	const order = ` ORDER BY a.at DESC, a.lane DESC, a."offset" DESC`
	sql = `
SELECT a.at, a.lane, a."offset", a.attempt, a.duration, a.status, a.outcome, coalesce(a.reason, ''), a.detail, a.timings,
  coalesce(c.subscription, j.subscription, '')
FROM (SELECT * FROM rowcall.attempts a WHERE ` + c.where() + order + ` LIMIT ` + c.arg(limit) + `) a
LEFT JOIN rowcall.cursors c ON c.lane = a.lane LEFT JOIN rowcall.jobs j ON j.lane = a.lane` + order
	return sql, c.args
}

func (s *Store) attemptSlice(ctx context.Context, f *AttemptFilter, from, until time.Time, limit int) ([]Attempt, error) {
	sql, args := attemptsSQL(f, from, until, limit)
	if f.rare() { // planned for these lanes
		args = append([]any{pgx.QueryExecModeDescribeExec}, args...)
	}
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Attempt, error) {
		var a Attempt
		var micros int64
		err := row.Scan(&a.At, &a.Lane, &a.Offset, &a.Attempt, &micros, &a.Status, &a.Outcome, &a.Reason, &a.Detail, &a.Timings, &a.Subscription)
		a.At, a.Duration = a.At.UTC(), time.Duration(micros)*time.Microsecond
		return a, err
	})
}

const oldestAttemptSQL = `
SELECT coalesce(min(c.relname), '') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'rowcall.attempts'::regclass AND c.relname ~ '^attempts_[0-9]{8}$'`

// oldestAttempt is when the oldest partition begins; zero where there is none.
func (s *Store) oldestAttempt(ctx context.Context) (time.Time, error) {
	var name string
	if err := s.pool.QueryRow(ctx, oldestAttemptSQL).Scan(&name); err != nil || name == "" {
		return time.Time{}, err
	}
	return time.Parse("attempts_"+dayFormat, name)
}
