package dispatch

import (
	"bytes"
	"io"
	"net"
	"net/http"
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
// those that were used last, and a pool without any costs nothing.
func TestIdleConnectionsAreBoundedAndClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &plain{}
		var ends []net.Conn
		var last net.Conn
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
				ends, last = append(ends, end), conn
				if p.put(&plainConn{Conn: conn, pool: p, address: address, until: time.Now().Add(idleTimeout)}) {
					kept++
				}
			}
		}
		if kept != 3*maxIdlePerAddress || p.count != maxIdle || len(p.idle["a:80"])+len(p.idle["b:80"])+len(p.idle["c:80"]) != maxIdle {
			t.Errorf("%d were taken, %d are counted", kept, p.count)
		}
		if c := p.idle["c:80"]; len(c) == 0 || c[len(c)-1].Conn != last {
			t.Error("the last to come is not kept: others have the room for themselves")
		}
		if p.take("c:80") == nil || p.take("z:80") != nil {
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
		if want := 3*maxIdlePerAddress - 1; closed != want {
			t.Errorf("%d were closed, want %d: all that were kept but the one in use", closed, want)
		}
	})
}

func TestWhichRequestsGoWithoutNetHTTP(t *testing.T) {
	t.Parallel()
	body := func(n int) io.Reader { return bytes.NewReader(make([]byte, n)) }
	for name, c := range map[string]struct {
		method, url string
		body        io.Reader
		edit        func(*http.Request)
		want        bool
	}{
		"a delivery":                 {method: "POST", url: "http://a/", body: body(100), want: true},
		"an empty one":               {method: "POST", url: "http://a/", want: true},
		"a large one":                {method: "POST", url: "http://a/", body: body(maxPlainBody + 1)},
		"https":                      {method: "POST", url: "https://a/", body: body(100)},
		"a GET":                      {method: "GET", url: "http://a/"},
		"of an unknown length":       {method: "POST", url: "http://a/", body: io.MultiReader(body(1))},
		"for a connection that ends": {method: "POST", url: "http://a/", body: body(1), edit: func(r *http.Request) { r.Close = true }},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, c.url, c.body)
		if err != nil {
			t.Fatal(err)
		}
		if c.edit != nil {
			c.edit(req)
		}
		if got := new(plain).takes(req); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
