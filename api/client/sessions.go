package client

import (
	"context"
	"net/http"
	"time"
)

// Identity is whose key or session a call comes with.
type Identity struct {
	Key       string            `json:"key"` // its id
	Name      string            `json:"name"`
	Scopes    []string          `json:"scopes"`
	Labels    map[string]string `json:"labels"` // it is restricted to subscriptions that have them all; empty: it is not
	Session   bool              `json:"session"`
	Person    bool              `json:"person"` // who signed in by OpenID Connect
	ExpiresAt *time.Time        `json:"expires_at"`
}

// Session stands for a key for a while.
type Session struct {
	Identity
	Token string `json:"token"` // use it as Config.Key
}

// Identity says whose key or session the client has.
func (c *Client) Identity(ctx context.Context) (id Identity, err error) {
	return id, c.get(ctx, &id, nil, "v1", "sessions")
}

// CreateSession exchanges the client's key for a session.
func (c *Client) CreateSession(ctx context.Context) (s Session, err error) {
	return s, c.post(ctx, &s, nil, "v1", "sessions")
}

// EndSession ends the session that the client has in place of a key.
func (c *Client) EndSession(ctx context.Context) error {
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: []string{"v1", "sessions"}}, nil)
	return err
}
