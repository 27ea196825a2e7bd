package client

import (
	"context"
	"time"
)

// DeadRange is what a subscription held for too long and gave up: a part of the
// log, kept as a whole.
type DeadRange struct {
	ID           string    `json:"id"`
	Subscription string    `json:"subscription"`
	From         string    `json:"from"` // offset of the first
	Past         string    `json:"past"` // offset behind the last
	Events       []string  `json:"events"`
	Count        int64     `json:"count"` // an upper bound where the subscription has a filter
	Bytes        int64     `json:"bytes"`
	Reason       string    `json:"reason"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
	Retry        *string   `json:"retry"` // the replay that retries it
}

// DeadRangeQuery selects dead ranges.
type DeadRangeQuery struct {
	PageQuery
	Subscription string
}

// DeadRanges lists dead ranges, newest first.
func (c *Client) DeadRanges(ctx context.Context, q DeadRangeQuery) (page Page[DeadRange], err error) {
	v := q.values()
	set(v, "subscription", q.Subscription)
	return page, c.get(ctx, &page, v, "v1", "dead-ranges")
}

// DeadRange returns one.
func (c *Client) DeadRange(ctx context.Context, id string) (r DeadRange, err error) {
	return r, c.get(ctx, &r, nil, "v1", "dead-ranges", id)
}

// RetryDeadRange has one delivered, by the replay that it returns. Conflict where it
// is being retried already.
func (c *Client) RetryDeadRange(ctx context.Context, id string) (r Replay, err error) {
	return r, c.post(ctx, &r, nil, "v1", "dead-ranges", id, "retry")
}

// DiscardDeadRange gives one up for good.
func (c *Client) DiscardDeadRange(ctx context.Context, id string) error {
	return c.post(ctx, nil, nil, "v1", "dead-ranges", id, "discard")
}
