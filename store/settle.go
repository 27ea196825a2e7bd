package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Settlement is what became of events, for all lanes of an instance.
type Settlement struct {
	// Lease is the epoch of the lease under which all this became of them: where
	// the instance holds another one now, it is fenced. 0: whichever it holds.
	Lease int64
	// Floor: every lane that follows, those of this settlement included, has
	// settled all below; 0: leave. It counts for the lanes that this life of the
	// instance claimed: ClaimLanes comes first.
	Floor Offset
	Lanes []LaneSettlement // at most one a lane
}

// LaneSettlement is what became of one lane's events since the last one.
type LaneSettlement struct {
	Lane      LaneID
	Epoch     int64
	Cursor    Offset
	Ahead     []OffsetRange
	Following bool // nothing is pending: the floor counts from now on
	HeldMS    int64
	Health    *EndpointHealth // nil: as it was saved
	Upsert    []Delivery      // new or changed; Lane is not read
	Delete    []Offset        // deliveries that ended
	Intents   []int64         // intents that were applied
	Moot      []int64         // intents for which nothing was left to do
	Overflows []Overflow      // new, moved on, or ended
	Progress  *Progress       // of a replay, all in all; nil: as it was saved
	Counts    Counts          // all in all
}

// Settle records a settlement in one transaction. Lanes whose epoch has moved
// on, or that were deleted, are returned as fenced and not written; the others
// stand. ErrFenced where the whole instance has lost its lease, or the log has
// regressed: nothing was written. A lane whose rows the database refuses for a reason of their own (a
// permanent SQLSTATE) comes back in faulty with the error: its cursor stands
// where it stood and does not follow any more; the others stand.
//
// To settle the same again, after an error that leaves in doubt whether it was
// committed, changes nothing.
func (s *Store) Settle(ctx context.Context, set Settlement) (fenced []LaneID, faulty map[LaneID]error, err error) {
	lease, ok := s.currentLease()
	if !ok || s.regress.noticed.Load() || set.Lease != 0 && set.Lease != lease.Epoch {
		return nil, nil, fmt.Errorf("settle %d lanes: %w", len(set.Lanes), ErrFenced)
	}
	fenced, err = s.settle(ctx, lease, set)
	if err != nil && len(set.Lanes) > 0 && refused(err) {
		fenced, faulty, err = s.settleApart(ctx, lease, set.Lanes)
		// The floor comes last: it may not pass a lane that was refused before
		// that one has ceased to follow.
		if err == nil && set.Floor != 0 {
			_, err = s.settle(ctx, lease, Settlement{Floor: set.Floor})
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("settle %d lanes: %w", len(set.Lanes), err)
	}
	return fenced, faulty, nil
}

// refused reports whether the server refuses what it was given, and will again.
func refused(err error) bool {
	_, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !Unavailable(err)
}

// settleApart settles lanes without a floor, half by half, until those that are
// refused stand alone.
func (s *Store) settleApart(ctx context.Context, lease Lease, lanes []LaneSettlement) (fenced []LaneID, faulty map[LaneID]error, err error) {
	fenced, err = s.settle(ctx, lease, Settlement{Lanes: lanes})
	if err == nil || !refused(err) {
		return fenced, nil, err
	}
	if len(lanes) == 1 {
		held, pinErr := s.pin(ctx, lease, &lanes[0])
		switch {
		case pinErr != nil:
			return nil, nil, errors.Join(err, pinErr)
		case !held:
			return []LaneID{lanes[0].Lane}, nil, nil
		}
		return nil, map[LaneID]error{lanes[0].Lane: err}, nil
	}
	middle := len(lanes) / 2
	faulty = map[LaneID]error{}
	for _, half := range [][]LaneSettlement{lanes[:middle], lanes[middle:]} {
		f, bad, err := s.settleApart(ctx, lease, half)
		if err != nil {
			return nil, nil, err
		}
		fenced = append(fenced, f...)
		maps.Copy(faulty, bad)
	}
	return fenced, faulty, nil
}

const pinSQL = `
UPDATE rowcall.cursors c SET "offset" = ` + effectiveCursor + `, following = false
FROM rowcall.leases l
WHERE l.instance = c.owner AND l.instance = $1 AND l.epoch = $2 AND c.lane = $3 AND c.epoch = $4`

// pin holds a lane's cursor where it stands, so that the floor does not move it.
// It reports false where the lane is another's.
func (s *Store) pin(ctx context.Context, lease Lease, l *LaneSettlement) (bool, error) {
	tag, err := s.pool.Exec(ctx, pinSQL, lease.Instance, lease.Epoch, int32(l.Lane), l.Epoch)
	if err != nil {
		return false, fmt.Errorf("hold lane %d: %w", l.Lane, err)
	}
	return tag.RowsAffected() > 0, nil
}

// The lease comes first in a settlement: it says whether this instance may
// write at all. Where a lane begins to follow and no floor is given, the floor
// that stands may be above that lane, from before it: it comes down to it.
//
// The lease is held to the end, so that nobody takes it over half-way: what
// stands behind would find it gone, write nothing, and the cursors would be past
// it. FOR KEY SHARE, since that waits for who takes over (FOR UPDATE) alone: the
// lease's own renewal, an UPDATE of no key, does not wait for a long settlement.
//
// Commits of settlements wait for the disk, whatever the session's default.
const (
	holdLeaseSQL = `
SELECT set_config('synchronous_commit', 'on', true)
FROM rowcall.leases WHERE instance = $1 AND epoch = $2 FOR KEY SHARE`
	setFloorSQL = `
UPDATE rowcall.leases SET floor = CASE WHEN $3::bigint > 0 THEN $3 ELSE least(floor, $4::bigint) END
WHERE instance = $1 AND epoch = $2
RETURNING set_config('synchronous_commit', 'on', true)`
)

// Every statement behind it writes only what the lease and the lane's epoch
// allow: nothing has to be rolled back, and a whole settlement is one flight of
// messages, its commit included. The rows of cursors are locked by the first,
// so the later ones find what that found.
const (
	ourLease = `EXISTS (SELECT FROM rowcall.leases WHERE instance = $1 AND epoch = $2)`

	moveCursorsSQL = `
UPDATE rowcall.cursors c
SET "offset" = u.cursor, ahead = u.ahead::bigint[], following = u.following, held_ms = u.held_ms,
    health = coalesce(u.health::jsonb, c.health),
    delivered = u.delivered, filtered = u.filtered, discarded = u.discarded, compacted = u.compacted, overflowed = u.overflowed
FROM unnest($3::integer[], $4::bigint[], $5::bigint[], $6::text[], $7::boolean[], $8::bigint[], $9::text[],
    $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[])
  AS u (lane, epoch, cursor, ahead, following, held_ms, health, delivered, filtered, discarded, compacted, overflowed)
WHERE c.lane = u.lane AND c.epoch = u.epoch AND c.owner = $1 AND ` + ourLease + `
RETURNING c.lane`

	deleteDeliveriesSQL = `
DELETE FROM rowcall.deliveries d
USING unnest($3::integer[], $4::bigint[], $5::bigint[]) AS u (lane, epoch, "offset"), rowcall.cursors c
WHERE d.lane = u.lane AND d."offset" = u."offset"
  AND c.lane = u.lane AND c.epoch = u.epoch AND c.owner = $1 AND ` + ourLease

	// What is taken away is counted for its job by the same statement: once.
	deleteIntentsSQL = `
WITH gone AS (
  DELETE FROM rowcall.intents i
  USING unnest($3::integer[], $4::bigint[], $5::bigint[], $6::boolean[]) AS u (lane, epoch, id, moot), rowcall.cursors c
  WHERE i.id = u.id AND i.lane = u.lane
    AND c.lane = u.lane AND c.epoch = u.epoch AND c.owner = $1 AND ` + ourLease + `
  RETURNING i.job, u.moot
)
UPDATE rowcall.jobs j SET done = j.done + n.applied, skipped = j.skipped + n.moot, updated_at = now()
FROM (SELECT job, count(*) FILTER (WHERE NOT moot) AS applied, count(*) FILTER (WHERE moot) AS moot FROM gone GROUP BY job) n
WHERE j.id = n.job`
)

// settle makes a settlement in one transaction: all of it stands, but for the
// fenced lanes, or, with an error, nothing.
func (s *Store) settle(ctx context.Context, lease Lease, set Settlement) (fenced []LaneID, err error) {
	rows := rowsOf(set.Lanes)
	batch := &pgx.Batch{}
	// Without BEGIN, what is sent together is one transaction, that ends with it.
	if set.Floor != 0 || rows.lowest != 0 {
		batch.Queue(setFloorSQL, lease.Instance, lease.Epoch, int64(set.Floor), rows.lowest)
	} else {
		batch.Queue(holdLeaseSQL, lease.Instance, lease.Epoch)
	}
	if len(set.Lanes) > 0 {
		batch.Queue(moveCursorsSQL, lease.Instance, lease.Epoch, rows.lanes, rows.epochs, rows.cursors, rows.aheads,
			rows.followings, rows.helds, rows.healths, rows.delivered, rows.filtered, rows.discarded, rows.compacted, rows.passedOver)
	}
	// Deletions before the rest: where both name an offset, it stays.
	if d := &rows.ended; len(d.lanes) > 0 {
		batch.Queue(deleteDeliveriesSQL, lease.Instance, lease.Epoch, d.lanes, d.epochs, d.values)
	}
	rows.ordered.queue(batch, saveOrderedSQL, lease)
	rows.unordered.queue(batch, saveUnorderedSQL, lease)
	if d := &rows.relieved; len(d.lanes) > 0 {
		batch.Queue(dropOverflowsSQL, lease.Instance, lease.Epoch, d.lanes, d.epochs, d.keys)
	}
	if d := &rows.overflowed; len(d.lanes) > 0 {
		batch.Queue(saveOverflowsSQL, lease.Instance, lease.Epoch, d.lanes, d.epochs, d.keys, d.froms)
	}
	if d := &rows.applied; len(d.lanes) > 0 {
		batch.Queue(deleteIntentsSQL, lease.Instance, lease.Epoch, d.lanes, d.epochs, d.values, rows.moot)
	}
	if p := &rows.progress; len(p.lanes) > 0 {
		batch.Queue(saveProgressSQL, lease.Instance, lease.Epoch, p.lanes, p.epochs, p.delivered, p.dead, p.over)
	}
	results := s.pool.SendBatch(ctx, batch)
	holds, written, err := readSettled(results, batch.Len())
	if closeErr := results.Close(); err == nil {
		err = closeErr // of the commit
	}
	switch {
	case err != nil:
		return nil, err
	case !holds:
		return nil, ErrFenced
	}
	if len(rows.applied.lanes) > 0 {
		s.feeder.poke() // there is room for more
	}
	slices.Sort(written)
	for _, l := range set.Lanes {
		if _, ok := slices.BinarySearch(written, int32(l.Lane)); !ok {
			fenced = append(fenced, l.Lane)
		}
	}
	return fenced, nil
}

// readSettled reads the answers to n statements: whether the lease holds, and
// the lanes that were written.
func readSettled(results pgx.BatchResults, n int) (holds bool, written []int32, err error) {
	var set string
	switch err := results.QueryRow().Scan(&set); {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return false, nil, err
	default:
		holds = true
	}
	if n > 1 {
		rows, err := results.Query()
		if err != nil {
			return false, nil, err
		}
		if written, err = pgx.CollectRows(rows, pgx.RowTo[int32]); err != nil {
			return false, nil, err
		}
	}
	for i := 2; i < n; i++ {
		if _, err := results.Exec(); err != nil {
			return false, nil, err
		}
	}
	return holds, written, nil
}

// settledRows are the lanes of a settlement, turned into columns.
type settledRows struct {
	lanes      []int32
	epochs     []int64
	cursors    []int64
	aheads     []string
	followings []bool
	helds      []int64
	healths    []*string // as JSON; nil: left as it is
	lowest     int64     // the lowest cursor of a lane that follows; 0: none does
	countRows
	ended, applied pairRows
	moot           []bool // of applied

	ordered, unordered deliveryRows // whether they have keys

	progress progressRows

	overflowed, relieved overflowRows
}

// pairRows name something of lanes: offsets, intents.
type pairRows struct {
	lanes  []int32
	epochs []int64
	values []int64
}

func (r *pairRows) add(l *LaneSettlement, value int64) {
	r.lanes, r.epochs, r.values = append(r.lanes, int32(l.Lane)), append(r.epochs, l.Epoch), append(r.values, value)
}

func rowsOf(lanes []LaneSettlement) settledRows {
	n := len(lanes)
	r := settledRows{
		lanes: make([]int32, n), epochs: make([]int64, n), cursors: make([]int64, n),
		aheads: make([]string, n), followings: make([]bool, n), helds: make([]int64, n), healths: make([]*string, n),
		countRows: newCountRows(n),
	}
	for i := range lanes {
		l := &lanes[i]
		r.lanes[i], r.epochs[i], r.cursors[i] = int32(l.Lane), l.Epoch, int64(l.Cursor)
		r.aheads[i], r.followings[i], r.helds[i] = rangesArray(l.Ahead), l.Following, l.HeldMS
		if l.Health != nil {
			r.healths[i] = new(healthText(l.Health))
		}
		r.set(i, &l.Counts)
		if l.Following && (r.lowest == 0 || int64(l.Cursor) < r.lowest) {
			r.lowest = int64(l.Cursor)
		}
		if l.Progress != nil {
			r.progress.add(l)
		}
		for _, at := range l.Delete {
			r.ended.add(l, int64(at))
		}
		for j := range l.Upsert {
			if d := &l.Upsert[j]; len(d.Keys) > 0 {
				r.ordered.add(l, d)
			} else {
				r.unordered.add(l, d)
			}
		}
		for j := range l.Overflows {
			if o := &l.Overflows[j]; o.From == 0 {
				r.relieved.add(l, o)
			} else {
				r.overflowed.add(l, o)
			}
		}
		for _, id := range l.Intents {
			r.applied.add(l, id)
			r.moot = append(r.moot, false)
		}
		for _, id := range l.Moot {
			r.applied.add(l, id)
			r.moot = append(r.moot, true)
		}
	}
	return r
}

// healthText is the JSON of a health, without what the database refuses.
func healthText(h *EndpointHealth) string {
	clean := *h
	clean.Reason, clean.HoldError = cleanText(h.Reason), cleanText(h.HoldError)
	text, err := json.Marshal(clean)
	if err != nil {
		return "{}" // a time past the year 9999: nothing we make
	}
	return string(text)
}

// rangesArray is the literal of a bigint[]: from, past, from, past, …
func rangesArray(ranges []OffsetRange) string {
	if len(ranges) == 0 {
		return "{}"
	}
	b := []byte{'{'}
	for _, r := range ranges {
		b = strconv.AppendInt(b, int64(r.From), 10)
		b = append(b, ',')
		b = strconv.AppendInt(b, int64(r.Past), 10)
		b = append(b, ',')
	}
	b[len(b)-1] = '}'
	return string(b)
}
