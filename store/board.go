package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// Summary is what a list of many subscriptions shows of one: nothing that is
// sealed.
type Summary struct {
	ID          subscriptions.ID
	Name        string
	URL         string
	Events      []string
	Labels      map[string]string
	State       subscriptions.State
	StateReason string
	Version     int64
	Window      *subscriptions.Window
}

const summariesSQL = `
SELECT id, name, coalesce(spec->'endpoint'->>'url', ''), coalesce(spec->'events', '[]'), coalesce(spec->'labels', '{}'),
  state, state_reason, version,
  CASE WHEN jsonb_typeof(spec->'window') = 'object' THEN spec->'window' END
FROM rowcall.subscriptions WHERE deleted_at IS NULL AND ($1::text[] IS NULL OR id = ANY($1))`

// Summaries returns those of some subscriptions that are there, in no order; of
// every one, where none is named.
func (s *Store) Summaries(ctx context.Context, only ...subscriptions.ID) ([]Summary, error) {
	rows, err := s.pool.Query(ctx, summariesSQL, only)
	if err != nil {
		return nil, fmt.Errorf("read summaries of subscriptions: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Summary, error) {
		var one Summary
		err := row.Scan(&one.ID, &one.Name, &one.URL, &one.Events, &one.Labels, &one.State, &one.StateReason, &one.Version, &one.Window)
		return one, err
	})
	if err != nil {
		return nil, fmt.Errorf("read summaries of subscriptions: %w", err)
	}
	return found, nil
}
