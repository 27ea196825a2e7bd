package store

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// Balance accounts for every event that a subscription wants:
//
//	Matched = Delivered + Filtered + Discarded + Dropped + Compacted + Expired
//	        + Retrying + Blocked + Dead + DeadRanges + Waiting + Unaccounted
//
// Matched is counted by the log, the rest by the subscription's lane: so
// Unaccounted, which is 0, tells whether one was lost or counted twice. It cannot
// for a subscription with a filter, whose Filtered is what else is missing.
// Deliveries of replays are counted by their jobs alone, but for those that retry
// dead ranges.
type Balance struct {
	Lane         LaneID
	Subscription subscriptions.ID
	Sources      []string // that have events of its types, by name: only theirs are in here

	Matched int64 // since the subscription was made: events of its types

	Delivered int64
	Filtered  int64 // not wanted: by its filter, or by an edit that came before their turn
	Discarded int64 // deliveries and dead ranges that a person gave up
	Dropped   int64 // by hold_limit, or by the log's bound
	Compacted int64 // superseded by a newer event of their key
	Expired   int64 // dead letters and dead ranges that were kept for as long as they are

	Retrying, Blocked, Dead int64 // deliveries
	DeadRanges              int64 // events of dead ranges, and of those that are being retried
	Waiting                 int64 // in the log: from the cursor on, or behind others of a key that overflowed

	Unaccounted int64
	Exact       bool // Waiting was counted; else it is what else is missing, and Unaccounted 0
}

// accounted is all that became of events that the cursor has passed.
func (b *Balance) accounted() int64 {
	return b.Delivered + b.Filtered + b.Discarded + b.Dropped + b.Compacted + b.Expired + b.Retrying + b.Blocked + b.Dead + b.DeadRanges + b.Waiting
}

// Plus is the sum of two balances, without what tells one from others.
func (b Balance) Plus(o Balance) Balance {
	return Balance{
		Matched:   b.Matched + o.Matched,
		Delivered: b.Delivered + o.Delivered, Filtered: b.Filtered + o.Filtered, Discarded: b.Discarded + o.Discarded,
		Dropped: b.Dropped + o.Dropped, Compacted: b.Compacted + o.Compacted, Expired: b.Expired + o.Expired,
		Retrying: b.Retrying + o.Retrying, Blocked: b.Blocked + o.Blocked, Dead: b.Dead + o.Dead,
		DeadRanges: b.DeadRanges + o.DeadRanges, Waiting: b.Waiting + o.Waiting,
		Unaccounted: b.Unaccounted + o.Unaccounted, Exact: b.Exact && o.Exact,
	}
}

// maxEdges is how many parts of blocks are counted by reading events, at most,
// where all balances are asked for.
const maxEdges = 8

const (
	balancesSQL = `
SELECT c.lane, c.subscription, greatest(` + effectiveCursor + `, h.oldest), c.ahead,
  c.delivered + c.redelivered, c.filtered + c.refiltered + coalesce(b.filtered, 0), c.discarded + c.given_up, c.dropped, c.compacted, c.expired, c.overflowed,
  coalesce(b.block, -1), coalesce(b.matched, 0), coalesce(b.patterns, '{}'), b.filter IS NOT NULL, coalesce(b.sources, '{}')
FROM rowcall.cursors c CROSS JOIN rowcall.log_head h
LEFT JOIN rowcall.books b ON b.lane = c.lane
LEFT JOIN rowcall.leases l ON l.instance = c.owner
WHERE c.replay IS NULL AND ($1 = '' OR c.subscription = $1)
ORDER BY c.lane`
	// With what lanes that retry dead ranges have: they are their subscription's.
	rowCountsSQL = `
SELECT own.lane, sum(coalesce(o.retrying, 0))::bigint, sum(coalesce(o.blocked, 0))::bigint, sum(d.events - coalesce(o.retrying + o.blocked, 0))::bigint
FROM (` + laneRowsSQL + `) d
LEFT JOIN (` + openRowsSQL + `) o ON o.lane = d.lane
JOIN rowcall.cursors c ON c.lane = d.lane
JOIN rowcall.cursors own ON own.subscription = c.subscription AND own.replay IS NULL
LEFT JOIN rowcall.jobs j ON j.id = c.replay
WHERE ($1 = '' OR c.subscription = $1) AND (c.replay IS NULL OR j.spec ? 'dead_range')
GROUP BY own.lane`
	retryCountsSQL = `
SELECT own.lane, sum(c.delivered)::bigint, sum(c.filtered + c.compacted)::bigint, sum(c.discarded + c.given_up)::bigint, sum(c.dropped)::bigint,
  sum(c.expired)::bigint
FROM rowcall.cursors c JOIN rowcall.jobs j ON j.id = c.replay AND j.spec ? 'dead_range'
JOIN rowcall.cursors own ON own.subscription = c.subscription AND own.replay IS NULL
WHERE $1 = '' OR c.subscription = $1 GROUP BY own.lane`
	// Of one that is being retried what its retry has not come to.
	rangeCountsSQL = `
SELECT r.lane, sum(r.events - coalesce((SELECT ` + retriedSQL + ` FROM rowcall.cursors c WHERE c.replay = r.job), 0))::bigint
FROM rowcall.dead_ranges r JOIN rowcall.cursors own ON own.lane = r.lane WHERE $1 = '' OR own.subscription = $1 GROUP BY r.lane`
	headNowSQL = `SELECT next, oldest FROM rowcall.log_head`
)

// balances is what is remembered of the last look at all of them.
type balances struct {
	all   []Balance
	until time.Time
}

// Balances returns the balance of every subscription, by lane, as of one moment.
// They are counted anew only as often as leaves the database 98 % of its time:
// beyond 100,000 deliveries they may be seconds old.
func (s *Store) Balances(ctx context.Context) ([]Balance, error) {
	found, err := s.readBalances(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("read balances: %w", err)
	}
	return found, nil
}

// Balance is that of one subscription; ErrNotFound where it is not there.
func (s *Store) Balance(ctx context.Context, id subscriptions.ID) (Balance, error) {
	found, err := s.readBalances(ctx, id)
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Balance{}, fmt.Errorf("read balance of %s: %w", id, err)
	}
	return found[0], nil
}

func (s *Store) readBalances(ctx context.Context, id subscriptions.ID) (found []Balance, err error) {
	if err := s.countLog(ctx); err != nil {
		return nil, err
	}
	m := &s.backlogs
	m.mu.Lock()
	defer m.mu.Unlock()
	begun := time.Now()
	if id == "" && begun.Before(m.balances.until) {
		return m.balances.all, nil
	}
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		found, err = m.balance(ctx, tx, id)
		return err
	})
	if took := time.Since(begun); err == nil && id == "" {
		m.balances.all, m.balances.until = found, begun
		if took > 20*time.Millisecond {
			m.balances.until = time.Now().Add(49 * took)
		}
	}
	return found, err
}

// side is what the log has of a lane.
type side struct {
	cursor  Offset
	ahead   []OffsetRange
	block   int64
	matched int64
	filters bool
}

// balance reads balances in one snapshot.
func (m *backlogs) balance(ctx context.Context, tx pgx.Tx, id subscriptions.ID) ([]Balance, error) {
	var next, oldest Offset
	if err := tx.QueryRow(ctx, headNowSQL).Scan(&next, &oldest); err != nil {
		return nil, err
	}
	if err := m.tally.refresh(ctx, tx, oldest); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, balancesSQL, id)
	if err != nil {
		return nil, err
	}
	var sides []side
	var patterns [][]string
	var sources [][]SourceID
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Balance, error) {
		var b Balance
		var of side
		var flat []int64
		var matching []string
		var former []SourceID
		err := row.Scan(&b.Lane, &b.Subscription, &of.cursor, &flat, &b.Delivered, &b.Filtered, &b.Discarded, &b.Dropped, &b.Compacted, &b.Expired,
			&b.Waiting, &of.block, &of.matched, &matching, &of.filters, &former)
		of.ahead = pairs(flat)
		sides, patterns, sources = append(sides, of), append(patterns, matching), append(sources, former)
		return b, err
	})
	if err != nil || len(found) == 0 {
		return found, err
	}
	if err := addRows(ctx, tx, id, found); err != nil {
		return nil, err
	}
	set := subscriptions.NewSet(patterns)
	if err := addSources(ctx, tx, found, sources, set); err != nil {
		return nil, err
	}
	c := counter{
		q: tx, tally: &m.tally, set: set, lanes: len(found), next: next, edges: math.MaxInt,
		mixed: m.tally.types[otherTypes] != nil, wanted: map[string][]bool{}, read: map[Offset]map[blockType]LogCount{},
	}
	if id == "" {
		c.edges = maxEdges
	}
	for i := range found {
		if err := c.settleUp(ctx, &found[i], &sides[i], i); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// addRows adds what subscriptions have in deliveries, dead ranges and their retries.
func addRows(ctx context.Context, q querier, id subscriptions.ID, found []Balance) error {
	at := make(map[LaneID]*Balance, len(found))
	for i := range found {
		at[found[i].Lane] = &found[i]
	}
	counts := rowCountsSQL
	if id != "" {
		const own = `rowcall.deliveries WHERE lane = ANY (ARRAY(SELECT lane FROM rowcall.cursors WHERE subscription = $1))`
		counts = strings.NewReplacer("rowcall.deliveries GROUP", own+" GROUP", "rowcall.deliveries WHERE", own+" AND").Replace(counts)
	}
	rows, err := q.Query(ctx, counts, id)
	if err != nil {
		return err
	}
	var lane LaneID
	var retrying, blocked, dead int64
	if _, err := pgx.ForEachRow(rows, []any{&lane, &retrying, &blocked, &dead}, func() error {
		if b := at[lane]; b != nil {
			b.Retrying, b.Blocked, b.Dead = retrying, blocked, dead
		}
		return nil
	}); err != nil {
		return err
	}
	if rows, err = q.Query(ctx, retryCountsSQL, id); err != nil {
		return err
	}
	var more Balance
	if _, err := pgx.ForEachRow(rows, []any{&lane, &more.Delivered, &more.Filtered, &more.Discarded, &more.Dropped, &more.Expired}, func() error {
		if b := at[lane]; b != nil {
			b.Delivered, b.Filtered, b.Discarded = b.Delivered+more.Delivered, b.Filtered+more.Filtered, b.Discarded+more.Discarded
			b.Dropped, b.Expired = b.Dropped+more.Dropped, b.Expired+more.Expired
		}
		return nil
	}); err != nil {
		return err
	}
	if rows, err = q.Query(ctx, rangeCountsSQL, id); err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, []any{&lane, &dead}, func() error {
		if b := at[lane]; b != nil {
			b.DeadRanges = dead
		}
		return nil
	})
	return err
}

// counter counts what the log has for lanes.
type counter struct {
	q     querier
	tally *tally
	set   *subscriptions.Set // matches types to the lanes by their place
	lanes int
	next  Offset // the head
	edges int    // so many more parts may be read
	mixed bool   // some types are not counted one by one

	wanted map[string][]bool   // by lane
	newest map[string][]Offset // of the block that is counted now and behind it; nil: not read
	read   map[Offset]map[blockType]LogCount
}

// settleUp fills in what the log has of the i-th lane, and compares.
func (c *counter) settleUp(ctx context.Context, b *Balance, of *side, i int) error {
	if of.block < 0 {
		b.Matched, b.Exact = b.accounted(), true // nobody has opened its lane yet
		return nil
	}
	tail, err := c.from(ctx, i, c.tally.counted)
	if err != nil {
		return err
	}
	b.Matched = of.matched + c.blocks(i, of.block) + tail
	waiting, exact := tail, !c.mixed
	switch block := int64(of.cursor) / blockSize; {
	case of.cursor >= c.newestFrom():
		waiting, err = c.from(ctx, i, of.cursor)
	case !c.afford(of.cursor):
		exact = false
	default:
		var edge int64
		edge, err = c.edge(ctx, i, of.cursor)
		waiting += edge + c.blocks(i, block+1)
	}
	if err == nil && exact && len(of.ahead) > 0 {
		if c.edges--; c.edges < 0 {
			exact = false
		} else {
			err = eachSettled(ctx, c.q, of.ahead, func(name string, n LogCount) {
				if c.wants(name)[i] {
					waiting -= n.Events
				}
			})
		}
	}
	if err != nil {
		return err
	}
	if b.Exact = exact; exact || of.filters {
		b.Waiting += waiting // beside what overflowed keys are owed
	}
	switch missing := b.Matched - b.accounted(); {
	case of.filters:
		b.Filtered += missing
	case !exact:
		b.Waiting += missing
	default:
		b.Unaccounted = missing
	}
	return nil
}

// wants says which lanes want a type.
func (c *counter) wants(name string) []bool {
	lanes, there := c.wanted[name]
	if !there {
		lanes = make([]bool, c.lanes)
		for _, i := range c.set.Match(name) {
			lanes[i] = true
		}
		c.wanted[name] = lanes
	}
	return lanes
}

// blocks counts what the i-th lane wants from a block on, as far as it is counted.
func (c *counter) blocks(i int, block int64) (n int64) {
	for name, of := range c.tally.types {
		if name == otherTypes || c.wants(name)[i] {
			n += of.from(block).Events
		}
	}
	return n
}

// newestFrom is the start of the block that is being counted.
func (c *counter) newestFrom() Offset { return c.tally.counted / blockSize * blockSize }

const newestSQL = `SELECT "offset", type FROM rowcall.events WHERE "offset" >= $1 AND "offset" < $2 AND kind <> $3 ORDER BY "offset"`

// from counts what the i-th lane wants from an offset on, which is not below
// newestFrom.
func (c *counter) from(ctx context.Context, i int, at Offset) (n int64, err error) {
	if at >= c.next {
		return 0, nil
	}
	if c.newest == nil {
		rows, err := c.q.Query(ctx, newestSQL, int64(c.newestFrom()), int64(c.next), int16(KindGap))
		if err != nil {
			return 0, err
		}
		c.newest = map[string][]Offset{}
		var offset Offset
		var name string
		if _, err := pgx.ForEachRow(rows, []any{&offset, &name}, func() error {
			c.newest[name] = append(c.newest[name], offset)
			return nil
		}); err != nil {
			return 0, err
		}
	}
	for name, offsets := range c.newest {
		if c.wants(name)[i] {
			first, _ := slices.BinarySearch(offsets, at)
			n += int64(len(offsets) - first)
		}
	}
	return n, nil
}

// afford reports whether the rest of the block that an offset is in may be read.
func (c *counter) afford(at Offset) bool {
	if _, there := c.read[at]; there {
		return true
	}
	c.edges--
	return c.edges >= 0
}

// edge counts what the i-th lane wants of the rest of the block that an offset is in.
func (c *counter) edge(ctx context.Context, i int, at Offset) (n int64, err error) {
	counts, there := c.read[at]
	if !there {
		if counts, err = countTable(ctx, c.q, at, (at/blockSize+1)*blockSize); err != nil {
			return 0, err
		}
		c.read[at] = counts
	}
	for of, events := range counts {
		if c.wants(of.name)[i] {
			n += events.Events
		}
	}
	return n, nil
}
