package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Captured is how many events came of a source since the log began: changes,
// published events, notices.
type Captured struct {
	Source string // its name; "rowcall" of notices; empty: before sources were told apart
	Events int64
}

const (
	saveCapturedSQL = `
INSERT INTO rowcall.captured AS c (source, events) SELECT * FROM unnest($1::integer[], $2::bigint[])
ON CONFLICT (source) DO UPDATE SET events = c.events + excluded.events`
	capturedSQL = `
SELECT coalesce(s.name, CASE c.source WHEN 0 THEN 'rowcall' WHEN -1 THEN '' ELSE c.source::text END), c.events
FROM rowcall.captured c LEFT JOIN rowcall.sources s ON s.id = c.source ORDER BY c.source <= 0, 1`
)

// Captured returns what came of every source that has written anything, by name,
// notices last. It is as of the last look at what is counted, which it brings up to
// date, unless another instance is at it.
func (s *Store) Captured(ctx context.Context) ([]Captured, error) {
	if err := s.countLog(ctx); err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, capturedSQL)
	if err != nil {
		return nil, fmt.Errorf("read what was captured: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Captured])
	if err != nil {
		return nil, fmt.Errorf("read what was captured: %w", err)
	}
	return found, nil
}

// saveCaptured adds to what came of sources, in the transaction that moves
// log_counted past it.
func saveCaptured(ctx context.Context, tx pgx.Tx, counts map[blockType]LogCount) error {
	by := map[SourceID]int64{}
	for at, c := range counts {
		by[at.source] += c.Events
	}
	sources, events := make([]int32, 0, len(by)), make([]int64, 0, len(by))
	for of, n := range by {
		sources, events = append(sources, int32(of)), append(events, n)
	}
	_, err := tx.Exec(ctx, saveCapturedSQL, sources, events)
	return err
}
