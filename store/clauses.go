package store

import (
	"strconv"
	"strings"
	"time"
)

// clauses are the conditions of a query and its arguments. A query that names only
// what it is asked for is planned for that: with a parameter that may be empty,
// the server may come to plan for all of them at once, and then no index will do.
type clauses struct {
	sql  []string
	args []any
}

// arg is the parameter that stands for a value.
func (c *clauses) arg(v any) string {
	c.args = append(c.args, v)
	return "$" + strconv.Itoa(len(c.args))
}

// bind is sql with parameters in place of its question marks.
func (c *clauses) bind(sql string, values ...any) string {
	for _, v := range values {
		sql = strings.Replace(sql, "?", c.arg(v), 1)
	}
	return sql
}

// and adds a condition, in which each question mark is a value.
func (c *clauses) and(sql string, values ...any) { c.sql = append(c.sql, c.bind(sql, values...)) }

// where is all the conditions.
func (c *clauses) where() string {
	if len(c.sql) == 0 {
		return "true"
	}
	return strings.Join(c.sql, "\n  AND ")
}

// everyLaneSQL is every lane, of replays too, also of those that have ended: cursors loses
// theirs a minute later.
const everyLaneSQL = `(SELECT lane, subscription, replay IS NOT NULL AS replay FROM rowcall.cursors
  UNION SELECT lane, subscription, true FROM rowcall.jobs WHERE lane IS NOT NULL)`

// ListTime is how long a list looks for what few rows match, before it answers
// with what it has found and where it goes on: it is read by people, who wait.
const ListTime = 100 * time.Millisecond

// stride is how far a walk over many rows goes in one query: so far that a query
// takes half of the time that is left, and the last one is not late by much.
type stride struct {
	ends, begun time.Time
	size        int64
}

func newStride(within time.Duration, size int64) stride {
	now := time.Now()
	return stride{now.Add(within), now, size}
}

// over reports whether the time is up; else size is that of the next query.
func (s *stride) over() bool {
	const least = 5 * time.Millisecond
	now := time.Now()
	took, left := now.Sub(s.begun), s.ends.Sub(now)
	s.begun = now
	if left <= 0 {
		return true
	}
	grow := float64(max(left/2, least)) / float64(max(took, time.Microsecond))
	s.size = max(1, int64(float64(s.size)*min(max(grow, .1), 4)))
	return false
}
