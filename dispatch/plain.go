package dispatch

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxPlainBody bounds the requests that plain takes: what socket buffers hold
// though the endpoint reads nothing, so that to write first and read then cannot
// leave an early answer unread.
const maxPlainBody = 64 << 10

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

// RoundTrip sends a request of at most maxPlainBody. The response's body must be
// read to its end, or closed, for the connection to go.
func (p *plain) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	trace := httptrace.ContextClientTrace(ctx)
	address := hostPort(req.URL)
	c := p.take(address)
	reused := c != nil
	if !reused {
		conn, err := p.dial(ctx, "tcp", address)
		if err != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, err
		}
		c = &plainConn{Conn: conn, pool: p, address: address}
		if s, ok := conn.(syscall.Conn); ok {
			c.raw, _ = s.SyscallConn()
		}
	}
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
	if _, err := r.Peek(1); err != nil {
		return nil, errors.Join(unwritten, err)
	}
	if trace != nil && trace.GotFirstResponseByte != nil {
		trace.GotFirstResponseByte()
	}
	resp, err := http.ReadResponse(r, req)
	for err == nil && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
		resp, err = http.ReadResponse(r, req)
	}
	if err != nil {
		if c.left <= 0 {
			err = errHeadTooLarge // what came before the bound may look like an end of line
		}
		return nil, err
	}
	c.left = math.MaxInt64
	reusable := unwritten == nil && !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols
	if reusable {
		c.until = time.Now().Add(keptAlive(resp.Header.Get("Keep-Alive")))
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

// put keeps a connection, if there is room for one more.
func (p *plain) put(c *plainConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count >= maxIdle || len(p.idle[c.address]) >= maxIdlePerAddress {
		return false
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

// sweep closes what was idle for too long, and comes again while anything is.
func (p *plain) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.drop(func(c *plainConn) bool { return now.Before(c.until) })
	if p.count > 0 {
		p.timer.Reset(idleTimeout / 4)
	} else {
		p.timer = nil
	}
}

// closeIdle closes what is idle.
func (p *plain) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(func(*plainConn) bool { return false })
}

// drop closes the idle connections but those that are kept; p.mu is held.
func (p *plain) drop(keep func(*plainConn) bool) {
	for address, conns := range p.idle {
		kept := conns[:0]
		for _, c := range conns {
			if keep(c) {
				kept = append(kept, c)
			} else {
				c.Close()
				p.count--
			}
		}
		clear(conns[len(kept):])
		if p.idle[address] = kept; len(kept) == 0 {
			delete(p.idle, address)
		}
	}
}

// hostPort is the address of a URL of plain http.
func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "80")
}
