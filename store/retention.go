package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// keepLog makes partitions ahead and drops old ones, until ctx ends.
func (s *Store) keepLog(ctx context.Context) error {
	const often, sometimes, seldom = time.Second, 5 * time.Second, time.Minute
	var weighed, swept time.Time
	var noted Offset // the head when it was summarized last
	ranges := summarized{}
	var full logLevel
	return s.repeat(ctx, "keep the log", often, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errSlow)
		defer cancel()
		if err := errors.Join(s.growLog(ctx), s.countLog(ctx), s.markTime(ctx)); err != nil {
			return err
		}
		if time.Since(weighed) >= sometimes {
			if err := s.weigh(ctx, &full); err != nil {
				return err
			}
			head := s.Head()
			if err := s.summarize(ctx, noted, ranges); err != nil {
				return err
			}
			weighed, noted = time.Now(), head
		}
		if time.Since(swept) < seldom {
			return nil
		}
		if err := s.growAttempts(ctx); err != nil {
			return err
		}
		if err := s.retain(ctx); err != nil {
			return err
		}
		s.announceDropped(ctx)
		swept, noted = time.Now(), 0
		return nil
	})
}

// One instance is enough, and two in each other's way: the first by name of
// those that live does it.
const retainerSQL = `
SELECT coalesce(min(instance) = $1, true) FROM rowcall.leases WHERE expires_at > clock_timestamp()`

func (s *Store) retains(ctx context.Context) (ours bool, err error) {
	if err := s.pool.QueryRow(ctx, retainerSQL, s.config.Instance).Scan(&ours); err != nil {
		return false, fmt.Errorf("see who retains: %w", err)
	}
	return ours, nil
}

// retain removes what is older than it is kept. Killed at any point, it goes on
// from there at the next call.
func (s *Store) retain(ctx context.Context) error {
	if ours, err := s.retains(ctx); err != nil || !ours {
		return err
	}
	return errors.Join(s.dropDeadLetters(ctx), s.dropDeadRanges(ctx), s.dropJobs(ctx), s.retainEvents(ctx), s.keepForDeliveries(ctx), s.dropKept(ctx),
		s.dropRelations(ctx), s.retainAttempts(ctx), s.prunePublished(ctx), s.pruneIdempotency(ctx), s.thinTimes(ctx))
}

const dropDeadSQL = `
WITH gone AS (
  DELETE FROM rowcall.deliveries WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM rowcall.deliveries d
    JOIN rowcall.cursors c ON c.lane = d.lane
    JOIN rowcall.subscriptions s ON s.id = c.subscription
    WHERE d.state = 'dead' AND d.updated_at < clock_timestamp() - $1::interval AND s.spec->>'on_dead' IS DISTINCT FROM 'block'
      AND NOT EXISTS (SELECT FROM rowcall.intents i WHERE i.lane = d.lane AND i."offset" = d."offset")
    LIMIT 10000))
    AND state = 'dead'
  RETURNING lane),
counts AS (SELECT lane, count(*) AS events FROM gone GROUP BY lane),
counted AS (UPDATE rowcall.cursors c SET expired = c.expired + n.events FROM counts n WHERE c.lane = n.lane)
SELECT coalesce(sum(events), 0)::bigint FROM counts`

// dropDeadLetters removes dead letters older than DeadRetention, but for those
// that hold their key until a person decides (on_dead: block).
func (s *Store) dropDeadLetters(ctx context.Context) error {
	for {
		var n int64
		if err := s.pool.QueryRow(ctx, dropDeadSQL, s.config.DeadRetention).Scan(&n); err != nil {
			return fmt.Errorf("drop dead letters: %w", err)
		}
		if n == 0 {
			return nil
		}
		s.log.Info().Int64("count", n).Msg("dead letters reached their retention")
	}
}

// The oldest partition, where it is full, all of it has been here for the
// retention, and every lane has passed it; or one whose removal has begun. What an
// event's own time says does not count: a source's clock may be wrong, and capture
// late.
const expiredPartitionSQL = `
SELECT p.first, p.past, p.name, p.detaching FROM (
  SELECT * FROM rowcall.partitions ORDER BY first LIMIT 1) p, rowcall.log_head h
WHERE p.detaching OR p.past <= h.next
  AND p.past <= (` + heldSinceSQL + `)
  AND p.past <= ALL (` + effectiveCursorsSQL + `)`

// effectiveCursorsSQL is below what every lane has settled. The floor of a
// lane's owner counts for lanes that follow. What overflowed keys are owed is in the
// log alone. What a retried dead range needs is kept for it.
const effectiveCursorsSQL = `
SELECT CASE WHEN c.following THEN greatest(c."offset", coalesce(l.floor, 0)) ELSE c."offset" END
FROM rowcall.cursors c LEFT JOIN rowcall.leases l ON l.instance = c.owner
WHERE NOT ` + retriesRange + `
UNION ALL SELECT "from" FROM rowcall.overflows`

// retriesRange says whether a lane c retries a dead range.
const retriesRange = `EXISTS (SELECT FROM rowcall.dead_ranges r WHERE r.job = c.replay)`

// retainEvents drops partitions of the log, oldest first.
func (s *Store) retainEvents(ctx context.Context) error {
	for {
		var first, past Offset
		var name string
		var detaching bool
		err := s.pool.QueryRow(ctx, expiredPartitionSQL, s.config.Retention).Scan(&first, &past, &name, &detaching)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find partitions to drop: %w", err)
		}
		if err := s.dropPartition(ctx, first, past, name, detaching); err != nil {
			return err
		}
		s.log.Info().Str("partition", name).Int64("oldest", int64(past)).Msg("events reached their retention")
	}
}

// dropPartition drops the oldest partition of the log; detaching: this was begun
// before.
func (s *Store) dropPartition(ctx context.Context, first, past Offset, name string, detaching bool) error {
	if !detaching {
		kept, err := s.keepRanges(ctx, first, past)
		if err != nil {
			return fmt.Errorf("keep events of partition %s for dead ranges: %w", name, err)
		}
		if err := s.keepDeliveries(ctx, first, past); err != nil {
			return fmt.Errorf("keep events of partition %s for deliveries: %w", name, err)
		}
		if err := s.leavePartition(ctx, first, past, kept); err != nil {
			return fmt.Errorf("leave partition %s: %w", name, err)
		}
	}
	if err := s.detachAndDrop(ctx, "events", name); err != nil {
		return fmt.Errorf("drop partition %s: %w", name, err)
	}
	if _, err := s.pool.Exec(ctx, `DELETE FROM rowcall.partitions WHERE first = $1`, int64(first)); err != nil {
		return fmt.Errorf("forget partition %s: %w", name, err)
	}
	return nil
}

const (
	// Past so many deliveries that are without their event yet.
	keepNextSQL = `
SELECT coalesce((SELECT "offset" + 1 FROM rowcall.deliveries WHERE event IS NULL AND "offset" >= $1 AND "offset" < $2
  ORDER BY "offset" OFFSET $3 LIMIT 1), $2)`
	keepSQL = `
UPDATE rowcall.deliveries d SET event = ` + keptColumns + `, data = e.data
FROM rowcall.events e
WHERE e."offset" = d."offset" AND d.event IS NULL
  AND d."offset" >= $1 AND d."offset" < $2 AND e."offset" >= $1 AND e."offset" < $2`
	detachingSQL  = `UPDATE rowcall.partitions SET detaching = true WHERE first = $1`
	dropBlocksSQL = `DELETE FROM rowcall.log_blocks WHERE block < $1::bigint / 16384`
	setOldestSQL  = `UPDATE rowcall.log_head SET oldest = greatest(oldest, $1) RETURNING oldest`
	// A lane that has given up what it held there made a dead range of it, which
	// may have been after those were looked at that were kept ($3, as far as $4).
	settledAllSQL = `
SELECT $2 <= ALL (` + effectiveCursorsSQL + `)
  AND NOT EXISTS (SELECT FROM rowcall.dead_ranges r WHERE r."from" < $2 AND r.past > $1
    AND NOT EXISTS (SELECT FROM unnest($3::bigint[], $4::bigint[]) AS k (id, past) WHERE k.id = r.id AND k.past = r.past))`
)

// keepDeliveries gives the deliveries that remain of a partition their events, in
// steps, each on its own: one statement for all would be ended by its time-out,
// time and again, and hold up who settles them. One that was cut short goes on
// where it was. What comes meanwhile is left to leavePartition.
func (s *Store) keepDeliveries(ctx context.Context, first, past Offset) error {
	for at := first; at < past; {
		var next Offset
		if err := s.pool.QueryRow(ctx, keepNextSQL, int64(at), int64(past), keepStep-1).Scan(&next); err != nil {
			return err
		}
		if _, err := s.pool.Exec(ctx, keepSQL, int64(at), int64(next)); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// leavePartition moves the oldest offset past a partition, and gives the
// deliveries that remain of it their events. kept are the dead ranges whose events
// of it were kept.
//
// A lane made at this moment to start below finds the oldest offset moved when
// it reads, and starts there.
func (s *Store) leavePartition(ctx context.Context, first, past Offset, kept []DeadRange) error {
	if err := s.countLog(ctx); err != nil {
		return err
	}
	var ids, pasts []int64
	for _, r := range kept {
		ids, pasts = append(ids, r.ID), append(pasts, int64(r.Range.Past))
	}
	var oldest Offset
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var counted Offset
		if err := tx.QueryRow(ctx, countingSQL).Scan(&counted, &oldest); err != nil {
			return err
		}
		if counted < past {
			return errors.New("it has not been counted")
		}
		// The row is locked before the lanes are looked at: see CreateReplay.
		if _, err := tx.Exec(ctx, detachingSQL, int64(first)); err != nil {
			return err
		}
		var settled bool
		if err := tx.QueryRow(ctx, settledAllSQL, int64(first), int64(past), ids, pasts).Scan(&settled); err != nil {
			return err
		}
		if !settled {
			return errors.New("a lane, or a dead range, needs it after all")
		}
		if _, err := tx.Exec(ctx, keepSQL, int64(first), int64(past)); err != nil {
			return err
		}
		if err := keepCounts(ctx, tx, int64(past)/blockSize); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, dropBlocksSQL, int64(past)); err != nil {
			return err
		}
		// Last, since it locks out appends.
		return tx.QueryRow(ctx, setOldestSQL, int64(past)).Scan(&oldest)
	})
	if err == nil {
		s.setOldest(oldest)
	}
	return err
}

// retainAttempts drops days of history.
func (s *Store) retainAttempts(ctx context.Context) error {
	now, err := s.now(ctx)
	if err != nil {
		return err
	}
	there, err := s.attemptPartitions(ctx)
	if err != nil {
		return err
	}
	for name, attached := range there {
		day, err := time.Parse(dayFormat, strings.TrimPrefix(name, "attempts_"))
		if err != nil {
			continue // not of our making
		}
		// A detached table is one whose removal was cut short.
		if attached && day.AddDate(0, 0, 1).After(now.Add(-s.config.AttemptsRetention)) {
			continue
		}
		if err := s.detachAndDrop(ctx, "attempts", name); err != nil {
			return fmt.Errorf("drop partition %s: %w", name, err)
		}
	}
	return nil
}

const attachedSQL = `
SELECT i.inhdetachpending FROM pg_inherits i
WHERE i.inhparent = to_regclass('rowcall.' || $1) AND i.inhrelid = to_regclass('rowcall.' || $2)`

// detachAndDrop removes a partition without stopping anybody for long: a plain
// DROP waits for readers, and makes appends wait behind it.
func (s *Store) detachAndDrop(ctx context.Context, parent, name string) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	// DETACH … CONCURRENTLY is not allowed in a transaction that could set them
	// for itself.
	if _, err := conn.Exec(ctx, `SET lock_timeout = '5s'; SET statement_timeout = '25s'`); err != nil {
		return err
	}
	defer func() { _, _ = conn.Exec(ctx, `RESET lock_timeout; RESET statement_timeout`) }()

	table := pgx.Identifier{"rowcall", name}.Sanitize()
	var pending bool
	err = conn.QueryRow(ctx, attachedSQL, parent, name).Scan(&pending)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // detached before
	case err != nil:
		return err
	default:
		// One that was cut short can only be finalized.
		how := "CONCURRENTLY"
		if pending {
			how = "FINALIZE"
		}
		if _, err := conn.Exec(ctx, `ALTER TABLE `+pgx.Identifier{"rowcall", parent}.Sanitize()+` DETACH PARTITION `+table+` `+how); err != nil {
			return fmt.Errorf("detach: %w", err)
		}
	}
	if _, err := conn.Exec(ctx, `DROP TABLE IF EXISTS `+table); err != nil {
		return fmt.Errorf("drop: %w", err)
	}
	return nil
}
