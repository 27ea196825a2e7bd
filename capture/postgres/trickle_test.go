package postgres_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/store/pgtemp"
	"github.com/rowcall/rowcall/store/storetest"
)

// The receiver reads under a deadline that ends many times within one message
// here: the rest of it must be taken up where it was left, inside TLS too.
func TestAMessageThatTricklesInIsReadWhole(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls %t", tls), func(t *testing.T) {
			t.Parallel()
			cluster := storetest.Cluster(t, nil)
			w := newWorldAt(t, cluster.URL("postgres"), storetest.Open(t))
			if tls {
				serveTLS(t, cluster)
				w.source.Reset()
			}
			w.exec(`CREATE TABLE things (n bigint PRIMARY KEY, v text)`)
			proxy := trickle(t, fmt.Sprintf("127.0.0.1:%d", cluster.Port()))
			config := w.config()
			config.Heartbeat = time.Minute // the ordinary connection trickles, too
			u := mustURL(t, w.url)
			u.Host = proxy.address
			if tls {
				u.RawQuery = "sslmode=require"
			}
			config.URL = u.String()
			w.start(config)
			w.awaitState("streaming")
			w.exec(`INSERT INTO things VALUES (1, 'first')`)
			w.awaitRows(1)
			proxy.slow.Store(true)
			w.exec(`INSERT INTO things SELECT n, 'some text' FROM generate_series(2, 4) n`)
			w.awaitRows(4)
			proxy.slow.Store(false)
			w.exec(`INSERT INTO things VALUES (5, 'last')`)
			w.awaitRows(5)
			if diff := cmp.Diff([]int64{1, 2, 3, 4, 5}, w.numbers()); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if n := proxy.connections.Load(); n != 2 {
				t.Errorf("%d connections were made, want 2: none was cut", n)
			}
		})
	}
}

// trickler forwards connections, and what the server says slowly when told to.
type trickler struct {
	address     string
	slow        atomic.Bool
	connections atomic.Int64
}

func trickle(t *testing.T, to string) *trickler {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &trickler{address: listener.Addr().String()}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.connections.Add(1)
			wg.Go(func() { p.serve(ctx, client, to) })
		}
	})
	t.Cleanup(func() { cancel(); _ = listener.Close(); wg.Wait() })
	return p
}

func (p *trickler) serve(ctx context.Context, client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { _ = client.Close(); _ = server.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
	buf := make([]byte, 4096)
	for {
		n, err := server.Read(buf)
		for rest := buf[:n]; len(rest) > 0; {
			part := rest
			if p.slow.Load() {
				part = rest[:min(30, len(rest))]
				select {
				case <-time.After(130 * time.Millisecond):
				case <-ctx.Done():
				}
			}
			if _, err := client.Write(part); err != nil {
				break // the copy the other way ends for the same reason, and closes server
			}
			rest = rest[len(part):]
		}
		if err != nil {
			break
		}
	}
	_ = client.Close()
	wg.Wait()
}

// serveTLS makes the cluster speak TLS with a certificate of its own.
func serveTLS(t *testing.T, cluster *pgtemp.Cluster) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(cluster.Dir(), "data")
	owner, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"server.crt": {Type: "CERTIFICATE", Bytes: certificate},
		"server.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		path := filepath.Join(data, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if sys, ok := owner.Sys().(*syscall.Stat_t); ok {
			if err := os.Chown(path, int(sys.Uid), int(sys.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	cluster.Set("ssl", "on")
	if err := cluster.Restart(t.Context(), pgtemp.Fast); err != nil {
		t.Fatal(err)
	}
}
