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

// A session ends when it was not used for this long, and at its ExpiresAt.
const sessionIdle = `interval '30 minutes'`

// sessionLives is the condition under which a key k whose parent is p, if it is
// a session, still counts.
const sessionLives = `(k.parent IS NULL OR p.revoked_at IS NULL AND (p.expires_at IS NULL OR p.expires_at > now())
  AND k.last_used_at > now() - ` + sessionIdle + `)`

const forgetSessionsSQL = `
DELETE FROM rowcall.api_keys
WHERE parent IS NOT NULL AND (expires_at < now() OR revoked_at IS NOT NULL OR last_used_at < now() - ` + sessionIdle + `)`

const addSessionSQL = `
INSERT INTO rowcall.api_keys (id, name, hash, scopes, parent, expires_at, last_used_at)
SELECT $1, name, $2, '{}', id, least(expires_at, now() + $4::interval), now()
FROM rowcall.api_keys
WHERE id = $3 AND parent IS NULL AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING expires_at`

// AddSession makes a session of a key: another key with this hash, which may do
// what the key may. It ends with the key, after longest, or after half an hour
// without use. It returns the time at which it ends at the latest; ErrNotFound
// where there is no such key, or where that is itself a session.
func (s *Store) AddSession(ctx context.Context, key string, hash []byte, longest time.Duration) (time.Time, error) {
	var expires time.Time
	_, err := s.pool.Exec(ctx, forgetSessionsSQL)
	if err == nil {
		err = s.pool.QueryRow(ctx, addSessionSQL, "ses_"+strings.ToLower(rand.Text()), hash, key, longest).Scan(&expires)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("add session: %w", err)
	}
	return expires.UTC(), nil
}

const endSessionSQL = `DELETE FROM rowcall.api_keys WHERE id = $1 AND parent IS NOT NULL`

// EndSession ends a session; ErrNotFound where there is none with this id.
func (s *Store) EndSession(ctx context.Context, id string) error {
	tag, err := s.pool.Exec(ctx, endSessionSQL, id)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}
