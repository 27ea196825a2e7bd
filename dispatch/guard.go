package dispatch

import (
	"net/http"
	"net/netip"
)

// GuardConfig says which addresses outbound HTTP may reach.
type GuardConfig struct {
	Allow     string           // ROWCALL_EGRESS_ALLOW: "private", CIDRs, host patterns, with ports; comma-separated
	PlainHTTP bool             // ROWCALL_EGRESS_HTTP: http to public targets too
	Deny      []netip.AddrPort // our own listener and both databases: never, whatever Allow says; an unspecified address stands for every local one
}

// Guard is the only way out: every outbound connection is checked at connect
// time, on the real address.
type Guard struct{}

// NewGuard reads the allow list; its error names the entry at fault.
func NewGuard(config GuardConfig) (*Guard, error) { panic("unwritten") }

// CheckURL says what is wrong with an endpoint's URL before anything is sent:
// form, scheme, port, host and, where the host is an IP literal, its address.
// The error's text is fit for the API: it names the remedy.
func (g *Guard) CheckURL(raw string) error { panic("unwritten") }

// Transport returns a transport for deliveries: no proxy, no redirects (the
// caller uses RoundTrip), no transparent decompression, HTTP/1.1 and HTTP/2,
// connections kept per endpoint.
func (g *Guard) Transport() *http.Transport { panic("unwritten") }
