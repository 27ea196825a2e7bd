package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// logLevel is how full the log was when it was last looked at, as a step of
// what is said about it.
type logLevel int

// note says when the log passes 70, 85 and 100 % of what it may weigh, once
// each, and when it is below again. It reports whether it passed one.
func (l *logLevel) note(s *Store, stats LogStats) (risen bool) {
	share := float64(stats.Bytes) / float64(s.config.LogMaxBytes)
	var level logLevel
	for _, step := range []float64{0.7, 0.85, 1} {
		if share >= step {
			level++
		}
	}
	was := *l
	*l = level
	if level == was {
		return false
	}
	event := s.log.Info()
	if level > was {
		event = s.log.Warn()
	}
	event = event.Int64("bytes", stats.Bytes).Int64("max_bytes", s.config.LogMaxBytes).
		Int64("oldest", int64(stats.Oldest)).Int64("head", int64(stats.Head))
	switch level {
	case 0:
		event.Msg("the log has room again")
	case 3:
		event.Msg("the log is at its size limit: appends go on, and the oldest goes: delivered events, then dead ranges, then what the lane furthest behind holds")
	default:
		event.Msg("the log is filling up")
	}
	return level > was
}

// weigh measures the log, says how full it is, and frees room at its bound.
func (s *Store) weigh(ctx context.Context, full *logLevel) error {
	stats, err := s.LogStats(ctx)
	if err != nil {
		return err
	}
	risen := full.note(s, stats)
	ours, err := s.retains(ctx)
	if err != nil || !ours {
		return err
	}
	if risen {
		s.announceFilling(ctx, *full, stats)
	}
	return errors.Join(s.announceLag(ctx), s.bound(ctx))
}

// bound frees room while the log weighs more than it may, oldest first: events
// that every lane has passed, before their retention; then dead ranges; then
// what the lanes hold that are furthest behind, by asking their owners. Appends
// go on meanwhile, and whatever it does is said.
//
// It does not hold while a gap stands in the oldest partition that nobody has
// accepted: lanes cannot pass its marker, so what they would give up below it
// frees nothing.
func (s *Store) bound(ctx context.Context) error {
	for {
		var bytes int64
		if err := s.pool.QueryRow(ctx, logBytesSQL).Scan(&bytes); err != nil {
			return fmt.Errorf("measure log: %w", err)
		}
		if bytes <= s.config.LogMaxBytes {
			s.boundHeld.note(s, "")
			return nil
		}
		if freed, err := s.free(ctx); err != nil || !freed {
			return err
		}
	}
}

// The oldest partition, where it is full; whether every lane has passed it, and
// whether dead ranges hold events of it.
const oldestPartitionSQL = `
SELECT p.first, p.past, p.name, p.detaching,
  p.past <= ALL (` + effectiveCursorsSQL + `),
  EXISTS (SELECT FROM rowcall.dead_ranges r WHERE r."from" < p.past AND r.past > p.first)
FROM (SELECT * FROM rowcall.partitions ORDER BY first LIMIT 1) p, rowcall.log_head h
WHERE p.past <= h.next`

// free frees some room at once, or reports false: there is nothing more to free,
// or lanes were asked to give up what they hold first.
func (s *Store) free(ctx context.Context) (freed bool, err error) {
	var first, past Offset
	var name string
	var detaching, passed, ranges bool
	err = s.pool.QueryRow(ctx, oldestPartitionSQL).Scan(&first, &past, &name, &detaching, &passed, &ranges)
	full := !errors.Is(err, pgx.ErrNoRows)
	if err != nil && full {
		return false, fmt.Errorf("find what to free: %w", err)
	}
	if full && passed && (detaching || !ranges) {
		if err := s.dropPartition(ctx, first, past, name, detaching); err != nil {
			return false, err
		}
		s.log.Warn().Str("partition", name).Int64("oldest", int64(past)).Int64("max_bytes", s.config.LogMaxBytes).
			Msg("the log is at its size limit: delivered events are dropped before their retention")
		return true, nil
	}
	below := Offset(s.oldest.Load()) // what the log has dropped is kept for dead ranges alone
	if full && passed {
		below = past
	}
	if freed, err := s.freeRange(ctx, below); err != nil || freed {
		return freed, err
	}
	if !full || passed {
		return false, nil
	}
	var source string
	var grace bool
	if err := s.pool.QueryRow(ctx, gapBelowSQL, int64(past), int(maxGrace.Seconds())).Scan(&source, &grace); err != nil {
		return false, fmt.Errorf("look for gaps below %d: %w", past, err)
	}
	if s.boundHeld.note(s, source); source != "" || grace {
		return false, nil
	}
	return false, s.askToPass(ctx, past)
}

// maxGrace is how long lanes have at most, after a gap was accepted at which they
// stood, before they give up anything for the log's bound: as long as it was open,
// at least a minute.
const maxGrace = time.Hour

// gapBelowSQL names the source of the first gap that nobody has accepted, if it is
// below an offset, and says whether lanes still have time after one that was.
const gapBelowSQL = `
SELECT coalesce((SELECT s.name FROM rowcall.gaps g JOIN rowcall.sources s ON s.id = g.source
    WHERE g.accepted_at IS NULL AND g.marker < $1 ORDER BY g.marker LIMIT 1), ''),
  EXISTS (SELECT FROM rowcall.gaps g
    WHERE g.accepted_at + greatest(interval '1 minute', least(g.accepted_at - g.at, make_interval(secs => $2))) > now())`

// boundHeld is the source whose gap keeps the log above its bound; empty: none does.
type boundHeld string

// note says so when it begins and when it has ended.
func (h *boundHeld) note(s *Store, source string) {
	if was := *h; string(was) == source {
		return
	}
	*h = boundHeld(source)
	if source == "" {
		s.log.Info().Msg("no gap keeps the log above its size limit any more")
		return
	}
	s.log.Warn().Str("source", source).Int64("max_bytes", s.config.LogMaxBytes).Str("remedy", GapHint(source)).
		Msg("the log is above its size limit and grows: nothing of it can go before a person has accepted the gap at which all deliveries wait")
}

const freeRangeSQL = `
WITH gone AS (
  DELETE FROM rowcall.dead_ranges WHERE id = (
    SELECT id FROM rowcall.dead_ranges WHERE "from" < $1 AND job IS NULL ORDER BY "from", id LIMIT 1)
  RETURNING id, lane, "from", past, events),
counted AS (UPDATE rowcall.cursors c SET dropped = c.dropped + gone.events FROM gone WHERE c.lane = gone.lane RETURNING c.subscription)
SELECT gone.id, counted.subscription, gone."from", gone.past, gone.events FROM gone, counted`

// A range that is being retried goes when its retry has given back what is left.
const failRetriesSQL = `
UPDATE rowcall.jobs SET state = 'failed', reason = 'the log is at its size limit', version = version + 1, ended_at = now(), updated_at = now()
WHERE ended_at IS NULL AND id IN (SELECT job FROM rowcall.dead_ranges WHERE "from" < $1 AND job IS NOT NULL)`

// freeRange drops the oldest dead range of those that begin below an offset. Where
// all of them are being retried, their retries fail.
func (s *Store) freeRange(ctx context.Context, below Offset) (bool, error) {
	var id, events int64
	var subscription string
	var from, past Offset
	err := s.pool.QueryRow(ctx, freeRangeSQL, int64(below)).Scan(&id, &subscription, &from, &past, &events)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, s.failRetries(ctx, below)
	}
	if err != nil {
		return false, fmt.Errorf("drop the oldest dead range: %w", err)
	}
	s.metrics.rangesDropped.Add(float64(events))
	s.log.Warn().Int64("range", id).Str("subscription", subscription).Int64("from", int64(from)).Int64("past", int64(past)).
		Int64("events", events).Int64("max_bytes", s.config.LogMaxBytes).Msg("the log is at its size limit: the oldest dead range is dropped")
	s.droppedRanges[subscription] += events
	return true, s.dropKept(ctx)
}

func (s *Store) failRetries(ctx context.Context, below Offset) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, failRetriesSQL, int64(below))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return s.notify(ctx, tx, TopicJobs)
	})
	if err != nil {
		return fmt.Errorf("end retries of dead ranges: %w", err)
	}
	return nil
}

const askToPassSQL = `
UPDATE rowcall.cursors SET must_pass = $1 WHERE must_pass < $1 AND lane IN (
  SELECT c.lane FROM rowcall.cursors c LEFT JOIN rowcall.leases l ON l.instance = c.owner 
  WHERE NOT ` + retriesRange + ` AND ` + effectiveCursor + ` < $1 OR EXISTS (SELECT FROM rowcall.overflows o WHERE o.lane = c.lane AND o."from" < $1))
RETURNING lane, subscription`

// askToPass asks the owners of the lanes that stand below an offset to give up
// what these hold there: the next look finds the partition passed.
func (s *Store) askToPass(ctx context.Context, past Offset) error {
	rows, err := s.pool.Query(ctx, askToPassSQL, int64(past))
	if err != nil {
		return fmt.Errorf("ask lanes to pass %d: %w", past, err)
	}
	var lane LaneID
	var subscription string
	_, err = pgx.ForEachRow(rows, []any{&lane, &subscription}, func() error {
		s.log.Warn().Str("subscription", subscription).Int64("past", int64(past)).Int64("max_bytes", s.config.LogMaxBytes).
			Msg("the log is at its size limit: the lane furthest behind gives up its oldest events")
		return nil
	})
	if err != nil {
		return fmt.Errorf("ask lanes to pass %d: %w", past, err)
	}
	return nil
}
