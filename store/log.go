package store

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
)

// Read returns events from offset on, at most limit of them and, but for the
// first, at most maxBytes of data. It returns none at the head of the log.
// The slice is shared: callers do not write to it. Where retention has dropped
// from, reading starts at the oldest offset that is kept.
//
// It may return fewer than there are: a reader goes on until it gets none.
func (s *Store) Read(ctx context.Context, from Offset, limit int, maxBytes int64) ([]Event, error) {
	limit = max(limit, 1)
	from = max(from, Offset(s.oldest.Load()), 1)
	if from >= s.Head() {
		return nil, nil
	}
	if found := s.ring.read(from, limit, maxBytes); len(found) > 0 {
		return found, nil
	}
	for range 3 {
		found, err := s.readTable(ctx, from, limit, maxBytes)
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		if len(found) > 0 && found[0].Offset == from {
			s.head.note(found[len(found)-1].Offset + 1)
			return found, nil
		}
		// Another instance may have dropped a partition under us.
		if err := s.readHead(ctx, s.pool); err != nil {
			return nil, err
		}
		oldest := Offset(s.oldest.Load())
		if oldest <= from {
			return nil, fmt.Errorf("read log: offset %d is missing, though the oldest kept is %d", from, oldest)
		}
		from = oldest
		if from >= s.Head() {
			return nil, nil
		}
	}
	return nil, fmt.Errorf("read log: the log is dropped faster than it is read, at offset %d", from)
}

// maxPage bounds a page from the table, whatever was asked for.
const maxPage = 10_000

// eventColumns is the order in which scanEvent expects them.
const eventColumns = `"offset", lsn, ordinal, time, source, generation, kind, relation, type, key, old_key, subject, id, given, data`

const (
	readPageSQL = `
SELECT ` + eventColumns + ` FROM rowcall.events WHERE "offset" >= $1 AND "offset" < $2 ORDER BY "offset"`
	// The sum, of sizes that are read without the bytes, keeps large events from
	// being sent only to be thrown away. It costs half as much again as the page.
	readWidePageSQL = `
SELECT ` + eventColumns + ` FROM (
  SELECT *, sum(octet_length(data)) OVER (ORDER BY "offset" ROWS UNBOUNDED PRECEDING) AS bytes
  FROM rowcall.events WHERE "offset" >= $1 AND "offset" < $2) page
WHERE bytes <= $3 OR "offset" = $1
ORDER BY "offset"`
)

// widePages is how many pages are read with readWidePageSQL after one whose
// events did not fit.
const widePages = 100

// readTable reads a page from the table, up to the head.
func (s *Store) readTable(ctx context.Context, from Offset, limit int, maxBytes int64) ([]Event, error) {
	past := min(from+Offset(min(limit, maxPage)), s.Head())
	if s.wide.Add(-1) >= 0 {
		return s.queryEvents(ctx, int(past-from), readWidePageSQL, int64(from), int64(past), maxBytes)
	}
	s.wide.Store(0)
	p := page{events: make([]Event, 0, past-from), budget: maxBytes}
	return s.queryPage(ctx, &p, readPageSQL, int64(from), int64(past))
}

// queryEvents runs a query that returns eventColumns.
func (s *Store) queryEvents(ctx context.Context, most int, sql string, args ...any) ([]Event, error) {
	p := page{events: make([]Event, 0, most), budget: math.MaxInt64}
	return s.queryPage(ctx, &p, sql, args...)
}

// queryPage is queryEvents up to the page's budget. What is sent beyond it is
// read and thrown away; when that is much, the connection is given up instead,
// and the next pages are asked for with more care.
func (s *Store) queryPage(ctx context.Context, p *page, sql string, args ...any) ([]Event, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := p.add(rows.RawValues()); err != nil {
			return nil, err
		}
		if p.budget < 0 {
			s.wide.Store(widePages)
			if p.past > maxPast {
				_ = conn.Conn().PgConn().Conn().Close()
				break
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	rows.Close()
	conn.Release()
	for i := range p.events {
		e := &p.events[i]
		if e.Given != nil && e.Given.Source != "" {
			e.Source = e.Given.Source
			continue
		}
		if i > 0 && e.Given == nil && p.events[i-1].Given == nil && e.SourceID == p.events[i-1].SourceID {
			e.Source = p.events[i-1].Source
			continue
		}
		if e.Source, err = s.eventSource(ctx, s.pool, e.SourceID); err != nil {
			return nil, err
		}
	}
	return p.events, nil
}

// Oldest is the oldest offset that is kept.
func (s *Store) Oldest(ctx context.Context) (Offset, error) {
	if err := s.readHead(ctx, s.pool); err != nil {
		return 0, err
	}
	return Offset(s.oldest.Load()), nil
}

const (
	selectEventSQL = `SELECT ` + eventColumns + ` FROM rowcall.events WHERE "offset" = $1
UNION ALL SELECT ` + eventColumns + ` FROM rowcall.kept_events WHERE "offset" = $1 LIMIT 1`
	selectKeptSQL = `SELECT event, data FROM rowcall.deliveries WHERE "offset" = $1 AND event IS NOT NULL LIMIT 1`
)

// Event returns one event by offset: from the ring, the log, or what a dead
// range or a delivery kept of it. ErrNotFound where retention has dropped it.
func (s *Store) Event(ctx context.Context, at Offset) (*Event, error) {
	if e := s.ring.get(at); e != nil {
		return e, nil
	}
	found, err := s.queryEvents(ctx, 1, selectEventSQL, int64(at))
	if err != nil {
		return nil, fmt.Errorf("read event %d: %w", at, err)
	}
	if len(found) == 1 {
		return &found[0], nil
	}
	var attributes, data []byte
	err = s.pool.QueryRow(ctx, selectKeptSQL, int64(at)).Scan(&attributes, &data)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read event %d: %w", at, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read event %d: %w", at, err)
	}
	return s.keptEvent(ctx, at, attributes, data)
}

// LogStats is what the log weighs.
type LogStats struct {
	Oldest, Head Offset
	Bytes        int64 // on disk, indexes and what is kept of dead ranges included
	MaxBytes     int64 // what it may weigh
}

const logBytesSQL = `SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint
FROM pg_inherits WHERE inhparent IN ('rowcall.events'::regclass, 'rowcall.kept_events'::regclass)`

// LogStats measures the log.
func (s *Store) LogStats(ctx context.Context) (LogStats, error) {
	stats := LogStats{MaxBytes: s.config.LogMaxBytes}
	if err := s.readHead(ctx, s.pool); err != nil {
		return stats, err
	}
	stats.Oldest, stats.Head = Offset(s.oldest.Load()), s.Head()
	if err := s.pool.QueryRow(ctx, logBytesSQL).Scan(&stats.Bytes); err != nil {
		return stats, fmt.Errorf("measure log: %w", err)
	}
	return stats, nil
}
