package store

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The BRIN indexes of what arrives without end, by which events are found by their
// LSN and attempts by time and by event, know a range of pages once it is summarized;
// until then every look reads it. The server's own way, autosummarize, has a queue of
// 256 ranges that is worked through once a minute: faster than some megabytes a second
// it overflows, with a line in the server's log for every range.

const (
	autoSummarizedSQL = `
SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
WHERE x.indrelid = to_regclass('rowcall.' || $1) AND 'autosummarize=on' = ANY (i.reloptions)`

	// What has been written to since the head was at $1, and a day of attempts that
	// has just ended; open: it is written to.
	recentPartsSQL = `
SELECT p.name, p.past > h.next FROM rowcall.partitions p, rowcall.log_head h WHERE p.past > $1 AND p.first < h.next AND NOT p.detaching
UNION ALL SELECT 'attempts_' || to_char((clock_timestamp() - days * interval '1 day') AT TIME ZONE 'UTC', 'YYYYMMDD'), days = 0 FROM generate_series(0, 1) AS days`
	allPartsSQL = `
SELECT c.relname, coalesce(p.past > h.next, c.relname = 'attempts_' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD'))
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid CROSS JOIN rowcall.log_head h LEFT JOIN rowcall.partitions p ON p.name = c.relname
WHERE i.inhparent IN ('rowcall.events'::regclass, 'rowcall.kept_events'::regclass, 'rowcall.attempts'::regclass) AND NOT i.inhdetachpending
UNION ALL SELECT 'audit', false`

	// VACUUM summarizes too, and would be ended by the server for somebody who waits
	// for its lock as we would: where one is at it, there is nothing to do.
	brinOfSQL = `
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am a ON a.oid = i.relam
WHERE x.indrelid = to_regclass('rowcall.' || $1) AND a.amname = 'brin' AND i.relkind = 'i'
  AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.relation = x.indrelid AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.pid <> pg_backend_pid() AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))`
	summarizeSQL = `SELECT coalesce(sum(brin_summarize_new_values(x.indexrelid)), 0)` + brinOfSQL
	// The range that is written to is left until the next one has begun: each row
	// would write its summary anew, a kilobyte where that has a filter of values. From the
	// one that was left when there were $2 blocks; the answer is how many there are now.
	summarizeOpenSQL = `
WITH brin AS MATERIALIZED (
  SELECT x.indexrelid, pg_relation_size(x.indrelid) / current_setting('block_size')::bigint AS blocks,
    coalesce((SELECT option_value FROM pg_options_to_table(i.reloptions) WHERE option_name = 'pages_per_range'), '128')::bigint AS pages` + brinOfSQL + `
)
SELECT coalesce(max(b.blocks), $2), count(brin_summarize_range(b.indexrelid, r.first))
FROM brin b LEFT JOIN LATERAL generate_series(greatest(0, $2 - pages) / pages * pages, blocks - pages - 1, pages) AS r (first) ON true`
)

// summarized is up to how many blocks an open part has been summarized, by its name.
type summarized map[string]int64

// stopSummarizing has the server not summarize a new partition by itself.
func stopSummarizing(ctx context.Context, tx pgx.Tx, name string) error {
	rows, err := tx.Query(ctx, autoSummarizedSQL, name)
	if err != nil {
		return err
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, index := range indexes {
		if _, err := tx.Exec(ctx, `ALTER INDEX `+pgx.Identifier{"rowcall", index}.Sanitize()+` RESET (autosummarize)`); err != nil {
			return err
		}
	}
	return nil
}

// summarize does so where something was written since the head was at since; with 0,
// everywhere. One instance does it.
func (s *Store) summarize(ctx context.Context, since Offset, done summarized) error {
	if ours, err := s.retains(ctx); err != nil || !ours {
		return err
	}
	sql, args := allPartsSQL, []any(nil)
	if since != 0 {
		sql, args = recentPartsSQL, []any{int64(since)}
	}
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("list partitions to summarize: %w", err)
	}
	open := map[string]bool{}
	var name string
	var written bool
	if _, err := pgx.ForEachRow(rows, []any{&name, &written}, func() error {
		open[name] = written
		return nil
	}); err != nil {
		return fmt.Errorf("list partitions to summarize: %w", err)
	}
	maps.DeleteFunc(done, func(name string, _ int64) bool { return !open[name] })
	for name, written := range open {
		if err := s.summarizePart(ctx, name, written, done); err != nil {
			return fmt.Errorf("summarize %s: %w", name, err)
		}
	}
	return nil
}

func (s *Store) summarizePart(ctx context.Context, name string, open bool, done summarized) error {
	var blocks, ranges int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Shorter than deadlock_timeout, at which the server looks whom to end.
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '500ms'`); err != nil {
			return err
		}
		if !open {
			_, err := tx.Exec(ctx, summarizeSQL, name)
			return err
		}
		return tx.QueryRow(ctx, summarizeOpenSQL, name, done[name]).Scan(&blocks, &ranges)
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "55P03" {
		return nil // whoever has the lock may be at it; else the next round is
	}
	if err == nil && open {
		done[name] = blocks
	}
	return err
}
