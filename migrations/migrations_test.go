package migrations_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/migrations"
	"github.com/rowcall/rowcall/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestInstancesThatMigrateAtOnceApplyEachMigrationOnce(t *testing.T) {
	t.Parallel()
	url := storetest.EmptyURL(t)
	var wg sync.WaitGroup
	applied := make(chan int, 8)
	for range cap(applied) {
		wg.Go(func() {
			n, err := migrations.Up(t.Context(), url)
			if err != nil {
				t.Error(err)
			}
			applied <- n
		})
	}
	wg.Wait()
	close(applied)
	total := 0
	for n := range applied {
		total += n
	}
	all, err := filepath.Glob("*.sql")
	if err != nil || total != len(all) {
		t.Fatalf("%d migrations applied, want %d, error %v", total, len(all), err)
	}
	if n, err := migrations.Up(t.Context(), url); n != 0 || err != nil {
		t.Fatalf("again: %d applied, error %v", n, err)
	}
}

// Databases have passed these numbers without them: whoever adds one makes rowcall
// refuse to start on every one of them.
func TestNoMigrationHasANumberThatWasLeftOut(t *testing.T) {
	t.Parallel()
	for _, number := range []string{"00011", "00013", "00014", "00026", "00029"} {
		if found, err := filepath.Glob(number + "_*.sql"); err != nil || len(found) > 0 {
			t.Errorf("%v, error %v: give it the next number", found, err)
		}
	}
	// It is refused indeed.
	url := storetest.URL(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	if _, err := conn.Exec(t.Context(), `DELETE FROM rowcall.schema_migrations WHERE version_id = 12`); err != nil {
		t.Fatal(err)
	}
	if n, err := migrations.Up(t.Context(), url); err == nil || !strings.Contains(err.Error(), "12") {
		t.Errorf("a migration below the newest one that was applied: %d applied, error %v", n, err)
	}
}

// What was there before deliveries had hashes gets them.
func TestDeliveriesThatOrderNoKeyGetTheHashesOfTheirEvents(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	text, err := os.ReadFile("00030_bounded_lists.sql")
	if err != nil {
		t.Fatal(err)
	}
	statements := []string{
		`CREATE TABLE rowcall.events_1 PARTITION OF rowcall.events FOR VALUES FROM (1) TO (10)`,
		`CREATE TABLE rowcall.kept_events_1 PARTITION OF rowcall.kept_events FOR VALUES FROM (1) TO (10)`,
		`INSERT INTO rowcall.events ("offset", lsn, ordinal, time, source, generation, kind, type, key, old_key, data) VALUES
(1, 1, 1, now(), 1, 1, 0, 't', 'of the log', NULL, ''), (2, 1, 2, now(), 1, 1, 0, 't', 'new', 'old', ''), (3, 1, 3, now(), 1, 1, 0, 't', 'not looked at', NULL, '')`,
		`INSERT INTO rowcall.kept_events ("offset", lsn, ordinal, time, source, generation, kind, type, key, data) VALUES (4, 1, 4, now(), 1, 1, 0, 't', 'of a range', '')`,
		`INSERT INTO rowcall.subscriptions (id, name, spec, secrets) VALUES ('sub', 'sub', '{}', '')`,
		`INSERT INTO rowcall.cursors (subscription, "offset") VALUES ('sub', 9)`,
		`INSERT INTO rowcall.deliveries (lane, "offset", state, keys, event) VALUES (1, 1, 'dead', '{}', NULL), (1, 2, 'dead', '{}', NULL),
(1, 3, 'dead', '{k}', NULL), (1, 4, 'dead', '{}', NULL), (1, 5, 'dead', '{}', '{"key": "kept"}')`,
	}
	filled := 0
	for statement := range strings.SplitSeq(string(text), ";") {
		if i := strings.Index(statement, "\nUPDATE "); i >= 0 {
			statements, filled = append(statements, statement[i:]), filled+1
		}
	}
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	var found string
	if err := conn.QueryRow(t.Context(), `SELECT string_agg(d."offset" || coalesce(' ' || k.key, ''), ', ' ORDER BY d."offset", k.n)
FROM rowcall.deliveries d LEFT JOIN unnest(ARRAY['of the log', 'new', 'old', 'not looked at', 'of a range', 'kept']) WITH ORDINALITY k (key, n)
  ON hashtextextended(k.key, 0) IN (d.key_hash, d.old_key_hash)`).Scan(&found); err != nil {
		t.Fatal(err)
	}
	if want := "1 of the log, 2 new, 2 old, 3, 4 of a range, 5 kept"; found != want || filled != 2 {
		t.Errorf("%s; want %s; by %d statements", found, want, filled)
	}
}
