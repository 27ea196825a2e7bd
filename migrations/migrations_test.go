package migrations_test

import (
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
	for _, number := range []string{"00011", "00013", "00014", "00026"} {
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
