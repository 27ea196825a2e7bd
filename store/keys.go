package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// APIKey is a key as the store knows it: by its hash.
type APIKey struct {
	ID         string
	Name       string
	Hash       []byte // SHA-256
	Scopes     []string
	Bootstrap  bool
	CreatedAt  time.Time
	ExpiresAt  time.Time         // zero: never
	LastUsedAt time.Time         // zero: never
	Labels     map[string]string // subscriptions that have them all are all that it sees; empty: it sees every one
	CreatedBy  string            // id of the key that made it; empty: the configuration
	Parent     string            // of a session: the id of its key, whose Scopes are its own; else empty
	Person     string            // who signs in elsewhere, by issuer and subject, or whose session it is; empty: it is a key, or of one
	Rules      string            // of a person: by which rules the scopes were given, as whoever saved them calls them
	RevokedAt  time.Time         // or when the person lost all rights; zero: it counts
}

// Instances that start at the same moment take turns: else each would revoke
// only what it sees, and two bootstrap keys could stay.
const lockKeysSQL = `LOCK TABLE rowcall.api_keys IN SHARE ROW EXCLUSIVE MODE`

const revokeBootstrapSQL = `
UPDATE rowcall.api_keys SET revoked_at = now()
WHERE bootstrap AND revoked_at IS NULL AND hash <> $1`

const saveBootstrapSQL = `
INSERT INTO rowcall.api_keys (id, name, hash, scopes, bootstrap)
VALUES ($1, 'bootstrap', $2, '{admin}', true)
ON CONFLICT (hash) DO UPDATE
SET scopes = excluded.scopes, labels = '{}', parent = NULL, bootstrap = true, expires_at = NULL, revoked_at = NULL`

// SetBootstrapKey makes the key with this hash the one bootstrap admin key,
// revoking an earlier one. A key that was revoked before is valid again.
func (s *Store) SetBootstrapKey(ctx context.Context, hash []byte) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockKeysSQL); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, revokeBootstrapSQL, hash); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, saveBootstrapSQL, "key_"+strings.ToLower(rand.Text()), hash)
		return err
	})
	if err != nil {
		return fmt.Errorf("set bootstrap key: %w", err)
	}
	return nil
}

const hasBootstrapSQL = `SELECT EXISTS (SELECT FROM rowcall.api_keys WHERE bootstrap)`

// HasBootstrapKey reports whether there has been a first start.
func (s *Store) HasBootstrapKey(ctx context.Context) (bool, error) {
	var has bool
	if err := s.pool.QueryRow(ctx, hasBootstrapSQL).Scan(&has); err != nil {
		return false, fmt.Errorf("look for bootstrap key: %w", err)
	}
	return has, nil
}

const keyByHashSQL = `
SELECT k.id, k.name, k.hash, coalesce(p.scopes, k.scopes), nullif(coalesce(p.labels, k.labels), '{}'), k.bootstrap, k.created_at, k.expires_at, k.last_used_at,
       coalesce(k.parent, ''), coalesce(p.person, ''), coalesce(p.rules, ''), k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute'
FROM rowcall.api_keys k LEFT JOIN rowcall.api_keys p ON p.id = k.parent
WHERE k.hash = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()) AND ` + sessionLives

const touchKeySQL = `
UPDATE rowcall.api_keys SET last_used_at = now()
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')`

// APIKeyByHash returns a key or session that is neither revoked nor expired, by
// the store's clock; ErrNotFound otherwise. It takes note of the use, at most once
// a minute; the answer holds the use before.
func (s *Store) APIKeyByHash(ctx context.Context, hash []byte) (APIKey, error) {
	var key APIKey
	var expires, used *time.Time
	var touch bool
	err := s.pool.QueryRow(ctx, keyByHashSQL, hash).Scan(&key.ID, &key.Name, &key.Hash, &key.Scopes, &key.Labels, &key.Bootstrap,
		&key.CreatedAt, &expires, &used, &key.Parent, &key.Person, &key.Rules, &touch)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return APIKey{}, fmt.Errorf("find api key: %w", ErrNotFound)
	case err != nil:
		return APIKey{}, fmt.Errorf("find api key: %w", err)
	}
	key.CreatedAt, key.ExpiresAt, key.LastUsedAt = key.CreatedAt.UTC(), timeOf(expires), timeOf(used)
	if touch {
		// A store that takes no writes must not lock people out.
		if _, err := s.pool.Exec(ctx, touchKeySQL, key.ID); err != nil {
			s.log.Debug().Err(err).Str("key", key.ID).Msg("cannot note use of api key")
		}
	}
	return key, nil
}

// timeOf is a nullable time in UTC; null is zero.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// nullTime is the reverse of timeOf.
func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
