package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Spec is what people write of a subscription. Durations are texts such as
// "15s" or "30d". What is left empty gets its default; Name, Events and
// Endpoint.URL are required.
type Spec struct {
	Name        string            `json:"name,omitempty"`
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Events      []string          `json:"events,omitempty"`
	Filter      *string           `json:"filter,omitempty"`
	Transform   *string           `json:"transform,omitempty"`
	Endpoint    Endpoint          `json:"endpoint,omitzero"`
	Format      string            `json:"format,omitempty"`
	Ordering    string            `json:"ordering,omitempty"`
	OrderingKey *string           `json:"ordering_key,omitempty"`
	OnDead      string            `json:"on_dead,omitempty"`
	Compact     bool              `json:"compact,omitempty"`
	MaxInFlight int               `json:"max_in_flight,omitempty"`
	RateLimit   *RateLimit        `json:"rate_limit,omitempty"`
	Batch       Batch             `json:"batch,omitzero"`
	Retry       Retry             `json:"retry,omitzero"`
	Outage      Outage            `json:"outage,omitzero"`
	Window      *Window           `json:"window,omitempty"`
	Signing     []string          `json:"signing,omitempty"`
}

// Endpoint is where events go.
type Endpoint struct {
	URL     string            `json:"url,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Timeout string            `json:"timeout,omitempty"`
	Auth    *Auth             `json:"auth,omitempty"`
	TLS     *TLS              `json:"tls,omitempty"`

	TraceContext bool `json:"trace_context,omitempty"`
}

// Auth is how rowcall identifies itself to the endpoint. Password, Token and
// ClientSecret are never in an answer.
type Auth struct {
	Type         string   `json:"type"`
	Username     string   `json:"username,omitempty"`
	Password     string   `json:"password,omitempty"`
	Token        string   `json:"token,omitempty"`
	TokenURL     string   `json:"token_url,omitempty"`
	ClientID     string   `json:"client_id,omitempty"`
	ClientSecret string   `json:"client_secret,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`
}

// TLS is a client certificate and a private authority, in PEM. ClientKey is
// never in an answer.
type TLS struct {
	ClientCertificate string `json:"client_certificate,omitempty"`
	ClientKey         string `json:"client_key,omitempty"`
	CA                string `json:"ca,omitempty"`
}

// RateLimit is a ceiling.
type RateLimit struct {
	PerSecond float64 `json:"per_second"`
}

// Batch says how many events may share one request.
type Batch struct {
	MaxEvents int    `json:"max_events,omitempty"`
	MaxWait   string `json:"max_wait,omitempty"`
	MaxBytes  int64  `json:"max_bytes,omitempty"`
}

// Retry is the schedule of an event that fails.
type Retry struct {
	Initial     string `json:"initial,omitempty"`
	Max         string `json:"max,omitempty"`
	MaxAttempts int    `json:"max_attempts,omitempty"`
	MaxAge      string `json:"max_age,omitempty"`
}

// Outage is what happens while the endpoint is down.
type Outage struct {
	Probe     string    `json:"probe,omitempty"`
	HoldLimit HoldLimit `json:"hold_limit,omitzero"`
}

// HoldLimit bounds what is kept for an endpoint that is down.
type HoldLimit struct {
	Age   string `json:"age,omitempty"`
	Bytes *int64 `json:"bytes,omitempty"`
	Then  string `json:"then,omitempty"`
}

// Window names the only times to deliver at, in UTC.
type Window struct {
	Cron string `json:"cron"`
	For  string `json:"for"`
}

// NewSubscription is the body of create.
type NewSubscription struct {
	Spec
	Start  any    `json:"start,omitempty"`  // "now" (default), "earliest", an offset (a number), or a time (RFC 3339 text)
	Secret string `json:"secret,omitempty"` // the signing secret; empty: one is made
}

// Subscription is a subscription as the API shows it.
type Subscription struct {
	ID string `json:"id"`
	Spec
	State       string    `json:"state"` // active, paused, disabled
	StateReason string    `json:"state_reason"`
	Health      string    `json:"health"`           // healthy, parked, probing, recovering
	Secret      string    `json:"secret,omitempty"` // in the answers to create and rotate only
	PublicKeys  []string  `json:"public_keys"`      // with signing v1a: "whpk_" and base64, newest first
	ManagedBy   string    `json:"managed_by"`       // owner of the configuration that declares it; empty: none does
	Warnings    []string  `json:"warnings"`         // of its patterns and expressions, and of the configuration that declares it
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	Version     int64     `json:"version"`

	// PreviousSecretEndsAt is when a rotated secret ends that is still active.
	PreviousSecretEndsAt *time.Time `json:"previous_secret_ends_at"`
}

// SubscriptionQuery selects subscriptions.
type SubscriptionQuery struct {
	PageQuery
	Name, State string
}

// Subscriptions lists subscriptions by id.
func (c *Client) Subscriptions(ctx context.Context, q SubscriptionQuery) (page Page[Subscription], err error) {
	v := q.values()
	set(v, "name", q.Name)
	set(v, "state", q.State)
	return page, c.get(ctx, &page, v, "v1", "subscriptions")
}

// Subscription returns one.
func (c *Client) Subscription(ctx context.Context, id string) (sub Subscription, err error) {
	return sub, c.get(ctx, &sub, nil, "v1", "subscriptions", id)
}

// CreateSubscription makes one. body is a NewSubscription, or any value whose
// JSON is one. The answer holds the signing secret, which is not shown again.
func (c *Client) CreateSubscription(ctx context.Context, body any) (sub Subscription, err error) {
	return sub, c.post(ctx, &sub, body, "v1", "subscriptions")
}

// PatchSubscription changes one by JSON merge patch: patch is any value whose
// JSON is one, such as a map or a json.RawMessage. Where version is not 0, it is
// refused with PreconditionFailed unless it is still the subscription's.
func (c *Client) PatchSubscription(ctx context.Context, id string, patch any, version int64) (sub Subscription, err error) {
	_, _, err = c.do(ctx, call{
		method: http.MethodPatch, path: []string{"v1", "subscriptions", id}, ifMatch: version,
		media: "application/merge-patch+json", body: patch,
	}, &sub)
	return sub, err
}

// DeleteSubscription ends one, by version as in PatchSubscription.
func (c *Client) DeleteSubscription(ctx context.Context, id string, version int64) error {
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: []string{"v1", "subscriptions", id}, ifMatch: version}, nil)
	return err
}

// PauseSubscription holds its events until it is resumed.
func (c *Client) PauseSubscription(ctx context.Context, id string) (sub Subscription, err error) {
	return sub, c.post(ctx, &sub, nil, "v1", "subscriptions", id, "pause")
}

// ResumeSubscription delivers its events again.
func (c *Client) ResumeSubscription(ctx context.Context, id string) (sub Subscription, err error) {
	return sub, c.post(ctx, &sub, nil, "v1", "subscriptions", id, "resume")
}

// EndpointHealth is how a subscription's endpoint does, and what it is owed. What
// is nil is not known, or there is none.
type EndpointHealth struct {
	Health        string     `json:"health"` // healthy, parked, probing, recovering
	Since         *time.Time `json:"since"`
	Reason        *string    `json:"reason"`
	NextProbeAt   *time.Time `json:"next_probe_at"`
	FailureRate   *float64   `json:"failure_rate"` // 0 to 1, of the last minute or so
	LastSuccessAt *time.Time `json:"last_success_at"`
	Hold          *string    `json:"hold"`       // why nothing is sent: paused, disabled, endpoint, store, filter_error, gap, window, parked
	HoldError     *string    `json:"hold_error"` // with filter_error
	HeldSince     *time.Time `json:"held_since"`
	OpensAt       *time.Time `json:"opens_at"` // of a window that is closed
	Backlog       int64      `json:"backlog"`  // events, at most
	Oldest        *time.Time `json:"oldest"`
	HeldBytes     int64      `json:"held_bytes"`
	Balance       Balance    `json:"balance"`
}

// Balance accounts for every event that a subscription wants: Matched is the sum of
// the others.
type Balance struct {
	Matched     int64 `json:"matched"` // as the log counts them
	Delivered   int64 `json:"delivered"`
	Waiting     int64 `json:"waiting"` // in the log
	Retrying    int64 `json:"retrying"`
	Blocked     int64 `json:"blocked"`
	Dead        int64 `json:"dead"`
	DeadRanges  int64 `json:"dead_ranges"` // events of them
	Filtered    int64 `json:"filtered"`
	Discarded   int64 `json:"discarded"`
	Dropped     int64 `json:"dropped"`
	Compacted   int64 `json:"compacted"`
	Expired     int64 `json:"expired"`
	Unaccounted int64 `json:"unaccounted"` // 0, or rowcall has a fault
}

// SubscriptionHealth says how a subscription's endpoint does.
func (c *Client) SubscriptionHealth(ctx context.Context, id string) (h EndpointHealth, err error) {
	return h, c.get(ctx, &h, nil, "v1", "subscriptions", id, "health")
}

// ProbeSubscription asks for a probe of a parked endpoint now. It returns when
// the wish is recorded; Conflict where the endpoint is not parked, or the
// subscription is held.
func (c *Client) ProbeSubscription(ctx context.Context, id string) error {
	return c.post(ctx, nil, nil, "v1", "subscriptions", id, "probe")
}

// TestedAttempt is what became of a test event.
type TestedAttempt struct {
	Event      string          `json:"event"`
	WebhookID  string          `json:"webhook_id"`
	At         time.Time       `json:"at"`
	DurationMS float64         `json:"duration_ms"`
	Timings    Timings         `json:"timings"`
	Status     int             `json:"status"`
	Outcome    string          `json:"outcome"` // delivered, failed, blocked, unknown
	Reason     string          `json:"reason"`
	Detail     json.RawMessage `json:"detail"` // error, headers, body
}

// TestSubscription sends a test event to a subscription's endpoint and waits for
// what becomes of it, 15 s at most.
func (c *Client) TestSubscription(ctx context.Context, id string) (a TestedAttempt, err error) {
	return a, c.post(ctx, &a, nil, "v1", "subscriptions", id, "test")
}

// RotateSecret makes a new signing secret, which the answer holds and which is
// not shown again. The one before goes on signing for the overlap, a text such as
// "24h" (which is also what "" means); "0s" ends it at once. It is refused with
// Conflict while two are active, unless the overlap is "0s". By version as in
// PatchSubscription.
func (c *Client) RotateSecret(ctx context.Context, id, overlap string, version int64) (sub Subscription, err error) {
	in := call{method: http.MethodPost, path: []string{"v1", "subscriptions", id, "secret", "rotate"}, ifMatch: version}
	if overlap != "" {
		in.media, in.body = "application/json", map[string]string{"overlap": overlap}
	}
	_, _, err = c.do(ctx, in, &sub)
	return sub, err
}

// PreviewQuery is what is to be tried.
type PreviewQuery struct {
	Events      []string `json:"events"`
	Filter      *string  `json:"filter,omitempty"`
	Transform   *string  `json:"transform,omitempty"`
	OrderingKey *string  `json:"ordering_key,omitempty"`
	Limit       int      `json:"limit,omitempty"` // 1 to 100; 0: 20
}

// Preview is what expressions make of the newest events.
type Preview struct {
	Items    []Previewed `json:"items"` // newest first
	Warnings []string    `json:"warnings"`
	Partial  bool        `json:"partial"` // a second was over, or the bodies too large, before Limit was reached
}

// Previewed is what they make of one.
type Previewed struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Subject  string          `json:"subject,omitempty"`
	Time     time.Time       `json:"time"`
	Sequence string          `json:"sequence"`
	Matched  *bool           `json:"matched"` // nil: the filter fails
	Key      *string         `json:"key"`     // nil: the ordering key fails
	Errors   []PreviewError  `json:"errors"`
	Body     json.RawMessage `json:"body"`
}

// PreviewError is an expression that fails on an event.
type PreviewError struct {
	Field   string `json:"field"` // filter, transform, ordering_key
	Message string `json:"message"`
}

// PreviewSubscription tries expressions on the newest events. Nothing is made or sent.
func (c *Client) PreviewSubscription(ctx context.Context, q PreviewQuery) (found Preview, err error) {
	err = c.post(ctx, &found, q, "v1", "subscriptions", "preview")
	return found, err
}
