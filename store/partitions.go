package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// spans bounds how many offsets a new partition of the log holds. Between the
// bounds, it is what arrives in a 24th of the retention.
type spans struct{ min, max Offset }

// defaultSpans makes partitions small enough that dropping one frees a small
// part of the log, at 1 KiB an event.
func defaultSpans(logMaxBytes int64) spans {
	const least = 10_000
	return spans{least, max(least, Offset(logMaxBytes/32/1024))}
}

// next is the span of the partition after one that holds last offsets, when
// rate events arrive in a second.
func (b spans) next(last Offset, rate float64, retention time.Duration) Offset {
	wanted := Offset(min(rate*retention.Seconds()/24, 1e15))
	if last > 0 {
		// One burst, or one quiet night, does not decide alone.
		wanted = min(max(wanted, last/4), last*8)
	}
	return min(max(wanted, b.min), b.max)
}

const (
	lastPartitionSQL = `
SELECT h.next, h.partitioned_to, coalesce(p.past - p.first, 0), coalesce(p.first, 1),
  coalesce(extract(epoch FROM clock_timestamp() - p.created_at), 0)::float8
FROM rowcall.log_head h LEFT JOIN rowcall.partitions p ON p.past = h.partitioned_to`
	insertPartitionSQL = `INSERT INTO rowcall.partitions (first, past, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	// The head is locked last: attaching takes its time.
	partitionedToSQL = `UPDATE rowcall.log_head SET partitioned_to = $2 WHERE partitioned_to = $1`
)

// addPartition makes the log's next partition where less than need offsets are
// left. The table is attached rather than created in place: that locks out
// neither appends nor readers. Two instances may call it at once: the second
// waits for the first and makes none.
func (s *Store) addPartition(ctx context.Context, need Offset) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var next, to, last, lastFirst Offset
		var age float64
		if err := tx.QueryRow(ctx, lastPartitionSQL).Scan(&next, &to, &last, &lastFirst, &age); err != nil {
			return err
		}
		if to-next >= need {
			return nil
		}
		span := max(s.spans.next(last, float64(max(next-lastFirst, 0))/max(age, 1), s.config.Retention), next+need-to)
		name := fmt.Sprintf("events_%d", to)
		tag, err := tx.Exec(ctx, insertPartitionSQL, int64(to), int64(to+span), name)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if err := attach(ctx, tx, "events", name, fmt.Sprint(int64(to)), fmt.Sprint(int64(to+span))); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, partitionedToSQL, int64(to), int64(to+span))
		return err
	})
	if err != nil {
		return fmt.Errorf("add partition to the log: %w", err)
	}
	return nil
}

// attach makes a table like parent and attaches it for the values from, past,
// which are SQL literals.
func attach(ctx context.Context, tx pgx.Tx, parent, table, from, past string) error {
	parent, name := pgx.Identifier{"rowcall", parent}.Sanitize(), pgx.Identifier{"rowcall", table}.Sanitize()
	for _, sql := range []string{
		`CREATE TABLE ` + name + ` (LIKE ` + parent + ` INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)`,
		`ALTER TABLE ` + parent + ` ATTACH PARTITION ` + name + ` FOR VALUES FROM (` + from + `) TO (` + past + `)`,
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return stopSummarizing(ctx, tx, table)
}

// growLog makes a partition ahead when half of the last one is used.
func (s *Store) growLog(ctx context.Context) error {
	var next, to, last, first Offset
	var age float64
	if err := s.pool.QueryRow(ctx, lastPartitionSQL).Scan(&next, &to, &last, &first, &age); err != nil {
		return fmt.Errorf("look at the log's partitions: %w", err)
	}
	return s.addPartition(ctx, max(last/2, 1))
}

const dayFormat = "20060102"

const attemptPartitionsSQL = `
SELECT c.relname, i.inhrelid IS NOT NULL
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = 'rowcall.attempts'::regclass
WHERE c.relnamespace = 'rowcall'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^attempts_[0-9]{8}$'
ORDER BY c.relname`

// attemptPartitions lists the days' tables and whether they are attached.
func (s *Store) attemptPartitions(ctx context.Context) (map[string]bool, error) {
	rows, err := s.pool.Query(ctx, attemptPartitionsSQL)
	if err != nil {
		return nil, fmt.Errorf("list partitions of attempts: %w", err)
	}
	names := map[string]bool{}
	var name string
	var attached bool
	if _, err := pgx.ForEachRow(rows, []any{&name, &attached}, func() error {
		names[name] = attached
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list partitions of attempts: %w", err)
	}
	return names, nil
}

// growAttempts makes the tables of yesterday, for tries that began before
// midnight, of today and of two days to come, by the store's clock, in UTC.
func (s *Store) growAttempts(ctx context.Context) error {
	now, err := s.now(ctx)
	if err != nil {
		return err
	}
	there, err := s.attemptPartitions(ctx)
	if err != nil {
		return err
	}
	for ahead := -1; ahead <= 2; ahead++ {
		day := now.Truncate(24*time.Hour).AddDate(0, 0, ahead)
		name := "attempts_" + day.Format(dayFormat)
		if _, ok := there[name]; ok {
			continue
		}
		if err := s.addAttemptDay(ctx, day); err != nil {
			return fmt.Errorf("add partition %s: %w", name, err)
		}
	}
	return nil
}

// now is the store's clock.
func (s *Store) now(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return now, fmt.Errorf("read the store's clock: %w", err)
	}
	return now.UTC(), nil
}
