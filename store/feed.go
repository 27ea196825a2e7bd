package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// maxUnapplied bounds the intents of a job that no owner has taken up.
	maxUnapplied = 2000
	// feedRows is how many deliveries a job looks at in one transaction.
	feedRows = maxUnapplied / 2
	// feedWhile is how long a job waits for its intents to be taken up before it
	// looks again by itself; feedIdle is the same while there is no job.
	feedWhile, feedIdle = time.Second, 10 * time.Second
)

// feeder is woken when a job may have room for more.
type feeder struct{ wake chan struct{} }

func (f *feeder) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// feedJobs works through bulk jobs until ctx ends. A job's row is locked while
// one of its steps is taken, and its place moves in the transaction of the
// intents that it leaves: whichever instance takes the next step, after whatever
// crash, each delivery is asked for once.
func (s *Store) feedJobs(ctx context.Context) error {
	changes, stop := s.Changes()
	defer stop()
	var streak streak
	for {
		running, err := s.feedAll(ctx)
		pause := feedIdle
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case streak.note(s.log, "work through jobs", err):
			pause = streak.pause()
		case running:
			pause = feedWhile
		}
		if err := s.feeder.wait(ctx, changes, pause); err != nil {
			return err
		}
	}
}

// wait returns when something may be there to be fed, or after pause.
func (f *feeder) wait(ctx context.Context, changes <-chan Topic, pause time.Duration) error {
	late := time.NewTimer(pause)
	defer late.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.wake:
			return nil
		case <-late.C:
			return nil
		case topic := <-changes:
			if topic == TopicJobs {
				return nil
			}
		}
	}
}

const runningJobsSQL = `SELECT id FROM rowcall.jobs WHERE ended_at IS NULL AND state = 'running' AND kind <> 'replay' ORDER BY n`

// feedAll gives every running job what it has room for.
func (s *Store) feedAll(ctx context.Context) (running bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errSlow)
	defer cancel()
	rows, err := s.pool.Query(ctx, runningJobsSQL)
	if err != nil {
		return false, fmt.Errorf("list running jobs: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[JobID])
	if err != nil {
		return false, fmt.Errorf("list running jobs: %w", err)
	}
	var errs []error
	for _, id := range ids {
		for more := true; more; {
			if more, err = s.feedJob(ctx, id); err != nil {
				errs = append(errs, fmt.Errorf("feed job %s: %w", id, err))
				break
			}
		}
	}
	return len(ids) > 0, errors.Join(errs...)
}

const (
	lockJobSQL = `
SELECT j.at_lane, j.at_offset, j.asked, (SELECT count(*) FROM rowcall.intents i WHERE i.job = j.id), ` + jobColumns + `
FROM rowcall.jobs j WHERE j.id = $1 AND j.state = 'running' FOR UPDATE OF j SKIP LOCKED`
	moveJobSQL = `UPDATE rowcall.jobs SET at_lane = $2, at_offset = $3, asked = $4, updated_at = now() WHERE id = $1`

	// What matched when it was counted and was not asked for had changed since.
	endJobSQL = `
UPDATE rowcall.jobs SET state = 'done', ended_at = now(), updated_at = now(), at_least = false,
  total = greatest(total, done + skipped), skipped = greatest(total, done + skipped) - done
WHERE id = $1`

	nextLaneSQL = `
SELECT c.lane FROM rowcall.cursors c
WHERE c.lane > $1 AND ($2 = '' OR c.subscription = $2) AND EXISTS (SELECT FROM rowcall.deliveries d WHERE d.lane = c.lane)
ORDER BY c.lane LIMIT 1`
)

// walk is a place in the deliveries, in the order of lane and offset.
type walk struct {
	lane   LaneID
	offset Offset
	over   bool
}

// ask takes the next rows of the lane at hand, leaves the intents of those among
// them that match and have not changed since the job was made, and goes to the next
// lane after its last. It returns how many matched.
func (w *walk) ask(ctx context.Context, tx pgx.Tx, j *Job) (asked int64, err error) {
	if w.lane != 0 {
		c := j.Filter.clauses()
		c.and("d.updated_at <= ?", j.CreatedAt)
		sql := c.bind(`
WITH scanned AS (
  SELECT d.lane, d."offset", d.state, d.reason, d.status, d.keys, d.event, d.updated_at FROM rowcall.deliveries d
  WHERE d.lane = ? AND d."offset" > ? ORDER BY d."offset" LIMIT ?
), asked AS (
  INSERT INTO rowcall.intents (lane, action, "offset", actor, job)
  SELECT d.lane, ?::text, d."offset", ?::text, ?::text FROM scanned d JOIN rowcall.cursors c ON c.lane = d.lane
  WHERE `, int32(w.lane), int64(w.offset), feedRows, string(j.Kind), j.CreatedBy, string(j.ID)) + c.where() + `
  ORDER BY d."offset" RETURNING 1
)
SELECT (SELECT count(*) FROM asked), count(*), coalesce(max("offset"), 0) FROM scanned`
		var scanned int
		var last Offset
		if err := tx.QueryRow(ctx, sql, c.args...).Scan(&asked, &scanned, &last); err != nil {
			return 0, err
		}
		if scanned == feedRows {
			w.offset = last
			return asked, nil
		}
	}
	w.offset = 0
	switch err := tx.QueryRow(ctx, nextLaneSQL, int32(w.lane), j.Subscription).Scan(&w.lane); {
	case errors.Is(err, pgx.ErrNoRows):
		w.over = true
	case err != nil:
		return 0, err
	}
	return asked, nil
}

// feedJob takes one step of a job. It reports whether there is room for another.
func (s *Store) feedJob(ctx context.Context, id JobID) (more bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var at walk
		var unapplied int
		j, err := lockJob(ctx, tx, id, &at.lane, &at.offset, &at.over, &unapplied)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // it is in other hands, or runs no more
		}
		if err != nil {
			return err
		}
		switch {
		case at.over && unapplied == 0:
			_, err = tx.Exec(ctx, endJobSQL, id)
			return err
		case at.over || unapplied+feedRows > maxUnapplied:
			return nil
		}
		asked, err := at.ask(ctx, tx, &j)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, moveJobSQL, id, int32(at.lane), int64(at.offset), at.over); err != nil {
			return err
		}
		more = true
		if asked == 0 {
			return nil
		}
		return s.notify(ctx, tx, TopicIntents)
	})
	return more && err == nil, err
}

func lockJob(ctx context.Context, tx pgx.Tx, id JobID, place ...any) (Job, error) {
	rows, err := tx.Query(ctx, lockJobSQL, id)
	if err != nil {
		return Job{}, err
	}
	return pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (Job, error) { return scanJob(row, place...) })
}
