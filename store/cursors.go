package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// Lane is one subscription's reader of the log, as its owner claimed it.
type Lane struct {
	ID           LaneID
	Epoch        int64
	Cursor       Offset        // everything below is settled or held by a delivery
	Ahead        []OffsetRange // settled above the cursor
	Following    bool
	HeldMS       int64
	Health       EndpointHealth
	Overflows    []Overflow
	Counts       Counts
	Subscription subscriptions.Subscription
	Version      int64   // grows with every change of the subscription, or of the replay
	Replay       *Replay // nil: it is the subscription's own lane
}

// effectiveCursor is the cursor of a lane c whose owner's lease is l: below it
// everything is settled or held. Lanes that follow do not write their own while
// nothing of theirs is pending; their owner's floor stands for all of them.
const effectiveCursor = `CASE WHEN c.following THEN greatest(c."offset", l.floor) ELSE c."offset" END`

// Of this instance ($1), in this life of it ($2).
const ourLanesSQL = `
SELECT coalesce(array_agg(c.lane) FILTER (WHERE c.owner = $1 AND c.owner_epoch = $2), '{}'),
       coalesce(array_agg(s.version + coalesce(j.version, 0)) FILTER (WHERE c.owner = $1 AND c.owner_epoch = $2), '{}'),
       coalesce(bool_or(c.owner IS NULL OR c.owner = $1 AND c.owner_epoch <> $2
         OR c.owner <> $1 AND (l.instance IS NULL OR l.expires_at < now())), false)
FROM rowcall.cursors c
JOIN rowcall.subscriptions s ON s.id = c.subscription
LEFT JOIN rowcall.jobs j ON j.id = c.replay
LEFT JOIN rowcall.leases l ON l.instance = c.owner`

// ClaimLanes gives this instance every lane that has no live owner and returns
// all lanes that it owns now, their deliveries not included. Lanes whose id and
// Version are in have are left out of the answer, but for owned,
// which names every lane owned (what is missing there is gone).
//
// The lane of a replay always has the owner of the subscription's own lane.
//
// Lanes that an earlier life of this instance owned are claimed anew. A claimed
// lane does not follow, whatever it did before: its cursor is written out, and
// follows again once its owner settles that it does. Lanes of paused and
// disabled subscriptions are claimed and returned as any other.
//
// ErrFenced where this instance has lost its lease. A call that finds nothing
// to claim is one statement, whose answer is two arrays.
func (s *Store) ClaimLanes(ctx context.Context, have map[LaneID]int64) (lanes []Lane, owned []LaneID, err error) {
	lanes, owned, err = s.claimLanes(ctx, have)
	if err != nil {
		return nil, nil, fmt.Errorf("claim lanes: %w", err)
	}
	return lanes, owned, nil
}

func (s *Store) claimLanes(ctx context.Context, have map[LaneID]int64) ([]Lane, []LaneID, error) {
	lease, err := s.Lease(ctx)
	if err != nil {
		return nil, nil, err
	}
	var ids []int32
	var versions []int64
	var some bool
	look := func() error {
		return s.pool.QueryRow(ctx, ourLanesSQL, lease.Instance, lease.Epoch).Scan(&ids, &versions, &some)
	}
	if err := look(); err != nil {
		return nil, nil, err
	}
	var claimed []int32
	if some {
		if claimed, err = s.takeLanes(ctx, lease); err != nil {
			return nil, nil, err
		}
		if err := look(); err != nil {
			return nil, nil, err
		}
	}
	slices.Sort(claimed)
	owned := make([]LaneID, len(ids))
	var news []int32
	opened := map[LaneID]bool{} // of news: nobody runs them yet
	for i, id := range ids {
		owned[i] = LaneID(id)
		version, there := have[LaneID(id)]
		if _, fresh := slices.BinarySearch(claimed, id); fresh || !there || version != versions[i] {
			news = append(news, id)
			opened[LaneID(id)] = !there
		}
	}
	if len(news) == 0 {
		return nil, owned, nil
	}
	lanes, err := s.readLanes(ctx, lease, news)
	if err == nil {
		err = s.openBooks(ctx, lanes, opened)
	}
	return lanes, owned, err
}

// All leases in one order, so that instances which take over from each other
// do not wait for each other in a circle.
const lockLeasesSQL = `
SELECT l.instance, l.epoch, l.instance = $1
FROM rowcall.leases l
WHERE l.instance = $1 OR l.expires_at < now() AND EXISTS (SELECT FROM rowcall.cursors c WHERE c.owner = l.instance)
ORDER BY l.instance FOR UPDATE`

// From here on the dead instance's floor stands still, should it wake up.
const raiseLeasesSQL = `UPDATE rowcall.leases SET epoch = epoch + 1 WHERE instance = ANY($1::text[])`

// The lanes to take: of nobody, of a former life of ours, of the instances
// found dead ($3), and of those that have no lease at all.
const freeLanes = `(c.owner IS NULL OR c.owner = $1 AND c.owner_epoch <> $2 OR c.owner = ANY($3::text[])
  OR NOT EXISTS (SELECT FROM rowcall.leases WHERE instance = c.owner))`

const lockLanesSQL = `SELECT count(*) FROM (
  SELECT FROM rowcall.cursors c WHERE ` + freeLanes + ` ORDER BY c.lane FOR UPDATE) AS locked`

// A statement of its own behind the lock, so that it sees what those wrote who
// held it. Without a lease the floor is not known, and the cursor alone counts.
const takeLanesSQL = `
UPDATE rowcall.cursors c
SET "offset" = CASE WHEN c.following
      THEN greatest(c."offset", (SELECT l.floor FROM rowcall.leases l WHERE l.instance = c.owner))
      ELSE c."offset" END,
    following = false, owner = $1, owner_epoch = $2, epoch = c.epoch + 1
WHERE ` + freeLanes + ` RETURNING c.lane`

// takeLanes claims every lane that is free, and returns them.
func (s *Store) takeLanes(ctx context.Context, lease Lease) (claimed []int32, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, lockLeasesSQL, lease.Instance)
		if err != nil {
			return err
		}
		var instance string
		var epoch int64
		var ours, holds bool
		dead := []string{}
		_, err = pgx.ForEachRow(rows, []any{&instance, &epoch, &ours}, func() error {
			if ours {
				holds = epoch == lease.Epoch
			} else {
				dead = append(dead, instance)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if !holds {
			return ErrFenced
		}
		if len(dead) > 0 {
			if _, err := tx.Exec(ctx, raiseLeasesSQL, dead); err != nil {
				return err
			}
		}
		var locked int64
		if err := tx.QueryRow(ctx, lockLanesSQL, lease.Instance, lease.Epoch, dead).Scan(&locked); err != nil {
			return err
		}
		if rows, err = tx.Query(ctx, takeLanesSQL, lease.Instance, lease.Epoch, dead); err != nil {
			return err
		}
		claimed, err = pgx.CollectRows(rows, pgx.RowTo[int32])
		return err
	})
	if err == nil && len(claimed) > 0 {
		s.log.Info().Int("lanes", len(claimed)).Int64("epoch", lease.Epoch).Msg("claimed lanes")
	}
	return claimed, err
}

const lanesSQL = `
SELECT ` + subscriptionColumns + `, c.lane, c.epoch, ` + effectiveCursor + `, c.ahead, c.following, c.held_ms, coalesce(c.health, '{}'),
  ` + laneOverflows + `, c.delivered, c.filtered, c.discarded, c.compacted, c.overflowed,
  s.version + coalesce(j.version, 0), coalesce(j.id, ''), coalesce(j.state, ''), coalesce(j.spec, '{}'), coalesce(j.done, 0), coalesce(j.failed, 0)
FROM rowcall.cursors c
JOIN rowcall.subscriptions s ON s.id = c.subscription
LEFT JOIN rowcall.jobs j ON j.id = c.replay
LEFT JOIN rowcall.leases l ON l.instance = c.owner
WHERE c.lane = ANY($3::integer[]) AND c.owner = $1 AND c.owner_epoch = $2
ORDER BY c.lane`

func (s *Store) readLanes(ctx context.Context, lease Lease, ids []int32) ([]Lane, error) {
	rows, err := s.pool.Query(ctx, lanesSQL, lease.Instance, lease.Epoch, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Lane, error) {
		var l Lane
		var ahead, froms []int64
		var keys, skips []string
		var r Replay
		var err error
		l.Subscription, err = s.scanSubscription(row, &l.ID, &l.Epoch, &l.Cursor, &ahead, &l.Following, &l.HeldMS, &l.Health, &keys, &froms, &skips,
			&l.Counts.Delivered, &l.Counts.Filtered, &l.Counts.Discarded, &l.Counts.Compacted, &l.Counts.Overflowed, &l.Version, &r.Job, &r.State, &r.ReplaySpec, &r.Delivered, &r.Dead)
		if r.Job != "" {
			l.Replay = &r
		}
		l.Ahead = pairs(ahead)
		l.Overflows = overflowsOf(keys, froms, skips)
		return l, err
	})
}
