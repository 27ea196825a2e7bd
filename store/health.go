package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// EndpointHealth is what is known of a lane's endpoint, as the lane's owner last
// settled it. The zero value is an endpoint that nothing is wrong with.
type EndpointHealth struct {
	State        string    `json:"state,omitempty"` // healthy, parked, probing, recovering; empty: healthy
	Since        time.Time `json:"since,omitzero"`  // when State began
	Reason       string    `json:"reason,omitempty"`
	NextProbe    time.Time `json:"next_probe,omitzero"` // while parked
	Failures     int       `json:"failures,omitempty"`  // probes and recoveries that failed since it was healthy
	LastSuccess  time.Time `json:"last_success,omitzero"`
	FailingSince time.Time `json:"failing_since,omitzero"` // first failure since the last success
	FailureRate  float64   `json:"failure_rate,omitempty"` // share of the last minute's tries that failed, keys weighing alike
	Origin       string    `json:"origin,omitempty"`       // scheme, host and port that all this is about

	Hold        string    `json:"hold,omitempty"`         // why the lane sends nothing, beside State: a dispatch.Hold
	HoldError   string    `json:"hold_error,omitempty"`   // what its expressions failed with, where that is why
	HoldVersion int64     `json:"hold_version,omitempty"` // of the subscription whose expressions failed
	HeldSince   time.Time `json:"held_since,omitzero"`    // since when the lane cannot deliver, because of State or Hold; zero: it can
}

const healthsSQL = `
SELECT DISTINCT ON (c.subscription) c.subscription, coalesce(c.health, '{}')
FROM rowcall.cursors c WHERE c.subscription = ANY($1::text[]) AND c.replay IS NULL ORDER BY c.subscription, c.lane`

// Healths returns what is known of subscriptions' endpoints. Those that are not
// there are not in it.
func (s *Store) Healths(ctx context.Context, ids []subscriptions.ID) (map[subscriptions.ID]EndpointHealth, error) {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = string(id)
	}
	healths := make(map[subscriptions.ID]EndpointHealth, len(ids))
	rows, err := s.pool.Query(ctx, healthsSQL, texts)
	if err == nil {
		var id subscriptions.ID
		var h EndpointHealth
		_, err = pgx.ForEachRow(rows, []any{&id, &h}, func() error {
			healths[id] = h
			h = EndpointHealth{} // JSON leaves what it does not name
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read health of endpoints: %w", err)
	}
	return healths, nil
}
