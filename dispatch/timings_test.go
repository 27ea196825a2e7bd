package dispatch_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/store"
)

// stages says which stages there were.
func stages(t store.Timings) string {
	said := ""
	for i, took := range []time.Duration{t.DNS, t.Connect, t.TLS, t.FirstByte} {
		if took > 0 {
			said += "DCTF"[i : i+1]
		}
	}
	return said
}

func TestAnAttemptSaysHowLongItsStagesTook(t *testing.T) {
	t.Parallel()
	good, pool := certificate(t, time.Now().Add(24*time.Hour))
	config := &tls.Config{Certificates: []tls.Certificate{good}}
	answer := func(http.ResponseWriter, *http.Request) {}
	port := func(address string) string {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := port(nobody.Addr().String())
	nobody.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	go func() {
		for {
			conn, err := mute.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	server := httptest.NewServer(http.HandlerFunc(answer))
	t.Cleanup(server.Close)
	plain := server.Listener.Addr().String()
	names := startDNS(t, map[string][]string{"good.test": {"127.0.0.1"}})
	for _, c := range []struct {
		name, url    string
		first, again string
	}{
		{"http by address", "http://" + plain, "CF", "F"},
		{"http by name", "http://good.test:" + port(plain), "DCF", "F"},
		{"https", "https://good.test:" + port(startTLS(t, config.Clone(), false, answer)), "DCTF", "F"},
		{"https, HTTP/2", "https://good.test:" + port(startTLS(t, config.Clone(), true, answer)), "DCTF", "F"},
		{"no such name", "https://bad.test", "D", "D"},
		{"nobody listens", "https://good.test:" + gone, "DC", "DC"},
		{"no handshake", "https://good.test:" + port(mute.Addr().String()), "DCT", "DCT"},
		{"no answer", "http://good.test:" + port(mute.Addr().String()), "DC", "DC"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			transport := newGuard(t, dispatch.GuardConfig{Allow: "private, *.test", PlainHTTP: true, DNS: names.dial}).Transport()
			t.Cleanup(transport.CloseIdleConnections)
			transport.TLSClientConfig.RootCAs = pool
			sender, target := dispatch.NewSender(transport, "test"), newTarget(t, testSubscription(c.url))
			for _, want := range []string{c.first, c.again} {
				reply := sender.Try(t.Context(), target, testEvent(), 1)
				got := reply.Timings
				if stages(got) != want || got.DNS+got.Connect+got.TLS > reply.Duration || got.FirstByte > reply.Duration ||
					got.FirstByte > 0 && got.FirstByte < got.DNS+got.Connect+got.TLS {
					t.Errorf("%+v of %v, want %s (%v)", got, reply.Duration, want, reply.Err)
				}
			}
		})
	}
}
