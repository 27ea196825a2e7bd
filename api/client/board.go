package client

import (
	"context"
	"strconv"
	"time"
)

// BoardRow is a subscription with the health of its endpoint and what it owes.
type BoardRow struct {
	Subscription  string            `json:"subscription"`
	Name          string            `json:"name"`
	URL           string            `json:"url"`
	Events        []string          `json:"events"`
	Labels        map[string]string `json:"labels"`
	State         string            `json:"state"`
	StateReason   string            `json:"state_reason"`
	Condition     string            `json:"condition"` // disabled, faulty, parked, probing, gap, recovering, failing, paused, closed, healthy
	Since         *time.Time        `json:"since"`
	HoldError     string            `json:"hold_error"` // what its filter or transform fails with, where it is held for that
	Reason        string            `json:"reason"`
	NextProbeAt   *time.Time        `json:"next_probe_at"`
	OpensAt       *time.Time        `json:"opens_at"`
	FailureRate   *float64          `json:"failure_rate"`
	FailingSince  *time.Time        `json:"failing_since"`
	LastSuccessAt *time.Time        `json:"last_success_at"`
	Waiting       LogCount          `json:"waiting"` // an upper bound
	Retrying      int64             `json:"retrying"`
	Blocked       int64             `json:"blocked"`
	Dead          int64             `json:"dead"`
	OldestAt      *time.Time        `json:"oldest_at"`
	Recent        *RecentTries      `json:"recent"` // nil: not asked for
	Day           *DayTries         `json:"day"`    // nil: not asked for
}

// RecentTries is how the last hour went, minute by minute.
type RecentTries struct {
	From         time.Time `json:"from"`
	Delivered    []int64   `json:"delivered"` // nil: only failures are in the history
	Failed       []int64   `json:"failed"`
	DrainSeconds *float64  `json:"drain_seconds"` // at most; nil: nothing waits, is held, or nothing went
}

// DayTries is how the last 24 hours went, quarter by quarter of an hour.
type DayTries struct {
	From      time.Time `json:"from"`
	Delivered []int64   `json:"delivered"` // nil: only failures are in the history
	Failed    []int64   `json:"failed"`
}

// LogCount is a number of events and their bytes.
type LogCount struct {
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`
}

// BoardTotals sums what a query selects, on whatever page.
type BoardTotals struct {
	Conditions map[string]int `json:"conditions"`
	OnTheWay   int64          `json:"on_the_way"`
	Held       int64          `json:"held"`
	HeldBytes  int64          `json:"held_bytes"`
	Retrying   int64          `json:"retrying"`
	Dead       int64          `json:"dead"`
}

// Board is a page of the list of endpoints.
type Board struct {
	Page[BoardRow]
	Totals BoardTotals `json:"totals"`
	Labels []LabelUse  `json:"labels"` // the commonest, by name
}

// LabelUse is a label, key=value, and how many subscriptions have it.
type LabelUse struct {
	Label string `json:"label"`
	Count int    `json:"count"`
}

// BoardQuery selects subscriptions for Endpoints.
type BoardQuery struct {
	PageQuery
	Subscription, Condition, Label, Search string

	Recent bool // with how the last hour and the last day went
}

// Endpoints lists subscriptions with the health of their endpoints, worst first.
func (c *Client) Endpoints(ctx context.Context, q BoardQuery) (b Board, err error) {
	v := q.values()
	set(v, "subscription", q.Subscription)
	set(v, "condition", q.Condition)
	set(v, "label", q.Label)
	set(v, "q", q.Search)
	if q.Recent {
		v.Set("recent", "true")
	}
	return b, c.get(ctx, &b, v, "v1", "endpoints")
}

// DeliveryGroup is deliveries of a subscription that are in one state for one
// reason.
type DeliveryGroup struct {
	Subscription  string     `json:"subscription"`
	State         string     `json:"state"`
	Reason        string     `json:"reason"`
	Status        int        `json:"status"`
	Count         int64      `json:"count"`
	Keys          *int64     `json:"keys"` // nil: not counted
	FirstFailedAt *time.Time `json:"first_failed_at"`
	UpdatedAt     time.Time  `json:"updated_at"`
	Error         string     `json:"error"` // of the newest event's last try
}

// DeliveryGroups groups deliveries, the dead first. Of q, Subscription, State,
// Reason, Status and Since count.
func (c *Client) DeliveryGroups(ctx context.Context, q DeliveryQuery) ([]DeliveryGroup, error) {
	v := PageQuery{}.values()
	set(v, "subscription", q.Subscription)
	set(v, "state", q.State)
	set(v, "reason", q.Reason)
	if q.Status != 0 {
		v.Set("status", strconv.Itoa(q.Status))
	}
	setTime(v, "since", q.Since)
	var page Page[DeliveryGroup]
	err := c.get(ctx, &page, v, "v1", "deliveries", "groups")
	return page.Items, err
}
