package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/capture/postgres"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// patience bounds every wait of a test. It is no figure of the product.
const patience = 30 * time.Second

// world is a source, a store and what captures between them.
type world struct {
	t      *testing.T
	name   string
	url    string
	source *pgxpool.Pool
	store  *store.Store
}

// newWorld is a world on the shared cluster.
func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldAt(t, storetest.EmptyURL(t), storetest.Open(t))
}

func newWorldAt(t *testing.T, source string, s *store.Store) *world {
	t.Helper()
	u, err := url.Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	name = name[max(0, len(name)-40):] // slots are the cluster's: the database's name is unique there
	w := &world{t: t, name: name, url: source, source: pool(t, source), store: s}
	return w
}

func pool(t *testing.T, at string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(at)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 8
	p, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func (w *world) slot() string { return "rowcall_" + w.name }

// exec runs statements on the source, each on its own.
func (w *world) exec(statements ...string) {
	w.t.Helper()
	for _, sql := range statements {
		if _, err := w.source.Exec(w.t.Context(), sql); err != nil {
			w.t.Fatalf("%s: %v", sql, err)
		}
	}
}

// config is a configuration that looks after things often.
func (w *world) config() postgres.Config {
	return postgres.Config{
		Name: w.name, URL: w.url, Heartbeat: 100 * time.Millisecond,
		Registerer: prometheus.NewRegistry(),
		Logger:     zerolog.New(zerolog.NewTestWriter(w.t)).Level(zerolog.InfoLevel),
	}
}

// start captures until the function it returns is called, or the test ends.
func (w *world) start(config postgres.Config) (stop func()) {
	w.t.Helper()
	c, err := postgres.New(w.store, config)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx); close(done) }()
	stop = func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			w.t.Errorf("capture does not stop")
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// capture starts and waits until changes arrive.
func (w *world) capture() (stop func()) {
	w.t.Helper()
	stop = w.start(w.config())
	w.awaitState(store.SourceStreaming)
	return stop
}

func (w *world) saved() store.Source {
	w.t.Helper()
	src, err := w.store.Source(w.t.Context(), w.name)
	if err != nil {
		return store.Source{}
	}
	return src
}

// awaitState waits for a state and returns what was saved with it.
func (w *world) awaitState(state store.SourceState) store.Source {
	w.t.Helper()
	var src store.Source
	w.eventually(func() string {
		if src = w.saved(); src.State != state {
			return fmt.Sprintf("source is %q (%s), want %q", src.State, src.Reason, state)
		}
		return ""
	})
	return src
}

// eventually polls until what returns empty, and fails with what it said last.
func (w *world) eventually(what func() string) {
	w.t.Helper()
	eventually(w.t, what)
}

func eventually(t *testing.T, what func() string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for {
		said := what()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %s", patience, said)
		}
		<-tick.C
	}
}

// row is what a test looks at of an event.
type row struct {
	ID   string // of the event
	Type string
	N    int64 // column n of the row
	LSN  store.LSN
}

// rows reads the log's events that match a type's end, in log order, and fails
// where an event's id comes twice.
func (w *world) rows(suffix string) []row {
	w.t.Helper()
	var found []row
	seen := map[string]bool{}
	for from := store.Offset(1); ; {
		events, err := w.store.Read(w.t.Context(), from, 5000, 16<<20)
		if err != nil {
			w.t.Fatalf("read log: %v", err)
		}
		if len(events) == 0 {
			return found
		}
		from = events[len(events)-1].Offset + 1
		for i := range events {
			e := &events[i]
			if e.Kind == store.KindGap || !strings.HasSuffix(e.Type, suffix) {
				continue
			}
			if seen[e.ID()] {
				w.t.Fatalf("event %s is in the log twice", e.ID())
			}
			seen[e.ID()] = true
			var data struct {
				Row struct {
					N int64 `json:"n"`
				} `json:"row"`
			}
			if err := json.Unmarshal(e.Data, &data); err != nil {
				w.t.Fatalf("event %s: %v", e.ID(), err)
			}
			found = append(found, row{ID: e.ID(), Type: e.Type, N: data.Row.N, LSN: e.LSN})
		}
	}
}

// numbers is column n of the inserted rows, in log order.
func (w *world) numbers() []int64 {
	w.t.Helper()
	var ns []int64
	for _, r := range w.rows(".inserted") {
		ns = append(ns, r.N)
	}
	return ns
}

// awaitRows waits until the log has n inserted rows, no fewer and no more.
func (w *world) awaitRows(n int) []row {
	w.t.Helper()
	var found []row
	w.eventually(func() string {
		if found = w.rows(".inserted"); len(found) != n {
			return fmt.Sprintf("the log has %d rows, want %d", len(found), n)
		}
		return ""
	})
	return found
}

// confirmed is what the source thinks that we have.
func (w *world) confirmed() store.LSN {
	w.t.Helper()
	var text string
	err := w.source.QueryRow(w.t.Context(),
		"SELECT coalesce(confirmed_flush_lsn, '0/0')::text FROM pg_replication_slots WHERE slot_name = $1", w.slot()).Scan(&text)
	if err != nil {
		w.t.Fatalf("read slot: %v", err)
	}
	lsn, err := store.ParseLSN(text)
	if err != nil {
		w.t.Fatal(err)
	}
	return lsn
}
