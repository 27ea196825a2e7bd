package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"

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

// searched is how many of the newest events are searched for an id that was
// given from outside: ids of that kind have no index.
const searched = 100_000

const (
	eventByPositionSQL = `SELECT ` + eventColumns + ` FROM (SELECT * FROM rowcall.events UNION ALL SELECT * FROM rowcall.kept_events) AS e
WHERE lsn = $1 AND ordinal = $2 AND generation = $3 AND id IS NULL ORDER BY "offset" DESC LIMIT 1`
	eventByPublicIDSQL = `SELECT ` + eventColumns + ` FROM rowcall.events
WHERE "offset" >= $2 AND id = $1 ORDER BY "offset" DESC LIMIT 1`
	keptByPositionSQL = `SELECT "offset" FROM rowcall.deliveries
WHERE (event->>'lsn')::bigint = $1 AND (event->>'ordinal')::bigint = $2 AND (event->>'generation')::integer = $3 AND event->>'id' IS NULL
ORDER BY "offset" DESC LIMIT 1`
	keptByPublicIDSQL = `SELECT "offset" FROM rowcall.deliveries WHERE event->>'id' = $1 ORDER BY "offset" DESC LIMIT 1`
)

// publishedAtSQL finds an event by the id that it is published under, as long as
// it is known by it.
const publishedAtSQL = `SELECT "offset" FROM rowcall.published_ids WHERE id = $1`

// webhookDigest reads the webhook-id of a published event: "e-" and the 32 hex
// digits of its PublishedID.
func webhookDigest(id string) ([]byte, bool) {
	digits, ok := strings.CutPrefix(id, "e-")
	digest, err := hex.DecodeString(digits)
	return digest, ok && err == nil && len(digest) == 16
}

// EventByID finds an event by its CloudEvents id, the newest where sources share
// one, or by its webhook-id. A published id is found among the newest 100,000
// events, and among those that deliveries kept; the webhook-id of a published
// event, while duplicates of it are known.
func (s *Store) EventByID(ctx context.Context, id string) (*Event, error) {
	var found []Event
	var kept string
	var args []any
	generation, lsn, ordinal, ours := parseEventID(id)
	var err error
	if ours {
		kept, args = keptByPositionSQL, []any{int64(lsn), ordinal, generation}
		found, err = s.queryEvents(ctx, 1, eventByPositionSQL, args...)
	}
	if digest, ok := webhookDigest(id); ok && err == nil && len(found) == 0 {
		var at Offset
		err := s.pool.QueryRow(ctx, publishedAtSQL, digest).Scan(&at)
		if err == nil {
			return s.Event(ctx, at)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return nil, fmt.Errorf("find event: %w", err)
		}
	}
	if err == nil && len(found) == 0 {
		from := max(0, int64(s.Head())-searched)
		found, err = s.queryEvents(ctx, 1, eventByPublicIDSQL, id, from)
	}
	if err != nil {
		return nil, fmt.Errorf("find event: %w", err)
	}
	if len(found) == 1 {
		return &found[0], nil
	}
	if !ours {
		kept, args = keptByPublicIDSQL, []any{id}
	}
	var at Offset
	err = s.pool.QueryRow(ctx, kept, args...).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("find event: %w", ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("find event: %w", err)
	}
	return s.Event(ctx, at)
}

// EventFilter selects events for a list.
type EventFilter struct {
	Type string // exact, or empty
	Key  string // exact, or empty
	Past Offset // only events below it; 0: from the newest
}

// listSpan is how many offsets a list looks at: nothing finds those of one type or
// key, so a log that holds few of them would be read whole.
const listSpan = 50_000

const listEventsSQL = `
SELECT ` + eventColumns + ` FROM (
  SELECT *, sum(octet_length(data)) OVER (ORDER BY "offset" DESC ROWS UNBOUNDED PRECEDING) AS bytes FROM (
    SELECT * FROM rowcall.events
    WHERE "offset" < $1 AND "offset" >= $2 AND kind <> $3 AND ($4 = '' OR type = $4) AND ($5 = '' OR key = $5 OR old_key = $5)
    ORDER BY "offset" DESC LIMIT $6) newest) page
WHERE bytes <= $7 OR bytes = octet_length(data)
ORDER BY "offset" DESC`

// Events lists events, newest first: at most limit, with at most maxBytes of data,
// but one in any case, found among 50,000 offsets. It looked at everything from
// next on, which is Past of what follows; 0: there is nothing more. Markers of
// gaps are none.
func (s *Store) Events(ctx context.Context, f EventFilter, limit int, maxBytes int64) (found []Event, next Offset, err error) {
	past, oldest := s.Head(), Offset(s.oldest.Load())
	if f.Past > 0 {
		past = min(past, f.Past)
	}
	limit, next = min(max(limit, 1), maxPage), max(oldest, past-listSpan)
	found, err = s.queryEvents(ctx, limit, listEventsSQL, int64(past), int64(next), int16(KindGap), f.Type, f.Key, limit, maxBytes)
	if err != nil {
		return nil, 0, fmt.Errorf("list events: %w", err)
	}
	if n := len(found); n > 0 {
		next = found[n-1].Offset
	}
	if next <= oldest {
		next = 0
	}
	return found, next, nil
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
