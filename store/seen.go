package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// seen is what the audit trail shows of it.
func (r *subscriptionRow) seen() subscriptionSeen {
	return subscriptionSeen{Spec: r.spec, State: r.state, StateReason: r.reason, ManagedBy: r.managedBy, PreviousEnds: r.previousEnds}
}

// subscriptionSeen is what the audit trail shows of a subscription: its spec,
// which holds no secrets, member by member, and its state.
type subscriptionSeen struct {
	Spec         json.RawMessage
	State        subscriptions.State
	StateReason  string
	ManagedBy    string
	PreviousEnds *time.Time
}

// MarshalJSON sets the state beside the members of the spec.
func (v subscriptionSeen) MarshalJSON() ([]byte, error) {
	members := map[string]any{}
	if err := json.Unmarshal(v.Spec, &members); err != nil {
		return nil, err
	}
	members["state"], members["state_reason"] = v.State, v.StateReason
	if v.ManagedBy != "" {
		members["managed_by"] = v.ManagedBy
	}
	if v.PreviousEnds != nil {
		members["previous_secret_ends_at"] = v.PreviousEnds.UTC()
	}
	return json.Marshal(members)
}

func subscriptionObject(id subscriptions.ID) string { return "subscription/" + string(id) }

const seenSQL = `SELECT spec, state, state_reason, managed_by, previous_ends FROM rowcall.subscriptions WHERE id = $1 FOR UPDATE`

// readSeen reads what the audit trail is to show of a subscription, nil where no
// change is audited or there is no such subscription.
func readSeen(ctx context.Context, tx pgx.Tx, id subscriptions.ID) (any, error) {
	if !audited(ctx) {
		return nil, nil
	}
	var v subscriptionSeen
	err := tx.QueryRow(ctx, seenSQL, id).Scan(&v.Spec, &v.State, &v.StateReason, &v.ManagedBy, &v.PreviousEnds)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return v, err
}
