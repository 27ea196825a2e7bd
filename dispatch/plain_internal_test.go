package dispatch

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestForHowLongAConnectionMayBeUsedAgain(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"": idleTimeout, "timeout=5": 4 * time.Second, "Timeout=5, max=1000": 4 * time.Second, "max=10,timeout=2": time.Second,
		"timeout=1": 500 * time.Millisecond, "timeout=0": 0, "timeout=3600": idleTimeout,
		"timeout=x": idleTimeout, "timeout=-1": idleTimeout, "timeout=99999999999999999999": idleTimeout, "timeout": idleTimeout,
	} {
		if got := keptAlive(header); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

// Connections that are not used are closed, all in all no more are kept than may be,
// and a pool without any costs nothing.
func TestIdleConnectionsAreBoundedAndClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &plain{}
		var ends []net.Conn
		kept := 0
		for range maxIdlePerAddress + 10 {
			conn, end := net.Pipe()
			ends = append(ends, end)
			if p.put(&plainConn{Conn: conn, pool: p, address: "a:80", until: time.Now().Add(idleTimeout)}) {
				kept++
			}
		}
		for _, address := range []string{"b:80", "c:80"} {
			for range maxIdlePerAddress {
				conn, end := net.Pipe()
				ends = append(ends, end)
				if p.put(&plainConn{Conn: conn, pool: p, address: address, until: time.Now().Add(idleTimeout)}) {
					kept++
				}
			}
		}
		if kept != maxIdle || p.count != maxIdle || len(p.idle["a:80"]) != maxIdlePerAddress {
			t.Errorf("%d kept, %d counted, %d of one address", kept, p.count, len(p.idle["a:80"]))
		}
		if p.take("a:80") == nil || p.take("z:80") != nil {
			t.Error("want a connection to where there are some, and none to elsewhere")
		}
		time.Sleep(2 * idleTimeout)
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.count != 0 || len(p.idle) != 0 || p.timer != nil {
			t.Errorf("after %v without use: %d connections to %d addresses, a timer: %v", 2*idleTimeout, p.count, len(p.idle), p.timer != nil)
		}
		closed := 0
		for _, end := range ends {
			_ = end.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := end.Read(make([]byte, 1)); err != nil && !isTimeout(err) {
				closed++
			}
		}
		if closed != maxIdle-1 {
			t.Errorf("%d were closed, want %d: all but the one in use", closed, maxIdle-1)
		}
	})
}
