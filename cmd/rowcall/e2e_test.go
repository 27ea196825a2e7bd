package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/pgtemp"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

// world is what an end-to-end test runs in: databases of its own, the real
// program in a process of its own, and a real receiver.
type world struct {
	source, store *pgtemp.Cluster
	listen        string
	env           []string
	api           *client.Client
	path          string // of the program; empty: this test binary
	gateway       *gateway
}

const worldKey = "an-api-key-for-tests-0123456789"

// newWorld makes the databases; store may be the source's own cluster.
func newWorld(t *testing.T, source, store *pgtemp.Cluster) *world {
	t.Helper()
	w := &world{source: source, store: store, listen: freeAddress(t)}
	w.env = []string{
		"ROWCALL_DATABASE_URL=" + store.URL("postgres"), "ROWCALL_API_KEY=" + worldKey,
		"ROWCALL_SECRET_KEY=" + subscriptions.NewMasterKey(), "ROWCALL_EGRESS_ALLOW=private",
		"ROWCALL_LISTEN=" + w.listen,
	}
	if source != store {
		w.env = append(w.env, "ROWCALL_SOURCE_URL="+source.URL("postgres"))
	}
	w.api = newClient(t, "http://"+w.listen, worldKey)
	t.Cleanup(func() {
		if w.gateway != nil {
			w.gateway.kill()
			if t.Failed() {
				t.Logf("the end of rowcall's log:\n%s", w.gateway.tail())
			}
		}
	})
	return w
}

// streaming is a world on one cluster with these tables, whose source streams.
func streaming(t *testing.T, tables ...string) (*world, *pgxpool.Pool) {
	t.Helper()
	return streamingBy(t, "", tables)
}

// streamingAsBuilt is streaming by the program as it is built for users.
func streamingAsBuilt(t *testing.T, tables ...string) (*world, *pgxpool.Pool) {
	t.Helper()
	return streamingBy(t, built(t), tables)
}

func streamingBy(t *testing.T, program string, tables []string) (*world, *pgxpool.Pool) {
	t.Helper()
	cluster := storetest.Cluster(t, nil)
	w := newWorld(t, cluster, cluster)
	w.path = program
	db := database(t, cluster)
	for _, sql := range tables {
		mustExec(t, db, sql)
	}
	w.start(t)
	w.awaitState(t, "streaming")
	return w, db
}

func newClient(t *testing.T, url, key string) *client.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(client.Config{BaseURL: url, Key: key, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// gateway is a running rowcall.
type gateway struct {
	cmd  *exec.Cmd
	log  lockedBuffer
	done chan struct{}
	err  error
}

// start runs rowcall serve and returns at once.
func (w *world) start(t *testing.T, extra ...string) {
	t.Helper()
	g := &gateway{done: make(chan struct{})}
	g.cmd = rowcall(t, append(w.env, extra...), "serve")
	if w.path != "" {
		g.cmd.Path, g.cmd.Args[0] = w.path, w.path
	}
	g.cmd.Stdout, g.cmd.Stderr = &g.log, &g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(g.done)
		g.err = g.cmd.Wait()
	}()
	w.gateway = g
}

// kill ends rowcall as a power cut would.
func (g *gateway) kill() {
	_ = g.cmd.Process.Kill()
	<-g.done
}

// stop asks rowcall to end, and fails the test if it does not end well.
func (w *world) stop(t *testing.T) {
	t.Helper()
	if err := w.gateway.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-w.gateway.done
	if w.gateway.err != nil {
		t.Errorf("rowcall ended with %v:\n%s", w.gateway.err, w.gateway.tail())
	}
}

func (g *gateway) tail() string {
	text := g.log.String()
	return text[max(0, len(text)-6000):]
}

// awaitState waits until the source is in a state.
func (w *world) awaitState(t *testing.T, state string) client.Source {
	t.Helper()
	var last client.Source
	waitFor(t, 60*time.Second, "the source is "+state, func() bool {
		sources, err := w.api.Sources(t.Context())
		if err != nil || len(sources.Items) != 1 {
			return false
		}
		last = sources.Items[0]
		return last.State == state
	}, func() string { return fmt.Sprintf("%+v\n%s", last, w.gateway.tail()) })
	return last
}

// waitFor waits for a condition; why, if given, says what is the matter when it
// does not come.
func waitFor(t *testing.T, bound time.Duration, what string, ok func() bool, why ...func() string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(bound)
	for !ok() {
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-late:
			for _, w := range why {
				t.Log(w())
			}
			t.Fatalf("after %v: not yet that %s", bound, what)
		case <-tick.C:
		}
	}
}

// subscribe makes a subscription of a receiver and has it verify signatures.
func (w *world) subscribe(t *testing.T, spec map[string]any) client.Subscription {
	t.Helper()
	sub, err := w.api.CreateSubscription(t.Context(), spec)
	if err != nil {
		t.Fatalf("subscribe: %v\n%s", err, w.gateway.tail())
	}
	return sub
}

// database runs SQL.
func database(t *testing.T, c *pgtemp.Cluster) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), c.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func mustExec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func mustCount(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// lockedBuffer takes a process's output while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestFourVariablesCaptureTablesAndDeliverThem(t *testing.T) {
	t.Parallel()
	w, db := streaming(t, `CREATE TABLE orders (id bigint PRIMARY KEY, status text NOT NULL, total numeric(10,2))`)
	r := hooktest.Start(t, hooktest.Config{})
	sub := w.subscribe(t, map[string]any{
		"name": "orders", "events": []string{"public.orders.*"}, "endpoint": map[string]any{"url": r.URL()},
	})
	verified := hooktest.Start(t, hooktest.Config{Secrets: []string{sub.Secret}})
	if _, err := w.api.PatchSubscription(t.Context(), sub.ID, map[string]any{"endpoint": map[string]any{"url": verified.URL()}}, 0); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, `INSERT INTO orders VALUES (1, 'new', 99.90)`)
	mustExec(t, db, `UPDATE orders SET status = 'paid' WHERE id = 1`)
	mustExec(t, db, `DELETE FROM orders WHERE id = 1`)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := verified.AwaitSucceeded(ctx, 3); err != nil {
		t.Fatalf("%v\n%s", err, w.gateway.tail())
	}
	var types []string
	for _, d := range verified.Deliveries() {
		if d.Invalid != nil {
			t.Errorf("delivery %s: %v", d.ID, d.Invalid)
		}
		types = append(types, d.Type)
	}
	want := "public.orders.inserted public.orders.updated public.orders.deleted"
	if got := strings.Join(types, " "); got != want {
		t.Errorf("received %s, want %s", got, want)
	}
	w.stop(t)
}

func decode(t *testing.T, text []byte, to any) {
	t.Helper()
	if err := json.Unmarshal(text, to); err != nil {
		t.Fatal(err)
	}
}
