package storetest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/migrations"
	"github.com/rowcall/rowcall/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestAMigratedDatabaseIsAtTheNewestVersion(t *testing.T) {
	t.Parallel()
	for range 3 {
		conn := connect(t, storetest.URL(t))
		var version int64
		err := conn.QueryRow(t.Context(), `SELECT max(version_id) FROM rowcall.schema_migrations`).Scan(&version)
		if err != nil || version != migrations.Latest() {
			t.Fatalf("version %d, error %v, want version %d", version, err, migrations.Latest())
		}
	}
}

func TestAnEmptyDatabaseHasNoSchema(t *testing.T) {
	t.Parallel()
	conn := connect(t, storetest.EmptyURL(t))
	var there bool
	err := conn.QueryRow(t.Context(), `SELECT to_regnamespace('rowcall') IS NOT NULL`).Scan(&there)
	if err != nil || there {
		t.Fatalf("schema there: %v, error %v", there, err)
	}
}

func TestADatabaseGoesWithItsSlots(t *testing.T) {
	t.Parallel()
	var at string
	t.Run("a test leaves a slot behind", func(t *testing.T) {
		at = storetest.EmptyURL(t)
		conn := connect(t, at)
		if _, err := conn.Exec(t.Context(), `SELECT pg_create_logical_replication_slot(current_database(), 'pgoutput')`); err != nil {
			t.Fatal(err)
		}
	})
	config, err := pgx.ParseConfig(at)
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, storetest.EmptyURL(t))
	var slots, databases int
	err = conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = $1),
		(SELECT count(*) FROM pg_database WHERE datname = $1)`, config.Database).Scan(&slots, &databases)
	if err != nil || slots+databases > 0 {
		t.Fatalf("%d slots and %d databases left, error %v", slots, databases, err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}
