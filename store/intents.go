package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowcall/rowcall/subscriptions"
)

// Intent is a person's wish about a delivery, for the lane's owner to apply.
type Intent struct {
	ID     int64
	Lane   LaneID
	Action string // retry, discard; probe, with offset 0
	Offset Offset
	Actor  string
	Job    JobID // the bulk job that it is of; empty: a single wish
	Void   bool  // its job was cancelled: it is to be taken away, not applied
}

const insertIntentSQL = `
INSERT INTO rowcall.intents (lane, action, "offset", actor)
SELECT d.lane, $3, d."offset", $4 FROM rowcall.deliveries d WHERE d.lane = $1 AND d."offset" = $2`

// Request leaves an intent for the lane's owner; ErrNotFound where there is no
// such delivery. ID is not read.
func (s *Store) Request(ctx context.Context, in Intent) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, insertIntentSQL, int32(in.Lane), int64(in.Offset), cleanText(in.Action), cleanText(in.Actor))
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "23503" {
			return ErrNotFound // the lane was deleted at this moment
		}
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		if err := audit(ctx, tx, fmt.Sprintf("delivery/dlv_%d_%d", in.Lane, in.Offset), nil, nil); err != nil {
			return err
		}
		return s.notify(ctx, tx, TopicIntents)
	})
	if err != nil {
		return fmt.Errorf("request %s of delivery %d of lane %d: %w", in.Action, in.Offset, in.Lane, err)
	}
	return nil
}

// One at a time: more would ask for the same.
const insertProbeSQL = `
INSERT INTO rowcall.intents (lane, action, "offset", actor)
SELECT c.lane, 'probe', 0, $2 FROM rowcall.cursors c
WHERE c.subscription = $1 AND c.replay IS NULL AND c.health->>'state' = 'parked'
  AND NOT EXISTS (SELECT FROM rowcall.intents i WHERE i.lane = c.lane AND i.action = 'probe')`

// RequestProbe asks the owner of a subscription's lane to probe its endpoint at
// once. Where the endpoint is not parked, or a probe is asked for already,
// nothing comes of it.
func (s *Store) RequestProbe(ctx context.Context, id subscriptions.ID, actor string) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertProbeSQL, id, cleanText(actor)); err != nil {
			return err
		}
		if err := audit(ctx, tx, subscriptionObject(id), nil, nil); err != nil {
			return err
		}
		return s.notify(ctx, tx, TopicIntents)
	})
	if err != nil {
		return fmt.Errorf("request probe of %s: %w", id, err)
	}
	return nil
}

// What a paused job has asked for waits until it is resumed.
const intentsSQL = `
SELECT i.id, i.lane, i.action, i."offset", i.actor, coalesce(i.job, ''), coalesce(j.state = 'cancelled', false)
FROM rowcall.intents i JOIN rowcall.cursors c ON c.lane = i.lane LEFT JOIN rowcall.jobs j ON j.id = i.job
WHERE c.owner = $1 AND i.id > $2 AND j.state IS DISTINCT FROM 'paused'
ORDER BY i.id LIMIT $3`

// Intents returns intents of the lanes that this instance owns, oldest first:
// those with ids above past, at most limit.
func (s *Store) Intents(ctx context.Context, past int64, limit int) ([]Intent, error) {
	rows, err := s.pool.Query(ctx, intentsSQL, s.config.Instance, past, limit)
	if err != nil {
		return nil, fmt.Errorf("read intents: %w", err)
	}
	intents, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Intent])
	if err != nil {
		return nil, fmt.Errorf("read intents: %w", err)
	}
	return intents, nil
}
