package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// gapType is the type, and the key, of a gap's marker in the log.
const gapType = "rowcall.source.gap"

const gapGenerationSQL = `
SELECT s.generation, EXISTS (
  SELECT FROM rowcall.gaps g
  WHERE g.source = s.id AND g.accepted_at IS NULL AND g.reason = $3 AND g.from_lsn = $4 AND g.to_lsn = $5
    AND k.commit_lsn = $6 AND k.ordinal = $7 AND k.end_lsn = $8)
FROM rowcall.sources s JOIN rowcall.checkpoints k ON k.source = s.id
WHERE s.id = $1 AND k.epoch = $2`

const insertGapSQL = `
INSERT INTO rowcall.gaps (source, reason, from_lsn, to_lsn, marker) VALUES ($1, $2, $3, $4, $5)`

const enterGapSQL = `
UPDATE rowcall.sources SET state = 'gap', reason = $2, hint = $3, updated_at = now() WHERE id = $1`

// GapHint is what a person can do about a gap of a source.
func GapHint(source string) string {
	return "compare the receivers with the source where that matters, then accept the gap (rowcall sources accept-gap " + source +
		"); delivery holds at it until then"
}

// RecordGap appends a gap marker to the log, records the gap and sets the
// source's state to gap, in one transaction. The checkpoint becomes next.
//
// Of g it reads Reason, From and To. To record the same gap again, while it is
// open and the checkpoint is next, changes nothing: after an error whose
// outcome is in doubt it is safe to call again.
func (s *Store) RecordGap(ctx context.Context, c SourceClaim, g Gap, next Checkpoint) error {
	if err := s.recordGap(ctx, c, g, next); err != nil {
		return fmt.Errorf("record gap of source %s: %w", c.Name, err)
	}
	return nil
}

func (s *Store) recordGap(ctx context.Context, c SourceClaim, g Gap, next Checkpoint) error {
	reason := cleanText(g.Reason)
	event := Event{Time: time.Now().UnixMicro(), SourceID: c.ID, Kind: KindGap, Type: gapType, Key: gapType}
	var recorded bool
	err := s.pool.QueryRow(ctx, gapGenerationSQL, int32(c.ID), c.Epoch, reason, int64(g.From), int64(g.To),
		int64(next.Commit), next.Ordinal, int64(next.End)).Scan(&event.Generation, &recorded)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrFenced
	case err != nil:
		return err
	case recorded:
		return nil
	}
	data, err := json.Marshal(struct {
		Source string `json:"source"`
		Reason string `json:"reason"`
		From   string `json:"from"`
		To     string `json:"to"`
		Hint   string `json:"hint"`
	}{c.Name, reason, g.From.String(), g.To.String(), GapHint(c.Name)})
	if err != nil {
		return err
	}
	b := &Batch{Checkpoint: next}
	// The notice comes before the marker, at which every lane holds.
	notice := event
	notice.Kind, notice.Key, notice.Subject = KindNotice, NoticePrefix+c.Name, c.Name
	notice.PublicID = fmt.Sprintf("gap-%d-%d-%d", c.ID, event.Generation, event.Time)
	b.End(append(b.Begin(notice), data...))
	b.End(append(b.Begin(event), data...))
	_, err = s.appendWith(ctx, c, b, func(first Offset) []statement {
		marker := first + 1
		return []statement{
			{sql: insertGapSQL, args: []any{int32(c.ID), reason, int64(g.From), int64(g.To), int64(marker)}},
			{sql: enterGapSQL, args: []any{int32(c.ID), "changes may be missing: " + reason, GapHint(c.Name)}},
			{sql: notifySQL, args: []any{string(TopicGaps)}},
		}
	})
	return err
}

const lockSourceByNameSQL = `SELECT id FROM rowcall.sources WHERE name = $1 FOR UPDATE`

const acceptGapsSQL = `
UPDATE rowcall.gaps SET accepted_at = now(), accepted_by = $2 WHERE source = $1 AND accepted_at IS NULL`

// notAskedSQL takes back what was asked of lanes while they could not move.
const notAskedSQL = `UPDATE rowcall.cursors SET must_pass = 0 WHERE must_pass > 0`

const leaveGapSQL = `
UPDATE rowcall.sources SET state = 'starting', reason = '', hint = '', updated_at = now()
WHERE id = $1 AND state = 'gap'`

// AcceptGaps accepts every open gap of a source: lanes go on past the markers, and
// the log's bound has none of them give up anything for a while: see maxGrace.
// It returns how many there were. ErrNotFound where there is no such source.
func (s *Store) AcceptGaps(ctx context.Context, name, actor string) (int, error) {
	var accepted int
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var id SourceID
		// The checkpoint first, as all who write for a source: see asOwner.
		err := tx.QueryRow(ctx, lockCheckpointByNameSQL, cleanText(name)).Scan(&id)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		err = tx.QueryRow(ctx, lockSourceByNameSQL, cleanText(name)).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, acceptGapsSQL, int32(id), cleanText(actor))
		if err != nil {
			return err
		}
		accepted = int(tag.RowsAffected())
		if _, err := tx.Exec(ctx, notAskedSQL); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, leaveGapSQL, int32(id)); err != nil {
			return err
		}
		if err := audit(ctx, tx, "source/"+name, nil, map[string]int{"accepted": accepted}); err != nil {
			return err
		}
		return s.notify(ctx, tx, TopicGaps)
	})
	if err != nil {
		return 0, fmt.Errorf("accept gaps of source %s: %w", name, err)
	}
	return accepted, nil
}

const openGapsSQL = `SELECT marker FROM rowcall.gaps WHERE accepted_at IS NULL ORDER BY marker`

// OpenGaps returns the markers at which lanes hold, in rising order.
func (s *Store) OpenGaps(ctx context.Context) ([]Offset, error) {
	rows, err := s.pool.Query(ctx, openGapsSQL)
	if err != nil {
		return nil, fmt.Errorf("list open gaps: %w", err)
	}
	markers, err := pgx.CollectRows(rows, pgx.RowTo[Offset])
	if err != nil {
		return nil, fmt.Errorf("list open gaps: %w", err)
	}
	return markers, nil
}
