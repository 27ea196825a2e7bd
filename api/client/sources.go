package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// Source is a watched database.
type Source struct {
	Name        string     `json:"name"`
	Kind        string     `json:"kind"`
	State       string     `json:"state"` // starting, streaming, waiting, gap, refused
	Reason      string     `json:"reason"`
	Hint        string     `json:"hint"`
	Generation  int32      `json:"generation"`
	SystemID    string     `json:"system_id"`
	Timeline    int32      `json:"timeline"`
	Slot        string     `json:"slot"`
	Publication string     `json:"publication"`
	HeartbeatAt *time.Time `json:"heartbeat_at"`
	LagBytes    int64      `json:"lag_bytes"`
	WALStatus   string     `json:"wal_status"`
	UpdatedAt   time.Time  `json:"updated_at"`
	Checkpoint  Checkpoint `json:"checkpoint"`
	Relations   []Relation `json:"relations"`
	Gaps        []Gap      `json:"gaps"` // those not accepted

	GapsAccepted int `json:"gaps_accepted"` // what they stand for may be lost for good
}

// Checkpoint is what is durable in the log.
type Checkpoint struct {
	LSN         string     `json:"lsn"`
	CommittedAt *time.Time `json:"committed_at"`
}

// Relation is a table of a source.
type Relation struct {
	Schema   string   `json:"schema"`
	Name     string   `json:"name"`
	Identity string   `json:"identity"`
	Key      []string `json:"key"`
	Captured bool     `json:"captured"`
	Reason   string   `json:"reason,omitempty"`
	Remedy   string   `json:"remedy,omitempty"`
}

// Gap is an interval in which changes may be lost.
type Gap struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	From   string    `json:"from"`
	To     string    `json:"to"`
	Marker string    `json:"marker"`
}

// Sources lists sources by name, all on one page.
func (c *Client) Sources(ctx context.Context) (page Page[Source], err error) {
	return page, c.get(ctx, &page, nil, "v1", "sources")
}

// Source returns one by name.
func (c *Client) Source(ctx context.Context, name string) (s Source, err error) {
	return s, c.get(ctx, &s, nil, "v1", "sources", name)
}

// AcceptGap accepts every open gap of a source and returns how many there were.
func (c *Client) AcceptGap(ctx context.Context, name string) (int, error) {
	var answer struct {
		Accepted int `json:"accepted"`
	}
	err := c.post(ctx, &answer, nil, "v1", "sources", name, "accept-gap")
	return answer.Accepted, err
}

// Readiness is what /readyz says.
type Readiness struct {
	Ready  bool    `json:"ready"`
	Checks []Check `json:"checks"`
}

// Check is one condition of readiness.
type Check struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	Error string `json:"error,omitempty"`
}

// Healthy is nil when the process answers.
func (c *Client) Healthy(ctx context.Context) error { return c.get(ctx, nil, nil, "healthz") }

// Ready says whether the service does its work, and if not, why. Its error means
// that no such answer was got.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
	status, body, err := c.do(ctx, call{method: http.MethodGet, path: []string{"readyz"}}, nil)
	var r Readiness
	if _, refused := errors.AsType[*Problem](err); err != nil && !(refused && status == http.StatusServiceUnavailable) {
		return r, err
	}
	if jsonErr := json.Unmarshal(body, &r); jsonErr != nil || len(r.Checks) == 0 {
		return Readiness{}, errors.Join(errors.New("read answer: not what /readyz says"), err)
	}
	return r, nil
}
