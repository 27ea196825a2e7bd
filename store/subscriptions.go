package store

import (
	"context"

	"github.com/rowcall/rowcall/subscriptions"
)

// Start says where a new subscription's cursor begins.
type Start struct {
	Offset   Offset // used where neither Now nor Earliest nor Time is set
	Now      bool
	Earliest bool
	Time     int64 // µs since 1970: the first event at or after
}

// CreateSubscription saves a subscription and its lane. ErrConflict where the
// name is taken. Version, CreatedAt and UpdatedAt are set on sub.
func (s *Store) CreateSubscription(ctx context.Context, sub *subscriptions.Subscription, start Start) error {
	panic("unwritten")
}

// UpdateSubscription saves spec, state, state reason and secrets where the
// version is still version; ErrConflict where it is not. It sets the new Version
// and UpdatedAt on sub.
func (s *Store) UpdateSubscription(ctx context.Context, sub *subscriptions.Subscription, version int64) error {
	panic("unwritten")
}

// DeleteSubscription ends a subscription: its lane, cursor and deliveries go,
// its attempts stay until their retention.
func (s *Store) DeleteSubscription(ctx context.Context, id subscriptions.ID) error {
	panic("unwritten")
}

// Subscription returns one by id.
func (s *Store) Subscription(ctx context.Context, id subscriptions.ID) (subscriptions.Subscription, error) {
	panic("unwritten")
}

// SubscriptionFilter selects subscriptions for a list.
type SubscriptionFilter struct {
	Name  string
	State subscriptions.State
	After subscriptions.ID // keyset: ids above it
}

// Subscriptions lists subscriptions by id.
func (s *Store) Subscriptions(ctx context.Context, f SubscriptionFilter, limit int) ([]subscriptions.Subscription, error) {
	panic("unwritten")
}
