package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// JobID names a job: "job_" and 26 lower-case letters and digits; a replay's
// begins with "rpl_".
type JobID string

// JobKind is what a job does.
type JobKind string

const (
	RetryJob   JobKind = "retry"   // asks for a try of deliveries, each with a fresh budget
	DiscardJob JobKind = "discard" // gives deliveries up
)

// JobState is where a job stands. It moves by itself from running to done, and
// to failed where it cannot go on.
type JobState string

const (
	JobRunning   JobState = "running"
	JobPaused    JobState = "paused" // goes on when it is resumed
	JobDone      JobState = "done"
	JobCancelled JobState = "cancelled"
	JobFailed    JobState = "failed" // for Job.Reason
)

// maxJobs bounds the jobs that have not ended.
const maxJobs = 100

// Job is long work that a person asked for. It is durable: it goes on after a
// restart, and on another instance where this one is gone.
type Job struct {
	ID           JobID
	Kind         JobKind
	State        JobState
	Reason       string
	Version      int64
	Subscription subscriptions.ID // empty: of all
	Filter       DeliveryFilter   // of retry and discard: which deliveries
	Replay       ReplaySpec       // of a replay
	Position     Offset           // of a replay: below it all is settled, or held by a delivery; 0: its lane is gone
	Bytes        int64            // of a replay: of the data of Total
	Total        int64            // what there was to do when it was made
	AtLeast      bool             // Total is what was counted in time: there is more
	Done         int64            // deliveries whose owners took the wish up; of a replay: events delivered
	Failed       int64            // of a replay: events that are dead letters; else 0: what fails again is a dead letter again
	Skipped      int64            // deliveries that had ended, or changed, in the meantime
	CreatedBy    string           // id of an API key
	CreatedAt    time.Time
	UpdatedAt    time.Time
	EndedAt      time.Time // zero: it has not ended
	N            int64     // grows from job to job: the keyset of Jobs
}

func newJobID(prefix string) JobID { return JobID(prefix + strings.ToLower(rand.Text()[:26])) }

const (
	unendedJobsSQL = `SELECT count(*) FROM rowcall.jobs WHERE ended_at IS NULL`
	insertJobSQL   = `
INSERT INTO rowcall.jobs (id, kind, subscription, spec, total, at_least, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING n, state, version, created_at, updated_at`
)

// CreateJob makes a bulk job of kind, filter, total and who asked, and sets the
// rest of it. ErrTooMany where 100 jobs have not ended yet.
func (s *Store) CreateJob(ctx context.Context, j *Job) error {
	j.ID, j.Subscription = newJobID("job_"), j.Filter.Subscription
	spec, err := json.Marshal(j.Filter)
	if err != nil {
		return fmt.Errorf("create job: %w", err)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := roomForJob(ctx, tx); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, insertJobSQL, j.ID, j.Kind, j.Subscription, cleanJSON(spec), j.Total, j.AtLeast, cleanText(j.CreatedBy)).
			Scan(&j.N, &j.State, &j.Version, &j.CreatedAt, &j.UpdatedAt)
		if err != nil {
			return err
		}
		if err := audit(ctx, tx, "job/"+string(j.ID), nil, map[string]any{"subscription": j.Subscription, "filter": json.RawMessage(spec), "total": j.Total}); err != nil {
			return err
		}
		return s.notify(ctx, tx, TopicJobs)
	})
	if err != nil {
		return fmt.Errorf("create job: %w", err)
	}
	j.CreatedAt, j.UpdatedAt = j.CreatedAt.UTC(), j.UpdatedAt.UTC()
	return nil
}

func roomForJob(ctx context.Context, tx pgx.Tx) error {
	var unended int
	if err := tx.QueryRow(ctx, unendedJobsSQL).Scan(&unended); err != nil {
		return err
	}
	if unended >= maxJobs {
		return fmt.Errorf("%w: %d jobs have not ended", ErrTooMany, unended)
	}
	return nil
}

// jobColumns are what scanJob reads, of rowcall.jobs j.
const jobColumns = `j.n, j.id, j.kind, j.state, j.reason, j.version, j.subscription, j.spec, j.total, j.at_least,
  j.bytes, coalesce((SELECT c."offset" FROM rowcall.cursors c WHERE c.lane = j.lane AND c.replay = j.id), 0), j.done, j.failed, j.skipped, j.created_by, j.created_at, j.updated_at, j.ended_at`

// scanJob reads a job behind more columns that stand before it.
func scanJob(row pgx.CollectableRow, before ...any) (Job, error) {
	var j Job
	var spec []byte
	var ended *time.Time
	err := row.Scan(append(before, &j.N, &j.ID, &j.Kind, &j.State, &j.Reason, &j.Version, &j.Subscription, &spec, &j.Total, &j.AtLeast,
		&j.Bytes, &j.Position, &j.Done, &j.Failed, &j.Skipped, &j.CreatedBy, &j.CreatedAt, &j.UpdatedAt, &ended)...)
	if err != nil {
		return j, err
	}
	j.CreatedAt, j.UpdatedAt, j.EndedAt = j.CreatedAt.UTC(), j.UpdatedAt.UTC(), timeOf(ended)
	what := any(&j.Filter)
	if j.Kind == ReplayJob {
		what = &j.Replay
	}
	if err := json.Unmarshal(spec, what); err != nil {
		return j, fmt.Errorf("decode job %s: %w", j.ID, err)
	}
	j.Filter.Subscription = j.Subscription
	j.Total = max(j.Total, j.Done+j.Failed+j.Skipped) // of one that was not counted to its end
	return j, nil
}

func justJob(row pgx.CollectableRow) (Job, error) { return scanJob(row) }

const jobSQL = `SELECT ` + jobColumns + ` FROM rowcall.jobs j WHERE j.id = $1`

// Job returns one; ErrNotFound where it is not there.
func (s *Store) Job(ctx context.Context, id JobID) (Job, error) {
	j, err := s.job(ctx, s.pool, jobSQL, id)
	if err != nil {
		return Job{}, fmt.Errorf("read job %s: %w", id, err)
	}
	return j, nil
}

func (s *Store) job(ctx context.Context, q querier, sql string, args ...any) (Job, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return Job{}, err
	}
	j, err := pgx.CollectExactlyOneRow(rows, justJob)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	return j, err
}

// JobFilter selects jobs for a list. What is empty does not filter.
type JobFilter struct {
	Kind         JobKind
	State        JobState
	Subscription subscriptions.ID
	Labels       Labels // of its subscription: a job of all has none
	Past         int64  // keyset, newest first: N below it
}

const jobsSQL = `
SELECT ` + jobColumns + ` FROM rowcall.jobs j
WHERE ($1 = '' OR j.kind = $1) AND ($2 = '' OR j.state = $2) AND ($3 = '' OR j.subscription = $3) AND ($4::bigint = 0 OR j.n < $4)
  AND ($5::jsonb = '{}' OR j.subscription IN (` + labelledSQL + `$5))
ORDER BY j.n DESC LIMIT $6`

// Jobs lists jobs, newest first.
func (s *Store) Jobs(ctx context.Context, f JobFilter, limit int) ([]Job, error) {
	rows, err := s.pool.Query(ctx, jobsSQL, string(f.Kind), string(f.State), f.Subscription, f.Past, f.Labels.json(), limit)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	jobs, err := pgx.CollectRows(rows, justJob)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return jobs, nil
}

const setJobStateSQL = `
UPDATE rowcall.jobs j SET state = $2, version = version + 1, updated_at = now(),
  ended_at = CASE WHEN $2 = 'cancelled' THEN now() END
WHERE j.id = $1 AND j.state = ANY($3::text[]) RETURNING ` + jobColumns

// SetJobState pauses, resumes or cancels a job. To ask for what is the case
// changes nothing; ErrConflict where the job has ended, ErrNotFound where it is
// not there. What a cancelled job has asked for and no owner has taken up is
// taken back.
func (s *Store) SetJobState(ctx context.Context, id JobID, state JobState) (Job, error) {
	var from []string
	switch state {
	case JobPaused:
		from = []string{string(JobRunning)}
	case JobRunning:
		from = []string{string(JobPaused)}
	case JobCancelled:
		from = []string{string(JobRunning), string(JobPaused)}
	case JobDone, JobFailed:
		return Job{}, fmt.Errorf("set state of job %s: %w: nobody may ask for %s", id, ErrConflict, state)
	}
	var j Job
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		j, err = s.job(ctx, tx, setJobStateSQL, id, string(state), from)
		if errors.Is(err, ErrNotFound) {
			if j, err = s.job(ctx, tx, jobSQL, id); err != nil || j.State == state {
				return err
			}
			return fmt.Errorf("%w: it is %s", ErrConflict, j.State)
		}
		if err != nil {
			return err
		}
		if err := audit(ctx, tx, "job/"+string(id), nil, nil); err != nil {
			return err
		}
		return s.notify(ctx, tx, TopicJobs)
	})
	if err != nil {
		return Job{}, fmt.Errorf("set state of job %s: %w", id, err)
	}
	return j, nil
}

const failJobSQL = `
UPDATE rowcall.jobs SET state = 'failed', reason = $2, version = version + 1, ended_at = now(), updated_at = now()
WHERE id = $1 AND ended_at IS NULL`

// FailJob ends a job that cannot go on. One that has ended stays as it is.
func (s *Store) FailJob(ctx context.Context, id JobID, reason string) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, failJobSQL, id, cleanText(reason)); err != nil {
			return err
		}
		return s.notify(ctx, tx, TopicJobs)
	})
	if err != nil {
		return fmt.Errorf("fail job %s: %w", id, err)
	}
	return nil
}
