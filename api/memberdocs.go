package api

import (
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// memberDoc is what the document says of a member of a subscription beyond its
// type. subscriptions.Validate is what holds it; a test holds the two together.
type memberDoc struct {
	text     string
	standard any // default
	enum     []any
	min, max float64 // of numbers; both 0: no bounds
}

func (d memberDoc) apply(s *huma.Schema) {
	s.Description = d.text
	s.Default = d.standard
	s.Enum = d.enum
	if d.min != 0 || d.max != 0 {
		s.Minimum, s.Maximum = new(d.min), new(d.max)
	}
}

// memberName is the key of memberDocs for a property of a schema.
func memberName(schema, property string) string {
	for _, suffix := range []string{"Input", "Patch"} {
		schema = strings.TrimSuffix(schema, suffix)
	}
	return schema + "." + property
}

func memberDocs() map[string]memberDoc {
	return map[string]memberDoc{
		"Subscription.name":          {text: "1–100 characters, unlike any other's."},
		"Subscription.description":   {text: "For people; 1,000 characters at most.", standard: ""},
		"Subscription.labels":        {text: "At most 20; keys [a-z0-9._/-]{1,63}, values of 100 characters at most."},
		"Subscription.events":        {text: "1–100 patterns of event types: exact, or with * for one segment and ** for the rest. Notices (rowcall.…) only where named."},
		"Subscription.filter":        {text: "CEL over data, type, subject, source, time and key: which of these events. Columns have the types of the table; what may be absent is tested with has(). An event on which it fails is held until the subscription is edited."},
		"Subscription.transform":     {text: "CEL: its value replaces data, or, with raw, is the body. An event on which it fails is held until the subscription is edited."},
		"Subscription.format":        {text: "Form of the body. cloudevents: CloudEvents 1.0 in structured JSON; cloudevents-binary: data, with the attributes as ce- headers; raw: data and nothing else.", standard: "cloudevents", enum: []any{"cloudevents", "cloudevents-binary", "raw"}},
		"Subscription.ordering":      {text: "key: events of one key wait for each other, also across retries; none: they do not.", standard: "key", enum: []any{"key", "none"}},
		"Subscription.ordering_key":  {text: "null: the row's primary key; else CEL, such as data.row.customer_id: events of a table with the same value wait for each other. One that has no value waits for all of its table, and they for it."},
		"Subscription.on_dead":       {text: "skip: a key goes on after a dead letter; block: it waits for a person.", standard: "skip", enum: []any{"skip", "block"}},
		"Subscription.compact":       {text: "From a backlog, of what has been read ahead (10,000 events at most), only the newest event of each key that was never tried: what it supersedes is not sent. Key changes and truncates stay, and so does all that comes while the subscription has no backlog. Not with ordering none, nor with an ordering_key.", standard: false},
		"Subscription.max_in_flight": {text: "Requests at once.", standard: 64, min: 1, max: 1000},
		"Subscription.rate_limit":    {text: "null: none. A ceiling beside max_in_flight, of all requests: retries and probes too."},
		"Subscription.batch":         {text: "Several events in one request, as a CloudEvents JSON array: only with format cloudevents. A refusal splits it until the one event is found that it is about; so does a failure that stays while other requests get through."},
		"Subscription.retry":         {text: "The schedule of an event that fails: exponential, with jitter."},
		"Subscription.outage":        {text: "What happens while the endpoint is down."},
		"Subscription.window":        {text: "The only times to deliver at, in UTC; null: always. While it is closed events are held: they do not age, and cost nothing. Attempts in flight at its closing end."},
		"Subscription.signing":       {text: "Signatures by Standard Webhooks. v1: HMAC-SHA256 with the secret; v1a: ed25519, verified with public_keys; or both."},

		"Endpoint.url":     {text: "https, or http where the operator's configuration allows it. No user, no fragment, 2,048 bytes at most."},
		"Endpoint.headers": {text: "Sent along: at most 20 and 8 KiB. They are shown to every key with scope read."},
		"Endpoint.timeout": {text: "One deadline over connecting, sending and reading; 100ms–120s.", standard: "15s"},
		"Endpoint.auth":    {text: "How rowcall identifies itself to the endpoint beyond the signature; null: not. Secrets are never in an answer. They stay where a patch does not name them; one that leads url or token_url to another origin (scheme, host, port) has to give them again."},
		"Endpoint.tls":     {text: "A client certificate, a private authority, or both, in PEM; null: none, and whom the system trusts. The key is never in an answer. It stays where a patch does not name it; one that leads url or token_url to another origin has to give it again."},

		"Endpoint.trace_context": {text: "Whether the W3C trace context of an event goes along, as the headers traceparent and tracestate: that of its rowcall.context, or of the request or event that published it; where rowcall exports traces, that of the attempt, which is its child.", standard: false},

		"Auth.type":          {text: "basic: username and password; bearer: token; oauth2: client credentials, a token fetched from token_url.", enum: []any{"basic", "bearer", "oauth2"}},
		"Auth.username":      {text: "With basic: no colon."},
		"Auth.password":      {text: "With basic."},
		"Auth.token":         {text: "With bearer."},
		"Auth.token_url":     {text: "With oauth2: where tokens come from. The guard on addresses holds there too."},
		"Auth.client_id":     {text: "With oauth2."},
		"Auth.client_secret": {text: "With oauth2."},
		"Auth.scopes":        {text: "With oauth2: what is asked for; at most 50."},

		"TLS.client_certificate": {text: "The certificate, and its chain; shown to the endpoint and to token_url."},
		"TLS.client_key":         {text: "The certificate's key."},
		"TLS.ca":                 {text: "Certificates of the only authorities that the endpoint's certificate may come from."},

		"Rotation.overlap": {text: "For how long the secret before goes on signing beside the new one; 0s–30d.", standard: "24h"},

		"RateLimit.per_second": {text: "Requests a second, spread evenly: at most those of 20 ms go at once.", min: 0.001, max: 100_000},

		"Batch.max_events": {text: "1: no batches; else every body is an array, also of one.", standard: 1, min: 1, max: 1000},
		"Batch.max_wait":   {text: "How long an event may wait for others; 0s: what is there goes at once; 0s–60s.", standard: "0s"},
		"Batch.max_bytes":  {text: "Largest body; a larger event goes alone; 1 KiB–10 MiB.", standard: 1 << 20, min: 1 << 10, max: 10 << 20},

		"Retry.initial":      {text: "Wait before the second try; 100ms–1h.", standard: "1s"},
		"Retry.max":          {text: "Longest wait; from initial to 7d.", standard: "1h"},
		"Retry.max_attempts": {text: "Tries before the event is a dead letter.", standard: 20, min: 1, max: 1000},
		"Retry.max_age":      {text: "Time from the first failure before the event is a dead letter, counting only time in which it could be delivered; 1m–365d.", standard: "72h"},

		"Outage.probe":      {text: "How often an endpoint that is down is tried: min..max of 1s–24h, or a cron expression in UTC.", standard: "5s..15m"},
		"Outage.hold_limit": {text: "How much is kept for an endpoint that does not take it, be it paused, disabled, parked or slow. Looked at every five seconds."},

		"HoldLimit.age":   {text: "How long an event may be held, from when it is in the log, in steps of a second, a minute beyond an hour, an hour beyond two days; 1m–365d.", standard: "30d"},
		"HoldLimit.bytes": {text: "How many bytes of events may wait in the log; beyond it, the oldest go until an eighth is free. Null: no bound."},
		"HoldLimit.then":  {text: "What becomes of events beyond the limit: dead-letter makes one dead range of them, whose payloads are kept for ROWCALL_DEAD_RETENTION; drop gives them up, counted. What comes after them goes on, also of the same key.", standard: "dead-letter", enum: []any{"dead-letter", "drop"}},

		"Window.cron": {text: "When it opens: a cron expression of five fields, in UTC."},
		"Window.for":  {text: "How long it stays open; 1m–7d, and not longer than the time between two openings."},
	}
}
