package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// searched is how many of the newest events are searched for an id that was
// given from outside: ids of that kind have no index.
const searched = 100_000

// everyEventSQL is what the log has, and what dead ranges kept of it.
const everyEventSQL = `(SELECT * FROM rowcall.events UNION ALL SELECT * FROM rowcall.kept_events)`

const (
	// Found first and ordered then: asked for the newest, the server may well go
	// through all of them from the newest on.
	eventByPositionSQL = `WITH found AS MATERIALIZED (SELECT * FROM ` + everyEventSQL + ` e
  WHERE lsn = $1 AND ordinal = $2 AND generation = $3 AND id IS NULL)
SELECT ` + eventColumns + ` FROM found ORDER BY "offset" DESC LIMIT 1`
	eventByPublicIDSQL = `SELECT ` + eventColumns + ` FROM rowcall.events
WHERE "offset" >= $2 AND id = $1 ORDER BY "offset" DESC LIMIT 1`
	keptByPositionSQL = `WITH found AS MATERIALIZED (SELECT "offset" FROM rowcall.deliveries
  WHERE event IS NOT NULL AND (event->>'lsn')::bigint = $1 AND (event->>'ordinal')::bigint = $2 AND (event->>'generation')::integer = $3 AND event->>'id' IS NULL)
SELECT "offset" FROM found ORDER BY "offset" DESC LIMIT 1`
	keptByPublicIDSQL = `WITH found AS MATERIALIZED (SELECT "offset" FROM rowcall.deliveries WHERE event->>'id' = $1)
SELECT "offset" FROM found ORDER BY "offset" DESC LIMIT 1`
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

// listSpan is how many offsets a list looks at in one query, and first of those in
// which a key is looked for.
const listSpan = 10_000

const (
	// The row with which the page is full comes too: so it is known that there was one.
	listEventsSQL = `
SELECT ` + eventColumns + ` FROM (
  SELECT *, sum(octet_length(data)) OVER (ORDER BY "offset" DESC ROWS UNBOUNDED PRECEDING) AS bytes FROM (
    SELECT * FROM rowcall.events WHERE %s
    ORDER BY "offset" DESC LIMIT %s) newest) page
WHERE bytes - octet_length(data) <= %s
ORDER BY "offset" DESC`
	// The last of the blocks up to one that may have events of a type, -1 where there is
	// none, and below where they are counted.
	blockOfTypeSQL = `
SELECT c.next, coalesce((SELECT b.block FROM rowcall.log_blocks b WHERE b.block <= $1 AND b.type IN ($2, '') ORDER BY b.block DESC LIMIT 1), -1)
FROM rowcall.log_counted c`
)

func eventsSQL(f *EventFilter, from, past Offset, limit int, maxBytes int64) (sql string, args []any) {
	c := &clauses{}
	c.and(`"offset" < ? AND "offset" >= ? AND kind <> ?`, int64(past), int64(from), int16(KindGap))
	if f.Type != "" {
		c.and("type = ?", cleanText(f.Type))
	}
	if f.Key != "" {
		key := c.arg(cleanText(f.Key))
		c.and("(key = " + key + " OR old_key = " + key + ")")
	}
	sql = fmt.Sprintf(listEventsSQL, c.where(), c.arg(limit), c.arg(maxBytes))
	return sql, c.args
}

// Events lists events, newest first: at most limit, with at most maxBytes of data,
// but one in any case, found among some thousand offsets, or, of a key, as many as it
// could look at in half of ListTime. It looked at everything from next on, which is
// Past of what follows; 0: there is nothing more. Markers of gaps are none.
func (s *Store) Events(ctx context.Context, f EventFilter, limit int, maxBytes int64) (found []Event, next Offset, err error) {
	past, oldest := s.Head(), Offset(s.oldest.Load())
	if f.Past > 0 {
		past = min(past, f.Past)
	}
	least := oldest
	if f.Type != "" && f.Key == "" {
		if least, past, err = s.spanOfType(ctx, cleanText(f.Type), least, past); err != nil {
			return nil, 0, fmt.Errorf("list events: %w", err)
		}
		if past <= oldest {
			return nil, 0, nil
		}
	}
	limit, next = min(max(limit, 1), maxPage), past
	for walk := newStride(ListTime/2, listSpan); ; {
		from := max(least, next-Offset(walk.size))
		some, full, err := s.eventsBetween(ctx, &f, from, next, limit-len(found), maxBytes)
		if err != nil {
			return nil, 0, fmt.Errorf("list events: %w", err)
		}
		found, next = append(found, some...), from
		if full {
			next = found[len(found)-1].Offset
		}
		for i := range some {
			maxBytes -= int64(len(some[i].Data))
		}
		if full || maxBytes <= 0 || f.Key == "" || next <= least || walk.over() {
			break
		}
	}
	if next <= oldest {
		next = 0
	}
	return found, next, nil
}

// eventsBetween is one query of a list; full: there may be more in it.
func (s *Store) eventsBetween(ctx context.Context, f *EventFilter, from, past Offset, limit int, maxBytes int64) (found []Event, full bool, err error) {
	sql, args := eventsSQL(f, from, past, limit, maxBytes)
	if f.Key != "" { // planned for this span: how wide it is decides what to look at
		args = append([]any{pgx.QueryExecModeDescribeExec}, args...)
	}
	if found, err = s.queryEvents(ctx, limit, sql, args...); err != nil {
		return nil, false, err
	}
	for i := range found {
		if maxBytes -= int64(len(found[i].Data)); maxBytes < 0 && i > 0 {
			return found[:i], true, nil
		}
	}
	return found, len(found) == limit, nil
}

// spanOfType is the part of [from, past) in which the newest events of a type are:
// the log knows the types of its blocks. What has not been counted yet may be of any.
func (s *Store) spanOfType(ctx context.Context, name string, from, past Offset) (Offset, Offset, error) {
	var counted Offset
	var block int64
	if err := s.pool.QueryRow(ctx, blockOfTypeSQL, int64(past-1)/blockSize, name).Scan(&counted, &block); err != nil {
		return 0, 0, err
	}
	if past > counted {
		return max(from, counted), past, nil
	}
	return max(from, Offset(block*blockSize)), min(past, Offset((block+1)*blockSize)), nil
}
