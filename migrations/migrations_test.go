package migrations_test

import (
	"path/filepath"
	"sync"
	"testing"

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
