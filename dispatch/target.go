package dispatch

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// defaultTimeout is an attempt's deadline where the endpoint names none.
const defaultTimeout = 15 * time.Second

// Target is an endpoint made ready for sending: URL parsed, headers checked,
// secrets decoded, once for all of its attempts. It is immutable and safe for
// concurrent use.
type Target struct {
	url          *url.URL
	timeout      time.Duration
	header       http.Header // what all attempts share; never written after NewTarget
	format       subscriptions.Format
	batched      bool         // every body is an array
	traceContext bool         // the header traceparent goes along
	keepBody     bool         // of successes too
	pooled       int          // largest buffer that is kept for later attempts
	keys         []signingKey // newest first
	ends         time.Time    // when the keys after the first stop signing; zero: never
	oauth        *oauthClient // nil: no token is fetched
	tls          *clientTLS   // nil: the common transport
	envelopes    sync.Pool    // *envelope
}

// NewTarget prepares a subscription's endpoint. Its error says what cannot be
// sent: a URL, a header, a secret, an option that this version does not know.
// It never shows a secret.
func NewTarget(sub *subscriptions.Subscription) (*Target, error) {
	u, err := parseURL(sub.Endpoint.URL)
	if err != nil {
		return nil, fmt.Errorf("prepare endpoint: %w", err)
	}
	format := cmp.Or(sub.Format, subscriptions.CloudEvents)
	if format != subscriptions.CloudEvents && format != subscriptions.CloudEventsBinary && format != subscriptions.Raw {
		return nil, fmt.Errorf("prepare endpoint: format %q is not supported", format)
	}
	schemes := sub.Signing
	if len(schemes) == 0 {
		schemes = []string{subscriptions.SignHMAC}
	}
	t := &Target{url: u, timeout: sub.Endpoint.Timeout.D(), format: format, ends: sub.PreviousEnds, pooled: maxPooled, traceContext: sub.Endpoint.TraceContext}
	if t.batched = sub.Batch.MaxEvents > 1; t.batched {
		if format != subscriptions.CloudEvents {
			return nil, fmt.Errorf("prepare endpoint: format %q does not go in batches", format)
		}
		t.pooled = max(t.pooled, int(sub.Batch.MaxBytes)*5/4) // a buffer grows in steps
	}
	if t.timeout <= 0 {
		t.timeout = defaultTimeout
	}
	for _, secret := range sub.Secrets {
		key, err := newSigningKey(secret.Reveal(), schemes)
		if err != nil {
			return nil, fmt.Errorf("prepare endpoint: %w", err)
		}
		t.keys = append(t.keys, key)
	}
	if len(t.keys) == 0 {
		return nil, errors.New("prepare endpoint: the subscription has no signing secret")
	}
	t.header = http.Header{"Rowcall-Subscription": {string(sub.ID)}}
	switch format {
	case subscriptions.CloudEvents:
		t.header["Content-Type"] = []string{"application/cloudevents+json"}
		if t.batched {
			t.header["Content-Type"] = []string{batchContent}
		}
	case subscriptions.CloudEventsBinary:
		t.header["Ce-Specversion"] = []string{"1.0"}
	}
	if t.tls, err = newClientTLS(sub.Endpoint.TLS); err != nil {
		return nil, fmt.Errorf("prepare endpoint: %w", err)
	}
	if err := t.authenticate(sub.Endpoint.Auth); err != nil {
		return nil, fmt.Errorf("prepare endpoint: %w", err)
	}
	if err := addCustom(t.header, sub.Endpoint.Headers); err != nil {
		return nil, fmt.Errorf("prepare endpoint: %w", err)
	}
	if t.oauth != nil && t.header["Authorization"] != nil {
		return nil, errors.New("prepare endpoint: endpoint.headers has an Authorization beside endpoint.auth")
	}
	return t, nil
}

// origin is the scheme, host and port of the endpoint's URL; empty where the
// endpoint cannot be used.
func (t *Target) origin() string {
	if t == nil {
		return ""
	}
	return subscriptions.Origin(t.url)
}

// forReplay has every attempt name the replay that it is of. It comes before any.
func (t *Target) forReplay(id store.JobID) {
	if t != nil {
		t.header["Rowcall-Replay"] = []string{string(id)}
	}
}

// signing is how many of the keys sign at a time.
func (t *Target) signing(at time.Time) int {
	if t.ends.IsZero() || at.Before(t.ends) {
		return len(t.keys)
	}
	return 1
}

// Bounds of custom headers.
const (
	maxHeaders     = 20
	maxHeaderBytes = 8 << 10
)

// addCustom adds a subscription's own headers to header.
func addCustom(header http.Header, custom map[string]string) error {
	if len(custom) > maxHeaders {
		return fmt.Errorf("check headers: %d are more than %d", len(custom), maxHeaders)
	}
	size := 0
	for name, value := range custom {
		if !isToken(name) {
			return fmt.Errorf("check header %q: not a header name", name)
		}
		if isReserved(name) {
			return fmt.Errorf("check header %q: the name is reserved", name)
		}
		if !isHeaderValue(value) {
			return fmt.Errorf("check header %q: the value has control characters", name)
		}
		key := textproto.CanonicalMIMEHeaderKey(name)
		if _, twice := header[key]; twice {
			return fmt.Errorf("check header %q: the name occurs twice", name)
		}
		header[key] = []string{value}
		size += len(name) + len(value)
	}
	if size > maxHeaderBytes {
		return fmt.Errorf("check headers: %d bytes are more than %d", size, maxHeaderBytes)
	}
	return nil
}

// reserved are names that change what the request is or where it goes, speak
// for us, or open metadata services; a trailing * stands for any ending. The
// idempotency keys are here because net/http sends a POST that has one again by
// itself.
var reserved = []string{
	"host", "content-*", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect", "keep-alive",
	"accept-encoding", "proxy-*", "forwarded", "x-forwarded-*", "cookie", "user-agent",
	"webhook-*", "rowcall-*", "ce-*", "metadata*", "x-aws-ec2-metadata-token*",
	"idempotency-key", "x-idempotency-key",
}

func isReserved(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(reserved, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return name == pattern || open && strings.HasPrefix(name, prefix)
	})
}

func isToken(s string) bool {
	if s == "" {
		return false
	}
	for _, b := range []byte(s) {
		letter := b|0x20 >= 'a' && b|0x20 <= 'z'
		if !letter && (b < '0' || b > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(b)) {
			return false
		}
	}
	return true
}

func isHeaderValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
