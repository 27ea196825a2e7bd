package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// book says from when on the log's own counts tell how many events a lane's
// subscription wants: matched, and what log_blocks has of its patterns' types from
// a block on. So the two sides of a Balance are counted apart: one by the lane,
// the other by the log.
type book struct {
	block    int64
	matched  int64
	filtered int64
	patterns []string
	filter   *string
	sources  []SourceID // of what former patterns matched
}

// openAtOnce is how many books are opened in one transaction.
const openAtOnce = 100

const (
	booksSQL    = `SELECT lane, block, matched, filtered, patterns, filter, sources FROM rowcall.books WHERE lane = ANY($1::integer[])`
	ourBookSQL  = `SELECT FROM rowcall.cursors WHERE lane = $1 AND epoch = $2 FOR UPDATE`
	countingSQL = `SELECT n.next, h.oldest FROM rowcall.log_counted n, rowcall.log_head h FOR UPDATE OF n`
	saveBookSQL = `
INSERT INTO rowcall.books (lane, block, matched, filtered, patterns, filter, sources) VALUES ($1, $2, $3, $4, $5::text[], $6, coalesce($7::integer[], '{}'))
ON CONFLICT (lane) DO UPDATE
SET block = excluded.block, matched = excluded.matched, filtered = excluded.filtered, patterns = excluded.patterns, filter = excluded.filter,
    sources = excluded.sources`

	// accountedSQL is what became of the events of a lane, or where they are.
	accountedSQL = `
SELECT c.delivered + c.filtered + c.discarded + c.compacted + c.overflowed + c.redelivered + c.refiltered + c.given_up + c.dropped + c.expired
  + coalesce((SELECT b.filtered FROM rowcall.books b WHERE b.lane = c.lane), 0)
  + (SELECT count(*) FROM rowcall.deliveries d WHERE d.lane = c.lane)
  + (SELECT coalesce(sum(r.events), 0) FROM rowcall.dead_ranges r WHERE r.lane = c.lane)::bigint
  + (SELECT coalesce(sum(` + retriedSQL + `), 0) FROM rowcall.cursors c JOIN rowcall.jobs j ON j.id = c.replay AND j.spec ? 'dead_range'
    WHERE c.subscription = own.subscription AND NOT ` + retriesRange + `)::bigint
FROM rowcall.cursors c JOIN rowcall.cursors own USING (lane) WHERE c.lane = $1`

	blocksSQL = `SELECT type, sum(events)::bigint FROM rowcall.log_blocks WHERE block >= $1 AND block <= $2 GROUP BY type`
)

// openBooks opens the books of lanes that are about to run, where their
// subscriptions want other events than before. opened says which are: no one
// moves their cursors meanwhile.
func (s *Store) openBooks(ctx context.Context, lanes []Lane, opened map[LaneID]bool) error {
	var ids []int32
	for i := range lanes {
		if opened[lanes[i].ID] && lanes[i].Replay == nil {
			ids = append(ids, int32(lanes[i].ID))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	books, err := readBooks(ctx, s.pool, ids)
	if err != nil {
		return err
	}
	var news []*Lane
	for i := range lanes {
		l := &lanes[i]
		if b, there := books[l.ID]; opened[l.ID] && l.Replay == nil && (!there || !b.wants(&l.Subscription)) {
			news = append(news, l)
		}
	}
	for some := range slices.Chunk(news, openAtOnce) {
		if err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return openSome(ctx, tx, some) }); err != nil {
			return fmt.Errorf("open books: %w", err)
		}
	}
	return nil
}

func readBooks(ctx context.Context, q querier, lanes []int32) (map[LaneID]book, error) {
	rows, err := q.Query(ctx, booksSQL, lanes)
	if err != nil {
		return nil, err
	}
	books := map[LaneID]book{}
	var lane LaneID
	var b book
	_, err = pgx.ForEachRow(rows, []any{&lane, &b.block, &b.matched, &b.filtered, &b.patterns, &b.filter, &b.sources}, func() error {
		books[lane] = b
		b = book{}
		return nil
	})
	return books, err
}

// wants reports whether a subscription wants the events that the book counts.
func (b *book) wants(sub *subscriptions.Subscription) bool {
	same := b.filter == nil && sub.Filter == nil || b.filter != nil && sub.Filter != nil && *b.filter == *sub.Filter
	return same && slices.Equal(b.patterns, sub.Events)
}

// opener opens books in one transaction. While it has the row of log_counted
// nothing is counted, and retention drops no block.
type opener struct {
	tx              pgx.Tx
	counted, oldest Offset
	blocks          map[[2]int64]map[string]int64 // events by type, of blocks that were read
	parts           map[OffsetRange]map[blockType]LogCount
	types           []sourceType
}

func openSome(ctx context.Context, tx pgx.Tx, lanes []*Lane) error {
	o := opener{tx: tx, blocks: map[[2]int64]map[string]int64{}, parts: map[OffsetRange]map[blockType]LogCount{}}
	if err := tx.QueryRow(ctx, countingSQL).Scan(&o.counted, &o.oldest); err != nil {
		return err
	}
	var err error
	if o.types, err = readSourceTypes(ctx, tx); err != nil {
		return err
	}
	for _, l := range lanes {
		if err := o.open(ctx, l); err != nil {
			return fmt.Errorf("of lane %d: %w", l.ID, err)
		}
	}
	return nil
}

// open closes the book of a lane, if it has one, at its cursor, and opens the
// next there: what passed stays what it was.
func (o *opener) open(ctx context.Context, l *Lane) error {
	switch err := o.tx.QueryRow(ctx, ourBookSQL, int32(l.ID), l.Epoch).Scan(); {
	case errors.Is(err, pgx.ErrNoRows):
		return nil // another's by now, who opens it
	case err != nil:
		return err
	}
	var accounted int64
	if err := o.tx.QueryRow(ctx, accountedSQL, int32(l.ID)).Scan(&accounted); err != nil {
		return err
	}
	books, err := readBooks(ctx, o.tx, []int32{int32(l.ID)})
	if err != nil {
		return err
	}
	cursor := max(l.Cursor, o.oldest)
	next := book{block: int64(cursor) / blockSize, patterns: l.Subscription.Events, filter: l.Subscription.Filter}
	passed := accounted // of a lane that has none, what there is is taken to be all
	if was, there := books[l.ID]; there {
		if passed, err = o.passed(ctx, &was, cursor, l.Ahead); err != nil {
			return err
		}
		next.filtered = was.filtered
		if was.filter != nil {
			next.filtered += passed - accounted
		}
		if passed > 0 {
			next.sources = o.sourcesOf(&was)
		}
	}
	already, err := o.passed(ctx, &next, cursor, l.Ahead)
	if err != nil {
		return err
	}
	next.matched = passed - already
	_, err = o.tx.Exec(ctx, saveBookSQL, int32(l.ID), next.block, next.matched, next.filtered, textArray(next.patterns), next.filter, next.sources)
	return err
}

// sourcesOf are those whose events a book may have counted.
func (o *opener) sourcesOf(b *book) []SourceID {
	of := [][]SourceID{slices.Clone(b.sources)}
	sourcesOf(of, subscriptions.NewSet([][]string{b.patterns}), o.types)
	return of[0]
}

// passed is how many events a book says that a lane has passed.
func (o *opener) passed(ctx context.Context, b *book, cursor Offset, ahead []OffsetRange) (int64, error) {
	set := subscriptions.NewSet([][]string{b.patterns})
	wants := func(name string) bool { return name == otherTypes || len(set.Match(name)) > 0 }
	sum := b.matched
	blocks := [2]int64{b.block, int64(cursor) / blockSize}
	if o.blocks[blocks] == nil {
		of := map[string]int64{}
		rows, err := o.tx.Query(ctx, blocksSQL, blocks[0], blocks[1])
		if err != nil {
			return 0, err
		}
		var name string
		var n int64
		if _, err := pgx.ForEachRow(rows, []any{&name, &n}, func() error { of[name] = n; return nil }); err != nil {
			return 0, err
		}
		o.blocks[blocks] = of
	}
	for name, n := range o.blocks[blocks] {
		if wants(name) {
			sum += n
		}
	}
	// The last of them, as it is counted, ends elsewhere than at the cursor.
	sign, part := int64(1), OffsetRange{o.counted, cursor}
	if cursor < o.counted {
		sign, part = -1, OffsetRange{cursor, min((cursor/blockSize+1)*blockSize, o.counted)}
	}
	if part.From < part.Past && o.parts[part] == nil {
		counts, err := countTable(ctx, o.tx, part.From, part.Past)
		if err != nil {
			return 0, err
		}
		o.parts[part] = counts
	}
	for at, of := range o.parts[part] {
		if wants(at.name) {
			sum += sign * of.Events
		}
	}
	settled, err := countSettled(ctx, o.tx, set, ahead)
	return sum + settled.Events, err
}

const (
	oldBooksSQL = `SELECT lane, block, matched, filtered, patterns, filter FROM rowcall.books WHERE block < $1`
	moveBookSQL = `
UPDATE rowcall.books b SET matched = b.matched + u.events, block = $3
FROM unnest($1::integer[], $2::bigint[]) AS u (lane, events) WHERE b.lane = u.lane`
	oldBlocksSQL = `SELECT block, type, events FROM rowcall.log_blocks WHERE block < $1`
)

// keepCounts takes what the blocks below one hold into the books, before they go.
func keepCounts(ctx context.Context, tx pgx.Tx, block int64) error {
	rows, err := tx.Query(ctx, oldBooksSQL, block)
	if err != nil {
		return err
	}
	var lanes []int32
	var books []book
	var patterns [][]string
	var lane int32
	var b book
	if _, err := pgx.ForEachRow(rows, []any{&lane, &b.block, &b.matched, &b.filtered, &b.patterns, &b.filter}, func() error {
		lanes, books, patterns = append(lanes, lane), append(books, b), append(patterns, b.patterns)
		b = book{}
		return nil
	}); err != nil || len(lanes) == 0 {
		return err
	}
	set, events := subscriptions.NewSet(patterns), make([]int64, len(lanes))
	if rows, err = tx.Query(ctx, oldBlocksSQL, block); err != nil {
		return err
	}
	all := make([]int, len(lanes))
	for i := range all {
		all[i] = i
	}
	var at, n int64
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&at, &name, &n}, func() error {
		matched := all
		if name != otherTypes {
			matched = set.Match(name)
		}
		for _, i := range matched {
			if books[i].block <= at {
				events[i] += n
			}
		}
		return nil
	}); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, moveBookSQL, lanes, events, block)
	return err
}
