package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// SourceState is what a source is doing.
type SourceState string

const (
	SourceStarting  SourceState = "starting"  // connecting, creating slot and publication
	SourceStreaming SourceState = "streaming" // changes arrive
	SourceWaiting   SourceState = "waiting"   // down or busy: trying again by itself; Reason says why
	SourceGap       SourceState = "gap"       // changes may be lost: a person must accept it
	SourceRefused   SourceState = "refused"   // cannot go on by itself: Reason and Hint say what to do
)

// Source is a watched database.
type Source struct {
	ID          SourceID
	Name        string
	Kind        string
	State       SourceState
	Reason      string // what is wrong, empty when nothing is
	Hint        string // what to do about it
	Generation  int32  // bumped when system id or timeline changes
	SystemID    string
	Timeline    int32
	Slot        string
	Publication string
	Intent      bool // the slot is being created by us
	HeartbeatAt time.Time
	LagBytes    int64
	WALStatus   string // pg_replication_slots.wal_status
	UpdatedAt   time.Time
	Checkpoint  Checkpoint
	Relations   []Relation
	Gaps        []Gap // those not accepted, oldest first

	GapsAccepted int
}

// Relation is a table as the source's capture sees it.
type Relation struct {
	Schema, Name string
	Identity     string // default, index, full, nothing
	Captured     bool
	Reason       string   // why it is left out
	Remedy       string   // SQL that would let it in
	Key          []string // columns of the key
	Columns      []Column // those that its events have; none where they are not known
}

// Column is a column of a table.
type Column struct {
	Name string
	Type string // as subscriptions.ColumnOf reads it
}

// Gap is an interval in which continuity cannot be proven.
type Gap struct {
	ID         int64
	At         time.Time
	Reason     string
	From, To   LSN
	Marker     Offset // lanes hold here until it is accepted
	AcceptedAt time.Time
	AcceptedBy string
}

// SourceClaim is the right to append for a source. Epoch fences it.
type SourceClaim struct {
	ID    SourceID
	Name  string
	Epoch int64

	instance string // not empty: not for a source; Epoch is that of this instance's lease
}

// ofInstance reports whether the claim is this instance's own, for events that
// no source transaction wrote: its lease fences it, and no checkpoint moves.
func (c SourceClaim) ofInstance() bool { return c.instance != "" }

// A dead instance may have left a server process in the middle of an append,
// holding the checkpoint: it must not hold up who takes over.
const endAppenderSQL = `
SELECT count(pg_terminate_backend(a.pid))
FROM rowcall.sources s
JOIN rowcall.leases l ON l.instance = s.owner
JOIN pg_stat_activity a ON a.pid = l.appender_pid AND a.backend_start = l.appender_start
WHERE s.name = $1 AND s.owner <> $2 AND l.expires_at < now()`

// An identity value is spent even where the row is there: look first.
const ensureSourceSQL = `
INSERT INTO rowcall.sources (name)
SELECT $1 WHERE NOT EXISTS (SELECT FROM rowcall.sources WHERE name = $1)
ON CONFLICT (name) DO NOTHING`

const ensureCheckpointSQL = `
INSERT INTO rowcall.checkpoints (source) SELECT id FROM rowcall.sources WHERE name = $1
ON CONFLICT (source) DO NOTHING`

// Whoever writes for a source locks its checkpoint first, then its row.
const lockCheckpointByNameSQL = `
SELECT source FROM rowcall.checkpoints
WHERE source = (SELECT id FROM rowcall.sources WHERE name = $1) FOR UPDATE`

const (
	ownerColumns = `
SELECT coalesce(s.owner, ''), s.kind, coalesce(s.owner <> $2 AND l.expires_at >= now(), false)
FROM rowcall.sources s LEFT JOIN rowcall.leases l ON l.instance = s.owner
WHERE `
	findOwnerSQL = ownerColumns + `s.name = $1`
	ownerSQL     = ownerColumns + `s.id = $1 FOR UPDATE OF s`
)

// claimable says why an instance cannot claim the source of a row of ownerColumns.
func claimable(row pgx.Row) error {
	var owner, kind string
	var alive bool
	if err := row.Scan(&owner, &kind, &alive); err != nil {
		return err
	}
	if kind == publishedSource {
		return fmt.Errorf("%w: the name stands for events that are published", ErrConflict)
	}
	if alive {
		return fmt.Errorf("%w: instance %s captures it", ErrConflict, owner)
	}
	return nil
}

const raiseEpochSQL = `UPDATE rowcall.checkpoints SET epoch = epoch + 1 WHERE source = $1 RETURNING epoch`

const setOwnerSQL = `UPDATE rowcall.sources SET owner = $2, updated_at = now() WHERE id = $1`

// ClaimSource makes this instance the capturer of the source, creating its row
// at first; it raises the source's epoch, so whoever held it is fenced. While
// another live instance owns it, it returns ErrConflict. It waits for this
// instance's lease.
func (s *Store) ClaimSource(ctx context.Context, name string) (SourceClaim, Source, error) {
	name = cleanText(name)
	claim := SourceClaim{Name: name}
	var src Source
	lease, err := s.Lease(ctx)
	if err != nil {
		return claim, src, fmt.Errorf("claim source %s: %w", name, err)
	}
	// Looked at without a lock first: an instance that stands by asks every second,
	// and must not hold what the appends of the owner need.
	if err := claimable(s.pool.QueryRow(ctx, findOwnerSQL, name, lease.Instance)); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return claim, src, fmt.Errorf("claim source %s: %w", name, err)
	}
	if _, err := s.pool.Exec(ctx, endAppenderSQL, name, lease.Instance); Unavailable(err) {
		return claim, src, fmt.Errorf("claim source %s: %w", name, err)
	} else if err != nil {
		s.log.Warn().Err(err).Str("source", name).Msg("cannot end the connection of the former owner")
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, ensureSourceSQL, name); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, ensureCheckpointSQL, name); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, lockCheckpointByNameSQL, name).Scan(&claim.ID); err != nil {
			return err
		}
		if err := claimable(tx.QueryRow(ctx, ownerSQL, int32(claim.ID), lease.Instance)); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, raiseEpochSQL, int32(claim.ID)).Scan(&claim.Epoch); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, retireRelationsSQL, int32(claim.ID)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, setOwnerSQL, int32(claim.ID), lease.Instance); err != nil {
			return err
		}
		found, err := readSources(ctx, tx, &name)
		if err != nil {
			return err
		}
		src = found[0]
		return nil
	})
	if err != nil {
		return SourceClaim{}, Source{}, fmt.Errorf("claim source %s: %w", name, err)
	}
	return claim, src, nil
}

const lockCheckpointSQL = `SELECT FROM rowcall.checkpoints WHERE source = $1 AND epoch = $2 FOR UPDATE`

// asOwner runs f in a transaction in which the claim holds: nobody can take
// over until it ends. ErrFenced where somebody has.
func (s *Store) asOwner(ctx context.Context, c SourceClaim, f func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, lockCheckpointSQL, int32(c.ID), c.Epoch).Scan()
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrFenced
		}
		if err != nil {
			return err
		}
		return f(tx)
	})
}

const setIdentitySQL = `
UPDATE rowcall.sources
SET generation = $2, system_id = $3, timeline = $4, slot = $5, publication = $6, intent = $7, updated_at = now()
WHERE id = $1`

// SetSourceIdentity saves who the source is and which slot and publication serve it.
func (s *Store) SetSourceIdentity(ctx context.Context, c SourceClaim, src Source) error {
	err := s.asOwner(ctx, c, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, setIdentitySQL, int32(c.ID), src.Generation, cleanText(src.SystemID), src.Timeline,
			cleanText(src.Slot), cleanText(src.Publication), src.Intent)
		return err
	})
	if err != nil {
		return fmt.Errorf("set identity of source %s: %w", c.Name, err)
	}
	return nil
}

// While a gap is open it shows, whatever its capture is doing: only a person
// ends it. A refusal is at least as loud.
const setStateSQL = `
UPDATE rowcall.sources s
SET state = CASE WHEN open THEN 'gap' ELSE $2 END,
    reason = CASE WHEN open AND $3 = '' THEN s.reason ELSE $3 END,
    hint = CASE WHEN open AND $4 = '' THEN s.hint ELSE $4 END,
    updated_at = now()
FROM (SELECT $2 <> 'refused' AND EXISTS (SELECT FROM rowcall.gaps WHERE source = $1 AND accepted_at IS NULL)) AS gap (open)
WHERE s.id = $1`

// SetSourceState saves state, reason and hint (and nothing else). While a gap
// is open, the state stays gap for all but refused, and an empty reason or hint
// leaves the one that is there.
func (s *Store) SetSourceState(ctx context.Context, c SourceClaim, state SourceState, reason, hint string) error {
	err := s.asOwner(ctx, c, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, setStateSQL, int32(c.ID), string(state), cleanText(reason), cleanText(hint))
		return err
	})
	if err != nil {
		return fmt.Errorf("set state of source %s: %w", c.Name, err)
	}
	return nil
}

// SourceProgress is what is observed while streaming.
type SourceProgress struct {
	HeartbeatAt time.Time // zero: leave
	LagBytes    int64
	WALStatus   string
}

// It comes every few seconds, so it is one statement: the lock on the
// checkpoint holds off a claim until it has committed.
const setProgressSQL = `
WITH held AS MATERIALIZED (
  SELECT source FROM rowcall.checkpoints WHERE source = $1 AND epoch = $2 FOR SHARE
)
UPDATE rowcall.sources s
SET heartbeat_at = coalesce($3, heartbeat_at), lag_bytes = $4, wal_status = $5, updated_at = now()
FROM held WHERE s.id = held.source`

// SetSourceProgress saves observations.
func (s *Store) SetSourceProgress(ctx context.Context, c SourceClaim, p SourceProgress) error {
	tag, err := s.pool.Exec(ctx, setProgressSQL, int32(c.ID), c.Epoch, nullTime(p.HeartbeatAt), p.LagBytes, cleanText(p.WALStatus))
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrFenced
	}
	if err != nil {
		return fmt.Errorf("set progress of source %s: %w", c.Name, err)
	}
	return nil
}

const deleteRelationsSQL = `DELETE FROM rowcall.relations WHERE source = $1`

const insertRelationsSQL = `
INSERT INTO rowcall.relations (source, schema, name, identity, captured, reason, remedy, key, columns, types)
SELECT $1, r.schema, r.name, r.identity, r.captured, r.reason, r.remedy, r.key::text[], r.columns::text[], r.types::text[]
FROM unnest($2::text[], $3::text[], $4::text[], $5::boolean[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])
  AS r (schema, name, identity, captured, reason, remedy, key, columns, types)`

// SetRelations replaces what is known of the source's tables.
func (s *Store) SetRelations(ctx context.Context, c SourceClaim, rs []Relation) error {
	n := len(rs)
	schemas, tables, identities := make([]string, n), make([]string, n), make([]string, n)
	captured := make([]bool, n)
	reasons, remedies, keys := make([]string, n), make([]string, n), make([]string, n)
	columns, types := make([]string, n), make([]string, n)
	for i, r := range rs {
		schemas[i], tables[i], identities[i] = cleanText(r.Schema), cleanText(r.Name), cleanText(r.Identity)
		captured[i] = r.Captured
		reasons[i], remedies[i], keys[i] = cleanText(r.Reason), cleanText(r.Remedy), textArray(r.Key)
		names, kinds := columnTexts(r.Columns)
		columns[i], types[i] = textArray(names), textArray(kinds)
	}
	err := s.asOwner(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, deleteRelationsSQL, int32(c.ID)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insertRelationsSQL, int32(c.ID), schemas, tables, identities, captured, reasons, remedies, keys, columns, types)
		return err
	})
	if err != nil {
		return fmt.Errorf("set relations of source %s: %w", c.Name, err)
	}
	return nil
}

// Sources lists all sources, by name, with their relations and open gaps.
func (s *Store) Sources(ctx context.Context) ([]Source, error) {
	found, err := readSources(ctx, s.pool, nil)
	if err != nil {
		return nil, fmt.Errorf("list sources: %w", err)
	}
	return found, nil
}

// Source returns one source by name; ErrNotFound where there is none.
func (s *Store) Source(ctx context.Context, name string) (Source, error) {
	name = cleanText(name)
	found, err := readSources(ctx, s.pool, &name)
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Source{}, fmt.Errorf("read source %s: %w", name, err)
	}
	return found[0], nil
}

const sourcesSQL = `
SELECT s.id, s.name, s.kind, s.state, s.reason, s.hint, s.generation, s.system_id, s.timeline, s.slot, s.publication,
       s.intent, s.heartbeat_at, coalesce(s.lag_bytes, 0), s.wal_status, s.updated_at,
       coalesce(k.commit_lsn, 0), coalesce(k.ordinal, 0), coalesce(k.end_lsn, 0), k.commit_at,
       (SELECT count(*) FROM rowcall.gaps g WHERE g.source = s.id AND g.accepted_at IS NOT NULL)
FROM rowcall.sources s LEFT JOIN rowcall.checkpoints k ON k.source = s.id
WHERE $1::text IS NULL OR s.name = $1 ORDER BY s.name`

const relationsSQL = `
SELECT source, schema, name, identity, captured, reason, remedy, key, columns, types
FROM rowcall.relations WHERE source = ANY($1::integer[]) ORDER BY source, schema, name`

const openGapsOfSQL = `
SELECT source, id, at, reason, from_lsn, to_lsn, marker
FROM rowcall.gaps WHERE source = ANY($1::integer[]) AND accepted_at IS NULL ORDER BY source, id`

// readSources reads the source of a name, or all, by name.
func readSources(ctx context.Context, q querier, name *string) ([]Source, error) {
	rows, err := q.Query(ctx, sourcesSQL, name)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Source, error) {
		var src Source
		var heartbeat, committed *time.Time
		err := row.Scan(&src.ID, &src.Name, &src.Kind, &src.State, &src.Reason, &src.Hint, &src.Generation, &src.SystemID,
			&src.Timeline, &src.Slot, &src.Publication, &src.Intent, &heartbeat, &src.LagBytes, &src.WALStatus, &src.UpdatedAt,
			&src.Checkpoint.Commit, &src.Checkpoint.Ordinal, &src.Checkpoint.End, &committed, &src.GapsAccepted)
		src.HeartbeatAt, src.Checkpoint.CommitAt, src.UpdatedAt = timeOf(heartbeat), timeOf(committed), src.UpdatedAt.UTC()
		return src, err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	ids := make([]int32, len(found))
	byID := make(map[SourceID]*Source, len(found))
	for i := range found {
		ids[i], byID[found[i].ID] = int32(found[i].ID), &found[i]
	}
	var id SourceID
	var r Relation
	var columns, types []string
	if rows, err = q.Query(ctx, relationsSQL, ids); err != nil {
		return nil, err
	}
	_, err = pgx.ForEachRow(rows, []any{&id, &r.Schema, &r.Name, &r.Identity, &r.Captured, &r.Reason, &r.Remedy, &r.Key, &columns, &types}, func() error {
		r.Columns = columnsOf(columns, types)
		byID[id].Relations = append(byID[id].Relations, r)
		r.Key, columns, types = nil, nil, nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	var g Gap
	if rows, err = q.Query(ctx, openGapsOfSQL, ids); err != nil {
		return nil, err
	}
	_, err = pgx.ForEachRow(rows, []any{&id, &g.ID, &g.At, &g.Reason, &g.From, &g.To, &g.Marker}, func() error {
		g.At = g.At.UTC()
		byID[id].Gaps = append(byID[id].Gaps, g)
		return nil
	})
	return found, err
}
