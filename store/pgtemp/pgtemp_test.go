package pgtemp_test

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/rowcall/rowcall/store/pgtemp"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
	}
	goleak.VerifyTestMain(m)
}

func query[T any](t *testing.T, at, sql string) (T, error) {
	t.Helper()
	var v T
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, at)
	if err != nil {
		return v, err
	}
	defer conn.Close(ctx)
	return v, conn.QueryRow(ctx, sql).Scan(&v)
}

func mustQuery[T any](t *testing.T, at, sql string) T {
	t.Helper()
	v, err := query[T](t, at, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func start(t *testing.T, config pgtemp.Config) *pgtemp.Cluster {
	t.Helper()
	config.NoSync = true
	c, err := pgtemp.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestAClusterServesRestartsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	c := start(t, pgtemp.Config{Settings: map[string]string{"max_wal_senders": "7"}})
	at := c.URL("postgres")
	if got := mustQuery[string](t, at, `SELECT current_setting('wal_level') || current_setting('max_wal_senders')`); got != "logical7" {
		t.Fatalf("settings are %s, want logical7", got)
	}
	_, _ = query[string](t, at, `CREATE TABLE kept AS SELECT 42 AS n`)
	c.Set("wal_level", "replica")
	for _, mode := range []pgtemp.Mode{pgtemp.Fast, pgtemp.Immediate} {
		if err := c.Restart(t.Context(), mode); err != nil {
			t.Fatal(err)
		}
		if n := mustQuery[int](t, at, `SELECT n FROM kept`); n != 42 {
			t.Fatalf("after a restart the table holds %d", n)
		}
	}
	if got := mustQuery[string](t, at, `SHOW wal_level`); got != "replica" {
		t.Fatalf("wal_level is %s after it was set and the server restarted", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := query[int](t, at, `SELECT 1`); err == nil {
		t.Fatal("the server answers after Close")
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the folder is still there: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatalf("close again: %v", err)
	}
}

func TestNobodyComesInWithoutThePassword(t *testing.T) {
	t.Parallel()
	c := start(t, pgtemp.Config{})
	u, err := url.Parse(c.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("postgres", "guess")
	if _, err := query[int](t, u.String(), `SELECT 1`); err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Fatalf("with a wrong password: %v, want 28P01", err)
	}
}

func TestAServerThatCannotStartSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	parent, err := os.MkdirTemp("", "pgtemp-") //nolint:usetesting // the server's user must get into it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(parent)
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := parent + "/cluster"
	_, err = pgtemp.Start(t.Context(), pgtemp.Config{Dir: dir, NoSync: true, Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Fatalf("error %v does not say why", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the folder is still there: %v", err)
	}
}

func TestAWrongFolderOfProgramsIsNamed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("ROWCALL_PG_BIN", dir)
	if _, err := pgtemp.FindBin(t.Context()); err == nil || !strings.Contains(err.Error(), dir) {
		t.Fatalf("error %v does not name %s", err, dir)
	}
}
