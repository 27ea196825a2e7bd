package store_test

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy stands between a store and its database, and misbehaves as told.
type proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	refuse  bool
	frozen  chan struct{} // closed when what is frozen may go on; nil: nothing is
	cut     string        // cut the connection on which the client sends this
	forward bool          // after passing it on
	stick   string        // freeze when the client sends this
	cuts    chan struct{} // one for each cut
}

// newProxy starts a proxy and returns it with the url that leads through it.
func newProxy(t testing.TB, at string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: u.Host, conns: map[net.Conn]struct{}{}, cuts: make(chan struct{}, 16)}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.thaw()
		p.cutAll()
		p.wg.Wait()
	})
	u.Host = listener.Addr().String()
	return p, u.String()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.refuse
		p.mu.Unlock()
		server, err := net.Dial("tcp", p.target)
		if refuse || err != nil {
			_ = client.Close()
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { p.pass(client, server, true) })
		p.wg.Go(func() { p.pass(server, client, false) })
	}
}

// pass copies until either side ends; fromClient is looked through for cut.
func (p *proxy) pass(from, to net.Conn, fromClient bool) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.mu.Lock()
			cut := fromClient && p.cut != "" && bytes.Contains(buf[:n], []byte(p.cut))
			if cut {
				p.cut = ""
			}
			if fromClient && p.stick != "" && bytes.Contains(buf[:n], []byte(p.stick)) {
				p.stick = ""
				p.frozen = make(chan struct{})
				p.cuts <- struct{}{}
			}
			forward, frozen := p.forward, p.frozen
			p.mu.Unlock()
			if frozen != nil {
				<-frozen
			}
			if cut {
				// The client hears nothing more; the server, if so told, all of it,
				// and then goes on alone.
				_ = from.(*net.TCPConn).SetLinger(0)
				_ = from.Close()
				if forward {
					_, _ = to.Write(buf[:n])
				}
				p.cuts <- struct{}{}
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cutAt cuts the next connection on which the client sends text, before or
// after the server has got it.
func (p *proxy) cutAt(text string, forward bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.forward = text, forward
}

// freezeAt freezes when a client sends text, which the server does not get.
func (p *proxy) freezeAt(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stick = text
}

// freeze lets nothing through, in either direction, and keeps all sockets open.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == nil {
		p.frozen = make(chan struct{})
	}
}

func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}

// cutAll closes all connections.
func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
	clear(p.conns)
}

// refuseAll has the proxy refuse new connections.
func (p *proxy) refuseAll(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}
