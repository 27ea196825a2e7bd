package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowcall/rowcall/subscriptions"
)

// Start says where a new subscription's cursor begins. What retention has
// dropped, and what is not there yet, is not waited for: an offset is brought
// between the oldest kept and the head.
type Start struct {
	Offset   Offset // used where neither Now nor Earliest nor Time is set
	Now      bool
	Earliest bool
	Time     int64 // µs since 1970: the first event at or after
}

const insertSubscriptionSQL = `
INSERT INTO rowcall.subscriptions (id, name, state, state_reason, spec, secrets, endpoint_secrets, previous_ends, managed_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING version, created_at, updated_at`

const insertCursorSQL = `
INSERT INTO rowcall.cursors (subscription, "offset")
SELECT $1, CASE WHEN $3 THEN next ELSE least(greatest($2::bigint, oldest), next) END FROM rowcall.log_head`

// CreateSubscription saves a subscription and its lane. ErrConflict where the
// name, or the id, is taken. Version, CreatedAt and UpdatedAt are set on sub,
// and State where it is empty: active.
func (s *Store) CreateSubscription(ctx context.Context, sub *subscriptions.Subscription, start Start) error {
	row, err := s.subscriptionRow(sub)
	if err != nil {
		return fmt.Errorf("create subscription: %w", err)
	}
	at := start.Offset
	switch {
	case start.Now:
	case start.Earliest:
		at = 0
	case start.Time != 0:
		if at, err = s.offsetAt(ctx, start.Time); err != nil {
			return fmt.Errorf("create subscription: %w", err)
		}
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, insertSubscriptionSQL, sub.ID, row.name, row.state, row.reason, row.spec, row.secrets,
			row.endpointSecrets, row.previousEnds, row.managedBy).
			Scan(&row.version, &row.createdAt, &row.updatedAt)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insertCursorSQL, sub.ID, int64(at), start.Now); err != nil {
			return err
		}
		if err := audit(ctx, tx, subscriptionObject(sub.ID), nil, row.seen()); err != nil {
			return err
		}
		return s.notify(ctx, tx, TopicSubscriptions)
	})
	if err != nil {
		return fmt.Errorf("create subscription: %w", taken(err))
	}
	sub.Version, sub.State = row.version, row.state
	sub.CreatedAt, sub.UpdatedAt = row.createdAt.UTC(), row.updatedAt.UTC()
	return nil
}

const logSpanSQL = `SELECT oldest, next FROM rowcall.log_head`

const eventTimeSQL = `SELECT time FROM rowcall.events WHERE "offset" = $1`

// offsetAt is the first offset at or after a time, µs since 1970.
//
// It halves the log, as if times rose with offsets. They nearly do: commits of
// one source are logged in order, up to the skew of its clock, while events of
// several sources and published ones are interleaved as they arrive. Around the
// time asked for, within the spread of those, an event may so fall on the
// wrong side.
func (s *Store) offsetAt(ctx context.Context, micros int64) (Offset, error) {
	var from, past Offset
	if err := s.pool.QueryRow(ctx, logSpanSQL).Scan(&from, &past); err != nil {
		return 0, fmt.Errorf("read span of log: %w", err)
	}
	for from < past {
		middle := from + (past-from)/2
		var at time.Time
		err := s.pool.QueryRow(ctx, eventTimeSQL, int64(middle)).Scan(&at)
		switch {
		case errors.Is(err, pgx.ErrNoRows): // dropped by retention meanwhile
			from = middle + 1
		case err != nil:
			return 0, fmt.Errorf("read time of event %d: %w", middle, err)
		case at.UnixMicro() < micros:
			from = middle + 1
		default:
			past = middle
		}
	}
	return from, nil
}

// Without secrets given, those stored stay: a subscription always has one, and
// what could not be opened must not be wiped by an edit of something else.
const updateSubscriptionSQL = `
UPDATE rowcall.subscriptions
SET name = $3, state = $4, state_reason = $5, spec = $6,
    previous_ends = CASE WHEN $7::bytea IS NULL THEN previous_ends ELSE $9 END, secrets = coalesce($7, secrets),
    endpoint_secrets = coalesce($8, endpoint_secrets), managed_by = $10, version = version + 1, updated_at = now()
WHERE id = $1 AND version = $2 AND deleted_at IS NULL
RETURNING version, updated_at`

const subscriptionExistsSQL = `
SELECT EXISTS (SELECT FROM rowcall.subscriptions WHERE id = $1 AND deleted_at IS NULL)`

// UpdateSubscription saves spec, state, state reason, secrets and ManagedBy where the
// version is still version; ErrConflict where it is not, or where the name is
// taken. Signing secrets that are stored stay where sub has none; so do those of
// endpoint.auth and endpoint.tls where sub lacks one that these call for, which
// is when they could not be read. It sets the new Version and UpdatedAt on sub.
func (s *Store) UpdateSubscription(ctx context.Context, sub *subscriptions.Subscription, version int64) error {
	row, err := s.subscriptionRow(sub)
	if err != nil {
		return fmt.Errorf("update subscription %s: %w", sub.ID, err)
	}
	if len(sub.Secrets) == 0 {
		row.secrets = nil
	}
	if lacksSecret(&sub.Endpoint) {
		row.endpointSecrets = nil
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		before, err := readSeen(ctx, tx, sub.ID)
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, updateSubscriptionSQL, sub.ID, version, row.name, row.state, row.reason, row.spec, row.secrets,
			row.endpointSecrets, row.previousEnds, row.managedBy).
			Scan(&row.version, &row.updatedAt)
		if errors.Is(err, pgx.ErrNoRows) {
			return staleVersion(ctx, tx, sub.ID, version)
		}
		if err != nil {
			return err
		}
		if err := audit(ctx, tx, subscriptionObject(sub.ID), before, row.seen()); err != nil {
			return err
		}
		return s.notify(ctx, tx, TopicSubscriptions)
	})
	if err != nil {
		return fmt.Errorf("update subscription %s: %w", sub.ID, taken(err))
	}
	sub.Version, sub.UpdatedAt = row.version, row.updatedAt.UTC()
	return nil
}

// staleVersion says why a subscription does not have a version: it is not there,
// or has another one.
func staleVersion(ctx context.Context, tx pgx.Tx, id subscriptions.ID, version int64) error {
	var exists bool
	if err := tx.QueryRow(ctx, subscriptionExistsSQL, id).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		return ErrNotFound
	}
	return fmt.Errorf("%w: version %d is not the newest", ErrConflict, version)
}

// The row stays, for what refers to it; its secrets do not.
const deleteSubscriptionSQL = `
UPDATE rowcall.subscriptions
SET deleted_at = now(), updated_at = now(), version = version + 1, secrets = '', endpoint_secrets = '', previous_ends = NULL
WHERE id = $1 AND version = $2 AND deleted_at IS NULL`

const deleteCursorsSQL = `DELETE FROM rowcall.cursors WHERE subscription = $1`

// DeleteSubscription ends a subscription: its lane, cursor and deliveries go,
// its attempts stay until their retention. ErrNotFound where it is not there;
// ErrConflict where its version is no longer version.
func (s *Store) DeleteSubscription(ctx context.Context, id subscriptions.ID, version int64) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteSubscriptionSQL, id, version)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return staleVersion(ctx, tx, id, version)
		}
		before, err := readSeen(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := audit(ctx, tx, subscriptionObject(id), before, nil); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, deleteCursorsSQL, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, failReplaysSQL, id); err != nil {
			return err
		}
		return s.notify(ctx, tx, TopicSubscriptions)
	})
	if err != nil {
		return fmt.Errorf("delete subscription %s: %w", id, err)
	}
	return nil
}

// subscriptionColumns are what scanSubscription reads, of rowcall.subscriptions s.
const subscriptionColumns = `s.id, s.version, s.state, s.state_reason, s.created_at, s.updated_at, s.spec, s.secrets,
  s.endpoint_secrets, s.previous_ends, s.managed_by`

const subscriptionSQL = `SELECT ` + subscriptionColumns + `
FROM rowcall.subscriptions s WHERE s.id = $1 AND s.deleted_at IS NULL`

// Subscription returns one by id; ErrNotFound where it is not there.
func (s *Store) Subscription(ctx context.Context, id subscriptions.ID) (subscriptions.Subscription, error) {
	sub, err := s.scanSubscription(s.pool.QueryRow(ctx, subscriptionSQL, id))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sub, fmt.Errorf("read subscription %s: %w", id, ErrNotFound)
	case err != nil:
		return sub, fmt.Errorf("read subscription %s: %w", id, err)
	}
	return sub, nil
}

// SubscriptionFilter selects subscriptions for a list.
type SubscriptionFilter struct {
	Name      string // exact, or empty
	State     subscriptions.State
	Labels    Labels
	ManagedBy string           // exact, or empty
	After     subscriptions.ID // keyset: ids above it
}

const subscriptionsSQL = `SELECT ` + subscriptionColumns + `
FROM rowcall.subscriptions s
WHERE s.deleted_at IS NULL AND s.id > $1
  AND ($2 = '' OR s.name = $2)
  AND ($3 = '' OR s.state = $3)
  AND ($5::jsonb = '{}' OR s.spec->'labels' @> $5)
  AND ($6 = '' OR s.managed_by = $6)
ORDER BY s.id LIMIT $4`

// Subscriptions lists subscriptions by id.
func (s *Store) Subscriptions(ctx context.Context, f SubscriptionFilter, limit int) ([]subscriptions.Subscription, error) {
	rows, err := s.pool.Query(ctx, subscriptionsSQL, f.After, cleanText(f.Name), string(f.State), limit, f.Labels.json(), cleanText(f.ManagedBy))
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	subs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (subscriptions.Subscription, error) {
		return s.scanSubscription(row)
	})
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	return subs, nil
}

// labelledSQL lists the subscriptions whose labels contain what follows it.
const labelledSQL = `SELECT id FROM rowcall.subscriptions WHERE spec->'labels' @> `

// Labels are labels that a subscription must have, all of them, to be selected;
// empty: none. They are JSON, so that filters can be compared.
type Labels string

// LabelsOf makes Labels.
func LabelsOf(labels map[string]string) Labels {
	if len(labels) == 0 {
		return ""
	}
	raw, err := json.Marshal(labels)
	if err != nil {
		panic("marshal of a map of texts: " + err.Error())
	}
	return Labels(cleanJSON(raw))
}

func (l Labels) json() string { return cmp.Or(string(l), "{}") }

// subscriptionRow is a subscription in the form of its row.
type subscriptionRow struct {
	name                 string
	state                subscriptions.State
	reason               string
	managedBy            string
	spec                 []byte
	secrets              []byte // sealed
	endpointSecrets      []byte // sealed; empty: there are none
	previousEnds         *time.Time
	version              int64
	createdAt, updatedAt time.Time
}

func (s *Store) subscriptionRow(sub *subscriptions.Subscription) (subscriptionRow, error) {
	row := subscriptionRow{name: cleanText(sub.Name), state: sub.State, reason: cleanText(sub.StateReason), managedBy: cleanText(sub.ManagedBy)}
	if row.state == "" {
		row.state = subscriptions.Active
	}
	var err error
	if row.endpointSecrets, err = s.sealEndpoint(sub.ID, &sub.Endpoint); err != nil {
		return row, err
	}
	// Sealed above, and not to be seen here: the JSON form of one is "[redacted]".
	bare := sub.Spec
	bare.Endpoint = withoutSecrets(sub.Endpoint)
	spec, err := json.Marshal(bare)
	if err != nil {
		return row, fmt.Errorf("encode spec: %w", err)
	}
	row.spec = cleanJSON(spec)
	texts := make([]string, len(sub.Secrets))
	for i, secret := range sub.Secrets {
		texts[i] = secret.Reveal()
	}
	plain, err := json.Marshal(texts)
	if err != nil {
		return row, errors.New("encode secrets") // the cause might quote them
	}
	row.secrets = s.config.Cipher.Seal(plain, secretsPlace(sub.ID))
	if !sub.PreviousEnds.IsZero() {
		row.previousEnds = &sub.PreviousEnds
	}
	return row, nil
}

// scanSubscription reads subscriptionColumns. A subscription whose secrets do
// not open is not left out, which would be unseen, and fails no list: it comes
// back disabled, with the reason and without secrets.
func (s *Store) scanSubscription(row pgx.Row, more ...any) (subscriptions.Subscription, error) {
	var sub subscriptions.Subscription
	var spec, sealed, sealedEndpoint []byte
	var previousEnds *time.Time
	err := row.Scan(append([]any{
		&sub.ID, &sub.Version, &sub.State, &sub.StateReason, &sub.CreatedAt, &sub.UpdatedAt,
		&spec, &sealed, &sealedEndpoint, &previousEnds, &sub.ManagedBy,
	}, more...)...)
	if err != nil {
		return sub, err
	}
	sub.CreatedAt, sub.UpdatedAt = sub.CreatedAt.UTC(), sub.UpdatedAt.UTC()
	if err := json.Unmarshal(spec, &sub.Spec); err != nil {
		return sub, fmt.Errorf("decode spec of subscription %s: %w", sub.ID, err)
	}
	if sub.Secrets, err = s.openSecrets(sub.ID, sealed); err != nil {
		s.log.Error().Err(err).Str("subscription", string(sub.ID)).Msg("secrets of subscription cannot be read")
		sub.State, sub.StateReason = subscriptions.Disabled, "its stored secrets cannot be read: rotate the secret"
	}
	if previousEnds != nil {
		sub.PreviousEnds = previousEnds.UTC()
		sub.EndSecrets(time.Now())
	}
	if err := s.openEndpoint(sub.ID, sealedEndpoint, &sub.Endpoint); err != nil {
		s.log.Error().Err(err).Str("subscription", string(sub.ID)).Msg("secrets of endpoint cannot be read")
		sub.State, sub.StateReason = subscriptions.Disabled, "the stored secrets of endpoint.auth and endpoint.tls cannot be read: give them again"
	}
	return sub, nil
}

func (s *Store) openSecrets(id subscriptions.ID, sealed []byte) ([]subscriptions.Secret, error) {
	plain, err := s.config.Cipher.Open(sealed, secretsPlace(id))
	if err != nil {
		return nil, err
	}
	var secrets []subscriptions.Secret
	if err := json.Unmarshal(plain, &secrets); err != nil {
		return nil, errors.New("decode secrets: not a JSON array of texts")
	}
	return secrets, nil
}

func secretsPlace(id subscriptions.ID) string { return "subscriptions/" + string(id) + "/secrets" }

// taken makes ErrConflict of a unique violation.
func taken(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok || pg.Code != "23505":
		return err
	case pg.ConstraintName == "subscriptions_name":
		return fmt.Errorf("%w: the name is taken", ErrConflict)
	default:
		return fmt.Errorf("%w: the id is taken", ErrConflict)
	}
}
