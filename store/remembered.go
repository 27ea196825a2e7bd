package store

import (
	"context"
	"sync"
	"time"
)

// countedEach is up to how many deliveries they are counted whenever somebody asks.
const countedEach = 50_000

// remembered is what is counted among many rows, and asked for again and again. A
// count of more than countedEach that took over 20 ms is good for 49 times as long, but
// for ten seconds at most, unless it took more than one: then for nine times as long.
// For half as long again it is still given out, while Run counts anew: who looks waits
// only where nobody has looked for long.
type remembered[T any] struct {
	mu      sync.Mutex
	value   T
	until   time.Time // value is good until then
	grace   time.Time // and better than waiting until then
	counted bool      // by somebody at this moment, or soon
}

// counting counts, and says among how many rows.
type counting[T any] func(context.Context) (value T, rows int64, err error)

func (r *remembered[T]) get(ctx context.Context, s *Store, count counting[T]) (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch now := time.Now(); {
	case now.Before(r.until):
		return r.value, nil
	case now.Before(r.grace):
		if !r.counted {
			select {
			case s.recounts <- func(ctx context.Context) error { return r.recount(ctx, count) }:
				r.counted = true
			default: // Run is not there, or has much to do
			}
		}
		return r.value, nil
	}
	begun := time.Now()
	value, rows, err := count(ctx)
	if err == nil {
		r.keep(value, rows, time.Since(begun))
	}
	return value, err
}

func (r *remembered[T]) recount(ctx context.Context, count counting[T]) error {
	begun := time.Now()
	value, rows, err := count(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counted = false; err == nil {
		r.keep(value, rows, time.Since(begun))
	}
	return err
}

func (r *remembered[T]) keep(value T, rows int64, took time.Duration) {
	r.value = value
	r.until, r.grace = time.Time{}, time.Time{}
	if took > 20*time.Millisecond && rows > countedEach {
		good := min(49*took, max(10*time.Second, 9*took))
		r.until = time.Now().Add(good)
		r.grace = r.until.Add(good / 2)
	}
}

// recountOften counts anew what is remembered and has grown old while it was asked
// for, until ctx ends.
func (s *Store) recountOften(ctx context.Context) error {
	return s.repeat(ctx, "count deliveries", 0, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case recount := <-s.recounts:
			ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errSlow)
			defer cancel()
			return recount(ctx)
		}
	})
}
