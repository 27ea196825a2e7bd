package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// GuardConfig says which addresses outbound HTTP may reach.
type GuardConfig struct {
	Allow     string           // ROWCALL_EGRESS_ALLOW: "private", CIDRs, host patterns, with ports; comma-separated
	PlainHTTP bool             // ROWCALL_EGRESS_HTTP: http to public targets too
	Deny      []netip.AddrPort // our own listener and both databases: never, whatever Allow says; an unspecified address stands for every local one

	// DNS opens a connection to a DNS server; nil: to those of the system.
	DNS func(ctx context.Context, network, address string) (net.Conn, error)
}

// Guard is the only way out: every outbound connection is checked at connect
// time, on the real address. It is immutable and safe for concurrent use.
type Guard struct {
	allow     []allowance
	plainHTTP bool
	deny      []netip.AddrPort
	dns       func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewGuard reads the allow list; its error names the entry at fault.
func NewGuard(config GuardConfig) (*Guard, error) {
	allow, err := parseAllow(config.Allow)
	if err != nil {
		return nil, fmt.Errorf("read egress allow list: %w", err)
	}
	g := &Guard{allow: allow, plainHTTP: config.PlainHTTP, dns: config.DNS}
	for _, d := range config.Deny {
		g.deny = append(g.deny, netip.AddrPortFrom(d.Addr().Unmap(), d.Port()))
	}
	return g, nil
}

// Client is the guarded way out for libraries that want an http.Client. It follows
// no redirect, takes at most timeout for a request, and reads at most limit bytes
// of an answer: what is longer is an error.
func (t *Transport) Client(timeout time.Duration, limit int64) *http.Client {
	return &http.Client{
		Transport: capped{t, limit}, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// capped bounds the answers of a RoundTripper.
type capped struct {
	http.RoundTripper
	limit int64
}

// RoundTrip implements http.RoundTripper.
func (c capped) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, c.limit)
	}
	return resp, err
}

// BlockedError says that the guard refused a target. Its text is the same for
// every reason: it tells whoever chose the URL nothing about our network.
type BlockedError struct{ why string }

func (e *BlockedError) Error() string {
	return "target is not allowed; the operator can allow private targets with ROWCALL_EGRESS_ALLOW"
}

// Why is the reason, for the operator's log only.
func (e *BlockedError) Why() string { return e.why }

func blocked(format string, args ...any) error {
	return &BlockedError{why: fmt.Sprintf(format, args...)}
}

// permit decides on one connection: to addr, which host resolved to (or is),
// with or without TLS. nil: it may be made.
func (g *Guard) permit(host string, addr netip.AddrPort, plain bool) error {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if addr.Addr().Zone() != "" {
		return blocked("%s has a zone", addr)
	}
	if prefix, never := neverAllowed(addr.Addr()); never {
		return blocked("%s is in %s, which is never allowed", addr, prefix)
	}
	if g.denied(addr) {
		return blocked("%s is our own listener or a database", addr)
	}
	allowed, lifted := g.allowed(host, addr)
	if !allowed {
		if err := public.SafeAddr(addr.Addr()); err != nil {
			return blocked("%v", err)
		}
		if plain && !g.plainHTTP {
			return blocked("%s is public, and plain http to public targets is off", addr)
		}
	}
	if !lifted && deniedPort(addr.Port()) {
		return blocked("port %d belongs to another protocol", addr.Port())
	}
	return nil
}

// denied reports whether addr is one of those that Allow does not lift.
func (g *Guard) denied(addr netip.AddrPort) bool {
	return slices.ContainsFunc(g.deny, func(d netip.AddrPort) bool {
		if d.Port() != addr.Port() {
			return false
		}
		return d.Addr() == addr.Addr() || d.Addr().IsUnspecified() && isOwn(addr.Addr())
	})
}

// isOwn reports whether the address is one of this machine. When they cannot be
// listed, every address is taken for one.
func isOwn(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		prefix, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		ip, ok := netip.AddrFromSlice(prefix.IP)
		return ok && ip.Unmap() == addr
	})
}

// allowed reports whether an entry of the allow list covers the target, and
// whether one that names the port does.
func (g *Guard) allowed(host string, addr netip.AddrPort) (allowed, lifted bool) {
	for _, a := range g.allow {
		if a.covers(host, addr) {
			allowed = true
			lifted = lifted || a.port != 0
		}
	}
	return allowed, lifted
}

// CheckURL says what is wrong with an endpoint's URL before anything is sent:
// form, scheme, port, host and, where the host is an IP literal, its address.
// The error's text is fit for the API: it names the remedy.
//
// What a name resolves to is checked at each connect, and so is plain http to a
// name where the allow list holds addresses that it might resolve to.
func (g *Guard) CheckURL(raw string) error {
	u, err := parseURL(raw)
	if err != nil {
		return err
	}
	plain := u.Scheme == "http"
	host, port := u.Hostname(), targetPort(u)
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil:
	case host == "localhost" || strings.HasSuffix(host, ".localhost"):
		// RFC 6761: this name is the loopback, whatever a resolver says.
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		return g.checkName(host, port, plain)
	}
	if plain && !g.plainHTTP {
		if allowed, _ := g.allowed(host, netip.AddrPortFrom(addr, port)); !allowed && public.SafeAddr(addr) == nil {
			return errPlain
		}
	}
	return g.permit(host, netip.AddrPortFrom(addr, port), plain)
}

var errPlain = errors.New("want https; the operator can allow plain http with ROWCALL_EGRESS_ALLOW (private targets) or ROWCALL_EGRESS_HTTP (public ones)")

// checkName is the part of permit that needs no address.
func (g *Guard) checkName(host string, port uint16, plain bool) error {
	named, perhaps, lifted := false, false, false
	for _, a := range g.allow {
		if a.port != 0 && a.port != port {
			continue
		}
		if a.host == "" {
			perhaps = true
		} else if a.matches(host) {
			named = true
		} else {
			continue
		}
		lifted = lifted || a.port != 0
	}
	if plain && !g.plainHTTP && !named && !perhaps {
		return errPlain
	}
	if deniedPort(port) && !lifted {
		return fmt.Errorf("port %d belongs to another protocol; the operator can allow it with an entry host:%d in ROWCALL_EGRESS_ALLOW", port, port)
	}
	return nil
}

// maxURL bounds an endpoint's URL, in bytes.
const maxURL = 2048

// parseURL reads an endpoint's URL and brings its host into the form that is
// sent and compared: ASCII, lower case, no trailing dot.
func parseURL(raw string) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, fmt.Errorf("the URL is longer than %d bytes", maxURL)
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, errors.New("the URL has spaces or control characters")
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The error of url.Parse repeats the URL, which may hold a secret.
		return nil, errors.New("the URL cannot be read; want https://host/path")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("want a URL that starts with https://")
	case u.Opaque != "" || u.Host == "" || u.Hostname() == "":
		return nil, errors.New("the URL has no host; want https://host/path")
	case u.User != nil:
		return nil, errors.New("the URL must not hold a user or password")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, errors.New("the URL must not have a fragment (#…)")
	}
	host, err := canonicalHost(u.Hostname(), strings.HasPrefix(u.Host, "["))
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" && strings.HasSuffix(u.Host, ":") {
		return nil, errors.New("the URL has an empty port")
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '0' {
			return nil, errors.New("want a port from 1 to 65535")
		}
		u.Host = net.JoinHostPort(host, port)
	} else if strings.Contains(host, ":") {
		u.Host = "[" + host + "]"
	} else {
		u.Host = host
	}
	return u, nil
}

// canonicalHost checks a host and returns the form in which it is sent.
func canonicalHost(host string, bracketed bool) (string, error) {
	if bracketed {
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() || addr.Zone() != "" || addr.Is4In6() || addr.String() != host {
			return "", errors.New("want the IPv6 address in its canonical form")
		}
		return host, nil
	}
	ascii := strings.TrimSuffix(host, ".")
	if strings.ContainsFunc(ascii, func(r rune) bool { return r >= utf8.RuneSelf }) {
		// The mapping of net/http, which leaves ASCII alone as well: real names
		// hold _ and other things that IDNA refuses.
		mapped, err := idna.Lookup.ToASCII(ascii)
		if err != nil {
			return "", errors.New("the URL's host is not a host name")
		}
		ascii = mapped
	}
	if len(ascii) > 253 || !isHostName(ascii) {
		return "", errors.New("the URL's host is not a host name")
	}
	ascii = strings.ToLower(ascii)
	if isNumeric(ascii) {
		// Resolvers and browsers read 2130706433, 0x7f.1 and 127.1 as addresses.
		if addr, err := netip.ParseAddr(ascii); err != nil || addr.String() != host {
			return "", errors.New("want the IPv4 address in its canonical form, four decimal numbers")
		}
	}
	return ascii, nil
}

// isHostName reports whether s is labels of letters, digits, - and _, by dots.
func isHostName(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, b := range []byte(label) {
			letter := b|0x20 >= 'a' && b|0x20 <= 'z'
			if !letter && (b < '0' || b > '9') && b != '-' && b != '_' {
				return false
			}
		}
	}
	return true
}

// isNumeric reports whether a host's last label is a number, which makes the
// host an address or nothing.
func isNumeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// targetPort is the port that a URL of parseURL leads to.
func targetPort(u *url.URL) uint16 {
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return uint16(n)
	}
	if u.Scheme == "http" {
		return 80
	}
	return 443
}
