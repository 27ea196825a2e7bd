package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// ReplayJob delivers a range of the log to its subscription again, by a lane of
// its own.
const ReplayJob JobKind = "replay"

// ReplaySpec says what a replay delivers, and how fast.
type ReplaySpec struct {
	From      Offset   `json:"from"`                 // the first
	Past      Offset   `json:"past"`                 // the first that it does not reach
	Types     []string `json:"types,omitempty"`      // patterns; empty: what the subscription wants
	Filter    *string  `json:"filter,omitempty"`     // CEL, beside the subscription's own; nil: none
	PerSecond float64  `json:"per_second,omitempty"` // requests; 0: as fast as the subscription lets it
	DeadRange int64    `json:"dead_range,omitempty"` // that it retries: then Types and Filter are the range's, and all there is; 0: none
}

// Matches reports which types of events a replay to a subscription is about.
func (r *ReplaySpec) Matches(events []string) func(kind string) bool {
	var sets []*subscriptions.Set
	if r.DeadRange == 0 {
		sets = append(sets, subscriptions.NewSet([][]string{events}))
	}
	if len(r.Types) > 0 {
		sets = append(sets, subscriptions.NewSet([][]string{r.Types}))
	}
	return func(kind string) bool {
		for _, set := range sets {
			if len(set.Match(kind)) == 0 {
				return false
			}
		}
		return true
	}
}

// Replay is what a lane of a replay knows of it.
type Replay struct {
	Job   JobID
	State JobState
	ReplaySpec
	Progress
}

// Progress is what became of a replay's events.
type Progress struct {
	Delivered int64
	Dead      int64 // dead letters
	Over      bool  // all of them ended
}

const (
	liveLaneSQL     = `SELECT owner, owner_epoch FROM rowcall.cursors WHERE subscription = $1 AND replay IS NULL FOR SHARE`
	insertReplaySQL = `
INSERT INTO rowcall.jobs (id, kind, subscription, spec, total, at_least, bytes, created_by)
VALUES ($1, 'replay', $2, $3, $4, false, $5, $6) RETURNING n, state, version, created_at, updated_at`
	// It waits for who is about to drop the partition that the replay begins in, or
	// has them wait, and see its lane.
	lockPartitionSQL = `SELECT FROM rowcall.partitions WHERE first <= $1 AND past > $1 FOR SHARE`
	// What is kept for the dead range of a retry ($6) is read where the log has dropped it.
	insertReplayLaneSQL = `
INSERT INTO rowcall.cursors (subscription, "offset", owner, owner_epoch, replay, ahead)
SELECT $1, $2, $3, $4, $5, $7::bigint[] FROM rowcall.log_head WHERE $6 OR oldest <= $2 RETURNING lane`
	setReplayLaneSQL = `UPDATE rowcall.jobs SET lane = $2 WHERE id = $1`
)

// CreateReplay makes a replay of subscription, spec, total, bytes and who asked,
// and sets the rest of j. Its lane is the owner's of the subscription's own one,
// and stays with it. ErrNotFound where there is no such subscription, ErrGone where
// the log has dropped its first events, ErrTooMany as in CreateJob.
func (s *Store) CreateReplay(ctx context.Context, j *Job) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := roomForJob(ctx, tx); err != nil {
			return err
		}
		if err := s.createReplay(ctx, tx, j, nil); err != nil {
			return err
		}
		return audit(ctx, tx, "job/"+string(j.ID), nil, map[string]any{"subscription": j.Subscription, "replay": j.Replay, "total": j.Total})
	})
	if err != nil {
		return fmt.Errorf("create replay: %w", err)
	}
	return nil
}

// createReplay makes the rows of a replay that leaves out what is settled.
func (s *Store) createReplay(ctx context.Context, tx pgx.Tx, j *Job, settled []OffsetRange) error {
	j.ID, j.Kind = newJobID("rpl_"), ReplayJob
	spec, err := json.Marshal(j.Replay)
	if err != nil {
		return err
	}
	// Held, so that whoever claims that lane finds this one, too.
	var owner *string
	var epoch int64
	err = tx.QueryRow(ctx, liveLaneSQL, j.Subscription).Scan(&owner, &epoch)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, insertReplaySQL, j.ID, j.Subscription, cleanJSON(spec), j.Total, j.Bytes, cleanText(j.CreatedBy)).
		Scan(&j.N, &j.State, &j.Version, &j.CreatedAt, &j.UpdatedAt); err != nil {
		return err
	}
	j.CreatedAt, j.UpdatedAt = j.CreatedAt.UTC(), j.UpdatedAt.UTC()
	if _, err := tx.Exec(ctx, lockPartitionSQL, int64(j.Replay.From)); err != nil {
		return err
	}
	var lane int32
	err = tx.QueryRow(ctx, insertReplayLaneSQL, j.Subscription, int64(j.Replay.From), owner, epoch, j.ID, j.Replay.DeadRange != 0, rangesArray(settled)).
		Scan(&lane)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrGone
	}
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, setReplayLaneSQL, j.ID, lane); err != nil {
		return err
	}
	return s.notify(ctx, tx, TopicJobs)
}

// OffsetAt is the first offset at or after a time, as CreateSubscription's Start
// finds it.
func (s *Store) OffsetAt(ctx context.Context, at time.Time) (Offset, error) {
	return s.offsetAt(ctx, at.UnixMicro())
}

const readWholeBlocksSQL = `SELECT block, type, events, bytes FROM rowcall.log_blocks WHERE block >= $1 AND block < $2`

// CountEvents counts the events of [from, past) whose type matches: from
// log_blocks, but for the ends of the range, which are counted by the server.
func (s *Store) CountEvents(ctx context.Context, from, past Offset, matches func(kind string) bool) (LogCount, error) {
	n, err := s.countEvents(ctx, from, past, matches)
	if err != nil {
		return LogCount{}, fmt.Errorf("count events: %w", err)
	}
	return n, nil
}

func (s *Store) countEvents(ctx context.Context, from, past Offset, matches func(kind string) bool) (n LogCount, err error) {
	if err := s.countLog(ctx); err != nil {
		return n, err
	}
	var counted Offset
	if err := s.pool.QueryRow(ctx, readCountedSQL).Scan(&counted); err != nil {
		return n, err
	}
	first, end := (int64(from)+blockSize-1)/blockSize, int64(min(past, counted))/blockSize
	parts := []OffsetRange{{from, past}} // to be counted by the server
	if first < end {
		parts = []OffsetRange{{from, Offset(first * blockSize)}, {Offset(end * blockSize), past}}
		rows, err := s.pool.Query(ctx, readWholeBlocksSQL, first, end)
		if err != nil {
			return n, err
		}
		whole := map[blockType]LogCount{}
		mixed := map[int64]bool{} // blocks of more types than are counted one by one
		var at blockType
		var c LogCount
		if _, err := pgx.ForEachRow(rows, []any{&at.block, &at.name, &c.Events, &c.Bytes}, func() error {
			whole[at] = c
			if at.name == otherTypes {
				mixed[at.block] = true
			}
			return nil
		}); err != nil {
			return n, err
		}
		for at, c := range whole {
			if !mixed[at.block] && matches(at.name) {
				n = n.plus(c)
			}
		}
		for block := range mixed {
			parts = append(parts, OffsetRange{Offset(block * blockSize), Offset((block + 1) * blockSize)})
		}
	}
	for _, part := range parts {
		if part.From >= part.Past {
			continue
		}
		counts, err := countTable(ctx, s.pool, part.From, part.Past)
		if err != nil {
			return n, err
		}
		for at, c := range counts {
			if matches(at.name) {
				n = n.plus(c)
			}
		}
	}
	return n, nil
}

// saveProgressSQL saves what became of replays; the one that is over has ended.
//
// A dead range that was retried is gone then; what its retry has neither counted
// nor left a row of, a filter left out.
const saveProgressSQL = `
WITH retried AS (
  DELETE FROM rowcall.dead_ranges r
  USING unnest($3::integer[], $4::bigint[], $7::boolean[]) AS u (lane, epoch, over), rowcall.cursors c
  WHERE u.over AND c.lane = u.lane AND c.epoch = u.epoch AND c.owner = $1 AND r.job = c.replay AND ` + ourLease + `
  RETURNING r.lane, r.events - ` + retriedSQL + ` AS left_out),
filtered AS (
  UPDATE rowcall.cursors own SET refiltered = own.refiltered + retried.left_out FROM retried WHERE own.lane = retried.lane)
UPDATE rowcall.jobs j SET done = u.delivered, failed = u.dead, updated_at = now(),
  state = CASE WHEN u.over AND j.ended_at IS NULL THEN 'done' ELSE j.state END,
  ended_at = CASE WHEN u.over THEN coalesce(j.ended_at, now()) ELSE j.ended_at END
FROM unnest($3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[]) AS u (lane, epoch, delivered, dead, over)
JOIN rowcall.cursors c ON c.lane = u.lane AND c.epoch = u.epoch AND c.owner = $1
WHERE j.id = c.replay AND ` + ourLease

// progressRows are what became of the replays of a settlement, as columns.
type progressRows struct {
	lanes                   []int32
	epochs, delivered, dead []int64
	over                    []bool
}

func (r *progressRows) add(l *LaneSettlement) {
	r.lanes, r.epochs = append(r.lanes, int32(l.Lane)), append(r.epochs, l.Epoch)
	r.delivered, r.dead = append(r.delivered, l.Progress.Delivered), append(r.dead, l.Progress.Dead)
	r.over = append(r.over, l.Progress.Over)
}

const (
	// The lane of a replay that has ended goes when no dead letter of it is left,
	// and its owner has had time to settle the rest.
	// What one counted that retried a dead range is its subscription's from then on.
	dropReplayLanesSQL = `
WITH gone AS (
  DELETE FROM rowcall.cursors c USING rowcall.jobs j
  WHERE j.id = c.replay AND j.ended_at < now() - interval '1 minute'
    AND NOT EXISTS (SELECT FROM rowcall.deliveries d WHERE d.lane = c.lane)
    AND NOT EXISTS (SELECT FROM rowcall.dead_ranges r WHERE r.job = j.id)
  RETURNING c.*, j.spec ? 'dead_range' AS retried),
counts AS (
  SELECT subscription, sum(delivered) AS delivered, sum(filtered + compacted) AS filtered, sum(discarded + given_up) AS discarded,
    sum(dropped) AS dropped, sum(expired) AS expired
  FROM gone WHERE retried GROUP BY subscription)
UPDATE rowcall.cursors own
SET redelivered = own.redelivered + n.delivered, refiltered = own.refiltered + n.filtered, given_up = own.given_up + n.discarded,
    dropped = own.dropped + n.dropped, expired = own.expired + n.expired
FROM counts n WHERE own.subscription = n.subscription AND own.replay IS NULL`
	dropJobsSQL = `
DELETE FROM rowcall.jobs j WHERE j.ended_at < now() - $1::interval
  AND NOT EXISTS (SELECT FROM rowcall.cursors c WHERE c.replay = j.id)`
	failReplaysSQL = `
UPDATE rowcall.jobs SET state = 'failed', reason = 'the subscription was deleted', ended_at = now(), updated_at = now()
WHERE subscription = $1 AND kind = 'replay' AND ended_at IS NULL`
)

// dropJobs removes the lanes of replays that nobody needs any more, and jobs that
// ended longer ago than dead letters are kept.
func (s *Store) dropJobs(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, dropReplayLanesSQL); err != nil {
		return fmt.Errorf("drop lanes of replays: %w", err)
	}
	if _, err := s.pool.Exec(ctx, dropJobsSQL, s.config.DeadRetention); err != nil {
		return fmt.Errorf("drop jobs: %w", err)
	}
	return nil
}
