package api

import (
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// subscription is how the API shows a subscription: its spec, but for secrets,
// and what rowcall knows of it.
type subscription struct {
	ID subscriptions.ID `json:"id"`
	subscriptions.Spec
	Endpoint    endpoint            `json:"endpoint"` // in place of the spec's: it has no secrets
	State       subscriptions.State `json:"state" enum:"active,paused,disabled" doc:"active: events are delivered; paused: a person holds it; disabled: rowcall holds it until a person resumes it. Held events are kept."`
	StateReason string              `json:"state_reason" doc:"Why it is held; empty when active."`
	Health      string              `json:"health" enum:"healthy,parked,probing,recovering" doc:"What is known of the endpoint. healthy: events are sent; parked: it is down, its events are held, and it is probed from time to time; probing: a probe is due or under way; recovering: it is up again, and gets more and more."`
	Secret      string              `json:"secret,omitempty" doc:"The newest signing secret: in the answer to create and to rotate, and never again."`
	PublicKeys  []string            `json:"public_keys" doc:"Where signing names v1a, the ed25519 public keys that verify its signatures, newest first; two while a rotated secret is still active."`
	PreviousEnd *time.Time          `json:"previous_secret_ends_at" doc:"While a rotated secret is still active, when it ends; else null."`
	ManagedBy   string              `json:"managed_by" doc:"Owner of the configuration that declares it, which every start makes it what it says; empty: none does."`
	Warnings    []string            `json:"warnings" doc:"Which of its patterns no captured table and no event seen so far has a type for; what of its expressions fails, or comes late, on some events of the tables that it matches now; and, where the configuration declares it, that an edit lasts until the next start."`
	CreatedAt   time.Time           `json:"created_at"`
	UpdatedAt   time.Time           `json:"updated_at"`
	Version     int64               `json:"version" doc:"Grows with every edit; it is also the ETag."`
}

type endpoint struct {
	URL     string                 `json:"url"`
	Headers map[string]string      `json:"headers"`
	Timeout subscriptions.Duration `json:"timeout"`
	Auth    *endpointAuth          `json:"auth"`
	TLS     *endpointTLS           `json:"tls"`
}

// endpointAuth is subscriptions.Auth without what is written only.
type endpointAuth struct {
	Type     string   `json:"type" enum:"basic,bearer,oauth2"`
	Username string   `json:"username,omitempty"`
	TokenURL string   `json:"token_url,omitempty"`
	ClientID string   `json:"client_id,omitempty"`
	Scopes   []string `json:"scopes,omitempty"`
}

// endpointTLS is subscriptions.TLS without what is written only.
type endpointTLS struct {
	ClientCertificate string `json:"client_certificate,omitempty"`
	CA                string `json:"ca,omitempty"`
}

func showSubscription(s subscriptions.Subscription, health store.EndpointHealth) subscription {
	out := subscription{
		ID: s.ID, Spec: s.Spec, State: s.State, StateReason: s.StateReason, Health: healthShown(health, time.Now()),
		ManagedBy: s.ManagedBy, CreatedAt: s.CreatedAt.UTC(), UpdatedAt: s.UpdatedAt.UTC(), Version: s.Version,
		Endpoint: endpoint{URL: s.Endpoint.URL, Headers: s.Endpoint.Headers, Timeout: s.Endpoint.Timeout},
	}
	if auth := s.Endpoint.Auth; auth != nil {
		out.Endpoint.Auth = &endpointAuth{
			Type: auth.Type, Username: auth.Username, TokenURL: auth.TokenURL, ClientID: auth.ClientID, Scopes: auth.Scopes,
		}
	}
	if tls := s.Endpoint.TLS; tls != nil {
		out.Endpoint.TLS = &endpointTLS{ClientCertificate: tls.ClientCertificate, CA: tls.CA}
	}
	if out.Endpoint.Headers == nil {
		out.Endpoint.Headers = map[string]string{}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	s.EndSecrets(time.Now())
	out.PreviousEnd = optionalTime(s.PreviousEnds)
	out.PublicKeys = []string{}
	if slices.Contains(s.Signing, subscriptions.SignEd25519) {
		for _, secret := range s.Secrets {
			if key, err := subscriptions.PublicKey(secret); err == nil { // else nothing signs with it
				out.PublicKeys = append(out.PublicKeys, key)
			}
		}
	}
	return out
}

// subscriptionInput is the body of create, as the document describes it; the
// judge of a body is subscriptions.ParseSpec.
type subscriptionInput struct {
	subscriptions.Spec
	Start  startInput           `json:"start"`
	Secret subscriptions.Secret `json:"secret" doc:"The signing secret, in the form of Standard Webhooks 1.0, of 24 to 64 bytes. Left out, one is made, which is better: it is in the answer."`
}

// subscriptionPatch is the body of PATCH, as the document describes it.
type subscriptionPatch struct {
	subscriptions.Spec
}

// startInput says where a new subscription begins.
type startInput struct{}

// Schema describes start for the document.
func (startInput) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Description: `Where the subscription begins: "now", "earliest" (the oldest event that is kept), the offset of an event, or a time (RFC 3339): the first event committed at or after it.`,
		Default:     "now",
		OneOf:       []*huma.Schema{{Type: "string"}, {Type: "integer"}},
	}
}

// secretSchema stands for subscriptions.Secret in the document.
type secretSchema struct{}

func (secretSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: "string", WriteOnly: true}
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

func registerAliases(r huma.Registry) {
	r.RegisterTypeAlias(typeOf[subscriptions.Secret](), typeOf[secretSchema]())
}

// checkURLs asks whether the spec's URLs may be called.
func checkURLs(urls URLChecker, spec subscriptions.Spec) error {
	var fields subscriptions.FieldErrors
	check := func(field, raw string) {
		if err := urls.CheckURL(raw); err != nil {
			fields = append(fields, subscriptions.FieldError{Field: field, Message: err.Error()})
		}
	}
	check("endpoint.url", spec.Endpoint.URL)
	if auth := spec.Endpoint.Auth; auth != nil && auth.TokenURL != "" {
		check("endpoint.auth.token_url", auth.TokenURL)
	}
	if len(fields) > 0 {
		return fields
	}
	return nil
}
