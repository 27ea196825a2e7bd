package store

import (
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// saveDeliveriesSQL saves them: the first %s are the values of key_hash and old_key_hash, the others where they
// are from, and what an earlier row gets.
const saveDeliveriesSQL = `
INSERT INTO rowcall.deliveries AS d (lane, "offset", state, keys, barrier, attempts, due_at, first_failed_at,
  held_ms, reason, status, error, charged, version, ordering, key_hash, old_key_hash)
SELECT u.lane, u."offset", u.state, u.keys::text[], nullif(u.barrier, ''), u.attempts, u.due_at, u.first_failed_at,
  u.held_ms, u.reason, u.status, u.error, u.charged, u.version, u.ordering, %s
FROM unnest($3::integer[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::integer[],
    $10::timestamptz[], $11::timestamptz[], $12::bigint[], $13::text[], $14::integer[], $15::text[], $16::integer[],
    $17::bigint[], $18::text[])
  AS u (lane, epoch, "offset", state, keys, barrier, attempts, due_at, first_failed_at, held_ms, reason, status, error, charged,
    version, ordering)
JOIN rowcall.cursors c ON c.lane = u.lane AND c.epoch = u.epoch AND c.owner = $1 %s
WHERE ` + ourLease + `
ON CONFLICT (lane, "offset") DO UPDATE
SET state = excluded.state, keys = excluded.keys, barrier = excluded.barrier, attempts = excluded.attempts,
    due_at = excluded.due_at, first_failed_at = excluded.first_failed_at, held_ms = excluded.held_ms,
    reason = excluded.reason, status = excluded.status, error = excluded.error, charged = excluded.charged,
    version = excluded.version, ordering = excluded.ordering, %s,
    updated_at = now()`

// Deliveries that order a key are found by it. Those that order none are found by their
// event's, which the log has, or a dead range; a delivery that kept it has the hashes.
var (
	saveOrderedSQL   = fmt.Sprintf(saveDeliveriesSQL, `NULL, NULL`, ``, `key_hash = NULL, old_key_hash = NULL`)
	saveUnorderedSQL = fmt.Sprintf(saveDeliveriesSQL, `e.key_hash, e.old_key_hash`, `
LEFT JOIN LATERAL (SELECT hashtextextended(e.key, 0) AS key_hash, hashtextextended(e.old_key, 0) AS old_key_hash
  FROM `+everyEventSQL+` e WHERE e."offset" = u."offset" LIMIT 1) e ON true`,
		`key_hash = coalesce(excluded.key_hash, hashtextextended(d.event->>'key', 0)), old_key_hash = coalesce(excluded.old_key_hash, hashtextextended(d.event->>'old_key', 0))`)
)

// deliveryRows are deliveries of a settlement, turned into columns.
type deliveryRows struct {
	lanes             []int32
	epochs, offsets   []int64
	states            []string
	keys              []string // as literals of text[]
	barriers          []string
	attempts          []int32
	dues, firstFailed []pgtype.Timestamptz
	helds             []int64
	reasons           []string
	statuses          []int32
	errors            []string
	charges           []int32
	versions          []int64
	orderings         []string
}

func (r *deliveryRows) add(l *LaneSettlement, d *Delivery) {
	r.lanes = append(r.lanes, int32(l.Lane))
	r.epochs = append(r.epochs, l.Epoch)
	r.offsets = append(r.offsets, int64(d.Offset))
	r.states = append(r.states, cleanText(string(d.State)))
	r.keys = append(r.keys, textArray(d.Keys))
	r.barriers = append(r.barriers, cleanText(d.Barrier))
	r.attempts = append(r.attempts, int32(d.Attempts))
	r.dues = append(r.dues, pgtype.Timestamptz{Time: d.DueAt, Valid: !d.DueAt.IsZero()})
	r.firstFailed = append(r.firstFailed, pgtype.Timestamptz{Time: d.FirstFailedAt, Valid: !d.FirstFailedAt.IsZero()})
	r.helds = append(r.helds, d.HeldMS)
	r.reasons = append(r.reasons, cleanText(d.Reason))
	r.statuses = append(r.statuses, int32(d.Status))
	r.errors = append(r.errors, cleanText(d.Error))
	r.charges = append(r.charges, int32(d.Charged))
	r.versions = append(r.versions, d.Version)
	r.orderings = append(r.orderings, cleanText(d.Ordering))
}

// queue has them saved, if there are any.
func (r *deliveryRows) queue(batch *pgx.Batch, sql string, lease Lease) {
	if len(r.lanes) > 0 {
		batch.Queue(sql, lease.Instance, lease.Epoch, r.lanes, r.epochs, r.offsets, r.states, r.keys, r.barriers,
			r.attempts, r.dues, r.firstFailed, r.helds, r.reasons, r.statuses, r.errors, r.charges, r.versions, r.orderings)
	}
}
