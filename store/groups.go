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

// groups are remembered: all, and those since some times.
type groups struct {
	all   remembered[[]DeliveryGroup]
	mu    sync.Mutex
	since map[time.Time]*remembered[[]DeliveryGroup]
}

// sinceKept is how many times groups are remembered since.
const sinceKept = 16

// of is what is remembered of the groups since a time.
func (g *groups) of(since time.Time) *remembered[[]DeliveryGroup] {
	if since.IsZero() {
		return &g.all
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	found := g.since[since]
	if found == nil {
		if g.since == nil || len(g.since) >= sinceKept {
			g.since = map[time.Time]*remembered[[]DeliveryGroup]{}
		}
		found = &remembered[[]DeliveryGroup]{}
		g.since[since] = found
	}
	return found
}

// One pass over what is owed; the newest of each group is then looked up. Each %s is
// a condition: none, or changedSince.
const (
	// The dead are found by when they died, and the others are few. Each are grouped by
	// themselves: of both together the server knows no statistics, and sorts them all.
	deliveryGroupsSQL = `
WITH grouped AS MATERIALIZED (
  SELECT d.lane, 'dead' AS state, d.reason, d.status, count(*) AS events, min(d.first_failed_at) AS first, max(d.updated_at) AS last, max(d."offset") AS newest
  FROM rowcall.deliveries d WHERE d.state = 'dead'%[1]s GROUP BY d.lane, d.reason, d.status
  UNION ALL
  SELECT d.lane, d.state, d.reason, d.status, count(*), min(d.first_failed_at), max(d.updated_at), max(d."offset")
  FROM rowcall.deliveries d WHERE d.state <> 'dead'%[1]s GROUP BY d.lane, d.state, d.reason, d.status
)
SELECT c.subscription, g.state, g.reason, g.status, g.events, g.first, g.last, coalesce(d.error, ''), g.lane
FROM grouped g JOIN rowcall.cursors c ON c.lane = g.lane
LEFT JOIN rowcall.deliveries d ON d.lane = g.lane AND d."offset" = g.newest
ORDER BY array_position('{dead,retrying,blocked}', g.state), g.events DESC, c.subscription, g.reason, g.status`
	// Their hashes are sorted for it, not the texts.
	groupKeysSQL = `
SELECT d.lane, d.state, d.reason, d.status, count(DISTINCT hashtextextended(d.keys[1], 0))
FROM (SELECT * FROM rowcall.deliveries d WHERE d.state = 'dead'%[1]s UNION ALL SELECT * FROM rowcall.deliveries d WHERE d.state <> 'dead'%[1]s) d
GROUP BY d.lane, d.state, d.reason, d.status`
	changedSince = ` AND d.updated_at >= $1`
)

// DeliveryGroups groups the deliveries that f selects, the dead first and then
// by number. Of f, Subscription, State, Reason, Status and Since count; among are the subscriptions
// to look at, nil: all. They are
// remembered: beyond 50,000 deliveries their numbers may be 15 seconds old, and more
// where it takes over a second to count them.
func (s *Store) DeliveryGroups(ctx context.Context, f DeliveryFilter, among map[subscriptions.ID]bool, limit int) ([]DeliveryGroup, error) {
	all, err := s.groups.of(f.Since).get(ctx, s, func(ctx context.Context) ([]DeliveryGroup, int64, error) {
		all, err := s.readGroups(ctx, f.Since)
		return all, countOf(all), err
	})
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
	// Planned for this time: whether an index helps depends on it.
	when, args := ``, []any{pgx.QueryExecModeDescribeExec}
	if !since.IsZero() {
		when, args = changedSince, append(args, since)
	}
	rows, err := s.pool.Query(ctx, fmt.Sprintf(deliveryGroupsSQL, when), args...)
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
	if err != nil || countOf(all) > countedEach { // more keys would have to be sorted
		return all, err
	}
	if rows, err = s.pool.Query(ctx, fmt.Sprintf(groupKeysSQL, when), args...); err != nil {
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
