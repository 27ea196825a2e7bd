package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// APIKey is a key as the API shows it.
type APIKey struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Scopes     []string          `json:"scopes"` // read, publish, deliver, write, admin
	Labels     map[string]string `json:"labels"` // restrict it to subscriptions that have them all
	Bootstrap  bool              `json:"bootstrap"`
	Person     bool              `json:"person"` // who signs in by OpenID Connect: no key
	Issuer     string            `json:"issuer"`
	Subject    string            `json:"subject"` // who the person is to the issuer
	CreatedAt  time.Time         `json:"created_at"`
	CreatedBy  string            `json:"created_by"`
	ExpiresAt  *time.Time        `json:"expires_at"` // nil: never
	LastUsedAt *time.Time        `json:"last_used_at"`
	RevokedAt  *time.Time        `json:"revoked_at"`    // nil: it counts
	Key        string            `json:"key,omitempty"` // in the answer to create only
}

// NewAPIKey is the body of create. Name and Scopes are required.
type NewAPIKey struct {
	Name      string            `json:"name"`
	Scopes    []string          `json:"scopes"`
	Labels    map[string]string `json:"labels,omitempty"`
	ExpiresAt *time.Time        `json:"expires_at,omitempty"`
}

// APIKeys lists keys that were not revoked, by id.
func (c *Client) APIKeys(ctx context.Context, q PageQuery) (page Page[APIKey], err error) {
	return page, c.get(ctx, &page, q.values(), "v1", "api-keys")
}

// APIKeysEver lists those that were revoked too, and people who may do nothing any
// more, by id.
func (c *Client) APIKeysEver(ctx context.Context, q PageQuery) (page Page[APIKey], err error) {
	query := q.values()
	query.Set("revoked", "true")
	return page, c.get(ctx, &page, query, "v1", "api-keys")
}

// CreateAPIKey makes one. The answer holds the key, which is not shown again.
func (c *Client) CreateAPIKey(ctx context.Context, key NewAPIKey) (made APIKey, err error) {
	err = c.post(ctx, &made, key, "v1", "api-keys")
	return made, err
}

// RevokeAPIKey ends one, and its sessions with it.
func (c *Client) RevokeAPIKey(ctx context.Context, id string) error {
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: []string{"v1", "api-keys", id}}, nil)
	return err
}

// Change is a change that was made through the API.
type Change struct {
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor"` // id of the key
	Remote string          `json:"remote"`
	Action string          `json:"action"`
	Object string          `json:"object"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
	Note   string          `json:"note"` // why, in the words of who did it
}

// ChangeQuery selects changes.
type ChangeQuery struct {
	PageQuery
	Actor, Action, Object string
	Since, Until          time.Time
}

// Audit lists changes, newest first.
func (c *Client) Audit(ctx context.Context, q ChangeQuery) (page Page[Change], err error) {
	v := q.values()
	set(v, "actor", q.Actor)
	set(v, "action", q.Action)
	set(v, "object", q.Object)
	setTime(v, "since", q.Since)
	setTime(v, "until", q.Until)
	return page, c.get(ctx, &page, v, "v1", "audit")
}
