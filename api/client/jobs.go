package client

import (
	"context"
	"time"
)

// Job is long work that goes on by itself.
type Job struct {
	ID           string     `json:"id"`
	Kind         string     `json:"kind"`  // retry, discard, replay
	State        string     `json:"state"` // running, paused, done, cancelled, failed
	Reason       string     `json:"reason"`
	Subscription string     `json:"subscription"` // empty: of all
	Filter       BulkFilter `json:"filter"`
	Total        int64      `json:"total"`
	AtLeast      bool       `json:"at_least"` // Total is what was counted in time
	Done         int64      `json:"done"`
	Failed       int64      `json:"failed"`
	Skipped      int64      `json:"skipped"`
	CreatedBy    string     `json:"created_by"`
	CreatedAt    time.Time  `json:"created_at"`
	UpdatedAt    time.Time  `json:"updated_at"`
	EndedAt      *time.Time `json:"ended_at"`
}

// BulkFilter selects deliveries. What is empty does not filter; one member at
// least must be there.
type BulkFilter struct {
	Subscription string    `json:"subscription,omitempty"`
	State        string    `json:"state,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	Status       int       `json:"status,omitempty"` // HTTP status of the last try
	Type         string    `json:"type,omitempty"`
	Key          string    `json:"key,omitempty"`
	Since        time.Time `json:"since,omitzero"`
	Until        time.Time `json:"until,omitzero"`
}

// Count is the answer to a dry run.
type Count struct {
	DryRun  bool  `json:"dry_run"`
	Total   int64 `json:"total"`
	AtLeast bool  `json:"at_least"` // Total is what was counted in time
}

// CountDeliveries says how many deliveries a bulk retry or discard would be of.
func (c *Client) CountDeliveries(ctx context.Context, f BulkFilter) (n Count, err error) {
	body := struct {
		BulkFilter
		DryRun bool `json:"dry_run"`
	}{f, true}
	return n, c.post(ctx, &n, body, "v1", "deliveries", "retry")
}

// RetryDeliveries makes a job that has deliveries tried again, each with a new budget.
func (c *Client) RetryDeliveries(ctx context.Context, f BulkFilter) (j Job, err error) {
	return j, c.post(ctx, &j, f, "v1", "deliveries", "retry")
}

// DiscardDeliveries makes a job that gives deliveries up.
func (c *Client) DiscardDeliveries(ctx context.Context, f BulkFilter) (j Job, err error) {
	return j, c.post(ctx, &j, f, "v1", "deliveries", "discard")
}

// JobQuery selects jobs.
type JobQuery struct {
	PageQuery
	Kind, State, Subscription string
}

// Jobs lists jobs, newest first.
func (c *Client) Jobs(ctx context.Context, q JobQuery) (page Page[Job], err error) {
	v := q.values()
	set(v, "kind", q.Kind)
	set(v, "state", q.State)
	set(v, "subscription", q.Subscription)
	return page, c.get(ctx, &page, v, "v1", "jobs")
}

// Job returns one.
func (c *Client) Job(ctx context.Context, id string) (j Job, err error) {
	return j, c.get(ctx, &j, nil, "v1", "jobs", id)
}

// PauseJob lets one wait.
func (c *Client) PauseJob(ctx context.Context, id string) (j Job, err error) {
	return j, c.post(ctx, &j, nil, "v1", "jobs", id, "pause")
}

// ResumeJob lets a paused one go on.
func (c *Client) ResumeJob(ctx context.Context, id string) (j Job, err error) {
	return j, c.post(ctx, &j, nil, "v1", "jobs", id, "resume")
}

// CancelJob ends one.
func (c *Client) CancelJob(ctx context.Context, id string) (j Job, err error) {
	return j, c.post(ctx, &j, nil, "v1", "jobs", id, "cancel")
}
