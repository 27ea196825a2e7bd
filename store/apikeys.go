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
)

// keySeen is what the audit trail shows of a key.
type keySeen struct {
	Name      string            `json:"name"`
	Scopes    []string          `json:"scopes"`
	Labels    map[string]string `json:"labels"`
	ExpiresAt *time.Time        `json:"expires_at"`
	Person    string            `json:"person,omitempty"` // issuer and subject
}

const insertKeySQL = `
INSERT INTO rowcall.api_keys (id, name, hash, scopes, labels, expires_at, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING created_at`

// CreateAPIKey saves a key: its Name, Hash, Scopes, Labels, ExpiresAt and
// CreatedBy. It sets ID and CreatedAt.
func (s *Store) CreateAPIKey(ctx context.Context, key *APIKey) error {
	id := "key_" + strings.ToLower(rand.Text())
	if key.Labels == nil {
		key.Labels = map[string]string{}
	}
	labels, err := json.Marshal(key.Labels)
	if err != nil {
		return fmt.Errorf("create api key: %w", err)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, insertKeySQL, id, cleanText(key.Name), key.Hash, key.Scopes, cleanJSON(labels),
			nullTime(key.ExpiresAt), cleanText(key.CreatedBy)).Scan(&key.CreatedAt)
		if err != nil {
			return err
		}
		return audit(ctx, tx, "api-key/"+id, nil, keySeen{Name: key.Name, Scopes: key.Scopes, Labels: key.Labels, ExpiresAt: nullTime(key.ExpiresAt)})
	})
	if err != nil {
		return fmt.Errorf("create api key: %w", err)
	}
	key.ID, key.CreatedAt = id, key.CreatedAt.UTC()
	return nil
}

const listKeysSQL = `
SELECT id, name, hash, scopes, labels, bootstrap, created_at, expires_at, last_used_at, created_by, coalesce(person, ''), revoked_at
FROM rowcall.api_keys WHERE parent IS NULL AND (revoked_at IS NULL OR $3) AND id > $1 ORDER BY id LIMIT $2`

// APIKeys lists keys that were not revoked, or with revoked all there were, by id:
// those above after. Sessions are none.
func (s *Store) APIKeys(ctx context.Context, after string, revoked bool, limit int) ([]APIKey, error) {
	rows, err := s.pool.Query(ctx, listKeysSQL, cleanText(after), limit, revoked)
	if err != nil {
		return nil, fmt.Errorf("list api keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (APIKey, error) {
		var key APIKey
		var expires, used, revoked *time.Time
		err := row.Scan(&key.ID, &key.Name, &key.Hash, &key.Scopes, &key.Labels, &key.Bootstrap, &key.CreatedAt, &expires, &used, &key.CreatedBy, &key.Person, &revoked)
		key.CreatedAt, key.ExpiresAt, key.LastUsedAt, key.RevokedAt = key.CreatedAt.UTC(), timeOf(expires), timeOf(used), timeOf(revoked)
		return key, err
	})
	if err != nil {
		return nil, fmt.Errorf("list api keys: %w", err)
	}
	return keys, nil
}

const revokeKeySQL = `
UPDATE rowcall.api_keys SET revoked_at = CASE WHEN bootstrap THEN revoked_at ELSE now() END
WHERE id = $1 AND parent IS NULL AND revoked_at IS NULL RETURNING hash, bootstrap, name, scopes, labels, expires_at, coalesce(person, '')`

// RevokeAPIKey ends a key, and its sessions with it. It returns its hash.
// ErrNotFound where there is none with this id; ErrConflict where it is the
// bootstrap key, which follows the configuration.
func (s *Store) RevokeAPIKey(ctx context.Context, id string) (hash []byte, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var bootstrap bool
		var seen keySeen
		err := tx.QueryRow(ctx, revokeKeySQL, cleanText(id)).Scan(&hash, &bootstrap, &seen.Name, &seen.Scopes, &seen.Labels, &seen.ExpiresAt, &seen.Person)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrNotFound
		case err != nil:
			return err
		case bootstrap:
			return ErrConflict
		}
		return audit(ctx, tx, "api-key/"+id, seen, nil)
	})
	if err != nil {
		return nil, fmt.Errorf("revoke api key: %w", err)
	}
	return hash, nil
}
