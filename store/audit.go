package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Change is a change as the audit trail knows it.
type Change struct {
	ID     int64 // set by queries
	At     time.Time
	Actor  string // id of the key
	Remote string // address that the request came from
	Action string // operationId of the route
	Object string // what was changed, as in "subscription/sub_…"
	Before json.RawMessage
	After  json.RawMessage // members that differ, without secrets; nil: none is known
	Note   string          // why, in the words of who did it; may be empty

	// Claim is under what the change was asked for: its key names the object from
	// the transaction of the change on. nil: without an idempotency key.
	Claim *IdempotencyClaim

	recorded bool
}

// changeKey is the context's key of the change that a request makes.
type changeKey struct{}

// WithChange has what is changed under the returned context audited as c: the
// method that changes something adds a row in its own transaction, and completes
// c's Object, Before and After. That a context carries it, and not a parameter, is
// so that nobody who changes something can pass none by mistake.
//
// Recorded says whether a method did; what none did is Record's.
func WithChange(ctx context.Context, c *Change) context.Context {
	return context.WithValue(ctx, changeKey{}, c)
}

// Recorded reports whether the change is in the audit trail.
func (c *Change) Recorded() bool { return c.recorded }

// audited reports whether changes under the context are recorded.
func audited(ctx context.Context) bool {
	_, ok := ctx.Value(changeKey{}).(*Change)
	return ok
}

const insertAuditSQL = `
INSERT INTO rowcall.audit (actor, remote, action, object, before, after, note) VALUES ($1, $2, $3, $4, $5, $6, $7)`

// audit records the context's change, where there is one. before and after are
// what is seen of the object, nil for nothing.
func audit(ctx context.Context, q querier, object string, before, after any) error {
	c, ok := ctx.Value(changeKey{}).(*Change)
	if !ok {
		return nil
	}
	old, err := difference(before, after)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	fresh, err := difference(after, before)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	_, err = q.Exec(ctx, insertAuditSQL, cleanText(c.Actor), cleanText(c.Remote), c.Action, cleanText(object), null(string(old)), null(string(fresh)), cleanText(c.Note))
	if err == nil {
		err = c.Claim.mark(ctx, q, object)
	}
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	c.Object, c.Before, c.After, c.recorded = object, old, fresh, true
	return nil
}

// Record adds the context's change to the audit trail by itself, unless a method
// has done so.
func (s *Store) Record(ctx context.Context, object string) error {
	if c, ok := ctx.Value(changeKey{}).(*Change); !ok || c.recorded {
		return nil
	}
	return audit(ctx, s.pool, object, nil, nil)
}

// difference is the JSON object of those members of v that other has not, or has
// otherwise; empty where there are none.
func difference(v, other any) ([]byte, error) {
	mine, err := membersOf(v)
	if err != nil {
		return nil, err
	}
	theirs, err := membersOf(other)
	if err != nil {
		return nil, err
	}
	for name, value := range mine {
		if bytes.Equal(value, theirs[name]) {
			delete(mine, name)
		}
	}
	if len(mine) == 0 {
		return nil, nil
	}
	raw, err := json.Marshal(mine)
	return cleanJSON(raw), err
}

func membersOf(v any) (map[string]json.RawMessage, error) {
	if v == nil {
		return nil, nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	return members, json.Unmarshal(raw, &members)
}

// ChangeFilter selects changes for a list. What is zero does not filter.
type ChangeFilter struct {
	Actor, Action, Object string    // exact
	Since, Until          time.Time // from Since on, before Until
	Past                  int64     // keyset: ids below it; 0: from the newest
}

const changesSQL = `
SELECT id, at, actor, remote, action, object, before, after, note FROM rowcall.audit
WHERE ($1 = '' OR actor = $1) AND ($2 = '' OR action = $2) AND ($3 = '' OR object = $3)
  AND ($4::timestamptz IS NULL OR at >= $4) AND ($5::timestamptz IS NULL OR at < $5)
  AND ($6::bigint = 0 OR id < $6)
ORDER BY id DESC LIMIT $7`

// Audit lists changes, newest first.
func (s *Store) Audit(ctx context.Context, f ChangeFilter, limit int) ([]Change, error) {
	rows, err := s.pool.Query(ctx, changesSQL, cleanText(f.Actor), cleanText(f.Action), cleanText(f.Object),
		nullTime(f.Since), nullTime(f.Until), f.Past, limit)
	if err != nil {
		return nil, fmt.Errorf("list changes: %w", err)
	}
	changes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Change, error) {
		c := Change{recorded: true}
		err := row.Scan(&c.ID, &c.At, &c.Actor, &c.Remote, &c.Action, &c.Object, &c.Before, &c.After, &c.Note)
		c.At = c.At.UTC()
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("list changes: %w", err)
	}
	return changes, nil
}
