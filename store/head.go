package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// head is the offset that the next event gets, as far as this instance knows.
// It only grows.
type head struct {
	next  atomic.Int64
	known atomic.Int64 // likewise, but for what was only said: it was committed by this instance, or read

	mu      sync.Mutex
	changed chan struct{} // closed at the next advance; nil while nobody waits
}

// advance moves the head forward, to where the database has it, and wakes who waits.
func (h *head) advance(next Offset) {
	h.note(next)
	h.hear(next)
}

// note notes that the database has the log up to next.
func (h *head) note(next Offset) {
	for {
		known := h.known.Load()
		if int64(next) <= known || h.known.CompareAndSwap(known, int64(next)) {
			return
		}
	}
}

// hear is advance by what a notification says, which whoever may connect can send.
func (h *head) hear(next Offset) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if int64(next) <= h.next.Load() {
		return
	}
	h.next.Store(int64(next))
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// wait returns when the head is past the offset.
func (h *head) wait(ctx context.Context, past Offset) error {
	for {
		h.mu.Lock()
		if h.next.Load() > int64(past) {
			h.mu.Unlock()
			return nil
		}
		if h.changed == nil {
			h.changed = make(chan struct{})
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Head is the offset that the next event will get, as far as this instance
// knows. It costs an atomic load.
func (s *Store) Head() Offset { return Offset(s.head.next.Load()) }

// Wait returns when Head is past the offset, so that the event there can be read,
// or when ctx ends.
func (s *Store) Wait(ctx context.Context, past Offset) error { return s.head.wait(ctx, past) }

// regress notices that the log has become shorter than it was known to be.
type regress struct {
	noticed atomic.Bool
	c       chan struct{} // closed then
}

// checkHead compares the head as the database has it with what was known before the
// database was asked, and so durable: ErrRegressed where it is lower. A standby
// that is behind is no proof: it takes no writes.
func (s *Store) checkHead(known, next Offset, standby bool) error {
	if next >= known || standby {
		return nil
	}
	if !s.regress.noticed.Swap(true) {
		s.log.Error().Int64("known", int64(known)).Int64("head", int64(next)).Msg(ErrRegressed.Error())
		close(s.regress.c)
	}
	return ErrRegressed
}

// awaitRegress returns ErrRegressed when that is noticed.
func (s *Store) awaitRegress(ctx context.Context) error {
	select {
	case <-s.regress.c:
		return ErrRegressed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkConnection looks at the head over a connection that was just made: before
// anything else is written to a database that is not the one it was.
func (s *Store) checkConnection(ctx context.Context, conn *pgx.Conn) error {
	if s.head.known.Load() == 0 {
		return nil
	}
	return s.readHead(ctx, conn)
}

const readHeadSQL = `SELECT next, oldest, pg_is_in_recovery() FROM rowcall.log_head`

// readHead learns the head from the table.
func (s *Store) readHead(ctx context.Context, q querier) error {
	known := Offset(s.head.known.Load())
	var next, oldest Offset
	var standby bool
	if err := q.QueryRow(ctx, readHeadSQL).Scan(&next, &oldest, &standby); err != nil {
		return fmt.Errorf("read log head: %w", err)
	}
	if err := s.checkHead(known, next, standby); err != nil {
		return err
	}
	s.setOldest(oldest)
	s.head.advance(next)
	return nil
}

// setOldest moves what is known of the oldest offset forward.
func (s *Store) setOldest(oldest Offset) {
	for {
		was := s.oldest.Load()
		if int64(oldest) <= was || s.oldest.CompareAndSwap(was, int64(oldest)) {
			return
		}
	}
}

// pollPeriod is how late an instance hears of another's appends where the
// notification was lost.
const pollPeriod = time.Second

// pollHead learns the head every so often: notifications may be lost, and are
// not sent by an instance that does not know of others yet.
func (s *Store) pollHead(ctx context.Context) error {
	return s.repeat(ctx, "read log head", pollPeriod, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		return s.readHead(ctx, s.pool)
	})
}
