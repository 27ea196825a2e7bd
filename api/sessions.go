package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
)

// longestSession is how long a session lasts at most, however much it is used.
const longestSession = 12 * time.Hour

// Identity is who a request comes from. It is exported because the framework
// passes over what is not, when embedded.
type Identity struct {
	Key       string            `json:"key" doc:"The key's id, as it stands in records."`
	Name      string            `json:"name" doc:"The key's name."`
	Scopes    []string          `json:"scopes"`
	Labels    map[string]string `json:"labels" doc:"It is restricted to subscriptions that have them all; empty: it is not."`
	Session   bool              `json:"session" doc:"Whether the request came by a session of the key."`
	Person    bool              `json:"person" doc:"Whether it is somebody who signed in by OpenID Connect."`
	ExpiresAt *time.Time        `json:"expires_at" doc:"When the session or key ends at the latest; null: never."`
}

type session struct {
	Identity
	Token string `json:"token" doc:"Send it as a key: Authorization: Bearer <token>. It is not shown again."`
}

type (
	sessionInput   struct{}
	identityOutput struct{ Body Identity }
	sessionOutput  struct{ Body session }
)

func (a *API) registerSessions() {
	const path = "/v1/sessions"
	tags := []string{"sessions"}
	handle(a, huma.Operation{
		OperationID: "get-identity", Method: http.MethodGet, Path: path, Tags: tags,
		Summary: "Say whose key or session a request comes with",
	}, ScopeRead, func(ctx context.Context, _ *sessionInput) (*identityOutput, error) {
		return &identityOutput{Body: showIdentity(callersKey(ctx))}, nil
	})
	handle(a, huma.Operation{
		OperationID: "create-session", Method: http.MethodPost, Path: path, Tags: tags,
		Summary: "Exchange a key for a session",
		Description: "A session may do what its key may, and ends with it, after half an hour without use, after 12 hours, " +
			"or when it is deleted. It is what a browser holds in place of the key.",
		DefaultStatus: http.StatusCreated, Errors: []int{http.StatusConflict},
	}, ScopeRead, a.createSession)
	handle(a, huma.Operation{
		OperationID: "delete-session", Method: http.MethodDelete, Path: path, Tags: tags,
		Summary: "End the session that the request comes with",
		Errors:  []int{http.StatusConflict},
	}, ScopeRead, a.deleteSession)
}

func showIdentity(key store.APIKey) Identity {
	shown := Identity{
		Key: cmp.Or(key.Parent, key.ID), Name: key.Name, Scopes: key.Scopes, Labels: key.Labels, Session: key.Parent != "", Person: key.Person != "",
		ExpiresAt: optionalTime(key.ExpiresAt),
	}
	if shown.Labels == nil {
		shown.Labels = map[string]string{}
	}
	return shown
}

func (a *API) createSession(ctx context.Context, _ *sessionInput) (*sessionOutput, error) {
	key := callersKey(ctx)
	if key.Parent != "" {
		return nil, newProblem(problemConflict, "a session is made with a key, not with another session")
	}
	token := NewKey()
	hash, err := HashKey(token)
	if err != nil {
		return nil, err
	}
	expires, err := a.store.AddSession(ctx, key.ID, hash, longestSession)
	if err != nil {
		return nil, err
	}
	shown := showIdentity(key)
	shown.Session, shown.ExpiresAt = true, optionalTime(expires)
	return &sessionOutput{Body: session{Identity: shown, Token: token}}, nil
}

func (a *API) deleteSession(ctx context.Context, _ *sessionInput) (*emptyOutput, error) {
	key := callersKey(ctx)
	if key.Parent == "" {
		return nil, newProblem(problemConflict, "the request comes with a key, which is no session")
	}
	if err := a.store.EndSession(ctx, key.ID); err != nil {
		return nil, err
	}
	a.auth.forget(key.Hash)
	return nil, nil
}
