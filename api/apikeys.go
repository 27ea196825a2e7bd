package api

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
)

// apiKey is a key as the API shows it.
type apiKey struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Scopes     []string          `json:"scopes"`
	Labels     map[string]string `json:"labels" doc:"It is restricted to subscriptions that have them all."`
	Bootstrap  bool              `json:"bootstrap" doc:"It is the one of ROWCALL_API_KEY."`
	Person     bool              `json:"person" doc:"It is no key, but somebody who signs in by OpenID Connect: to revoke it ends their sessions, and their next sign-in brings it back."`
	Issuer     string            `json:"issuer" doc:"The provider that vouches for the person; empty: it is a key."`
	Subject    string            `json:"subject" doc:"Who the person is to that provider, for ever; empty: it is a key."`
	CreatedAt  time.Time         `json:"created_at"`
	CreatedBy  string            `json:"created_by" doc:"Id of the key that made it; empty: the configuration."`
	ExpiresAt  *time.Time        `json:"expires_at"`
	LastUsedAt *time.Time        `json:"last_used_at" doc:"Written at most once a minute."`
	RevokedAt  *time.Time        `json:"revoked_at" doc:"Or when the person lost all rights; null: it counts."`
	Key        string            `json:"key,omitempty" doc:"In the answer to create, and never again."`
}

func showAPIKey(k store.APIKey) apiKey {
	out := apiKey{
		ID: k.ID, Name: k.Name, Scopes: k.Scopes, Labels: k.Labels, Bootstrap: k.Bootstrap, Person: k.Person != "", CreatedAt: k.CreatedAt,
		CreatedBy: k.CreatedBy, ExpiresAt: optionalTime(k.ExpiresAt), LastUsedAt: optionalTime(k.LastUsedAt),
	}
	out.RevokedAt = optionalTime(k.RevokedAt)
	out.Issuer, out.Subject, _ = strings.Cut(k.Person, " ") // no URL has a space
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	return out
}

// newAPIKey is the body of create, as the document describes it.
type newAPIKey struct {
	Name      string            `json:"name" minLength:"1" maxLength:"100" doc:"Whose it is, or what for."`
	Scopes    []string          `json:"scopes" minItems:"1" enum:"read,publish,deliver,write,admin" doc:"admin holds all others."`
	Labels    map[string]string `json:"labels" doc:"Restrict it to subscriptions that have them all; not with scope admin. Events are not restricted by labels: such a key does not list them, but with write it can have any of them sent, and tried by preview."`
	ExpiresAt *time.Time        `json:"expires_at" doc:"null: never."`
}

type (
	apiKeysInput struct {
		PageInput
		Revoked bool `query:"revoked" doc:"Those that were revoked too, and people who may do nothing any more."`
	}
	apiKeysOutput struct{ Body page[apiKey] }
	apiKeyInput   struct {
		RawBody []byte `contentType:"application/json"`
	}
	apiKeyOutput struct{ Body apiKey }
	apiKeyPath   struct {
		ID string `path:"id" doc:"key_…"`
	}
)

func (a *API) registerAPIKeys() {
	tags := []string{"api-keys"}
	const base = "/v1/api-keys"
	handle(a, huma.Operation{
		OperationID: "list-api-keys", Method: http.MethodGet, Path: base, Tags: tags,
		Summary: "List API keys that were not revoked, or all there were, by id",
	}, ScopeAdmin, a.listAPIKeys)
	handle(a, huma.Operation{
		OperationID: "create-api-key", Method: http.MethodPost, Path: base, Tags: tags,
		Summary:       "Create an API key",
		Description:   "The answer holds the key, which is not kept and not shown again.",
		DefaultStatus: http.StatusCreated,
		RequestBody:   a.body(typeOf[newAPIKey](), "", map[string][]string{"NewAPIKey": {"name", "scopes"}}, "application/json"),
	}, ScopeAdmin, a.createAPIKey)
	handle(a, huma.Operation{
		OperationID: "revoke-api-key", Method: http.MethodDelete, Path: base + "/{id}", Tags: tags,
		Summary:     "Revoke an API key",
		Description: "Its sessions end with it: here at once, on other instances within 5 s.",
		Errors:      []int{http.StatusConflict},
	}, ScopeAdmin, a.revokeAPIKey)
}

func (a *API) listAPIKeys(ctx context.Context, in *apiKeysInput) (*apiKeysOutput, error) {
	filters := joinFilters(strconv.FormatBool(in.Revoked))
	after, err := openCursor("api-keys", filters, in.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := a.store.APIKeys(ctx, after, in.Revoked, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &apiKeysOutput{Body: page[apiKey]{Items: []apiKey{}}}
	for i, k := range found {
		if i == in.Limit {
			out.Body.NextCursor = sealCursor("api-keys", filters, found[i-1].ID)
			break
		}
		out.Body.Items = append(out.Body.Items, showAPIKey(k))
	}
	return out, nil
}

func (a *API) createAPIKey(ctx context.Context, in *apiKeyInput) (*apiKeyOutput, error) {
	key, err := parseAPIKey(in.RawBody, time.Now())
	if err != nil {
		return nil, err
	}
	text := NewKey()
	if key.Hash, err = HashKey(text); err != nil {
		return nil, err
	}
	key.CreatedBy = caller(ctx)
	if err := a.store.CreateAPIKey(ctx, &key); err != nil {
		return nil, err
	}
	shown := showAPIKey(key)
	shown.Key = text
	return &apiKeyOutput{Body: shown}, nil
}

func (a *API) revokeAPIKey(ctx context.Context, in *apiKeyPath) (*emptyOutput, error) {
	hash, err := a.store.RevokeAPIKey(ctx, in.ID)
	if errors.Is(err, store.ErrConflict) {
		return nil, newProblem(problemConflict, "the bootstrap key follows the configuration: give ROWCALL_API_KEY another value and start again")
	}
	if err != nil {
		return nil, err
	}
	a.auth.forgetAll(hash)
	return nil, nil
}

var labelName = regexp.MustCompile(`^[a-z0-9._/-]{1,63}$`)

// parseAPIKey reads the body of create.
func parseAPIKey(raw []byte, now time.Time) (store.APIKey, error) {
	r, err := readBody(raw, "name", "scopes", "labels", "expires_at")
	if err != nil {
		return store.APIKey{}, err
	}
	var key store.APIKey
	if r.read("name", "a string", &key.Name); key.Name == "" || utf8.RuneCountInString(key.Name) > 100 || !plainText(key.Name) {
		r.fault("name", "must be text without control characters, 1 to 100 of them")
	}
	r.read("scopes", "an array of strings", &key.Scopes)
	slices.Sort(key.Scopes)
	key.Scopes = slices.Compact(key.Scopes)
	if len(key.Scopes) == 0 || slices.ContainsFunc(key.Scopes, func(s string) bool { return !slices.Contains(Scopes(), Scope(s)) }) {
		r.fault("scopes", "must be one or more of read, publish, deliver, write, admin")
	}
	r.read("labels", "an object of strings", &key.Labels)
	for name, value := range key.Labels {
		if !labelName.MatchString(name) || utf8.RuneCountInString(value) > 100 || !plainText(value) {
			r.fault("labels", "must have names of [a-z0-9._/-]{1,63}, and values of 100 characters at most, without control characters")
			break
		}
	}
	if len(key.Labels) > 20 {
		r.fault("labels", "must be 20 at most")
	}
	if len(key.Labels) > 0 && slices.Contains(key.Scopes, string(ScopeAdmin)) {
		r.fault("labels", "cannot restrict a key with scope admin")
	}
	key.ExpiresAt = r.time("expires_at")
	if _, given := r.members["expires_at"]; given && !key.ExpiresAt.IsZero() && !key.ExpiresAt.After(now) {
		r.fault("expires_at", "must be to come")
	}
	return key, r.err()
}
