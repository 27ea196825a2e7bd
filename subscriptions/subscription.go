// Package subscriptions says what a subscription is and which events it wants.
// It is pure: no I/O, no clock, no goroutines.
package subscriptions

import "time"

// State is what people asked for; an endpoint's health is not part of it.
type State string

const (
	Active   State = "active"   // events are delivered
	Paused   State = "paused"   // a person holds it: the cursor stands still
	Disabled State = "disabled" // rowcall holds it (410 Gone), until a person resumes it
)

// Format is the form of the body on the wire.
type Format string

const (
	CloudEvents       Format = "cloudevents"        // CloudEvents 1.0, structured JSON
	CloudEventsBinary Format = "cloudevents-binary" // data as body, attributes as ce- headers
	Raw               Format = "raw"                // data as body, nothing else
)

// Ordering says whether the events of one key wait for each other.
type Ordering string

const (
	OrderKey  Ordering = "key"
	OrderNone Ordering = "none"
)

// OnDead says what a dead letter means for its key.
type OnDead string

const (
	Skip  OnDead = "skip"  // the key goes on
	Block OnDead = "block" // the key waits for a person
)

// Subscription is one row of the table that maps events to webhooks.
type Subscription struct {
	ID          ID
	Version     int64 // grows with every edit of Spec or State
	State       State
	StateReason string // why it is paused or disabled; empty when active
	ManagedBy   string // whose configuration declares it; empty: none does
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Spec
	Secrets []Secret // signing secrets, newest first; every one of them signs

	// PreviousEnds is when the secrets after the first stop signing; zero: never.
	PreviousEnds time.Time
}

// Spec is the part of a subscription that people write. Its JSON form is the
// public contract; the zero value of an optional member means its default, and
// Normalize writes the defaults in. After that, and from ParseSpec and Patch, its
// JSON has every member; the secrets of endpoint.auth and endpoint.tls are never
// in it.
type Spec struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Labels      map[string]string `json:"labels"`
	Events      []string          `json:"events"`
	Filter      *string           `json:"filter"`
	Transform   *string           `json:"transform"`
	Endpoint    Endpoint          `json:"endpoint"`
	Format      Format            `json:"format"`
	Ordering    Ordering          `json:"ordering"`
	OrderingKey *string           `json:"ordering_key"`
	OnDead      OnDead            `json:"on_dead"`
	Compact     bool              `json:"compact"`
	MaxInFlight int               `json:"max_in_flight"`
	RateLimit   *RateLimit        `json:"rate_limit"`
	Batch       Batch             `json:"batch"`
	Retry       Retry             `json:"retry"`
	Outage      Outage            `json:"outage"`
	Window      *Window           `json:"window"`
	Signing     []string          `json:"signing"`
}

// Endpoint is where the payload goes.
type Endpoint struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Timeout Duration          `json:"timeout"` // one deadline over everything of an attempt; 100ms–120s, default 15s
	Auth    *Auth             `json:"auth"`
	TLS     *TLS              `json:"tls"`

	TraceContext bool `json:"trace_context"` // the header traceparent goes along
}

// Auth is how rowcall identifies itself to the endpoint beyond the signature.
type Auth struct {
	Type         string   `json:"type"`
	Username     string   `json:"username,omitempty"`
	Password     Secret   `json:"password,omitzero"`
	Token        Secret   `json:"token,omitzero"`
	TokenURL     string   `json:"token_url,omitempty"`
	ClientID     string   `json:"client_id,omitempty"`
	ClientSecret Secret   `json:"client_secret,omitzero"`
	Scopes       []string `json:"scopes,omitempty"`
}

// TLS is a client certificate and a private certificate authority, in PEM.
type TLS struct {
	ClientCertificate string `json:"client_certificate,omitempty"`
	ClientKey         Secret `json:"client_key,omitzero"`
	CA                string `json:"ca,omitempty"`
}

// RateLimit is a ceiling, in requests per second.
type RateLimit struct {
	PerSecond float64 `json:"per_second"`
}

// Batch says how many events may share one POST.
type Batch struct {
	MaxEvents int      `json:"max_events"`
	MaxWait   Duration `json:"max_wait"`
	MaxBytes  int64    `json:"max_bytes"`
}

// Retry is the schedule of an event that fails for its own sake.
type Retry struct {
	Initial     Duration `json:"initial"`
	Max         Duration `json:"max"`
	MaxAttempts int      `json:"max_attempts"`
	MaxAge      Duration `json:"max_age"`
}

// Outage is what happens while the endpoint is down.
type Outage struct {
	Probe     string    `json:"probe"`
	HoldLimit HoldLimit `json:"hold_limit"`
}

// HoldLimit bounds what is kept for an endpoint that does not take it.
type HoldLimit struct {
	Age   Duration `json:"age"`
	Bytes *int64   `json:"bytes"`
	Then  string   `json:"then"`
}

// Window names the only times at which a subscription is delivered to, in UTC.
type Window struct {
	Cron string   `json:"cron"`
	For  Duration `json:"for"`
}
