package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rowcall/rowcall/store"
)

const (
	// appendLimit bounds one append. It is long: a store behind a narrow line
	// makes progress, a batch at a time, while the connection to the source is
	// down for it.
	appendLimit      = 5 * time.Minute
	firstAppendRetry = 50 * time.Millisecond
	lastAppendRetry  = time.Second
)

// appendAll appends batches until ctx ends or the store gives out. An append
// that is under way then is seen to its end: outer, which ends when the process
// is to stop, leaves it lastConfirm for that.
func (s *session) appendAll(ctx, outer context.Context) error {
	appending, cancel := context.WithCancel(context.WithoutCancel(outer))
	defer cancel()
	stop := context.AfterFunc(outer, func() {
		select {
		case <-appending.Done():
		case <-time.After(lastConfirm):
			cancel()
		}
	})
	defer stop()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := s.take(time.Now())
		if b == nil {
			select {
			case <-s.ready:
			case <-ctx.Done():
			}
			continue
		}
		if err := s.append(ctx, appending, b); err != nil {
			return &logFailure{err}
		}
	}
}

// append makes one batch durable, trying again while the store is away.
func (s *session) append(ctx, appending context.Context, b *store.Batch) error {
	events, checkpoint, began := b.Len(), b.Checkpoint, time.Now()
	wait := firstAppendRetry
	for first := time.Now(); ; {
		limited, cancel := context.WithTimeout(appending, appendLimit)
		_, err := s.appender.Append(limited, s.claim, b)
		cancel()
		if err == nil {
			break
		}
		// A server that shuts down may be the source's, too: then it waits for the
		// replication connection to go.
		shutdown := sqlState(err) == stateAdminShutdown || sqlState(err) == stateCannotConnect
		if shutdown || errors.Is(err, store.ErrFenced) || !store.Unavailable(err) || time.Since(first) > storePatience {
			return fmt.Errorf("append: %w", err)
		}
		s.setFailing()
		if s.pressing.Load() {
			s.wake()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("append: %w", err)
		case <-time.After(wait):
		}
		wait = min(2*wait, lastAppendRetry)
	}
	if s.tracing {
		s.endTraces(began)
	}
	s.durable.Store(max(s.durable.Load(), uint64(checkpoint.End)))
	if events > 0 {
		s.metrics.captured.Add(float64(events))
		if !checkpoint.CommitAt.IsZero() {
			s.lag.Store(int64(time.Since(checkpoint.CommitAt)))
		}
	}
	if s.pressing.Load() {
		s.wake()
	}
	return nil
}
