package store

import (
	"context"
	"errors"
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
	FailureRate  float64   `json:"failure_rate,omitempty"` // share of the last minute's tries that failed because of the endpoint, keys weighing alike
	Origin       string    `json:"origin,omitempty"`       // scheme, host and port that all this is about

	Hold      string    `json:"hold,omitempty"`      // why the lane sends nothing, beside State: a dispatch.Hold
	HeldSince time.Time `json:"held_since,omitzero"` // since when the lane cannot deliver, because of State or Hold; zero: it can
}

const healthSQL = `SELECT coalesce(c.health, '{}') FROM rowcall.cursors c WHERE c.subscription = $1 ORDER BY c.lane LIMIT 1`

// Health returns what is known of a subscription's endpoint; ErrNotFound where
// there is no such subscription.
func (s *Store) Health(ctx context.Context, id subscriptions.ID) (EndpointHealth, error) {
	var h EndpointHealth
	err := s.pool.QueryRow(ctx, healthSQL, id).Scan(&h)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return EndpointHealth{}, fmt.Errorf("read health of %s: %w", id, err)
	}
	return h, nil
}
