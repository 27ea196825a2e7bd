package postgres_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/pgtemp"
	"github.com/rowcall/rowcall/store/storetest"
)

// Not parallel: it looks at the memory of the process.
func TestAHugeTransactionPassesInPartsAndIsResumedInTheMiddle(t *testing.T) {
	const rows = 200_000
	s := storetest.OpenWith(t, store.Config{RingBytes: 4 << 20})
	w := newWorldAt(t, storetest.EmptyURL(t), s)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY, v text)`)
	stop := w.capture()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	before, most := stats.HeapAlloc, uint64(0)
	w.exec(fmt.Sprintf(`INSERT INTO things SELECT n, repeat('x', 300) FROM generate_series(1, %d) n`, rows))
	cut := false
	w.eventually(func() string {
		runtime.ReadMemStats(&stats)
		most = max(most, stats.HeapAlloc)
		head := s.Head()
		if !cut && head > rows/10 {
			stop()
			cut = true
			at := w.saved().Checkpoint
			if at.Ordinal <= 0 || at.Ordinal >= rows || at.End > at.Commit || store.Offset(at.Ordinal) != s.Head()-1 {
				t.Errorf("in the middle of the transaction the checkpoint is %+v, the head %d", at, s.Head())
			}
			w.start(w.config())
		}
		if head <= rows {
			return fmt.Sprintf("the log's head is %d, want %d", head, rows+1)
		}
		return ""
	})
	if grown := int64(most) - int64(before); grown > 96<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	found := w.rows(".inserted")
	if len(found) != rows {
		t.Fatalf("the log has %d rows, want %d", len(found), rows)
	}
	for i, r := range found {
		if r.N != int64(i+1) {
			t.Fatalf("row %d of the log is %d", i+1, r.N)
		}
	}
}

func TestAnIdleTableHoldsNoWAL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`, `CREATE TABLE noise (n bigint)`)
	config := w.config()
	config.Tables = []string{"public.things"}
	w.start(config)
	w.awaitState(store.SourceStreaming)
	w.exec(`INSERT INTO noise SELECT generate_series(1, 50000)`)
	var target string
	if err := w.source.QueryRow(t.Context(), `SELECT pg_current_wal_lsn()::text`).Scan(&target); err != nil {
		t.Fatal(err)
	}
	want, err := store.ParseLSN(target)
	if err != nil {
		t.Fatal(err)
	}
	w.eventually(func() string {
		if got := w.confirmed(); got < want {
			return fmt.Sprintf("confirmed %s, the source was at %s", got, want)
		}
		return ""
	})
	if n := w.store.Head(); n != 1 {
		t.Errorf("the log has %d events, want none", n-1)
	}
}

func TestIdlePositionsAreNotSavedAllTheTime(t *testing.T) {
	t.Parallel()
	// Store and source are one database: every save is WAL, which moves the position.
	url := storetest.URL(t)
	w := newWorldAt(t, url, storetest.OpenWith(t, store.Config{URL: url}))
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.capture()
	ends := map[store.LSN]bool{}
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); {
		ends[w.saved().Checkpoint.End] = true
	}
	if len(ends) > 3 {
		t.Errorf("in 3 s of idleness the position was saved %d times", len(ends))
	}
	for _, r := range w.saved().Relations {
		if r.Schema == "rowcall" {
			t.Errorf("our own table %s is among the tables", r.Name)
		}
	}
}

func TestTheSourceShutsDownFastWhileWeAreAttached(t *testing.T) {
	t.Parallel()
	for _, together := range []bool{false, true} {
		t.Run(fmt.Sprintf("store in the same cluster %t", together), func(t *testing.T) {
			t.Parallel()
			cluster := storetest.Cluster(t, nil)
			var w *world
			if together {
				w = newWorldAt(t, storetest.Migrated(t, cluster), storetest.OpenWith(t, store.Config{URL: cluster.URL("postgres")}))
			} else {
				w = newWorldAt(t, cluster.URL("postgres"), storetest.Open(t))
			}
			w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`, `CREATE TABLE noise (n bigint)`)
			w.captureQuietly()
			w.exec(`INSERT INTO things VALUES (1)`)
			w.awaitRows(1)
			w.exec(`INSERT INTO noise SELECT generate_series(1, 10000)`)
			w.source.Reset()
			before := time.Now()
			if err := cluster.Stop(t.Context(), pgtemp.Fast); err != nil {
				t.Fatal(err)
			}
			took := time.Since(before)
			if took > 2*time.Second {
				t.Errorf("the shutdown took %s", took)
			}
			if err := cluster.Restart(t.Context(), pgtemp.Fast); err != nil {
				t.Fatal(err)
			}
			w.eventually(func() string {
				_, err := w.source.Exec(t.Context(), `INSERT INTO things VALUES (2) ON CONFLICT DO NOTHING`)
				if err != nil {
					return err.Error()
				}
				return ""
			})
			w.eventually(func() string {
				if n := w.store.Head(); n != 3 {
					return fmt.Sprintf("the log's head is %d, want 3", n)
				}
				return ""
			})
		})
	}
}

func TestTheSourceShutsDownWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	stores, sources := storetest.Cluster(t, nil), storetest.Cluster(t, nil)
	w := newWorldAt(t, sources.URL("postgres"), storetest.OpenWith(t, store.Config{URL: storetest.Migrated(t, stores)}))
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.captureQuietly()
	if err := stores.Stop(t.Context(), pgtemp.Immediate); err != nil {
		t.Fatal(err)
	}
	w.exec(`INSERT INTO things VALUES (1)`)
	w.source.Reset()
	before := time.Now()
	if err := sources.Stop(t.Context(), pgtemp.Fast); err != nil {
		t.Fatal(err)
	}
	took := time.Since(before)
	if took > 3*time.Second {
		t.Errorf("the shutdown took %s", took)
	}
	if err := sources.Restart(t.Context(), pgtemp.Fast); err != nil {
		t.Fatal(err)
	}
	if err := stores.Restart(t.Context(), pgtemp.Fast); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() string {
		if n := w.store.Head(); n != 2 {
			return fmt.Sprintf("the log's head is %d, want 2", n)
		}
		return ""
	})
}

// captureQuietly captures with nothing on the ordinary connection that would
// notice a shutdown: the replication connection has to.
func (w *world) captureQuietly() {
	w.t.Helper()
	config := w.config()
	config.Heartbeat = time.Minute
	w.start(config)
	w.awaitState(store.SourceStreaming)
}

func TestHeartbeatsComeBackAndAreSaved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.capture()
	first := time.Time{}
	w.eventually(func() string {
		if first = w.saved().HeartbeatAt; first.IsZero() {
			return "no heartbeat has come back"
		}
		return ""
	})
	w.eventually(func() string {
		if !w.saved().HeartbeatAt.After(first) {
			return "heartbeats have stopped"
		}
		return ""
	})
	if n := w.store.Head(); n != 1 {
		t.Errorf("heartbeats made %d events", n-1)
	}
}

func TestAHeartbeatThatCannotBeWrittenShows(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	w := newWorldAt(t, cluster.URL("postgres"), storetest.Open(t))
	role := w.role("_r", "REPLICATION")
	var emit string
	if err := w.source.QueryRow(t.Context(), `SELECT oid::regprocedure::text FROM pg_proc
		WHERE proname = 'pg_logical_emit_message' AND 'text'::regtype = ALL ((proargtypes::oid[])[1:2])`).Scan(&emit); err != nil {
		t.Fatal(err)
	}
	w.exec(`GRANT CREATE ON DATABASE postgres TO "`+role+`"`, `CREATE TABLE things (n bigint PRIMARY KEY)`, `ALTER TABLE things OWNER TO "`+role+`"`,
		`REVOKE EXECUTE ON FUNCTION `+emit+` FROM PUBLIC`)
	config := w.config()
	config.URL = w.as(role, "secret", "")
	w.start(config)
	w.eventually(func() string {
		src := w.saved()
		if src.State != store.SourceStreaming || !strings.Contains(src.Reason, "no heartbeat can be written") || !strings.Contains(strings.ReplaceAll(src.Hint, " ", ""), strings.ReplaceAll("GRANT EXECUTE ON FUNCTION "+emit+" TO", " ", "")) {
			return fmt.Sprintf("source is %q because %q, hint %q", src.State, src.Reason, src.Hint)
		}
		return ""
	})
	w.exec(`INSERT INTO things VALUES (1)`)
	w.awaitRows(1)
	w.exec(`GRANT EXECUTE ON FUNCTION ` + emit + ` TO PUBLIC`)
	w.eventually(func() string {
		if src := w.saved(); src.Reason != "" {
			return src.Reason
		}
		return ""
	})
}

func TestOurOwnSchemaIsNeverCaptured(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	w := newWorldAt(t, url, storetest.OpenWith(t, store.Config{URL: url}))
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.capture()
	w.exec(`INSERT INTO things VALUES (1)`)
	w.awaitRows(1)
	// Forced into the publication it ends the stream, and brings no event.
	w.exec(`ALTER PUBLICATION "`+w.slot()+`" ADD TABLE rowcall.settings`, `INSERT INTO rowcall.settings VALUES ('x', '')`)
	w.awaitRefusal("its own writes", "DROP PUBLICATION")
	w.exec(`INSERT INTO rowcall.settings VALUES ('y', '')`)
	if n := w.store.Head(); n != 2 {
		t.Errorf("the log has %d events, want 1", n-1)
	}
}

func TestSlotCreationNamesWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn, err := w.source.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	tx := begin(t, conn)
	config := w.config()
	w.start(config)
	w.eventually(func() string {
		src := w.saved()
		if !strings.Contains(src.Reason, fmt.Sprintf("pid %d", conn.Conn().PgConn().PID())) {
			return fmt.Sprintf("source is %q because %q", src.State, src.Reason)
		}
		return ""
	})
	tx()
	w.awaitState(store.SourceStreaming)
}

// begin opens a transaction that writes, and returns what ends it.
func begin(t *testing.T, conn *pgxpool.Conn) (end func()) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO things VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	end = func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }
	t.Cleanup(end)
	return end
}
