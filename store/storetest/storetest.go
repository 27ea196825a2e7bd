// Package storetest gives tests real databases: one private PostgreSQL cluster
// per run of a test binary, or the server that ROWCALL_TEST_DSN names, and in
// it one database per test, cloned from a migrated template.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { storetest.Main(m) }
//
// Nothing outlives the run: databases go with their test, the cluster with
// Main, and with the process where that is killed.
package storetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/rowcall/rowcall/migrations"
	"github.com/rowcall/rowcall/store/pgtemp"
)

// settings size the shared cluster for tests that run in parallel. What is
// tested is processes that die, not power that fails: no fsync, and no disk where
// there is memory to spare. Half the tests' time was ext4's, which looks for
// places of the hundreds of files that each database is.
var settings = map[string]string{
	"fsync":                 "off",
	"full_page_writes":      "off",
	"wal_level":             "logical",
	"max_connections":       "300",
	"max_replication_slots": "60",
	"max_wal_senders":       "60",
	"max_worker_processes":  "8",
	"shared_buffers":        "64MB",
	"max_wal_size":          "1GB",
	"autovacuum_naptime":    "10min",
	"wal_sender_timeout":    "30s",
	"timezone":              "UTC",
}

// server is where this run's databases live.
type server struct {
	cluster  *pgtemp.Cluster // nil: somebody else's
	url      string          // its maintenance database
	pool     *pgxpool.Pool
	template string
	prefix   string
	last     atomic.Int64
}

// shared is the run's one server: what tests share is declared nowhere else.
var shared struct {
	once   sync.Once
	server *server
	err    error
}

// Main runs a package's tests, stops the cluster, and fails the run when a
// goroutine was left behind. What is to be cleaned up after all tests is given
// as after. It does not return.
func Main(m *testing.M, after ...func()) {
	code := m.Run()
	for _, clean := range after {
		clean()
	}
	if shared.server != nil {
		if err := shared.server.close(); err != nil {
			fmt.Fprintln(os.Stderr, "storetest: stop:", err)
			code = max(code, 1)
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "storetest: goroutines were left behind:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// URL makes a migrated database of the test's own and returns its address. It
// is dropped when the test ends, whoever is still connected.
func URL(t testing.TB) string {
	t.Helper()
	s := get(t)
	return s.create(t, s.template)
}

// EmptyURL is URL without the schema.
func EmptyURL(t testing.TB) string {
	t.Helper()
	return get(t).create(t, "template1")
}

// Cluster starts a cluster of the test's own, for what cannot be done to the
// shared one: restarts, settings. Its settings are the shared one's where not
// given; with fsync it is on disk. It is closed when the test ends.
func Cluster(t testing.TB, own map[string]string) *pgtemp.Cluster {
	t.Helper()
	all := map[string]string{"max_connections": "60", "max_replication_slots": "10", "max_wal_senders": "10"}
	for name, value := range settings {
		if _, there := all[name]; !there {
			all[name] = value
		}
	}
	for name, value := range own {
		all[name] = value
	}
	c, err := pgtemp.Start(t.Context(), pgtemp.Config{Settings: all, NoSync: true, InMemory: all["fsync"] == "off"})
	if err != nil {
		t.Fatalf("start cluster: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close cluster: %v", err)
		}
	})
	return c
}

// Migrated migrates database postgres of a cluster and returns its address.
func Migrated(t testing.TB, c *pgtemp.Cluster) string {
	t.Helper()
	at := c.URL("postgres")
	if _, err := migrations.Up(t.Context(), at); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return at
}

func get(t testing.TB) *server {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = open(context.Background()) })
	if shared.err != nil {
		t.Fatalf("open test server: %v", shared.err)
	}
	return shared.server
}

// namePrefix begins the names of all test databases; the time of the run in
// hexadecimal seconds follows.
const namePrefix = "rowcall_test_"

func open(ctx context.Context) (_ *server, err error) {
	s := &server{url: os.Getenv("ROWCALL_TEST_DSN")}
	var unique [4]byte
	rand.Read(unique[:])
	s.prefix = fmt.Sprintf("%s%x_%s_", namePrefix, time.Now().Unix(), hex.EncodeToString(unique[:]))
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	if s.url == "" {
		s.cluster, err = pgtemp.Start(ctx, pgtemp.Config{Settings: settings, NoSync: true, InMemory: true})
		if err != nil {
			return nil, err
		}
		s.url = s.cluster.URL("postgres")
	}
	config, err := pgxpool.ParseConfig(s.url)
	if err != nil {
		return nil, fmt.Errorf("parse ROWCALL_TEST_DSN: %w", err)
	}
	config.MaxConns = 4
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	if s.cluster == nil {
		if err := s.dropStale(ctx); err != nil {
			return nil, err
		}
	}
	template := s.prefix + "template"
	if _, err := s.pool.Exec(ctx, "CREATE DATABASE "+quote(template)); err != nil {
		return nil, fmt.Errorf("create template: %w", err)
	}
	s.template = template
	if _, err := migrations.Up(ctx, s.at(template)); err != nil {
		return nil, err
	}
	return s, nil
}

// close drops what is left of the run.
func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var err error
	if s.cluster == nil && s.template != "" {
		err = s.drop(ctx, s.template)
	}
	if s.pool != nil {
		s.pool.Close()
	}
	if s.cluster != nil {
		err = s.cluster.Close()
	}
	return err
}

// dropStale drops databases of runs that were killed, on a server that is not
// ours: those older than any run lasts.
func (s *server) dropStale(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, `SELECT datname FROM pg_database WHERE starts_with(datname, $1)`, namePrefix)
	if err != nil {
		return fmt.Errorf("list databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list databases: %w", err)
	}
	for _, name := range names {
		at, _, _ := strings.Cut(strings.TrimPrefix(name, namePrefix), "_")
		seconds, err := strconv.ParseInt(at, 16, 64)
		if err != nil || time.Since(time.Unix(seconds, 0)) < 2*time.Hour {
			continue
		}
		if err := s.drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) at(name string) string {
	u, err := url.Parse(s.url)
	if err != nil {
		panic(fmt.Sprintf("storetest: ROWCALL_TEST_DSN must be a URL: %v", err))
	}
	u.Path = "/" + name
	return u.String()
}

func (s *server) create(t testing.TB, template string) string {
	t.Helper()
	name := s.prefix + strconv.FormatInt(s.last.Add(1), 10)
	if _, err := s.pool.Exec(t.Context(), "CREATE DATABASE "+quote(name)+" TEMPLATE "+quote(template)); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.drop(ctx, name); err != nil {
			t.Errorf("%v", err)
		}
	})
	return s.at(name)
}

// drop drops a database with its slots. A slot in use keeps even FORCE from
// dropping it, so its walsender goes first.
func (s *server) drop(ctx context.Context, name string) error {
	for {
		var active int
		err := s.pool.QueryRow(ctx,
			`SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE database = $1 AND active`,
			name).Scan(&active)
		if err == nil && active == 0 {
			_, err = s.pool.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)")
			if err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("drop database %s: %w", name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
