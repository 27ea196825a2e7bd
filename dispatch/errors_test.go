package dispatch_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/subscriptions"
)

// listen serves every connection with handle until the test ends, and returns
// the address. Connections are closed when handle returns or the test ends.
func listen(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			serving.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return listener.Addr().String()
}

// answer reads one request and writes text, then waits for the client to leave.
func answer(text string) func(net.Conn) {
	return func(conn net.Conn) {
		if readRequest(conn) {
			_, _ = io.WriteString(conn, text)
			_, _ = io.Copy(io.Discard, conn)
		}
	}
}

// cut is answer, but the connection ends with the text.
func cut(text string) func(net.Conn) {
	return func(conn net.Conn) {
		if readRequest(conn) {
			_, _ = io.WriteString(conn, text)
		}
	}
}

func readRequest(conn net.Conn) bool {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

func reset(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }

// repeat writes head, then part for ever.
func repeat(head, part string, pause time.Duration) func(net.Conn) {
	return func(conn net.Conn) {
		if !readRequest(conn) {
			return
		}
		ticker := time.NewTicker(max(pause, 1))
		defer ticker.Stop()
		for text := head; ; text = part {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
			if pause > 0 {
				<-ticker.C
			}
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\n"

func TestEveryFailureOfARealListenerHasItsReason(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	_, _ = zip.Write(make([]byte, 1<<20))
	zip.Close()
	inflating := bytes.Repeat(bomb.Bytes(), 100) // members follow each other: 100 MiB out of 100 KiB
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing.Close()

	for _, c := range []struct {
		name   string
		handle func(net.Conn) // nil: nothing listens
		want   dispatch.Reason
	}{
		{"nothing listens", nil, dispatch.ReasonRefused},
		{"reset before the request", reset, dispatch.ReasonReset},
		{"reset after the request", func(c net.Conn) { readRequest(c); reset(c) }, dispatch.ReasonReset},
		{"closed before the request", func(net.Conn) {}, dispatch.ReasonReset},
		{"closed after the request", cut(""), dispatch.ReasonReset},
		{"closed inside the header", cut(ok + "Content-Length: 0\r\n"), dispatch.ReasonReset},
		{"closed inside the body", cut(ok + "Content-Length: 100\r\n\r\nhalf"), dispatch.ReasonReset},
		{"closed inside a chunk", cut(ok + "Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"), dispatch.ReasonReset},
		{"reset inside the body", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, ok+"Content-Length: 100\r\n\r\nhalf")
			reset(c)
		}, dispatch.ReasonReset},
		{"silent", answer(""), dispatch.ReasonTimeout},
		{"silent after the header", answer(ok + "Content-Length: 1\r\n\r\n"), dispatch.ReasonTimeout},
		{"a byte at a time", repeat(ok+"Content-Length: 1000\r\n\r\n", "x", 20*time.Millisecond), dispatch.ReasonTimeout},
		{"a header byte at a time", repeat(ok+"X: ", "x", 20*time.Millisecond), dispatch.ReasonTimeout},
		{"a body without end", repeat(ok+"\r\n", strings.Repeat("x", 1<<10), 0), dispatch.ReasonTooLarge},
		{"chunks without end", repeat(ok+"Transfer-Encoding: chunked\r\n\r\n", "400\r\n"+strings.Repeat("x", 1<<10)+"\r\n", 0), dispatch.ReasonTooLarge},
		{"a gzip bomb", answer(fmt.Sprintf("%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", ok, len(inflating), inflating)), dispatch.ReasonTooLarge},
		{"20 MB of header lines", repeat(ok, "X-Flood: "+strings.Repeat("y", 1000)+"\r\n", 0), dispatch.ReasonTooLarge},
		{"one header line without end", repeat(ok+"X: ", strings.Repeat("y", 1<<10), 0), dispatch.ReasonTooLarge},
		{"1xx without end", repeat("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0), dispatch.ReasonTooLarge},
		{"garbage", answer("\x00\x01\x02 garbage\r\n\r\n"), dispatch.ReasonProtocol},
		{"HTTP/0.9", cut("<html>hello</html>\r\n"), dispatch.ReasonProtocol},
		{"a status in words", answer("HTTP/1.1 OK\r\n\r\n"), dispatch.ReasonProtocol},
		{"a bad chunk size", answer(ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), dispatch.ReasonProtocol},
		{"a status below 100", answer("HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n"), dispatch.ReasonProtocol},
		{"a status below 100 with a body", answer("HTTP/1.1 001 No\r\nContent-Length: 38\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n"), dispatch.ReasonProtocol},
		{"two lengths", answer(ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"), dispatch.ReasonProtocol},
		{"a length in words", answer(ok + "Content-Length: many\r\n\r\nx"), dispatch.ReasonProtocol},
		{"a header without a colon", answer(ok + "nonsense\r\n\r\n"), dispatch.ReasonProtocol},
		{"switching protocols", answer("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), dispatch.ReasonRedirect},
		{"429 with a body without end", repeat("HTTP/1.1 429 Slow Down\r\n\r\n", strings.Repeat("x", 1<<10), 0), dispatch.ReasonThrottled},
		{"422 cut inside its body", cut("HTTP/1.1 422 No\r\nContent-Length: 100\r\n\r\nhalf"), dispatch.ReasonRejected},
		{"503 with a body that stalls", answer("HTTP/1.1 503 Later\r\nContent-Length: 100\r\n\r\nhalf"), dispatch.ReasonUnavailable},
		{"200 that holds exactly 64 KiB", answer(ok + "Content-Length: 65536\r\n\r\n" + strings.Repeat("x", 64<<10)), ""},
		{"200 that holds a byte more", answer(ok + "Content-Length: 65537\r\n\r\n" + strings.Repeat("x", 64<<10+1)), dispatch.ReasonTooLarge},
		{"204", answer("HTTP/1.1 204 No Content\r\n\r\n"), ""},
		{"103 and then 200", answer("HTTP/1.1 103 Early Hints\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address := refusing.Addr().String()
			if c.handle != nil {
				address = listen(t, c.handle)
			}
			sub := testSubscription("http://" + address + "/")
			switch c.want {
			case dispatch.ReasonTimeout, dispatch.ReasonUnavailable:
				sub.Endpoint.Timeout = 300e6
			default:
				sub.Endpoint.Timeout = 20e9
			}
			checkReason(t, newSender(t), sub, c.want)
		})
	}
}

// checkReason makes one attempt and compares its verdict; "" is a success.
func checkReason(t *testing.T, sender *dispatch.Sender, sub *subscriptions.Subscription, want dispatch.Reason) dispatch.Reply {
	t.Helper()
	reply := sender.Try(t.Context(), newTarget(t, sub), testEvent(), 1)
	got := dispatch.Judge(reply)
	if got.Reason != want {
		t.Errorf("got %+v, want %q (status %d, error %v)", got, want, reply.Status, reply.Err)
	}
	if (reply.Status == 0) == (reply.Err == nil) {
		t.Errorf("status %d and error %v: want exactly one", reply.Status, reply.Err)
	}
	limit := sub.Endpoint.Timeout.D()
	if want == dispatch.ReasonTimeout || want == dispatch.ReasonUnavailable {
		limit += 5 * time.Second
	}
	if reply.Duration <= 0 || reply.Duration >= limit {
		t.Errorf("took %v, which is not before %v", reply.Duration, limit)
	}
	return reply
}

func TestAReceiverThatNeverReadsTheRequestTimesOut(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	address := listen(t, func(net.Conn) { <-ended })
	t.Cleanup(func() { close(ended) })
	sub := testSubscription("http://" + address + "/")
	sub.Endpoint.Timeout = 300e6
	event := testEvent()
	event.Data = []byte(`"` + strings.Repeat("x", 32<<20) + `"`) // more than socket buffers take
	reply := newSender(t).Try(t.Context(), newTarget(t, sub), event, 1)
	if got := dispatch.Judge(reply); got.Reason != dispatch.ReasonTimeout {
		t.Errorf("%+v (%v)", got, reply.Err)
	}
}

func TestAnAttemptThatIsCancelledIsUnknown(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	address := listen(t, func(conn net.Conn) {
		readRequest(conn)
		cancel()
		_, _ = io.Copy(io.Discard, conn)
	})
	reply := newSender(t).Try(ctx, newTarget(t, testSubscription("http://"+address+"/")), testEvent(), 1)
	if got := dispatch.Judge(reply); got.Outcome != dispatch.Unknown || got.Fault != dispatch.FaultLocal {
		t.Errorf("%+v (%v)", got, reply.Err)
	}
}

func TestNamesThatDoNotResolve(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string]func(string) ([]netip.Addr, dnsmessage.RCode, bool){
		"no such name":   func(string) ([]netip.Addr, dnsmessage.RCode, bool) { return nil, dnsmessage.RCodeNameError, true },
		"no addresses":   func(string) ([]netip.Addr, dnsmessage.RCode, bool) { return nil, dnsmessage.RCodeSuccess, true },
		"server failure": func(string) ([]netip.Addr, dnsmessage.RCode, bool) { return nil, dnsmessage.RCodeServerFailure, true },
		"refused":        func(string) ([]netip.Addr, dnsmessage.RCode, bool) { return nil, dnsmessage.RCodeRefused, true },
		"silence":        func(string) ([]netip.Addr, dnsmessage.RCode, bool) { return nil, 0, false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startDNS(t, nil)
			server.answer(answers)
			transport := newGuard(t, dispatch.GuardConfig{Allow: "*.test", DNS: server.dial}).Transport()
			checkReason(t, dispatch.NewSender(transport, "test"), testSubscription("http://gone.test/"), dispatch.ReasonDNS)
		})
	}
	t.Run("no files left to ask with", func(t *testing.T) {
		t.Parallel()
		transport := newGuard(t, dispatch.GuardConfig{Allow: "*.test", DNS: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "udp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
		}}).Transport()
		checkReason(t, dispatch.NewSender(transport, "test"), testSubscription("http://gone.test/"), dispatch.ReasonLocalResource)
	})
}

// certificate makes a server certificate for 127.0.0.1 and good.test, signed by
// itself, and the pool that trusts it.
func certificate(t testing.TB, notAfter time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"good.test"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// startTLS serves handler by https and returns host:port.
func startTLS(t testing.TB, config *tls.Config, http2 bool, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = config
	server.EnableHTTP2 = http2
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestTLSFailures(t *testing.T) {
	t.Parallel()
	good, pool := certificate(t, time.Now().Add(24*time.Hour))
	expired, expiredPool := certificate(t, time.Now().Add(-time.Hour))
	names := startDNS(t, map[string][]string{"good.test": {"127.0.0.1"}, "wrong.test": {"127.0.0.1"}})
	for _, c := range []struct {
		name  string
		roots *x509.CertPool
		host  string
		tls   *tls.Config
		want  dispatch.Reason
	}{
		{"a good certificate, by address", pool, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{good}}, ""},
		{"a good certificate, by name", pool, "good.test", &tls.Config{Certificates: []tls.Certificate{good}}, ""},
		{"an unknown authority", nil, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{good}}, dispatch.ReasonTLS},
		{"another name", pool, "wrong.test", &tls.Config{Certificates: []tls.Certificate{good}}, dispatch.ReasonTLS},
		{"expired", expiredPool, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{expired}}, dispatch.ReasonTLS},
		{"TLS 1.1 at most", pool, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, dispatch.ReasonTLS},
		{"a client certificate wanted, TLS 1.3", pool, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert}, dispatch.ReasonTLS},
		{"a client certificate wanted, TLS 1.2", pool, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, dispatch.ReasonTLS},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(c.name+map[bool]string{false: ", HTTP/1.1", true: ", HTTP/2"}[http2], func(t *testing.T) {
				t.Parallel()
				_, port, err := net.SplitHostPort(startTLS(t, c.tls.Clone(), http2, func(w http.ResponseWriter, r *http.Request) {
					if (r.ProtoMajor == 2) != http2 {
						w.WriteHeader(http.StatusHTTPVersionNotSupported)
					}
				}))
				if err != nil {
					t.Fatal(err)
				}
				transport := newGuard(t, dispatch.GuardConfig{Allow: "private", DNS: names.dial}).Transport()
				t.Cleanup(transport.CloseIdleConnections)
				transport.TLSClientConfig.RootCAs = c.roots
				sub := testSubscription("https://" + net.JoinHostPort(c.host, port) + "/")
				reply := dispatch.NewSender(transport, "test").Try(t.Context(), newTarget(t, sub), testEvent(), 1)
				got := dispatch.Judge(reply)
				if http2 && c.tls.ClientAuth != 0 && got.Reason == dispatch.ReasonReset {
					return // the alert came before the first request, and net/http keeps no trace of it
				}
				if got.Reason != c.want {
					t.Errorf("got %+v, want %q (status %d, error %v)", got, c.want, reply.Status, reply.Err)
				}
			})
		}
	}
	for name, handle := range map[string]func(net.Conn){
		"no TLS at all":            answer(ok + "\r\n"),
		"garbage in the handshake": func(c net.Conn) { _, _ = io.WriteString(c, "garbage"); _, _ = io.Copy(io.Discard, c) },
		"end of the handshake":     func(c net.Conn) { _, _ = c.Read(make([]byte, 10)) },
		"silence in the handshake": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sub := testSubscription("https://" + listen(t, handle) + "/")
			want := dispatch.ReasonTLS
			switch name {
			case "silence in the handshake":
				sub.Endpoint.Timeout = 300e6
				want = dispatch.ReasonTimeout
			case "end of the handshake":
				want = dispatch.ReasonReset // closed with our bytes unread
			}
			checkReason(t, newSender(t), sub, want)
		})
	}
}

func TestHTTP2Failures(t *testing.T) {
	t.Parallel()
	good, pool := certificate(t, time.Now().Add(24*time.Hour))
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    dispatch.Reason
	}{
		{"answers", func(http.ResponseWriter, *http.Request) {}, ""},
		{"resets the stream", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, dispatch.ReasonReset},
		{"33 KB of header lines", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 33 {
				w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("y", 1000))
			}
		}, dispatch.ReasonTooLarge},
		{"a body without end", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return
				}
			}
		}, dispatch.ReasonTooLarge},
		{"silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, dispatch.ReasonTimeout},
		{"500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, dispatch.ReasonServerError},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address := startTLS(t, &tls.Config{Certificates: []tls.Certificate{good}}, true, c.handler)
			transport := newGuard(t, dispatch.GuardConfig{Allow: "private"}).Transport()
			t.Cleanup(transport.CloseIdleConnections)
			transport.TLSClientConfig.RootCAs = pool
			sub := testSubscription("https://" + address + "/")
			if c.want == dispatch.ReasonTimeout {
				sub.Endpoint.Timeout = 300e6
			}
			checkReason(t, dispatch.NewSender(transport, "test"), sub, c.want)
		})
	}
}

func TestErrorsAreFitForHistory(t *testing.T) {
	t.Parallel()
	sub := testSubscription("http://127.0.0.1:9/CANARY?token=CANARY")
	reply := newSender(t).Try(t.Context(), newTarget(t, sub), testEvent(), 1)
	if reply.Err == nil || strings.Contains(reply.Err.Error(), "CANARY") {
		t.Errorf("error: %v", reply.Err)
	}
	if op, found := errors.AsType[*net.OpError](reply.Err); !found || op.Op != "dial" {
		t.Errorf("error: %#v", reply.Err)
	}
}
