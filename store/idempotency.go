package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Bounds of idempotency keys. They are kept for a day, the newest million of them.
const (
	idempotencyKept = `interval '24 hours'`
	idempotencyMost = 1_000_000
	// MaxKeptAnswer is how long an answer may be that is kept, in bytes.
	MaxKeptAnswer = 256 << 10
)

// IdempotencyKey names a request that may come again.
type IdempotencyKey struct {
	Actor       string // id of the API key
	Key         string // what the caller chose
	Fingerprint []byte // the same for the same request
}

// IdempotencyClaim is the right to carry a request out.
type IdempotencyClaim struct {
	IdempotencyKey
	claim int64
}

// ErrReused: the key came with another request before.
var ErrReused = errors.New("idempotency key used for another request")

// CarriedOutError says that a request was carried out, and that its answer was not
// kept: its process died in between.
type CarriedOutError struct{ Object string }

func (e *CarriedOutError) Error() string { return "request was carried out: " + e.Object }

const (
	expireKeySQL = `DELETE FROM rowcall.idempotency WHERE actor = $1 AND key = $2 AND created_at < clock_timestamp() - ` + idempotencyKept
	// One that is not answered after a minute, three times what a request may take,
	// and has changed nothing, is taken up anew.
	claimKeySQL = `
INSERT INTO rowcall.idempotency (actor, key, fingerprint) VALUES ($1, $2, $3)
ON CONFLICT (actor, key) DO UPDATE SET claim = idempotency.claim + 1, claimed_at = clock_timestamp()
WHERE idempotency.fingerprint = excluded.fingerprint AND idempotency.answer IS NULL AND idempotency.object = ''
  AND idempotency.claimed_at < clock_timestamp() - interval '1 minute'
RETURNING claim`
	readKeySQL    = `SELECT fingerprint, object, answer FROM rowcall.idempotency WHERE actor = $1 AND key = $2`
	keepAnswerSQL = `UPDATE rowcall.idempotency SET answer = $4 WHERE actor = $1 AND key = $2 AND claim = $3`
	openKeySQL    = `UPDATE rowcall.idempotency SET claimed_at = '-infinity' WHERE actor = $1 AND key = $2 AND claim = $3`
	releaseKeySQL = `DELETE FROM rowcall.idempotency WHERE actor = $1 AND key = $2 AND claim = $3 AND object = ''`
	markKeySQL    = `UPDATE rowcall.idempotency SET object = $4 WHERE actor = $1 AND key = $2 AND claim = $3`
	pruneKeysSQL  = `
DELETE FROM rowcall.idempotency WHERE created_at < greatest(clock_timestamp() - ` + idempotencyKept + `,
  (SELECT created_at FROM rowcall.idempotency ORDER BY created_at DESC OFFSET $1 LIMIT 1))`
)

// ClaimIdempotency returns the right to carry a request out, or the answer that it
// got. ErrReused where the key came with another request, ErrConflict while the
// same is being carried out, a *CarriedOutError where its answer is lost.
func (s *Store) ClaimIdempotency(ctx context.Context, k IdempotencyKey) (claim *IdempotencyClaim, answer []byte, err error) {
	claim, answer, err = s.claimIdempotency(ctx, k)
	if err != nil {
		err = fmt.Errorf("claim idempotency key: %w", err)
	}
	return claim, answer, err
}

func (s *Store) claimIdempotency(ctx context.Context, k IdempotencyKey) (*IdempotencyClaim, []byte, error) {
	if _, err := s.pool.Exec(ctx, expireKeySQL, k.Actor, k.Key); err != nil {
		return nil, nil, err
	}
	claim := &IdempotencyClaim{IdempotencyKey: k}
	err := s.pool.QueryRow(ctx, claimKeySQL, k.Actor, k.Key, k.Fingerprint).Scan(&claim.claim)
	if err == nil {
		return claim, nil, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, err
	}
	var fingerprint, sealed []byte
	var object string
	err = s.pool.QueryRow(ctx, readKeySQL, k.Actor, k.Key).Scan(&fingerprint, &object, &sealed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil, ErrConflict // it failed just now: whoever asks again is let in
	case err != nil:
		return nil, nil, err
	case !bytes.Equal(fingerprint, k.Fingerprint):
		return nil, nil, ErrReused
	case sealed != nil:
		answer, err := s.config.Cipher.Open(sealed, k.place())
		return nil, answer, err
	case object != "":
		return nil, nil, &CarriedOutError{object}
	}
	return nil, nil, ErrConflict
}

func (k *IdempotencyKey) place() string { return "idempotency/" + k.Actor + "/" + k.Key }

// KeepAnswer keeps the answer to a request, sealed. One that is longer than
// MaxKeptAnswer is not kept: the request may be carried out again.
func (s *Store) KeepAnswer(ctx context.Context, c *IdempotencyClaim, answer []byte) error {
	var err error
	if len(answer) > MaxKeptAnswer {
		_, err = s.pool.Exec(ctx, openKeySQL, c.Actor, c.Key, c.claim)
	} else {
		_, err = s.pool.Exec(ctx, keepAnswerSQL, c.Actor, c.Key, c.claim, s.config.Cipher.Seal(answer, c.place()))
	}
	if err != nil {
		return fmt.Errorf("keep answer: %w", err)
	}
	return nil
}

// ReleaseIdempotency forgets a request that failed and changed nothing.
func (s *Store) ReleaseIdempotency(ctx context.Context, c *IdempotencyClaim) error {
	if _, err := s.pool.Exec(ctx, releaseKeySQL, c.Actor, c.Key, c.claim); err != nil {
		return fmt.Errorf("release idempotency key: %w", err)
	}
	return nil
}

// mark says in the transaction of a change that it is the one that was asked for.
// It refuses the change where somebody else has taken the request up.
func (c *IdempotencyClaim) mark(ctx context.Context, q querier, object string) error {
	if c == nil {
		return nil
	}
	tag, err := q.Exec(ctx, markKeySQL, c.Actor, c.Key, c.claim, object)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrConflict
	}
	return err
}

// pruneIdempotency forgets keys that are old, or too many.
func (s *Store) pruneIdempotency(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, pruneKeysSQL, idempotencyMost); err != nil {
		return fmt.Errorf("prune idempotency keys: %w", err)
	}
	return nil
}
