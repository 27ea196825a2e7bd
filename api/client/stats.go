package client

import (
	"context"
	"net/url"
	"time"
)

// Stats are what charts and the balance are made of.
type Stats struct {
	Captured *int64      `json:"captured"` // events of the log since it began; nil: of one subscription, or for a restricted key
	Sources  []Captured  `json:"sources"`  // the sum of Captured
	Balance  Balance     `json:"balance"`
	Totals   BoardTotals `json:"totals"`
	Shares   []Share     `json:"shares"` // the sum of Balance and Totals; empty where Captured is nil
	Window   string      `json:"window"`
	Step     int         `json:"step_seconds"`
	Sum      StatsSum    `json:"sum"`
	Series   []StatsStep `json:"series"` // every step, oldest first
}

// Captured is what came of a source. Source is "rowcall" for notices, and empty for
// what was captured before sources were told apart.
type Captured struct {
	Source string `json:"source"`
	Events int64  `json:"events"`
}

// Share is the part of a balance that events of some sources, and of no others, are
// in: each subscription is in one.
type Share struct {
	Sources       []string    `json:"sources"`
	Subscriptions int         `json:"subscriptions"`
	Balance       Balance     `json:"balance"`
	Totals        BoardTotals `json:"totals"`
}

// StatsSum is the sum of a series. What is nil is not known, or there was none.
type StatsSum struct {
	Captured  *int64   `json:"captured"`
	Delivered *int64   `json:"delivered"` // nil: only failures are in the history
	Failed    int64    `json:"failed"`    // tries
	P50       *float64 `json:"p50_ms"`    // of tries
	P95       *float64 `json:"p95_ms"`
}

// StatsStep is what happened from At on, for a step.
type StatsStep struct {
	At time.Time `json:"at"`
	StatsSum
}

// Stats returns those of all subscriptions, over an hour (by default), day or week.
func (c *Client) Stats(ctx context.Context, window string) (s Stats, err error) {
	v := url.Values{}
	set(v, "window", window)
	return s, c.get(ctx, &s, v, "v1", "stats")
}

// SubscriptionStats is Stats of one subscription.
func (c *Client) SubscriptionStats(ctx context.Context, id, window string) (s Stats, err error) {
	v := url.Values{}
	set(v, "window", window)
	return s, c.get(ctx, &s, v, "v1", "subscriptions", id, "stats")
}
