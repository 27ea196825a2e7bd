package client

import (
	"context"
	"encoding/json"
	"strconv"
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
	Event                                  string    // id
	Filter                                 string    // CEL on the event; pages may be short
	Status                                 int       // HTTP status of the last try; 0: any
	Since, Until                           time.Time // of the last change
}

// Deliveries lists deliveries, newest event first.
func (c *Client) Deliveries(ctx context.Context, q DeliveryQuery) (page Page[Delivery], err error) {
	v := q.values()
	set(v, "subscription", q.Subscription)
	set(v, "state", q.State)
	set(v, "event", q.Event)
	set(v, "reason", q.Reason)
	if q.Status != 0 {
		v.Set("status", strconv.Itoa(q.Status))
	}
	set(v, "type", q.Type)
	set(v, "key", q.Key)
	set(v, "filter", q.Filter)
	setTime(v, "since", q.Since)
	setTime(v, "until", q.Until)
	return page, c.get(ctx, &page, v, "v1", "deliveries")
}

// Delivery returns one with its event.
func (c *Client) Delivery(ctx context.Context, id string) (d Delivery, err error) {
	return d, c.get(ctx, &d, nil, "v1", "deliveries", id)
}

// DeliveryRequest is the request of a delivery, made by the subscription as it is.
type DeliveryRequest struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"` // without secrets and signatures
	Body    string            `json:"body"`    // byte for byte
	Batched bool              `json:"batched"` // an array, in which other events may go along
	Attempt int               `json:"attempt"`
	Version int64             `json:"version"` // of the subscription
	Changed bool              `json:"changed"` // since the last attempt, which may have been another
	Error   string            `json:"error"`   // why nothing can be sent
}

// DeliveryRequest shows what an endpoint is sent of a delivery.
func (c *Client) DeliveryRequest(ctx context.Context, id string) (r DeliveryRequest, err error) {
	return r, c.get(ctx, &r, nil, "v1", "deliveries", id, "request")
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
	Timings      Timings         `json:"timings"`
	Status       int             `json:"status"`
	Outcome      string          `json:"outcome"` // delivered, failed, blocked, unknown
	Reason       string          `json:"reason"`
	Detail       json.RawMessage `json:"detail,omitempty"`
	Event        *AttemptedEvent `json:"event,omitempty"` // in lists; nil: the log holds it no more
}

// AttemptedEvent says what was tried.
type AttemptedEvent struct {
	ID           string    `json:"id"`
	Type         string    `json:"type"`
	Subject      string    `json:"subject"`
	PartitionKey string    `json:"partitionkey"`
	Time         time.Time `json:"time"`
}

// Timings are how long an attempt's stages took, in milliseconds; nil: there was no
// such stage, as over a connection that was there, or it is not known.
type Timings struct {
	DNS       *float64 `json:"dns_ms"`
	Connect   *float64 `json:"connect_ms"`
	TLS       *float64 `json:"tls_ms"`
	FirstByte *float64 `json:"first_byte_ms"` // from the start
}

// Attempt returns one by its id.
func (c *Client) Attempt(ctx context.Context, id string) (a Attempt, err error) {
	err = c.get(ctx, &a, nil, "v1", "attempts", id)
	return a, err
}

// AttemptQuery selects attempts.
type AttemptQuery struct {
	PageQuery
	Subscription, Event, Delivery, Outcome string
}

// Attempts lists HTTP tries, newest first.
func (c *Client) Attempts(ctx context.Context, q AttemptQuery) (page Page[Attempt], err error) {
	v := q.values()
	set(v, "subscription", q.Subscription)
	set(v, "event", q.Event)
	set(v, "delivery", q.Delivery)
	set(v, "outcome", q.Outcome)
	return page, c.get(ctx, &page, v, "v1", "attempts")
}
