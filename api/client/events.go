package client

import (
	"context"
	"encoding/json"
	"time"
)

// Event is a row of the log: CloudEvents attributes and data.
type Event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	PartitionKey    string          `json:"partitionkey"`
	Sequence        string          `json:"sequence"`             // the offset, 20 digits
	Extensions      map[string]any  `json:"extensions,omitempty"` // that its publisher gave
	Data            json.RawMessage `json:"data,omitempty"`
}

// EventQuery selects events.
type EventQuery struct {
	PageQuery
	Type, Key string
	Filter    string // CEL; pages may be short
}

// Events lists events of the log, newest first.
func (c *Client) Events(ctx context.Context, q EventQuery) (page Page[Event], err error) {
	v := q.values()
	set(v, "type", q.Type)
	set(v, "key", q.Key)
	set(v, "filter", q.Filter)
	return page, c.get(ctx, &page, v, "v1", "events")
}

// Event returns one by its id.
func (c *Client) Event(ctx context.Context, id string) (event Event, err error) {
	return event, c.get(ctx, &event, nil, "v1", "events", id)
}

// NewEvent is an event to publish. Type is required.
type NewEvent struct {
	Type        string          `json:"type"`
	ID          string          `json:"id,omitempty"`     // by it, with Source, duplicates are known; empty: one is made
	Source      string          `json:"source,omitempty"` // default "/sources/http"
	Key         string          `json:"key,omitempty"`    // events of one type and key are delivered in order
	Subject     string          `json:"subject,omitempty"`
	Time        *time.Time      `json:"time,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
	TraceParent string          `json:"traceparent,omitempty"`
	TraceState  string          `json:"tracestate,omitempty"`
}

// Receipt says where an event that was published is in the log.
type Receipt struct {
	ID        string `json:"id"`
	Source    string `json:"source"`
	WebhookID string `json:"webhook_id"` // what receivers see
	Sequence  string `json:"sequence"`
	Duplicate bool   `json:"duplicate"` // it was published before
}

// Publish publishes events, all or none of them, and returns when they are
// durable. To do it again after an error is safe for events that have an ID.
func (c *Client) Publish(ctx context.Context, events ...NewEvent) ([]Receipt, error) {
	var out struct {
		Items []Receipt `json:"items"`
	}
	err := c.post(ctx, &out, events, "v1", "events")
	return out.Items, err
}
