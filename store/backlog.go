package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// Backlog is what a lane owes.
type Backlog struct {
	Lane         LaneID
	Subscription subscriptions.ID
	Cursor       Offset // effective: the floor counted in

	// Waiting is what the log holds from the cursor on that the subscription's
	// patterns match. It is an upper bound: what its filter leaves out, and what is
	// settled above the cursor, counts; and where the cursor stands within a block
	// of the log, events are all that the block may have left, and bytes their
	// share of the block.
	Waiting LogCount

	Retrying, Blocked, Dead int64 // deliveries
	Health                  EndpointHealth

	// GapSince is when the gap was found at which the lane stands, until a person
	// accepts it; zero: at none.
	GapSince time.Time

	// OldestAt is the commit time, µs since 1970, of the oldest event that waits, is
	// retried or blocked; 0: there is none. An event that another type keeps from
	// being told apart makes it too old, by less than a block.
	OldestAt int64
}

// backlogs is what is remembered between two looks at the backlogs.
type backlogs struct {
	mu    sync.Mutex
	tally tally

	held     remembered[map[LaneID]heldRows]
	balances balances
}

// heldRows is what a lane's deliveries are.
type heldRows struct {
	retrying, blocked, dead int64
	oldest                  Offset // of those that are not dead; 0: none
}

const (
	backlogsSQL = `
SELECT c.lane, c.subscription, ` + effectiveCursor + `, coalesce(c.health, '{}'), coalesce(s.spec->'events', '[]'),
  g.at
FROM rowcall.cursors c
JOIN rowcall.subscriptions s ON s.id = c.subscription
LEFT JOIN rowcall.leases l ON l.instance = c.owner
LEFT JOIN rowcall.gaps g ON g.accepted_at IS NULL AND g.marker = ` + effectiveCursor + `
WHERE c.replay IS NULL AND ($1 = '' OR c.subscription = $1)
ORDER BY c.lane`
	heldRowsSQL = `
SELECT own.lane, sum(coalesce(o.retrying, 0))::bigint, sum(coalesce(o.blocked, 0))::bigint, sum(d.events - coalesce(o.retrying + o.blocked, 0))::bigint,
  coalesce(min(o.oldest) FILTER (WHERE c.replay IS NULL), 0)
FROM (` + laneRowsSQL + `) d
LEFT JOIN (` + openRowsSQL + `) o ON o.lane = d.lane
JOIN rowcall.cursors c ON c.lane = d.lane
JOIN rowcall.cursors own ON own.subscription = c.subscription AND own.replay IS NULL
GROUP BY own.lane`
	// Dead letters may be a million, and the others are few. Both have an index of
	// their own: no row is read for the first.
	laneRowsSQL = `SELECT lane, count(*) AS events FROM rowcall.deliveries GROUP BY lane`
	openRowsSQL = `SELECT lane, count(*) FILTER (WHERE state = 'retrying') AS retrying, count(*) FILTER (WHERE state = 'blocked') AS blocked, min("offset") AS oldest
  FROM rowcall.deliveries WHERE state <> 'dead' GROUP BY lane`
	eventTimesSQL = `SELECT "offset", time FROM rowcall.events WHERE "offset" = ANY($1::bigint[])`
	keptTimesSQL  = `
SELECT "offset", (event->>'time')::bigint FROM rowcall.deliveries WHERE "offset" = ANY($1::bigint[]) AND event IS NOT NULL`
)

// Backlogs returns what every subscription owes, by lane; of replays, deliveries
// alone count. These are remembered: beyond 50,000 of them their numbers may be 15
// seconds old, and more where it takes over a second to count them.
func (s *Store) Backlogs(ctx context.Context) ([]Backlog, error) {
	found, err := s.readBacklogs(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("read backlogs: %w", err)
	}
	return found, nil
}

// Backlog is Backlogs of one subscription; ErrNotFound where it is not there.
func (s *Store) Backlog(ctx context.Context, id subscriptions.ID) (Backlog, error) {
	found, err := s.readBacklogs(ctx, id)
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Backlog{}, fmt.Errorf("read backlog of %s: %w", id, err)
	}
	return found[0], nil
}

// readBacklogs reads those of one subscription; of all, where id is empty.
func (s *Store) readBacklogs(ctx context.Context, id subscriptions.ID) ([]Backlog, error) {
	if err := s.countLog(ctx); err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, backlogsSQL, id)
	if err != nil {
		return nil, err
	}
	var patterns [][]string
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Backlog, error) {
		var b Backlog
		var events []string
		var gap *time.Time
		err := row.Scan(&b.Lane, &b.Subscription, &b.Cursor, &b.Health, &events, &gap)
		if gap != nil {
			b.GapSince = gap.UTC()
		}
		patterns = append(patterns, events)
		return b, err
	})
	if err != nil {
		return nil, err
	}
	m := &s.backlogs
	m.mu.Lock()
	defer m.mu.Unlock()
	head, err := s.refreshTally(ctx)
	if err != nil {
		return nil, err
	}
	rowsOf, err := m.held.get(ctx, s, s.readHeld)
	if err != nil {
		return nil, err
	}
	oldest := make([]Offset, len(found)) // of what each owes
	m.tally.measure(found, oldest, subscriptions.NewSet(patterns), head)
	for i := range found {
		b, of := &found[i], rowsOf[found[i].Lane]
		b.Retrying, b.Blocked, b.Dead = of.retrying, of.blocked, of.dead
		if of.oldest != 0 && (oldest[i] == 0 || of.oldest < oldest[i]) {
			oldest[i] = of.oldest
		}
	}
	times, err := s.eventTimes(ctx, oldest)
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i].OldestAt = times[oldest[i]]
	}
	return found, nil
}

// refreshTally reads what has changed of log_blocks. It returns the head, which
// is not below what was counted.
func (s *Store) refreshTally(ctx context.Context) (Offset, error) {
	m := &s.backlogs
	if err := m.tally.refresh(ctx, s.pool, Offset(s.oldest.Load())); err != nil {
		return 0, err
	}
	return max(s.Head(), m.tally.counted), nil
}

func (s *Store) readHeld(ctx context.Context) (held map[LaneID]heldRows, all int64, err error) {
	rows, err := s.pool.Query(ctx, heldRowsSQL)
	if err != nil {
		return nil, 0, err
	}
	held = map[LaneID]heldRows{}
	var lane LaneID
	var of heldRows
	_, err = pgx.ForEachRow(rows, []any{&lane, &of.retrying, &of.blocked, &of.dead, &of.oldest}, func() error {
		held[lane] = of
		all += of.retrying + of.blocked + of.dead
		return nil
	})
	return held, all, err
}

// measure fills in what waits for each lane, and the oldest offset of it that is
// known: set matches types to the lanes by their place.
func (t *tally) measure(lanes []Backlog, oldest []Offset, set *subscriptions.Set, head Offset) {
	all := make([]int, len(lanes))
	for i := range all {
		all[i] = i
	}
	inBlock := make([]LogCount, len(lanes)) // of the block that the cursor stands in
	for name, of := range t.types {
		matched := all
		if name != otherTypes {
			matched = set.Match(name)
		}
		for _, i := range matched {
			b := &lanes[i]
			block := int64(b.Cursor) / blockSize
			above := of.from(block + 1)
			b.Waiting = b.Waiting.plus(above)
			inBlock[i] = inBlock[i].plus(of.from(block).minus(above))
			if next, ok := of.next(block); ok {
				if at := max(Offset(next*blockSize), b.Cursor); oldest[i] == 0 || at < oldest[i] {
					oldest[i] = at
				}
			}
		}
	}
	for i := range lanes {
		b := &lanes[i]
		b.Waiting = b.Waiting.plus(remaining(inBlock[i], b.Cursor, head))
		// What was appended since the log was counted may be anything.
		if from := max(t.counted, b.Cursor); from < head {
			b.Waiting.Events += int64(head - from)
			if oldest[i] == 0 {
				oldest[i] = from
			}
		}
		if b.Waiting.Events = min(b.Waiting.Events, max(0, int64(head-b.Cursor))); b.Waiting.Events == 0 {
			b.Waiting.Bytes, oldest[i] = 0, 0
		}
	}
}

// remaining is what a block may hold from a cursor in it on.
func remaining(c LogCount, cursor, head Offset) LogCount {
	past := min((cursor/blockSize+1)*blockSize, head)
	left := max(0, int64(past-cursor))
	if left >= c.Events {
		return c
	}
	c.Bytes = int64(float64(c.Bytes) * float64(left) / float64(max(c.Events, 1)))
	c.Events = left
	return c
}

// eventTimes are the commit times of events, µs since 1970: of the log, or of a
// delivery that kept one.
func (s *Store) eventTimes(ctx context.Context, offsets []Offset) (map[Offset]int64, error) {
	wanted := make([]int64, 0, len(offsets))
	for _, at := range offsets {
		if at != 0 {
			wanted = append(wanted, int64(at))
		}
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	times := make(map[Offset]int64, len(wanted))
	if len(wanted) == 0 {
		return times, nil
	}
	rows, err := s.pool.Query(ctx, eventTimesSQL, wanted)
	if err != nil {
		return nil, err
	}
	var at Offset
	var committed time.Time
	if _, err = pgx.ForEachRow(rows, []any{&at, &committed}, func() error {
		times[at] = committed.UnixMicro()
		return nil
	}); err != nil {
		return nil, err
	}
	if len(times) == len(wanted) {
		return times, nil
	}
	if rows, err = s.pool.Query(ctx, keptTimesSQL, wanted); err != nil {
		return nil, err
	}
	var micros int64
	_, err = pgx.ForEachRow(rows, []any{&at, &micros}, func() error {
		times[at] = cmp.Or(times[at], micros)
		return nil
	})
	return times, err
}

// CountHeld counts the events of [from, past) that patterns match, exactly but for types beyond the first 200 of a block, which all
// count: what is not whole blocks is read.
func (s *Store) CountHeld(ctx context.Context, patterns []string, from, past Offset) (LogCount, error) {
	c, err := s.countHeld(ctx, subscriptions.NewSet([][]string{patterns}), from, past)
	if err != nil {
		return c, fmt.Errorf("count events: %w", err)
	}
	return c, nil
}

func (s *Store) countHeld(ctx context.Context, set *subscriptions.Set, from, past Offset) (LogCount, error) {
	first, last := int64(from+blockSize-1)/blockSize, int64(past)/blockSize // whole blocks: [first, last)
	if first >= last {
		return s.countMatching(ctx, set, from, past)
	}
	if err := s.countLog(ctx); err != nil {
		return LogCount{}, err
	}
	m := &s.backlogs
	m.mu.Lock()
	_, err := s.refreshTally(ctx)
	// Another instance may be counting: the rest is read.
	last = max(first, min(last, int64(m.tally.counted)/blockSize))
	var c LogCount
	for name, of := range m.tally.types {
		if name == otherTypes || len(set.Match(name)) > 0 {
			c = c.plus(of.from(first).minus(of.from(last)))
		}
	}
	m.mu.Unlock()
	if err != nil {
		return c, err
	}
	for _, edge := range [][2]Offset{{from, Offset(first * blockSize)}, {Offset(last * blockSize), past}} {
		more, err := s.countMatching(ctx, set, edge[0], edge[1])
		if err != nil {
			return c, err
		}
		c = c.plus(more)
	}
	return c, nil
}

// countMatching is countHeld by reading.
func (s *Store) countMatching(ctx context.Context, set *subscriptions.Set, from, past Offset) (LogCount, error) {
	var sum LogCount
	if from >= past {
		return sum, nil
	}
	counts, err := countTable(ctx, s.pool, from, past)
	for at, c := range counts {
		if len(set.Match(at.name)) > 0 {
			sum = sum.plus(c)
		}
	}
	return sum, err
}
