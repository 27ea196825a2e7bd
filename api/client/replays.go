package client

import (
	"context"
	"time"
)

// Replay is a range of the log that is delivered to a subscription again.
type Replay struct {
	ID           string      `json:"id"`
	State        string      `json:"state"` // running, paused, done, cancelled, failed
	Reason       string      `json:"reason"`
	Subscription string      `json:"subscription"`
	From         ReplayPlace `json:"from"`
	To           ReplayPlace `json:"to"` // the first event that it does not reach
	Types        []string    `json:"types"`
	Filter       *string     `json:"filter"`
	DeadRange    *string     `json:"dead_range"` // that it retries
	Rate         *RateLimit  `json:"rate"`       // nil: as fast as the subscription lets it
	Total        int64       `json:"total"`
	Delivered    int64       `json:"delivered"`
	Failed       int64       `json:"failed"` // dead letters
	Bytes        int64       `json:"bytes"`  // of the data of Total
	ETA          *time.Time  `json:"eta"`
	CreatedBy    string      `json:"created_by"`
	CreatedAt    time.Time   `json:"created_at"`
	UpdatedAt    time.Time   `json:"updated_at"`
	EndedAt      *time.Time  `json:"ended_at"`
}

// ReplayPlace is a place in the log: either of the two.
type ReplayPlace struct {
	Time   time.Time `json:"time,omitzero"`
	Offset int64     `json:"offset,omitempty"`
}

// NewReplay says what to deliver again.
type NewReplay struct {
	Subscription string       `json:"subscription"`
	From         ReplayPlace  `json:"from"`
	To           *ReplayPlace `json:"to,omitempty"`     // events before it; nil: those that are there now
	Types        []string     `json:"types,omitempty"`  // patterns; empty: what the subscription wants
	Filter       string       `json:"filter,omitempty"` // CEL, beside the subscription's own
	Rate         *RateLimit   `json:"rate"`             // nil: as fast as the subscription lets it
}

// ReplayCount is the answer to a dry run.
type ReplayCount struct {
	DryRun  bool        `json:"dry_run"`
	From    ReplayPlace `json:"from"`
	To      ReplayPlace `json:"to"`
	Total   int64       `json:"total"`
	Bytes   int64       `json:"bytes"`
	Seconds *float64    `json:"seconds"` // nil: not known
}

// CountReplay says what a replay would deliver.
func (c *Client) CountReplay(ctx context.Context, r NewReplay) (n ReplayCount, err error) {
	body := struct {
		NewReplay
		DryRun bool `json:"dry_run"`
	}{r, true}
	return n, c.post(ctx, &n, body, "v1", "replays")
}

// CreateReplay begins one.
func (c *Client) CreateReplay(ctx context.Context, r NewReplay) (out Replay, err error) {
	return out, c.post(ctx, &out, r, "v1", "replays")
}

// ReplayQuery selects replays.
type ReplayQuery struct {
	PageQuery
	State, Subscription string
}

// Replays lists replays, newest first.
func (c *Client) Replays(ctx context.Context, q ReplayQuery) (page Page[Replay], err error) {
	v := q.values()
	set(v, "state", q.State)
	set(v, "subscription", q.Subscription)
	return page, c.get(ctx, &page, v, "v1", "replays")
}

// Replay returns one.
func (c *Client) Replay(ctx context.Context, id string) (r Replay, err error) {
	return r, c.get(ctx, &r, nil, "v1", "replays", id)
}

// PauseReplay lets one wait.
func (c *Client) PauseReplay(ctx context.Context, id string) (r Replay, err error) {
	return r, c.post(ctx, &r, nil, "v1", "replays", id, "pause")
}

// ResumeReplay lets a paused one go on.
func (c *Client) ResumeReplay(ctx context.Context, id string) (r Replay, err error) {
	return r, c.post(ctx, &r, nil, "v1", "replays", id, "resume")
}

// CancelReplay ends one.
func (c *Client) CancelReplay(ctx context.Context, id string) (r Replay, err error) {
	return r, c.post(ctx, &r, nil, "v1", "replays", id, "cancel")
}
