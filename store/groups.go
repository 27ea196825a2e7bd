package store

import (
	"context"
	"fmt"
	"sync"
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

// groups is what is remembered between two looks at the groups.
type groups struct {
	mu    sync.Mutex
	all   []DeliveryGroup
	until time.Time // all is good until then
}

// Beyond this many deliveries their keys are not counted: that would sort them.
const countedKeys = 50_000

// One pass over what is owed; the newest of each group is then looked up.
const deliveryGroupsSQL = `
WITH grouped AS (
  SELECT d.lane, d.state, d.reason, d.status, count(*) AS events, min(d.first_failed_at) AS first, max(d.updated_at) AS last,
    max(d."offset") AS newest
  FROM rowcall.deliveries d
  WHERE ($1::timestamptz IS NULL OR d.updated_at >= $1)
  GROUP BY d.lane, d.state, d.reason, d.status
)
SELECT c.subscription, g.state, g.reason, g.status, g.events, g.first, g.last, coalesce(d.error, ''), g.lane
FROM grouped g JOIN rowcall.cursors c ON c.lane = g.lane
LEFT JOIN rowcall.deliveries d ON d.lane = g.lane AND d."offset" = g.newest
ORDER BY array_position('{dead,retrying,blocked}', g.state), g.events DESC, c.subscription, g.reason, g.status`

const groupKeysSQL = `
SELECT d.lane, d.state, d.reason, d.status, count(DISTINCT d.keys[1])
FROM rowcall.deliveries d WHERE ($1::timestamptz IS NULL OR d.updated_at >= $1)
GROUP BY d.lane, d.state, d.reason, d.status`

// DeliveryGroups groups the deliveries that f selects, the dead first and then
// by number. Of f, Subscription, State, Reason, Status and Since count; among are the subscriptions
// to look at, nil: all. Without Since they
// are counted anew only as often as leaves the database 98 % of its time: beyond
// 100,000 deliveries their numbers may be seconds old.
func (s *Store) DeliveryGroups(ctx context.Context, f DeliveryFilter, among map[subscriptions.ID]bool, limit int) ([]DeliveryGroup, error) {
	all, err := s.allGroups(ctx, f.Since)
	if err != nil {
		return nil, fmt.Errorf("group deliveries: %w", err)
	}
	var found []DeliveryGroup
	for _, g := range all {
		if len(found) < limit && (among == nil || among[g.Subscription]) && (f.Subscription == "" || g.Subscription == f.Subscription) && (f.State == "" || g.State == f.State) &&
			(f.Reason == "" || g.Reason == f.Reason) && (f.Status == 0 || g.Status == f.Status) {
			found = append(found, g)
		}
	}
	return found, nil
}

func (s *Store) allGroups(ctx context.Context, since time.Time) ([]DeliveryGroup, error) {
	if !since.IsZero() {
		return s.readGroups(ctx, since)
	}
	m := &s.groups
	m.mu.Lock()
	defer m.mu.Unlock()
	begun := time.Now()
	if begun.Before(m.until) {
		return m.all, nil
	}
	all, err := s.readGroups(ctx, since)
	if err != nil {
		return nil, err
	}
	m.all = all
	if took := time.Since(begun); took > 20*time.Millisecond && countOf(all) > countedKeys {
		m.until = time.Now().Add(49 * took)
	}
	return all, nil
}

func countOf(of []DeliveryGroup) (n int64) {
	for i := range of {
		n += of[i].Count
	}
	return n
}

// groupID tells groups apart.
type groupID struct {
	lane          int32
	state, reason string
	status        int
}

func (s *Store) readGroups(ctx context.Context, since time.Time) ([]DeliveryGroup, error) {
	rows, err := s.pool.Query(ctx, deliveryGroupsSQL, nullTime(since))
	if err != nil {
		return nil, err
	}
	place := map[groupID]int{}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (DeliveryGroup, error) {
		g := DeliveryGroup{Keys: -1}
		var first *time.Time
		var lane int32
		err := row.Scan(&g.Subscription, &g.State, &g.Reason, &g.Status, &g.Count, &first, &g.UpdatedAt, &g.Error, &lane)
		g.FirstFailedAt, g.UpdatedAt = timeOf(first), g.UpdatedAt.UTC()
		place[groupID{lane, string(g.State), g.Reason, g.Status}] = len(place)
		return g, err
	})
	if err != nil || countOf(all) > countedKeys {
		return all, err
	}
	if rows, err = s.pool.Query(ctx, groupKeysSQL, nullTime(since)); err != nil {
		return nil, err
	}
	var id groupID
	var keys int64
	_, err = pgx.ForEachRow(rows, []any{&id.lane, &id.state, &id.reason, &id.status, &keys}, func() error {
		if at, ok := place[id]; ok { // else it has come since
			all[at].Keys = keys
		}
		return nil
	})
	return all, err
}
