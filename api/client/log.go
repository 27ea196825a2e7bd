package client

import (
	"context"
	"time"
)

// Log is what the log weighs, and which subscriptions keep it.
type Log struct {
	Bytes     int64      `json:"bytes"`
	MaxBytes  int64      `json:"max_bytes"`
	Percent   int        `json:"percent"`
	Oldest    string     `json:"oldest"`
	OldestAt  *time.Time `json:"oldest_at"`
	Head      string     `json:"head"`
	Retention string     `json:"retention"`
	Pins      []LogPin   `json:"pins"` // the worst first
}

// LogPin is a subscription that has not passed all of the log.
type LogPin struct {
	Subscription string     `json:"subscription"`
	Name         string     `json:"name"`
	State        string     `json:"state"`
	Health       string     `json:"health"`
	AtGap        bool       `json:"at_gap"` // it waits until a person accepts a gap
	Cursor       string     `json:"cursor"`
	OldestAt     *time.Time `json:"oldest_at"`
	Events       int64      `json:"events"`
	Bytes        int64      `json:"bytes"`
	PinnedBytes  int64      `json:"pinned_bytes"`
}

// Log measures the log.
func (c *Client) Log(ctx context.Context) (l Log, err error) {
	return l, c.get(ctx, &l, nil, "v1", "log")
}
