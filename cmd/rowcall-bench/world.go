package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store/pgtemp"
)

// world is what the benchmark runs in.
type world struct {
	dir      string
	self     string // this program
	gateway  string // rowcall
	cluster  *pgtemp.Cluster
	postman  int // pid of the postmaster
	receiver *process
	hooks    string // base address of the receiver
	rowcall  *process
	listen   string
	env      []string
	source   *pgx.Conn
	bin      string
}

const (
	apiKey = "rowcall-bench-key-0123456789abcdef" //nolint:gosec // of an instance that lives for one run, on loopback
	table  = `CREATE TABLE orders (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer integer NOT NULL, status text NOT NULL,
		total numeric(12,2) NOT NULL, note text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())`
	insertOrder = `INSERT INTO orders (customer, status, total, note) VALUES ($1, 'new', $2, $3)`
)

// note makes the payload of an event about 500 bytes of data.
var note = strings.Repeat("lorem ipsum ", 20)

func newWorld(ctx context.Context) (_ *world, err error) {
	w := &world{}
	if w.dir, err = os.MkdirTemp("", "rowcall-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.self, err = os.Executable(); err != nil {
		return nil, err
	}
	w.gateway = filepath.Join(w.dir, "rowcall")
	build := exec.CommandContext(ctx, "go", "build", "-o", w.gateway, "github.com/rowcall/rowcall/cmd/rowcall")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build rowcall: %w\n%s", err, out)
	}
	if w.bin, err = pgtemp.FindBin(ctx); err != nil {
		return nil, err
	}
	if w.cluster, err = pgtemp.Start(ctx, pgtemp.Config{Settings: map[string]string{
		"max_wal_size": "8GB", "shared_buffers": "256MB", "max_connections": "100", "checkpoint_timeout": "30min",
	}}); err != nil {
		return nil, err
	}
	admin, err := pgx.Connect(ctx, w.cluster.URL("postgres"))
	if err != nil {
		return nil, err
	}
	for _, db := range []string{"shop", "gateway"} {
		if _, err := admin.Exec(ctx, "CREATE DATABASE "+db); err != nil {
			return nil, errors.Join(err, admin.Close(ctx))
		}
	}
	if err := admin.Close(ctx); err != nil {
		return nil, err
	}
	if w.source, err = pgx.Connect(ctx, w.cluster.URL("shop")); err != nil {
		return nil, err
	}
	if _, err := w.source.Exec(ctx, table); err != nil {
		return nil, err
	}
	if w.postman, err = w.postmaster(ctx); err != nil {
		return nil, err
	}
	var address string
	if w.receiver, address, err = startProcess(ctx, w.dir, "receiver", true, nil, w.self, "receiver"); err != nil {
		return nil, err
	}
	w.hooks = "http://" + address
	return w, w.configure(ctx)
}

// configure makes the settings of rowcall.
func (w *world) configure(ctx context.Context) error {
	keys, err := exec.CommandContext(ctx, w.gateway, "keygen").Output()
	if err != nil {
		return fmt.Errorf("rowcall keygen: %w", err)
	}
	for line := range strings.Lines(string(keys)) {
		if strings.HasPrefix(line, "ROWCALL_SECRET_KEY=") {
			w.env = append(w.env, strings.TrimSpace(line))
		}
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	w.listen = "127.0.0.1:" + strconv.Itoa(port)
	w.env = append(w.env,
		"ROWCALL_DATABASE_URL="+w.cluster.URL("gateway"), "ROWCALL_SOURCE_URL="+w.cluster.URL("shop"),
		"ROWCALL_API_KEY="+apiKey, "ROWCALL_LISTEN="+w.listen, "ROWCALL_EGRESS_ALLOW=private", "ROWCALL_LOG_FORMAT=json")
	return nil
}

func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// postmaster is the pid of the cluster's first process.
func (w *world) postmaster(ctx context.Context) (int, error) {
	var text string
	if err := w.source.QueryRow(ctx, `SELECT pg_read_file('postmaster.pid')`).Scan(&text); err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(text, "\n")
	return strconv.Atoi(strings.TrimSpace(line))
}

func (w *world) close() error {
	var errs []error
	if w.rowcall != nil {
		errs = append(errs, w.stopRowcall())
	}
	if w.receiver != nil {
		_ = w.receiver.stop()
	}
	if w.source != nil {
		short, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = w.source.Close(short)
	}
	if w.cluster != nil {
		errs = append(errs, w.cluster.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// startRowcall starts the gateway and waits until its API answers.
func (w *world) startRowcall(ctx context.Context) error {
	var err error
	if w.rowcall, _, err = startProcess(ctx, w.dir, "rowcall", false, w.env, w.gateway, "serve"); err != nil {
		return err
	}
	return until(ctx, 30*time.Second, "rowcall answers", func() (bool, error) {
		select {
		case err := <-w.rowcall.done:
			log, _ := os.ReadFile(filepath.Join(w.dir, "rowcall.log"))
			w.rowcall = nil
			return false, fmt.Errorf("rowcall has ended: %w\n%s", err, log[max(0, len(log)-2000):])
		default:
		}
		return w.call(ctx, http.MethodGet, "/healthz", nil, nil) == nil, nil
	})
}

func (w *world) stopRowcall() error {
	p := w.rowcall
	w.rowcall = nil
	if err := p.stop(); err != nil {
		return fmt.Errorf("rowcall did not end well: %w", err)
	}
	return nil
}

// warnings shows what rowcall warned of in all of its lives: what is lost, or came
// twice, has a reason there.
func (w *world) warnings(out io.Writer) error {
	log, err := os.ReadFile(filepath.Join(w.dir, "rowcall.log"))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte(`"level":"warn"`)) || bytes.Contains(line, []byte(`"level":"error"`)) {
			fmt.Fprintf(out, "  %s", line)
		}
	}
	return nil
}

// call makes a call of rowcall's API.
func (w *world) call(ctx context.Context, method, path string, body, answer any) error {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+w.listen+path, reader)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+apiKey)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// subscribe makes a subscription and returns its id.
func (w *world) subscribe(ctx context.Context, name, events, path string) (string, error) {
	var sub struct {
		ID string `json:"id"`
	}
	err := w.call(ctx, http.MethodPost, "/v1/subscriptions", map[string]any{
		"name": name, "events": []string{events}, "endpoint": map[string]any{"url": w.hooks + path},
	}, &sub)
	return sub.ID, err
}

// write commits n orders, one a transaction, by several clients; perSecond 0 is
// as fast as they can.
func (w *world) write(ctx context.Context, n, clients int, perSecond float64) error {
	start := time.Now()
	var mu sync.Mutex
	next := 0
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= n
	}
	errs := make(chan error, clients)
	for range clients {
		go func() { errs <- w.writeSome(ctx, take, start, perSecond) }()
	}
	var all []error
	for range clients {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

func (w *world) writeSome(ctx context.Context, take func() (int, bool), start time.Time, perSecond float64) error {
	conn, err := pgx.Connect(ctx, w.cluster.URL("shop"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for i, ok := take(); ok; i, ok = take() {
		if perSecond > 0 {
			due := start.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Until(due)):
			}
		}
		if _, err := conn.Exec(ctx, insertOrder, i%1000, fmt.Sprintf("%d.%02d", i%500, i%100), note); err != nil {
			return err
		}
	}
	return nil
}

// lsn is where the cluster writes.
func (w *world) lsn(ctx context.Context) (text string, bytes int64, err error) {
	err = w.source.QueryRow(ctx, `SELECT pg_current_wal_lsn()::text, (pg_current_wal_lsn() - '0/0')::bigint`).Scan(&text, &bytes)
	return text, bytes, err
}

// until waits for a condition, looking at it every 5 ms.
func until(ctx context.Context, bound time.Duration, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := ok()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}
