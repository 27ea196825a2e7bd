package store

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// AttemptMark is a moment in the history of attempts: what was saved before it,
// on whichever instance, is told from what was saved after it, whenever it began.
type AttemptMark string // a pg_snapshot

// TailFilter selects attempts to follow. What is zero does not filter.
type TailFilter struct {
	Subscription subscriptions.ID
	Labels       Labels
	Outcome      *int16
	Type         string // event pattern
	Key          string // exact
}

// TailedAttempt is an attempt with what its event is. Type and Key are empty where
// the log has dropped it.
type TailedAttempt struct {
	Attempt
	Type, Key string
}

const attemptMarkSQL = `SELECT pg_current_snapshot()::text`

// AttemptMark is now.
func (s *Store) AttemptMark(ctx context.Context) (AttemptMark, error) {
	var mark AttemptMark
	if err := s.pool.QueryRow(ctx, attemptMarkSQL).Scan(&mark); err != nil {
		return "", fmt.Errorf("mark attempts: %w", err)
	}
	return mark, nil
}

const longestTimeoutSQL = `
SELECT DISTINCT spec->'endpoint'->>'timeout' FROM rowcall.subscriptions WHERE deleted_at IS NULL`

// LongestTimeout is the longest that an attempt of any subscription may take.
func (s *Store) LongestTimeout(ctx context.Context) (time.Duration, error) {
	rows, err := s.pool.Query(ctx, longestTimeoutSQL)
	if err != nil {
		return 0, fmt.Errorf("read timeouts: %w", err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[*string])
	if err != nil {
		return 0, fmt.Errorf("read timeouts: %w", err)
	}
	longest := 15 * time.Second // where none is written
	for _, text := range texts {
		if text == nil {
			continue
		}
		if d, err := subscriptions.ParseDuration(*text); err == nil {
			longest = max(longest, d.D())
		}
	}
	return longest, nil
}

// A row of attempts a is fresh where its transaction, xid, is visible at $2 and
// was not at $1. Rows name it by 32 bits: $3, which is at most 2^31 away from it,
// says which of those it is. Most rows are older than whatever was under way at $1:
// that is told for a tenth of the price.
const (
	maybeFresh = `age(a.xmin) <= age(mod(pg_snapshot_xmin($1::pg_snapshot)::text::bigint, 4294967296)::text::xid)`
	attemptXID = `$3::bigint + mod(a.xmin::text::bigint - mod($3::bigint, 4294967296) + 6442450944, 4294967296) - 2147483648`
	freshXID   = `NOT pg_visible_in_snapshot(xid::text::xid8, $1::pg_snapshot) AND pg_visible_in_snapshot(xid::text::xid8, $2::pg_snapshot)`
)

const freshAttemptsSQL = `
WITH fresh AS MATERIALIZED (
  SELECT a.*, ` + attemptXID + ` AS xid
  FROM rowcall.attempts a
  WHERE a.at >= $4 AND ` + maybeFresh + `
    AND ($5 = '' OR a.lane IN (SELECT lane FROM rowcall.cursors WHERE subscription = $5
      UNION SELECT lane FROM rowcall.jobs WHERE subscription = $5 AND lane IS NOT NULL))
    AND ($6::smallint IS NULL OR a.outcome = $6)
), picked AS (
  SELECT f.*, coalesce(c.subscription, j.subscription, '') AS subscription, count(*) OVER () AS among
  FROM fresh f LEFT JOIN rowcall.cursors c ON c.lane = f.lane LEFT JOIN rowcall.jobs j ON j.lane = f.lane
  WHERE ` + freshXID + `
    AND ($7::jsonb = '{}' OR c.subscription IN (` + labelledSQL + `$7))
    AND ($8 = '' AND $9 = '' OR EXISTS (SELECT FROM rowcall.events e WHERE e."offset" = f."offset"
      AND ($8 = '' OR e.type ~ $8) AND ($9 = '' OR e.key = $9 OR e.old_key = $9)))
  ORDER BY f.at DESC, f.lane DESC, f."offset" DESC LIMIT $10
)
SELECT p.at, p.lane, p."offset", p.attempt, p.duration, p.status, p.outcome, coalesce(p.reason, ''), p.detail, p.timings, p.subscription,
  coalesce(e.type, ''), coalesce(e.key, ''), p.among
FROM picked p LEFT JOIN LATERAL (SELECT type, key FROM rowcall.events e WHERE e."offset" = p."offset") e ON true
ORDER BY p.at + p.duration * interval '1 microsecond', p.lane, p."offset"`

// AttemptsSince returns the attempts that were saved since a mark, in the order in
// which they ended, and a mark to go on from. Of more than limit it returns those
// that began last, and how many others there were.
//
// It reads the attempts that began after since: those that were sent before, and
// saved only now, it does not see. Each is returned once, however many instances
// write, and however long one took.
func (s *Store) AttemptsSince(ctx context.Context, mark AttemptMark, since time.Time, f TailFilter, limit int) (found []TailedAttempt, others int64, now AttemptMark, err error) {
	now, err = s.AttemptMark(ctx)
	if err != nil || now == mark {
		return nil, 0, mark, err
	}
	near, err := now.xmax()
	if err != nil {
		return nil, 0, mark, err
	}
	rows, err := s.pool.Query(ctx, freshAttemptsSQL, string(mark), string(now), near, since,
		f.Subscription, f.Outcome, f.Labels.json(), patternRegexp(f.Type), f.Key, limit)
	if err != nil {
		return nil, 0, mark, fmt.Errorf("follow attempts: %w", err)
	}
	found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (TailedAttempt, error) {
		var a TailedAttempt
		var micros int64
		err := row.Scan(&a.At, &a.Lane, &a.Offset, &a.Attempt.Attempt, &micros, &a.Status, &a.Outcome, &a.Reason, &a.Detail, &a.Timings, &a.Subscription,
			&a.Type, &a.Key, &others)
		a.At, a.Duration = a.At.UTC(), time.Duration(micros)*time.Microsecond
		return a, err
	})
	if err != nil {
		return nil, 0, mark, fmt.Errorf("follow attempts: %w", err)
	}
	return found, others - int64(len(found)), now, nil
}

// xmax is the first transaction that had not begun.
func (m AttemptMark) xmax() (int64, error) {
	parts := strings.Split(string(m), ":")
	if len(parts) != 3 {
		return 0, errors.New("follow attempts: the mark is none")
	}
	return strconv.ParseInt(parts[1], 10, 64)
}

// patternRegexp is an event pattern as PostgreSQL's regular expression; empty for
// an empty one.
func patternRegexp(pattern string) string {
	if pattern == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString("^")
	for i, segment := range strings.Split(pattern, ".") {
		if i > 0 {
			b.WriteString(`\.`)
		} else if strings.HasPrefix(segment, "*") {
			b.WriteString(`(?!rowcall\.)`) // notices are named, or not meant
		}
		switch segment {
		case "*":
			b.WriteString(`[^.]+`)
		case "**":
			b.WriteString(`.+`)
		default:
			b.WriteString(regexp.QuoteMeta(segment))
		}
	}
	return b.String() + "$"
}
