package store

import (
	"context"
	"fmt"
)

const (
	markTimeSQL = `
INSERT INTO rowcall.log_times (at, next)
SELECT clock_timestamp(), h.next FROM rowcall.log_head h
WHERE h.next > coalesce((SELECT t.next FROM rowcall.log_times t ORDER BY t.at DESC LIMIT 1), 1)
ON CONFLICT DO NOTHING`

	// The last mark of every minute stays, and of every hour beyond two days.
	thinTimesSQL = `
DELETE FROM rowcall.log_times WHERE at IN (
  SELECT at FROM (
    SELECT at, row_number() OVER (PARTITION BY date_trunc(CASE WHEN at < clock_timestamp() - interval '2 days' THEN 'hour' ELSE 'minute' END, at) ORDER BY at DESC) AS n
    FROM rowcall.log_times WHERE at < clock_timestamp() - interval '1 hour') marks
  WHERE n > 1)`
	// One mark at or below the oldest offset stays.
	forgetTimesSQL = `
DELETE FROM rowcall.log_times WHERE at < (
  SELECT t.at FROM rowcall.log_times t, rowcall.log_head h WHERE t.next <= h.oldest ORDER BY t.at DESC LIMIT 1)`

	heldSinceSQL = `SELECT next FROM rowcall.log_times WHERE at <= clock_timestamp() - $1::interval ORDER BY at DESC LIMIT 1`
)

// markTime notes how far the log has come, at most once a second (its caller's
// period), where it has moved.
func (s *Store) markTime(ctx context.Context) error {
	head := s.Head()
	if int64(head) == s.marked.Load() {
		return nil
	}
	if _, err := s.pool.Exec(ctx, markTimeSQL); err != nil {
		return fmt.Errorf("mark the log's time: %w", err)
	}
	s.marked.Store(int64(head))
	return nil
}

// thinTimes removes marks that nobody needs so exactly any more.
func (s *Store) thinTimes(ctx context.Context) error {
	for _, sql := range []string{thinTimesSQL, forgetTimesSQL} {
		if _, err := s.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("thin out the log's times: %w", err)
		}
	}
	return nil
}
