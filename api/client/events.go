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
	Sequence        string          `json:"sequence"` // the offset, 20 digits
	Data            json.RawMessage `json:"data,omitempty"`
}

// EventQuery selects events.
type EventQuery struct {
	PageQuery
	Type, Key string
}

// Events lists events of the log, newest first.
func (c *Client) Events(ctx context.Context, q EventQuery) (page Page[Event], err error) {
	v := q.values()
	set(v, "type", q.Type)
	set(v, "key", q.Key)
	return page, c.get(ctx, &page, v, "v1", "events")
}

// Event returns one by its id.
func (c *Client) Event(ctx context.Context, id string) (event Event, err error) {
	return event, c.get(ctx, &event, nil, "v1", "events", id)
}
