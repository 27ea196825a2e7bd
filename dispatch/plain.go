package dispatch

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxPlainBody bounds the requests that plain takes: what socket buffers hold
// though the endpoint reads nothing, unless it has made its own very small (2 KiB).
// So to write first and read then leaves no early answer unread.
const maxPlainBody = 32 << 10

// errHeadTooLarge says that a response's head went past maxHead.
var errHeadTooLarge = errors.New("read response: its header is larger than 32 KiB")

// plain is an HTTP/1.1 client for plain http, and an http.RoundTripper. The
// goroutine of an attempt writes its request and reads its response; net/http has
// two more for each connection, and a request goes through both. The messages
// themselves are net/http's (Request.Write, ReadResponse).
//
// Nothing is ever sent twice: a connection that the endpoint has closed is found
// before it is used, and what fails later is the caller's.
type plain struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	idle  map[string][]*plainConn // by address; the last was used last
	count int                     // of all addresses
	timer *time.Timer             // closes what was idle for too long; nil: nothing is
}

// plainConn is a connection; between two requests it has no buffers.
type plainConn struct {
	net.Conn
	pool    *plain
	address string
	raw     syscall.RawConn // nil: it cannot be looked at
	until   time.Time       // an idle one is not used later
	left    int64           // what may be read of the head
	buffers *plainBuffers
	stop    func() bool // ends the watch over the attempt's context
}

type plainBuffers struct {
	r *bufio.Reader
	w *bufio.Writer
}

var plainPool = sync.Pool{New: func() any {
	return &plainBuffers{bufio.NewReaderSize(nil, 4<<10), bufio.NewWriterSize(nil, 16<<10)} // header and body of a usual event in one write
}}

// takes reports whether a request is for plain: a POST by http of at most
// maxPlainBody.
func (p *plain) takes(req *http.Request) bool {
	if req.URL.Scheme != "http" || req.Method != http.MethodPost || req.Close {
		return false
	}
	if req.ContentLength == 0 {
		return req.Body == nil || req.Body == http.NoBody // else the length is not known
	}
	return req.ContentLength > 0 && req.ContentLength <= maxPlainBody
}

// RoundTrip sends a request. The response's body must be read to its end, or
// closed, for the connection to go.
func (p *plain) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	c, reused, err := p.connect(ctx, hostPort(req.URL))
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, cause(ctx, err)
	}
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: c.Conn, Reused: reused, WasIdle: reused})
	}
	c.stop = context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	resp, err := c.exchange(req, trace)
	if err != nil {
		c.end(false)
		return nil, cause(ctx, err)
	}
	return resp, nil
}

// connect returns a connection that is kept, or makes one.
func (p *plain) connect(ctx context.Context, address string) (c *plainConn, reused bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	if c := p.take(address); c != nil {
		return c, true, nil
	}
	conn, err := p.dial(ctx, "tcp", address)
	if err != nil {
		return nil, false, err
	}
	c = &plainConn{Conn: conn, pool: p, address: address}
	if s, ok := conn.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn()
	}
	return c, false, nil
}

// cause is the context's error where it has one: the connection's then follows
// from it.
func cause(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	return err
}

func (c *plainConn) exchange(req *http.Request, trace *httptrace.ClientTrace) (*http.Response, error) {
	c.buffers = plainPool.Get().(*plainBuffers)
	r, w := c.buffers.r, c.buffers.w
	r.Reset(c)
	w.Reset(c.Conn)
	c.left = maxHead
	unwritten := req.Write(w)
	if unwritten == nil {
		unwritten = w.Flush()
	}
	// An endpoint may refuse a request that it has not read, and close.
	if unwritten != nil && !errors.Is(unwritten, syscall.EPIPE) && !errors.Is(unwritten, syscall.ECONNRESET) {
		return nil, unwritten
	}
	if _, err := r.Peek(1); err != nil {
		return nil, cmp.Or(unwritten, err)
	}
	if trace != nil && trace.GotFirstResponseByte != nil {
		trace.GotFirstResponseByte()
	}
	resp, err := http.ReadResponse(r, req)
	for err == nil && resp.StatusCode >= 100 && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
		resp, err = http.ReadResponse(r, req)
	}
	if err != nil {
		if c.left <= 0 {
			err = errHeadTooLarge // what came before the bound may look like an end of line
		}
		return nil, err
	}
	c.left = math.MaxInt64
	reusable := unwritten == nil && !resp.Close && resp.StatusCode >= 200
	if reusable {
		// Without the monotonic clock, which stands still while the machine sleeps.
		c.until = time.Now().Add(keptAlive(resp.Header.Get("Keep-Alive"))).Round(0)
	}
	if resp.Body == http.NoBody {
		c.end(reusable)
		return resp, nil
	}
	resp.Body = &plainBody{src: resp.Body, ctx: req.Context(), conn: c, reusable: reusable}
	return resp, nil
}

// Read bounds the head.
func (c *plainConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeadTooLarge
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

// end closes the connection, or keeps it for another request where it can be used
// again: all of the response was read, and nothing else has come.
func (c *plainConn) end(reusable bool) {
	reusable = c.stop() && reusable && c.buffers.r.Buffered() == 0
	c.buffers.r.Reset(nil)
	c.buffers.w.Reset(nil)
	plainPool.Put(c.buffers)
	c.buffers, c.stop = nil, nil
	if !reusable || !c.pool.put(c) {
		c.Close()
	}
}

// plainBody is a response's body; it gives its connection back at its end.
type plainBody struct {
	src      io.Reader
	ctx      context.Context
	conn     *plainConn // nil: it was given back
	reusable bool
	err      error // since then
}

func (b *plainBody) Read(p []byte) (int, error) {
	if b.conn == nil {
		return 0, b.err
	}
	n, err := b.src.Read(p)
	if err == nil {
		return n, nil
	}
	whole := errors.Is(err, io.EOF)
	if !whole {
		err = cause(b.ctx, err)
	}
	b.end(b.reusable && whole, err)
	return n, err
}

// Close gives up a connection of which not all was read.
func (b *plainBody) Close() error {
	if b.conn != nil {
		b.end(false, http.ErrBodyReadAfterClose)
	}
	return nil
}

func (b *plainBody) end(reusable bool, err error) {
	b.conn.end(reusable)
	b.conn, b.err = nil, err
}

// keptAlive is for how long a connection may be used again: somewhat less than
// the endpoint says that it keeps it, since a request that meets its end is lost.
func keptAlive(header string) time.Duration {
	for param := range strings.SplitSeq(header, ",") {
		if value, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(param)), "timeout="); ok {
			if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
				timeout := time.Duration(seconds) * time.Second
				return min(idleTimeout, timeout-min(timeout/2, time.Second))
			}
		}
	}
	return idleTimeout
}

// take returns a connection that is still open, or nil.
func (p *plain) take(address string) *plainConn {
	for {
		p.mu.Lock()
		conns := p.idle[address]
		last := len(conns) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		c := conns[last]
		conns[last] = nil
		p.idle[address] = conns[:last]
		p.count--
		p.mu.Unlock()
		if time.Now().Before(c.until) && c.quiet() {
			return c
		}
		c.Close()
	}
}

// quiet reports whether the connection is open, with nothing to read: what comes
// without a request is a goodbye (a close, or a 408).
func (c *plainConn) quiet() bool {
	if c.raw == nil {
		return true
	}
	quiet := false
	err := c.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, err := syscall.Read(int(fd), b[:])
		quiet = n < 0 && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK)
		return true
	})
	return err == nil && quiet
}

// put keeps a connection. Where there is no room, one that was not used for longer
// goes in its place, or, where all are of its address, it is not kept.
func (p *plain) put(c *plainConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle[c.address]) >= maxIdlePerAddress {
		return false
	}
	if p.count >= maxIdle {
		p.makeRoom()
	}
	if p.idle == nil {
		p.idle = make(map[string][]*plainConn)
	}
	p.idle[c.address] = append(p.idle[c.address], c)
	p.count++
	if p.timer == nil {
		p.timer = time.AfterFunc(idleTimeout/4, p.sweep)
	}
	return true
}

// makeRoom closes the connection of some address that was not used for longest;
// p.mu is held.
func (p *plain) makeRoom() {
	for address, conns := range p.idle {
		if len(conns) > 0 {
			conns[0].Close()
			p.idle[address] = slices.Delete(conns, 0, 1)
			p.count--
			return
		}
	}
}

// sweep closes what was idle for too long or has ended, and comes again while
// anything is kept.
func (p *plain) sweep() {
	now := time.Now()
	p.keep(func(c *plainConn) bool { return now.Before(c.until) && c.quiet() })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count > 0 {
		p.timer.Reset(idleTimeout / 4)
	} else {
		p.timer = nil
	}
}

// closeIdle closes what is idle.
func (p *plain) closeIdle() {
	p.keep(func(*plainConn) bool { return false })
}

// keep closes the idle connections but those that may stay. It looks at one
// address at a time, for an attempt may wait for p.mu.
func (p *plain) keep(stays func(*plainConn) bool) {
	p.mu.Lock()
	addresses := slices.Collect(maps.Keys(p.idle))
	p.mu.Unlock()
	for _, address := range addresses {
		p.mu.Lock()
		kept := slices.DeleteFunc(p.idle[address], func(c *plainConn) bool {
			if stays(c) {
				return false
			}
			c.Close()
			p.count--
			return true
		})
		if p.idle[address] = kept; len(kept) == 0 {
			delete(p.idle, address)
		}
		p.mu.Unlock()
	}
}

// hostPort is the address of a URL of plain http.
func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "80")
}
