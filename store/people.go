package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

const personSQL = `SELECT id, name, scopes, expires_at FROM rowcall.api_keys WHERE person = $1 AND revoked_at IS NULL FOR UPDATE`

// The hash is no key's: nothing that anybody could send leads to the row.
const savePersonSQL = `
INSERT INTO rowcall.api_keys (id, name, hash, scopes, person, rules, last_used_at) VALUES ($1, $2, $3, $4, $5, $6, now())
ON CONFLICT (person) WHERE person IS NOT NULL DO UPDATE
SET name = excluded.name, scopes = excluded.scopes, rules = excluded.rules, revoked_at = NULL, last_used_at = now()
RETURNING id`

// SavePerson keeps the row of somebody who has signed in elsewhere: Name, Person,
// Scopes and Rules of the key, and sets its ID, which is the same at every sign-in of the
// person. What the person may do counts at once for sessions that are there. The
// person is the actor of the context's change, which is recorded where anything is new.
func (s *Store) SavePerson(ctx context.Context, key *APIKey) error {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails: the program ends instead
	slices.Sort(key.Scopes)
	name := cleanText(key.Name)
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		before, err := readPerson(ctx, tx, key.Person)
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, savePersonSQL, "key_"+strings.ToLower(rand.Text()), name, random[:], key.Scopes, cleanText(key.Person), key.Rules).Scan(&key.ID)
		if err != nil {
			return err
		}
		if before != nil && before.Name == name && slices.Equal(before.Scopes, key.Scopes) {
			return nil
		}
		return auditPerson(ctx, tx, key.ID, before, &keySeen{Name: name, Scopes: key.Scopes, Person: cleanText(key.Person)})
	})
	if err != nil {
		return fmt.Errorf("save person: %w", err)
	}
	return nil
}

const endPersonSQL = `UPDATE rowcall.api_keys SET revoked_at = now() WHERE person = $1 AND revoked_at IS NULL RETURNING id`

// EndPerson ends the sessions of somebody who may do nothing any more; nothing
// happens where there is no such person.
func (s *Store) EndPerson(ctx context.Context, person string) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		before, err := readPerson(ctx, tx, person)
		if err != nil || before == nil {
			return err
		}
		var id string
		if err := tx.QueryRow(ctx, endPersonSQL, cleanText(person)).Scan(&id); err != nil {
			return err
		}
		return auditPerson(ctx, tx, id, before, nil)
	})
	if err != nil {
		return fmt.Errorf("end person: %w", err)
	}
	return nil
}

func readPerson(ctx context.Context, tx pgx.Tx, person string) (*keySeen, error) {
	var id string
	seen := keySeen{Person: cleanText(person)}
	err := tx.QueryRow(ctx, personSQL, cleanText(person)).Scan(&id, &seen.Name, &seen.Scopes, &seen.ExpiresAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	slices.Sort(seen.Scopes)
	return &seen, err
}

// auditPerson records the context's change as one that the person made.
func auditPerson(ctx context.Context, tx pgx.Tx, id string, before, after *keySeen) error {
	if c, ok := ctx.Value(changeKey{}).(*Change); ok {
		c.Actor = id
	}
	var old, now any
	if before != nil {
		old = before
	}
	if after != nil {
		now = after
	}
	return audit(ctx, tx, "api-key/"+id, old, now)
}
