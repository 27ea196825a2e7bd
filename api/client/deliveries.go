package client

import (
	"context"
	"encoding/json"
	"time"
)

// Delivery is an event owed to a subscription that did not go at first pass.
type Delivery struct {
	ID            string     `json:"id"`
	Subscription  string     `json:"subscription"`
	Replay        *string    `json:"replay"` // nil: it is of none
	State         string     `json:"state"`  // retrying, blocked, dead
	Sequence      string     `json:"sequence"`
	Keys          []string   `json:"keys"`
	Attempts      int        `json:"attempts"`
	DueAt         *time.Time `json:"due_at"`
	FirstFailedAt *time.Time `json:"first_failed_at"`
	Reason        string     `json:"reason"`
	Status        int        `json:"status"`
	Error         string     `json:"error"`
	UpdatedAt     time.Time  `json:"updated_at"`
	Event         *Event     `json:"event,omitempty"` // in lists without data; nil where it is gone
}

// DeliveryQuery selects deliveries.
type DeliveryQuery struct {
	PageQuery
	Subscription, State, Reason, Type, Key string
	Since, Until                           time.Time // of the last change
}

// Deliveries lists deliveries, newest event first.
func (c *Client) Deliveries(ctx context.Context, q DeliveryQuery) (page Page[Delivery], err error) {
	v := q.values()
	set(v, "subscription", q.Subscription)
	set(v, "state", q.State)
	set(v, "reason", q.Reason)
	set(v, "type", q.Type)
	set(v, "key", q.Key)
	setTime(v, "since", q.Since)
	setTime(v, "until", q.Until)
	return page, c.get(ctx, &page, v, "v1", "deliveries")
}

// Delivery returns one with its event.
func (c *Client) Delivery(ctx context.Context, id string) (d Delivery, err error) {
	return d, c.get(ctx, &d, nil, "v1", "deliveries", id)
}

// RetryDelivery asks for a try now, with a new budget. It returns when the wish
// is recorded, not when it is done.
func (c *Client) RetryDelivery(ctx context.Context, id string) error {
	return c.post(ctx, nil, nil, "v1", "deliveries", id, "retry")
}

// DiscardDelivery gives one up. It returns when the wish is recorded.
func (c *Client) DiscardDelivery(ctx context.Context, id string) error {
	return c.post(ctx, nil, nil, "v1", "deliveries", id, "discard")
}

// Attempt is one HTTP try.
type Attempt struct {
	ID           string          `json:"id"`
	At           time.Time       `json:"at"`
	Subscription string          `json:"subscription"`
	Delivery     string          `json:"delivery"`
	Sequence     string          `json:"sequence"`
	Attempt      int             `json:"attempt"`
	DurationMS   float64         `json:"duration_ms"`
	Status       int             `json:"status"`
	Outcome      string          `json:"outcome"` // delivered, failed, blocked, unknown
	Reason       string          `json:"reason"`
	Detail       json.RawMessage `json:"detail,omitempty"`
}

// Attempt returns one by its id.
func (c *Client) Attempt(ctx context.Context, id string) (a Attempt, err error) {
	err = c.get(ctx, &a, nil, "v1", "attempts", id)
	return a, err
}

// AttemptQuery selects attempts.
type AttemptQuery struct {
	PageQuery
	Subscription, Event, Outcome string
}

// Attempts lists HTTP tries, newest first.
func (c *Client) Attempts(ctx context.Context, q AttemptQuery) (page Page[Attempt], err error) {
	v := q.values()
	set(v, "subscription", q.Subscription)
	set(v, "event", q.Event)
	set(v, "outcome", q.Outcome)
	return page, c.get(ctx, &page, v, "v1", "attempts")
}
