package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// DeliveryGroup is the deliveries of a subscription that are in one state for
// one reason.
type DeliveryGroup struct {
	Subscription  subscriptions.ID
	State         DeliveryState
	Reason        string
	Status        int
	Count         int64
	Keys          int64 // how many keys they order; below 0: not counted
	FirstFailedAt time.Time
	UpdatedAt     time.Time // of the one that changed last
	Error         string    // of the newest event's
}

// Beyond this many deliveries their keys are not counted: that would sort them.
const countedKeys = 50_000

// One pass over what is owed; the newest of each group is then looked up.
const deliveryGroupsSQL = `
WITH few AS (
  SELECT count(*) <= $5 AS few FROM (SELECT FROM rowcall.deliveries LIMIT $5 + 1) AS looked
), grouped AS (
  SELECT d.lane, d.state, d.reason, d.status, count(*) AS events, min(d.first_failed_at) AS first, max(d.updated_at) AS last,
    max(d."offset") AS newest, count(DISTINCT CASE WHEN few THEN d.keys[1] END) AS keys, bool_and(few) AS counted
  FROM rowcall.deliveries d, few
  WHERE ($1 = '' OR d.lane IN (SELECT lane FROM rowcall.cursors WHERE subscription = $1))
    AND ($2 = '' OR d.state = $2) AND ($3 = '' OR d.reason = $3)
    AND ($4::timestamptz IS NULL OR d.updated_at >= $4)
  GROUP BY d.lane, d.state, d.reason, d.status
)
SELECT c.subscription, g.state, g.reason, g.status, g.events, CASE WHEN g.counted THEN g.keys ELSE -1 END, g.first, g.last, coalesce(d.error, '')
FROM grouped g JOIN rowcall.cursors c ON c.lane = g.lane
LEFT JOIN rowcall.deliveries d ON d.lane = g.lane AND d."offset" = g.newest
ORDER BY array_position('{dead,retrying,blocked}', g.state), g.events DESC, c.subscription, g.reason, g.status
LIMIT $6`

// DeliveryGroups groups the deliveries that f selects, the dead first and then
// by number. Of f, Subscription, State, Reason and Since count.
func (s *Store) DeliveryGroups(ctx context.Context, f DeliveryFilter, limit int) ([]DeliveryGroup, error) {
	rows, err := s.pool.Query(ctx, deliveryGroupsSQL, f.Subscription, string(f.State), cleanText(f.Reason), nullTime(f.Since),
		countedKeys, limit)
	if err != nil {
		return nil, fmt.Errorf("group deliveries: %w", err)
	}
	groups, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (DeliveryGroup, error) {
		var g DeliveryGroup
		var first *time.Time
		err := row.Scan(&g.Subscription, &g.State, &g.Reason, &g.Status, &g.Count, &g.Keys, &first, &g.UpdatedAt, &g.Error)
		g.FirstFailedAt, g.UpdatedAt = timeOf(first), g.UpdatedAt.UTC()
		return g, err
	})
	if err != nil {
		return nil, fmt.Errorf("group deliveries: %w", err)
	}
	return groups, nil
}
