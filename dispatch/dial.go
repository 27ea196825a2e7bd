package dispatch

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rowcall/rowcall/store"
)

// Bounds of a connection's stages. They hold besides an attempt's deadline,
// because net/http lets a dial go on when the attempt that asked for it is over.
const (
	resolveTimeout   = 3 * time.Second
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
)

// Bounds of connections that are kept for their next request, and of the head of
// a response.
const (
	idleTimeout       = 60 * time.Second // an address that moved is found within this
	maxIdle           = 2048
	maxIdlePerAddress = 1024
	maxHead           = 32 << 10
)

// Transport is the way to endpoints: a guarded *http.Transport, a quicker client
// beside it for plain http, and others for endpoints with TLS settings of their own.
type Transport struct {
	*http.Transport
	guard *Guard
	plain plain
	own   ownTransports
}

// RoundTrip sends one request; see http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.plain.takes(req) {
		return t.plain.RoundTrip(req)
	}
	return t.Transport.RoundTrip(req)
}

// Transport returns a transport for deliveries: no proxy, no redirects (the
// caller uses RoundTrip), no transparent decompression, HTTP/1.1 and HTTP/2,
// connections kept per endpoint.
//
// Its TLSClientConfig may be changed before first use (a private CA).
func (g *Guard) Transport() *Transport {
	t := g.transport(&tls.Config{
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(1024),
	})
	t.MaxIdleConns, t.MaxIdleConnsPerHost = maxIdle, maxIdlePerAddress
	return &Transport{Transport: t, guard: g, plain: plain{dial: t.DialContext}}
}

// CloseIdleConnections closes what is idle, also of endpoints with TLS settings
// of their own.
func (t *Transport) CloseIdleConnections() {
	t.Transport.CloseIdleConnections()
	t.plain.closeIdle()
	t.own.closeIdle()
}

// transport is a guarded transport with the TLS settings, which are its own
// from now on.
func (g *Guard) transport(config *tls.Config) *http.Transport {
	t := &http.Transport{
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		WriteBufferSize:        16 << 10, // header and body of a usual event in one write
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHead,
		TLSClientConfig:        config,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 15 * time.Second, // finds connections that died silently
			PingTimeout:     10 * time.Second,
		},
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := g.dial(ctx, network, address, true)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
	t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return g.dialTLS(ctx, network, address, t.TLSClientConfig)
	}
	return t
}

// handshakeError marks every failure of a TLS handshake, since most of them
// have no type of their own.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// made is a connection that remembers how long its making took.
type made struct {
	*net.TCPConn
	took store.Timings
}

// madeFor returns how long it took to make a connection, whatever is on top of it.
func madeFor(conn net.Conn) *store.Timings {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if m, ok := conn.(*made); ok {
		return &m.took
	}
	return &store.Timings{}
}

// dialError is why a connection was not made, and how long its stages took.
type dialError struct {
	err  error
	took store.Timings
}

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// dialTLS connects and shakes hands. net/http finds in the *tls.Conn whether
// HTTP/2 was agreed on.
func (g *Guard) dialTLS(ctx context.Context, network, address string, base *tls.Config) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("split address: %w", err)
	}
	raw, err := g.dial(ctx, network, address, false)
	if err != nil {
		return nil, err
	}
	config := base.Clone()
	if config.ServerName == "" {
		config.ServerName = host
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn := tls.Client(raw, config)
	began := time.Now()
	err = conn.HandshakeContext(ctx)
	raw.took.TLS = time.Since(began)
	if err != nil {
		raw.Close()
		return nil, &dialError{&handshakeError{err}, raw.took}
	}
	return conn, nil
}

// dial resolves the host of address, checks every answer, and connects to the
// first that takes the connection. One denied answer blocks the attempt.
func (g *Guard) dial(ctx context.Context, network, address string, plain bool) (*made, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("split address: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("read port: %w", err)
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	var took store.Timings
	addr, err := netip.ParseAddr(host)
	addrs := []netip.Addr{addr}
	if err != nil {
		began := time.Now()
		addrs, err = g.resolve(ctx, host)
		took.DNS = time.Since(began)
	}
	if err != nil {
		return nil, &dialError{err, took}
	}
	targets := make([]netip.AddrPort, len(addrs))
	for i, addr := range addrs {
		targets[i] = netip.AddrPortFrom(addr.Unmap(), uint16(port))
		if err := g.permit(host, targets[i], plain); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	conn, err := g.connect(ctx, network, host, targets, plain)
	took.Connect = time.Since(began)
	if err != nil {
		return nil, &dialError{err, took}
	}
	return &made{conn, took}, nil
}

// resolve returns the addresses of a named host in the order in which to try them.
func (g *Guard) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if isNumeric(host) {
		return nil, blocked("%q is an address in another form", host)
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	l := &lookup{open: g.dns}
	if l.open == nil {
		l.open = new(net.Dialer).DialContext
	}
	defer l.end()
	resolver := net.Resolver{PreferGo: true, Dial: l.dial}
	addrs, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, l.cause(err)
	}
	return addrs, nil
}

// lookup holds what one lookup opened. The resolver goes on when the lookup's
// time is over, and would keep its sockets until its own patience ends; and of
// the errors of its sockets it keeps the text alone.
type lookup struct {
	open func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	conns []net.Conn
	local error // this machine ran out of something
	over  bool
}

func (l *lookup) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := l.open(ctx, network, address)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if isLocal(err) {
			l.local = err
		}
		return nil, err
	}
	if l.over {
		conn.Close()
		return nil, net.ErrClosed
	}
	l.conns = append(l.conns, conn)
	return conn, nil
}

// cause is what failed a lookup that failed with err.
func (l *lookup) cause(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.local != nil {
		return fmt.Errorf("resolve: %w", l.local)
	}
	return err
}

func (l *lookup) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	for _, conn := range l.conns {
		conn.Close()
	}
}

// connect tries the targets one after the other, each with its share of the
// time that is left.
func (g *Guard) connect(ctx context.Context, network, host string, targets []netip.AddrPort, plain bool) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dialer := net.Dialer{
		FallbackDelay: -1,
		KeepAlive:     30 * time.Second,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			// Once more on the very address of the connect.
			addr, err := netip.ParseAddrPort(address)
			if err != nil || network != "tcp4" && network != "tcp6" {
				return blocked("connect to %s %q", network, address)
			}
			return g.permit(host, addr, plain)
		},
	}
	var first error
	for i, target := range targets {
		conn, err := func() (*net.TCPConn, error) {
			deadline, _ := ctx.Deadline()
			share := time.Until(deadline) / time.Duration(len(targets)-i)
			ctx, cancel := context.WithTimeout(ctx, share)
			defer cancel()
			return dialer.DialTCP(ctx, network, netip.AddrPort{}, target)
		}()
		if err == nil {
			return conn, nil
		}
		// A machine without IPv6 fails on ::1 for a reason of its own; what the
		// other addresses say is worth more.
		if first == nil || isLocal(first) && !isLocal(err) {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if first == nil {
		first = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	return nil, first
}
