package api_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
)

func TestTheServerLeavesNoLimitOpen(t *testing.T) {
	t.Parallel()
	s := api.NewServer("127.0.0.1:0", http.NotFoundHandler())
	for name, limit := range map[string]struct{ got, want time.Duration }{
		"header": {s.ReadHeaderTimeout, 5 * time.Second}, "read": {s.ReadTimeout, 15 * time.Second},
		"write": {s.WriteTimeout, 30 * time.Second}, "idle": {s.IdleTimeout, time.Minute},
	} {
		if limit.got != limit.want {
			t.Errorf("%s timeout %s, want %s", name, limit.got, limit.want)
		}
	}
	if s.MaxHeaderBytes != 16<<10 {
		t.Errorf("headers of %d bytes", s.MaxHeaderBytes)
	}
}

// serve runs a server on a loopback listener until the test ends.
func serve(t *testing.T, server *http.Server, most int) string {
	t.Helper()
	var lc net.ListenConfig
	inner, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(api.LimitConnections(inner, most)) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return inner.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestHeadersThatNeverEndAreRefused(t *testing.T) {
	t.Parallel()
	a, err := api.New(nil, api.Config{URLs: anyURL{}, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t, api.NewServer("", a.Handler()), 10)
	conn := dial(t, addr)
	_, _ = fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	status, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(status, "431") {
		t.Errorf("answer %q, %v", status, err)
	}
}

func TestMoreConnectionsThanTheLimitWaitForAPlace(t *testing.T) {
	t.Parallel()
	a, err := api.New(nil, api.Config{URLs: anyURL{}, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t, api.NewServer("", a.Handler()), 2)
	ask := func(conn net.Conn) {
		_, _ = fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	answered := func(conn net.Conn, within time.Duration) bool {
		_ = conn.SetReadDeadline(time.Now().Add(within))
		line, err := bufio.NewReader(conn).ReadString('\n')
		return err == nil && strings.Contains(line, "200")
	}
	first, second := dial(t, addr), dial(t, addr)
	for _, conn := range []net.Conn{first, second} {
		ask(conn)
		if !answered(conn, 10*time.Second) {
			t.Fatal("a connection within the limit got no answer")
		}
	}
	third := dial(t, addr)
	ask(third)
	if answered(third, 300*time.Millisecond) {
		t.Fatal("a third connection was answered while two were open")
	}
	_ = first.Close()
	if !answered(third, 10*time.Second) {
		t.Error("the third got no answer once there was a place")
	}
}

func TestHeadIsAnsweredAsGetAndOtherMethodsHearWhichThereAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for path, scope := range map[string]api.Scope{"/healthz": "", "/metrics": "", "/v1/openapi.json": "", "/v1/subscriptions": api.ScopeRead} {
		if a := w.do(request{method: "HEAD", path: path, scope: scope}); a.status != http.StatusOK {
			t.Errorf("HEAD %s: %d %s", path, a.status, a.body)
		}
	}
	ready := w.do(request{method: "HEAD", path: "/readyz"})
	if get := w.do(request{method: "GET", path: "/readyz"}); ready.status != get.status {
		t.Errorf("HEAD /readyz: %d, GET %d", ready.status, get.status)
	}
	w.do(request{method: "HEAD", path: "/v1/subscriptions"}).problem(t, http.StatusUnauthorized, "unauthorized")
	for _, c := range []struct{ method, path, allow string }{
		{"POST", "/healthz", "GET, HEAD"},
		{"PUT", "/v1/subscriptions", "GET, HEAD, POST"},
		{"PUT", "/v1/subscriptions/sub_x", "GET, HEAD, PATCH, DELETE"},
		{"GET", "/v1/subscriptions/sub_x/pause", "POST"},
		{"HEAD", "/v1/subscriptions/sub_x/pause", "POST"},
		{"HEAD", "/v1/tail", "GET"},
	} {
		a := w.do(request{method: c.method, path: c.path, scope: api.ScopeAdmin})
		a.problem(t, http.StatusMethodNotAllowed, "method-not-allowed")
		if got := a.header.Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.path, got, c.allow)
		}
	}
}
