package store

import (
	"context"
	"time"
)

// Lease is this instance's right to own sources and lanes: a row with an epoch,
// judged by the store's clock, and a deadline by this machine's monotonic clock.
type Lease struct {
	Instance string
	Epoch    int64
}

// Lease waits until Run has acquired the lease and returns it.
func (s *Store) Lease(ctx context.Context) (Lease, error) { panic("unwritten") }

// LeaseDeadline is when this instance's right ends unless it is renewed: no POST
// starts after it. Zero while there is no lease. It costs an atomic load.
func (s *Store) LeaseDeadline() time.Time { panic("unwritten") }

// ReleaseLease gives up the lease, so that another instance, or the next life of
// this one, takes over at once. Run must have ended.
func (s *Store) ReleaseLease(ctx context.Context) error { panic("unwritten") }
