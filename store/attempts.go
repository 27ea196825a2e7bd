package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowcall/rowcall/subscriptions"
)

// Attempt is one HTTP try.
type Attempt struct {
	At       time.Time
	Lane     LaneID
	Offset   Offset
	Attempt  int // 1 is the first try of the event
	Duration time.Duration
	Status   int   // 0: no response
	Outcome  int16 // number of the outcome: 0 delivered, 1 failed, 2 blocked, 3 unknown
	Reason   string
	Timings  Timings
	Detail   json.RawMessage // of failures
	// Others are the events that went in the same POST. Each has a row of its own
	// beside Offset's, which alone has the detail; the rows of one try share lane and
	// time. SaveAttempts reads it, queries leave it empty.
	Others []Offset
	// Set by queries.
	Subscription subscriptions.ID // empty: deleted
}

const copyAttemptsSQL = `COPY rowcall.attempts (at, lane, "offset", attempt, duration, status, outcome, reason, detail, timings)
FROM STDIN (FORMAT binary)`

// History need not wait for the disk: what a crash takes of it is less than a
// second.
const beginAttempts = `BEGIN; SET LOCAL synchronous_commit = off`

// SaveAttempts writes history. It may lose rows when the database fails: history
// is not what delivery rests on. With an error, nothing of as was written, or,
// where it leaves that in doubt, all.
func (s *Store) SaveAttempts(ctx context.Context, as []Attempt) error {
	if len(as) == 0 {
		return nil
	}
	rows := encodeAttempts(as)
	err := s.copyAttempts(ctx, rows)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "23514" {
		// No partition holds one of the days: the store was away for long, or its
		// clock and ours disagree.
		if err := s.addAttemptDays(ctx, as); err != nil {
			return fmt.Errorf("save %d attempts: %w", len(as), err)
		}
		err = s.copyAttempts(ctx, rows)
	}
	if err != nil {
		return fmt.Errorf("save %d attempts: %w", len(as), err)
	}
	return nil
}

func (s *Store) copyAttempts(ctx context.Context, rows []byte) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: beginAttempts}, func(tx pgx.Tx) error {
		_, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(rows), copyAttemptsSQL)
		return err
	})
}

// attemptFields is the number of columns of copyAttemptsSQL.
const attemptFields = 10

// encodeAttempts writes rows in the form of a binary COPY. A success has no
// reason and no detail, and takes some 80 bytes.
func encodeAttempts(as []Attempt) []byte {
	rows := 0
	for i := range as {
		rows += as[i].Rows()
	}
	p := make([]byte, 0, 32+88*rows)
	p = append(p, "PGCOPY\n\xff\r\n\x00"...)
	p = binary.BigEndian.AppendUint64(p, 0) // no flags, no extension
	for i := range as {
		a := &as[i]
		p = appendAttempt(p, a, a.Offset, cleanJSON(a.Detail))
		for _, at := range a.Others {
			p = appendAttempt(p, a, at, nil)
		}
	}
	return binary.BigEndian.AppendUint16(p, 0xffff)
}

func appendAttempt(p []byte, a *Attempt, at Offset, detail []byte) []byte {
	p = binary.BigEndian.AppendUint16(p, attemptFields)
	p = appendInt64(p, a.At.UnixMicro()-pgEpoch)
	p = appendInt32(p, int32(a.Lane))
	p = appendInt64(p, int64(at))
	p = appendInt32(p, int32(a.Attempt))
	p = appendInt32(p, int32(min(max(a.Duration.Microseconds(), 0), math.MaxInt32)))
	p = appendInt16(p, int16(min(max(a.Status, 0), math.MaxInt16)))
	p = appendInt16(p, a.Outcome)
	p = appendNullText(p, cleanText(a.Reason))
	if len(detail) == 0 {
		p = appendNullText(p, "")
	} else {
		p = binary.BigEndian.AppendUint32(p, uint32(len(detail)+1))
		p = append(append(p, 1), detail...) // jsonb's version, then its text
	}
	return a.Timings.appendTo(p)
}

// Rows is how many rows of history the attempt is: one an event.
func (a *Attempt) Rows() int { return 1 + len(a.Others) }

func appendInt16(p []byte, v int16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(p, 2), uint16(v))
}

// addAttemptDays makes the partitions of the attempts' days that are missing.
func (s *Store) addAttemptDays(ctx context.Context, as []Attempt) error {
	days := map[time.Time]bool{}
	for i := range as {
		days[as[i].At.UTC().Truncate(24*time.Hour)] = true
	}
	for day := range days {
		if err := s.addAttemptDay(ctx, day); err != nil {
			return fmt.Errorf("add partition of %s: %w", day.Format(time.DateOnly), err)
		}
	}
	return nil
}

// Whoever makes a partition of attempts takes this lock: two may find it
// missing at once.
const lockPartitionsSQL = `LOCK TABLE rowcall.partitions IN SHARE ROW EXCLUSIVE MODE`

const relationExistsSQL = `SELECT to_regclass('rowcall.' || $1) IS NOT NULL`

// addAttemptDay makes the partition of a day, which begins in UTC, unless it is
// there.
func (s *Store) addAttemptDay(ctx context.Context, day time.Time) error {
	const literal = `'2006-01-02 15:04:05+00'`
	name := "attempts_" + day.Format(dayFormat)
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockPartitionsSQL); err != nil {
			return err
		}
		var made bool
		err := tx.QueryRow(ctx, relationExistsSQL, name).Scan(&made)
		if err != nil || made {
			return err
		}
		return attach(ctx, tx, "attempts", name, day.Format(literal), day.AddDate(0, 0, 1).Format(literal))
	})
}

const attemptSQL = `
SELECT a.attempt, a.duration, a.status, a.outcome, coalesce(a.reason, ''), a.detail, a.timings, coalesce(c.subscription, j.subscription, '')
FROM rowcall.attempts a LEFT JOIN rowcall.cursors c ON c.lane = a.lane LEFT JOIN rowcall.jobs j ON j.lane = a.lane
WHERE a.at = $1 AND a.lane = $2 AND a."offset" = $3 ORDER BY a.attempt DESC LIMIT 1`

// Attempt returns the attempt of an event that a lane began at a time, to the
// microsecond; ErrNotFound where there is none.
func (s *Store) Attempt(ctx context.Context, lane LaneID, offset Offset, at time.Time) (Attempt, error) {
	a := Attempt{At: at.UTC(), Lane: lane, Offset: offset}
	var micros int64
	err := s.pool.QueryRow(ctx, attemptSQL, at, int32(lane), int64(offset)).
		Scan(&a.Attempt, &micros, &a.Status, &a.Outcome, &a.Reason, &a.Detail, &a.Timings, &a.Subscription)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Attempt{}, fmt.Errorf("read attempt: %w", err)
	}
	a.Duration = time.Duration(micros) * time.Microsecond
	return a, nil
}
