package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
)

const (
	// blockSize is how many offsets a row of log_blocks stands for.
	blockSize = 16384
	// maxBlockTypes bounds the rows of a block: published types may be endless.
	// What a block holds of further types is counted as otherTypes, which every
	// subscription is taken to want.
	maxBlockTypes = 200
	otherTypes    = ""
	// countStep bounds what is counted in one transaction, in offsets.
	countStep = 8 * blockSize
)

// LogCount is a number of events and the bytes of their data.
type LogCount struct{ Events, Bytes int64 }

func (c LogCount) plus(o LogCount) LogCount { return LogCount{c.Events + o.Events, c.Bytes + o.Bytes} }

func (c LogCount) minus(o LogCount) LogCount { return LogCount{c.Events - o.Events, c.Bytes - o.Bytes} }

// blockType names what is counted of a block; a row of log_blocks is of all sources.
type blockType struct {
	block  int64
	source SourceID
	name   string
}

const (
	lockCountedSQL = `SELECT next FROM rowcall.log_counted FOR UPDATE SKIP LOCKED`
	setCountedSQL  = `UPDATE rowcall.log_counted SET next = $1`
	blockTypesSQL  = `SELECT type FROM rowcall.log_blocks WHERE block = $1`
	countRangeSQL  = `
SELECT "offset" / 16384, source, type, count(*), coalesce(sum(octet_length(data)), 0)::bigint
FROM rowcall.events WHERE "offset" >= $1 AND "offset" < $2 AND kind <> $3 GROUP BY 1, 2, 3 ORDER BY 1, 3`
	saveBlocksSQL = `
INSERT INTO rowcall.log_blocks AS b (block, type, events, bytes)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[])
ON CONFLICT (block, type) DO UPDATE SET events = b.events + excluded.events, bytes = b.bytes + excluded.bytes`
)

// countLog counts what was appended since it was last counted. It is done beside
// the appends, not by them: from the ring where that reaches, else by the server.
// What was counted moves in the transaction of its counts, so they are exact
// whenever it is cut short. Where another instance counts, it returns at once.
func (s *Store) countLog(ctx context.Context) error {
	for more := true; more; {
		var seen []sourceType
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
			more, seen, err = s.countSome(ctx, tx)
			return err
		})
		if err != nil {
			return fmt.Errorf("count the log: %w", err)
		}
		s.types.add(seen)
	}
	return nil
}

func (s *Store) countSome(ctx context.Context, tx pgx.Tx) (more bool, seen []sourceType, err error) {
	var from Offset
	switch err := tx.QueryRow(ctx, lockCountedSQL).Scan(&from); {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil, nil
	case err != nil:
		return false, nil, err
	}
	past := min(s.Head(), from+countStep)
	if from >= past {
		return false, nil, nil
	}
	counts, ok := s.countRing(from, past)
	if !ok {
		if counts, err = countTable(ctx, tx, from, past); err != nil {
			return false, nil, err
		}
	}
	if err := saveCaptured(ctx, tx, counts); err != nil {
		return false, nil, err
	}
	if seen, err = s.types.save(ctx, tx, counts); err != nil {
		return false, nil, err
	}
	rows, err := tx.Query(ctx, blockTypesSQL, int64(from)/blockSize)
	if err != nil {
		return false, nil, err
	}
	known, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return false, nil, err
	}
	b := blockRows(counts, int64(from)/blockSize, known)
	if _, err := tx.Exec(ctx, saveBlocksSQL, b.blocks, b.types, b.events, b.bytes); err != nil {
		return false, nil, err
	}
	_, err = tx.Exec(ctx, setCountedSQL, int64(past))
	return past < s.Head(), seen, err
}

// countRing counts the events of [from, past), false where the ring does not hold
// all of them.
func (s *Store) countRing(from, past Offset) (map[blockType]LogCount, bool) {
	counts := map[blockType]LogCount{}
	for from < past {
		events := s.ring.read(from, int(past-from), math.MaxInt64)
		if len(events) == 0 {
			return nil, false
		}
		for i := range events {
			e := &events[i]
			if e.Kind == KindGap {
				continue
			}
			at := blockType{int64(e.Offset) / blockSize, e.SourceID, e.Type}
			counts[at] = counts[at].plus(LogCount{1, int64(len(e.Data))})
		}
		from = events[len(events)-1].Offset + 1
	}
	return counts, true
}

// countTable is countRing by the server.
func countTable(ctx context.Context, q querier, from, past Offset) (map[blockType]LogCount, error) {
	counts := map[blockType]LogCount{}
	rows, err := q.Query(ctx, countRangeSQL, int64(from), int64(past), int16(KindGap))
	if err != nil {
		return nil, err
	}
	var at blockType
	var c LogCount
	_, err = pgx.ForEachRow(rows, []any{&at.block, &at.source, &at.name, &c.Events, &c.Bytes}, func() error {
		counts[at] = c
		return nil
	})
	return counts, err
}

// columnsOfBlocks are rows of log_blocks as columns.
type columnsOfBlocks struct {
	blocks []int64
	types  []string
	events []int64
	bytes  []int64
}

// blockRows makes rows of counts, with no more than maxBlockTypes types a block;
// known are the types that the first block has already.
func blockRows(counts map[blockType]LogCount, first int64, known []string) columnsOfBlocks {
	names := map[int64]map[string]bool{first: {}}
	for _, name := range known {
		names[first][name] = true
	}
	capped := make(map[blockType]LogCount, len(counts))
	for at, c := range counts {
		at.source = 0
		if names[at.block] == nil {
			names[at.block] = map[string]bool{}
		}
		if there := names[at.block]; !there[at.name] && len(there) >= maxBlockTypes {
			at.name = otherTypes
		} else {
			there[at.name] = true
		}
		capped[at] = capped[at].plus(c)
	}
	var b columnsOfBlocks
	for at, c := range capped {
		b.blocks, b.types = append(b.blocks, at.block), append(b.types, at.name)
		b.events, b.bytes = append(b.events, c.Events), append(b.bytes, c.Bytes)
	}
	return b
}

// series is what one type has in the log, block by block: how much there is
// before each block, so that a range is one subtraction.
type series struct {
	blocks []tallied // in rising order
	total  LogCount
}

type tallied struct {
	block  int64
	before LogCount
}

func (t *series) add(block int64, c LogCount) {
	t.blocks = append(t.blocks, tallied{block, t.total})
	t.total = t.total.plus(c)
}

func (t *series) find(block int64) int {
	i, _ := slices.BinarySearchFunc(t.blocks, block, func(e tallied, block int64) int { return cmp.Compare(e.block, block) })
	return i
}

// cut takes back the blocks from one on.
func (t *series) cut(block int64) {
	if i := t.find(block); i < len(t.blocks) {
		t.total = t.blocks[i].before
		t.blocks = t.blocks[:i]
	}
}

// from is what there is from a block on.
func (t *series) from(block int64) LogCount {
	if i := t.find(block); i < len(t.blocks) {
		return t.total.minus(t.blocks[i].before)
	}
	return LogCount{}
}

// next is the first block from one on that holds any; false where none does.
func (t *series) next(block int64) (int64, bool) {
	if i := t.find(block); i < len(t.blocks) {
		return t.blocks[i].block, true
	}
	return 0, false
}

// tally is log_blocks in memory: some ten bytes a block and type, so that the
// backlogs of a thousand lanes take no thousand queries.
type tally struct {
	counted Offset
	newest  int64 // the last block that was read, which may have grown since
	types   map[string]*series
}

const (
	readCountedSQL = `SELECT next FROM rowcall.log_counted`
	readBlocksSQL  = `SELECT block, type, events, bytes FROM rowcall.log_blocks WHERE block >= $1 ORDER BY block`
)

// refresh reads what has changed of log_blocks, and forgets the blocks below oldest.
func (t *tally) refresh(ctx context.Context, q querier, oldest Offset) error {
	if t.types == nil {
		t.types = map[string]*series{}
	}
	// First, so that no block is read before its count: then what is above counted
	// would be missing twice.
	var counted Offset
	if err := q.QueryRow(ctx, readCountedSQL).Scan(&counted); err != nil {
		return err
	}
	rows, err := q.Query(ctx, readBlocksSQL, max(t.newest, int64(oldest)/blockSize))
	if err != nil {
		return err
	}
	for _, of := range t.types {
		of.cut(t.newest)
	}
	var at blockType
	var c LogCount
	_, err = pgx.ForEachRow(rows, []any{&at.block, &at.name, &c.Events, &c.Bytes}, func() error {
		of := t.types[at.name]
		if of == nil {
			of = &series{}
			t.types[at.name] = of
		}
		of.add(at.block, c)
		t.newest = max(t.newest, at.block)
		return nil
	})
	if err != nil {
		*t = tally{} // it is read anew
		return err
	}
	for name, of := range t.types {
		if of.blocks = slices.Delete(of.blocks, 0, of.find(int64(oldest)/blockSize)); len(of.blocks) == 0 {
			delete(t.types, name)
		}
	}
	t.counted = counted
	return nil
}
