package store

import (
	"context"
	"time"
)

// APIKey is a key as the store knows it: by its hash.
type APIKey struct {
	ID         string
	Name       string
	Hash       []byte // SHA-256
	Scopes     []string
	Bootstrap  bool
	CreatedAt  time.Time
	ExpiresAt  time.Time
	LastUsedAt time.Time
}

// SetBootstrapKey makes the key with this hash the one bootstrap admin key,
// revoking an earlier one.
func (s *Store) SetBootstrapKey(ctx context.Context, hash []byte) error { panic("unwritten") }

// HasBootstrapKey reports whether there has been a first start.
func (s *Store) HasBootstrapKey(ctx context.Context) (bool, error) { panic("unwritten") }

// APIKeyByHash returns a key that is neither revoked nor expired; ErrNotFound otherwise.
func (s *Store) APIKeyByHash(ctx context.Context, hash []byte) (APIKey, error) { panic("unwritten") }
