package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// aged is a log of 1,000 events of long ago in partitions of 100, and 150 of
// this moment, with two lanes at offset 450. The store is not run, so that
// nothing is removed but by the test.
type aged struct {
	*store.Store
	claim store.SourceClaim
	conn  *pgx.Conn
	lanes [2]int
}

func newAged(t *testing.T, config store.Config) aged {
	t.Helper()
	if config.URL == "" {
		config.URL = storetest.URL(t)
	}
	s := storetest.OpenIdle(t, config)
	s.SetSpans(100, 100)
	a := aged{Store: s, conn: connect(t, config.URL)}
	exec(t, a.conn, `INSERT INTO rowcall.sources (name) VALUES ('shop')`)
	exec(t, a.conn, `INSERT INTO rowcall.checkpoints (source, epoch) SELECT id, 1 FROM rowcall.sources`)
	a.claim = store.SourceClaim{ID: store.SourceID(scan[int32](t, a.conn, `SELECT id FROM rowcall.sources`)), Name: "shop", Epoch: 1}
	for lsn := range store.LSN(11) {
		b, n := &store.Batch{Checkpoint: store.Checkpoint{Commit: lsn + 1}}, 100
		at := time.Now().AddDate(0, -2, 0)
		if lsn == 10 {
			at, n = time.Now(), 150
		}
		for i := range n {
			e := store.Event{
				LSN: lsn + 1, Ordinal: int64(i), Generation: 3, Time: at.UnixMicro(), Type: "public.orders.updated",
				Key: fmt.Sprintf("public.orders/id=%d", i), OldKey: "public.orders/id=old",
			}
			b.End(fmt.Appendf(b.Begin(e), `{"row": {"é":%d}}`, i))
		}
		mustAppend(t, s, a.claim, b)
	}
	exec(t, a.conn, `INSERT INTO rowcall.log_times VALUES (now() - interval '2 months', 1001)`)
	exec(t, a.conn, `INSERT INTO rowcall.subscriptions (id, name, spec, secrets) VALUES ('sub_1', 'one', '{}', ''), ('sub_2', 'two', '{}', '')`)
	for i := range a.lanes {
		a.lanes[i] = scan[int](t, a.conn, `INSERT INTO rowcall.cursors (subscription, "offset") VALUES ($1, 450) RETURNING lane`, fmt.Sprintf("sub_%d", i+1))
	}
	return a
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (a aged) retain(t *testing.T) {
	t.Helper()
	if err := a.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (a aged) wantOldest(t *testing.T, want store.Offset) {
	t.Helper()
	if oldest, err := a.Oldest(t.Context()); err != nil || oldest != want {
		t.Fatalf("oldest offset %d, error %v, want %d", oldest, err, want)
	}
	// A store that just came, and has no ring, reads from there on and misses nothing.
	if first := scan[store.Offset](t, a.conn, `SELECT min("offset") FROM rowcall.events`); first != want {
		t.Fatalf("the table begins at %d, want %d", first, want)
	}
	if n := scan[int](t, a.conn, `SELECT count(*) FROM rowcall.events`); n != 1151-int(want) {
		t.Fatalf("%d events are left from %d on, want %d", n, want, 1151-int(want))
	}
	tables := scan[int](t, a.conn, `SELECT count(*) FROM pg_class WHERE relname ~ '^events_[0-9]+$' AND relkind = 'r'`)
	if rows := scan[int](t, a.conn, `SELECT count(*) FROM rowcall.partitions`); rows != tables {
		t.Fatalf("%d tables for %d partitions", tables, rows)
	}
}

func TestRetentionDropsOnlyWhatIsOldAndEveryLaneHasPassed(t *testing.T) {
	t.Parallel()
	a := newAged(t, store.Config{})
	a.retain(t)
	a.wantOldest(t, 401) // the lanes stand in the partition from there

	// A lane that follows has settled what its owner's floor says.
	exec(t, a.conn, `INSERT INTO rowcall.leases (instance, epoch, floor, expires_at) VALUES ('x', 1, 721, now() + interval '1h'), ('test', 1, 0, now() + interval '1h')`)
	exec(t, a.conn, `UPDATE rowcall.cursors SET owner = 'x', following = true WHERE lane = $1`, a.lanes[0])
	a.retain(t)
	a.wantOldest(t, 401) // the other one still needs it
	exec(t, a.conn, `UPDATE rowcall.cursors SET "offset" = 1151 WHERE lane = $1`, a.lanes[1])
	a.retain(t)
	a.wantOldest(t, 701)
	// Where it does not follow, the floor says nothing of it.
	exec(t, a.conn, `UPDATE rowcall.leases SET floor = 1151 WHERE instance = 'x'`)
	exec(t, a.conn, `UPDATE rowcall.cursors SET owner = 'x', following = false, "offset" = 799`)
	a.retain(t)
	a.wantOldest(t, 701)
	// What is new stays for replay, whoever has passed it.
	exec(t, a.conn, `UPDATE rowcall.cursors SET following = true, owner = 'x'`)
	a.retain(t)
	a.wantOldest(t, 1001)
}

// The clock of a source may be wrong, and its events may come days late.
func TestRetentionGoesByHowLongEventsHaveBeenInTheLog(t *testing.T) {
	t.Parallel()
	a := newAged(t, store.Config{})
	// The last event of the first partition is of next year, all others are old.
	exec(t, a.conn, `UPDATE rowcall.events SET time = now() + interval '1 year' WHERE "offset" = 100`)
	exec(t, a.conn, `UPDATE rowcall.log_times SET next = 250`)
	a.retain(t)
	a.wantOldest(t, 201)
	exec(t, a.conn, `DELETE FROM rowcall.log_times`)
	exec(t, a.conn, `INSERT INTO rowcall.log_times VALUES (now() - interval '6 days', 401)`)
	a.retain(t)
	a.wantOldest(t, 201)
}

func TestADeliveryThatRemainsKeepsItsEventWhenTheLogDropsIt(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t), RingBytes: 1}
	a := newAged(t, config)
	insert := `INSERT INTO rowcall.deliveries (lane, "offset", state, keys, due_at) VALUES ($1, $2, $3, '{k}', now())`
	exec(t, a.conn, insert, a.lanes[0], 50, "dead")
	exec(t, a.conn, insert, a.lanes[1], 50, "retrying")
	exec(t, a.conn, insert, a.lanes[1], 444, "dead")
	before, err := a.Event(t.Context(), 50)
	if err != nil {
		t.Fatal(err)
	}
	a.retain(t)
	a.wantOldest(t, 401)
	after, err := a.Event(t.Context(), 50)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Fatalf("the kept event differs (-log +kept):\n%s", diff)
	}
	byID, err := a.EventByID(t.Context(), before.ID())
	if err != nil || byID.Offset != 50 {
		t.Fatalf("by id: %+v, error %v", byID, err)
	}
	if _, err := a.Event(t.Context(), 51); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("an event that nobody kept: %v, want ErrNotFound", err)
	}
	if n := scan[int](t, a.conn, `SELECT count(data) FROM rowcall.deliveries`); n != 2 {
		t.Fatalf("%d deliveries hold a payload, want the 2 whose events went", n)
	}
	// Reading from what is gone starts at the oldest, also where another instance dropped it.
	config.Instance = "late"
	for name, s := range map[string]*store.Store{"the same": a.Store, "another": storetest.OpenIdle(t, config)} {
		page, err := s.Read(t.Context(), 7, 5, 1<<20)
		if err != nil || len(page) != 5 || page[0].Offset != 401 {
			t.Fatalf("%s store reads %+v, error %v", name, page, err)
		}
	}
}

// All at once would take longer than a statement may, and whoever settles them
// would wait for it.
func TestDeliveriesKeepTheirEventsAFewThousandAtATime(t *testing.T) {
	t.Parallel()
	a := newAged(t, store.Config{})
	exec(t, a.conn, `INSERT INTO rowcall.subscriptions (id, name, spec, secrets) SELECT 'more_' || n, 'more ' || n, '{}', '' FROM generate_series(1, 121) n`)
	exec(t, a.conn, `INSERT INTO rowcall.cursors (subscription, "offset") SELECT id, 450 FROM rowcall.subscriptions WHERE id LIKE 'more%'`)
	exec(t, a.conn, `INSERT INTO rowcall.deliveries (lane, "offset", state, keys)
		SELECT c.lane, n, 'dead', '{k}' FROM rowcall.cursors c, generate_series(1, 100) n WHERE c.subscription LIKE 'more%'`)
	a.retain(t)
	a.wantOldest(t, 401)
	if n := scan[int](t, a.conn, `SELECT count(data) FROM rowcall.deliveries`); n != 12_100 {
		t.Errorf("%d deliveries have their events, want 12,100", n)
	}
	// xmin is the transaction that wrote a row; an event more than the step for all
	// lanes that share the last one.
	if n := scan[int](t, a.conn, `SELECT max(n) FROM (SELECT count(*) AS n FROM rowcall.deliveries GROUP BY xmin::text) AS of`); n > 5000+121 {
		t.Errorf("one transaction wrote %d deliveries", n)
	}
}

func TestAReaderWhosePagesAnotherInstanceDropsGoesOnAtTheOldest(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	a := newAged(t, config)
	config.Instance = "reader"
	reader := storetest.OpenIdle(t, config) // knows an oldest of 1
	a.retain(t)
	page, err := reader.Read(t.Context(), 1, 5, 1<<20)
	if err != nil || len(page) != 5 || page[0].Offset != 401 {
		t.Fatalf("read %+v, error %v", page, err)
	}
}

func TestRetentionThatWasCutShortIsFinished(t *testing.T) {
	t.Parallel()
	t.Run("after the lanes' deliveries got their events", func(t *testing.T) {
		t.Parallel()
		a := newAged(t, store.Config{})
		if err := a.BeginRetention(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.retain(t)
		a.wantOldest(t, 401)
	})
	t.Run("while it waited for a reader to detach", func(t *testing.T) {
		t.Parallel()
		a := newAged(t, store.Config{})
		reading := connect(t, a.conn.Config().ConnString())
		exec(t, reading, `BEGIN`)
		scan[int](t, reading, `SELECT count(*) FROM rowcall.events`)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Retain(ctx) }()
		wait(t, "the detach waits", func() bool {
			return scan[int](t, a.conn, `SELECT count(*) FROM pg_inherits WHERE inhdetachpending`) == 1
		})
		// Nobody else waits for it.
		mustAppend(t, a.Store, a.claim, batch(500, 1))
		if page, err := a.Read(t.Context(), 401, 1, 1<<20); err != nil || len(page) != 1 {
			t.Fatalf("read %+v, error %v", page, err)
		}
		cancel()
		if err := <-done; err == nil {
			t.Fatal("retention ended before the reader did")
		}
		// Its server process would otherwise finish the work alone.
		wait(t, "the server process is gone", func() bool {
			return scan[int](t, a.conn, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND query LIKE 'ALTER TABLE%DETACH%' AND pid <> pg_backend_pid()`) == 0
		})
		exec(t, reading, `COMMIT`)
		if n := scan[int](t, a.conn, `SELECT count(*) FROM pg_inherits WHERE inhdetachpending`); n != 1 {
			t.Fatalf("%d partitions are being detached, want 1: the test shows nothing", n)
		}
		wait(t, "retention goes through", func() bool { return a.Retain(t.Context()) == nil })
		if n := scan[int](t, a.conn, `SELECT count(*) FROM pg_inherits WHERE inhparent = 'rowcall.events'::regclass AND inhdetachpending`); n > 0 {
			t.Fatal("a partition is still being detached")
		}
		if oldest := scan[int](t, a.conn, `SELECT min("offset") FROM rowcall.events`); oldest != 401 {
			t.Fatalf("the table begins at %d, want 401", oldest)
		}
	})
	t.Run("after it had detached", func(t *testing.T) {
		t.Parallel()
		a := newAged(t, store.Config{})
		if err := a.BeginRetention(t.Context()); err != nil {
			t.Fatal(err)
		}
		exec(t, a.conn, `ALTER TABLE rowcall.events DETACH PARTITION rowcall.events_1 CONCURRENTLY`)
		a.retain(t)
		a.wantOldest(t, 401)
	})
}

func TestADeadLetterGoesWhenItsRetentionEnds(t *testing.T) {
	t.Parallel()
	a := newAged(t, store.Config{DeadRetention: time.Hour})
	for at, state := range map[int]string{1: "dead", 2: "retrying", 3: "blocked"} {
		exec(t, a.conn, `INSERT INTO rowcall.deliveries (lane, "offset", state, keys, updated_at) VALUES ($1, $2, $3, '{k}', now() - interval '2h')`, a.lanes[0], at, state)
	}
	exec(t, a.conn, `INSERT INTO rowcall.deliveries (lane, "offset", state, keys) VALUES ($1, 4, 'dead', '{k}')`, a.lanes[0])
	a.retain(t)
	left := scan[[]int](t, a.conn, `SELECT array_agg("offset"::int ORDER BY "offset") FROM rowcall.deliveries`)
	if diff := cmp.Diff([]int{2, 3, 4}, left); diff != "" {
		t.Fatalf("deliveries left (-want +got):\n%s", diff)
	}
	// One that holds its key stays until a person decides.
	exec(t, a.conn, `UPDATE rowcall.subscriptions SET spec = spec || '{"on_dead":"block"}'`)
	exec(t, a.conn, `INSERT INTO rowcall.deliveries (lane, "offset", state, keys, updated_at) VALUES ($1, 1, 'dead', '{k}', now() - interval '2h')`, a.lanes[0])
	a.retain(t)
	left = scan[[]int](t, a.conn, `SELECT array_agg("offset"::int ORDER BY "offset") FROM rowcall.deliveries`)
	if diff := cmp.Diff([]int{1, 2, 3, 4}, left); diff != "" {
		t.Fatalf("deliveries left of a subscription that blocks (-want +got):\n%s", diff)
	}
}

func TestDaysOfAttemptsAreMadeAheadAndDroppedAfterTheirRetention(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	s := storetest.OpenIdle(t, store.Config{URL: url, AttemptsRetention: 48 * time.Hour})
	conn := connect(t, url)
	for range 2 {
		if err := s.GrowAttempts(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	insert := `INSERT INTO rowcall.attempts (at, lane, "offset", attempt, duration, status, outcome) VALUES (now() + $1 * interval '1h', 1, 1, 1, 1, 200, 0)`
	for _, hours := range []int{-24, 0, 24, 48} {
		exec(t, conn, insert, hours)
	}
	exec(t, conn, `CREATE TABLE rowcall.attempts_20200101 PARTITION OF rowcall.attempts FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2020-01-02 00:00:00+00')`)
	exec(t, conn, `CREATE TABLE rowcall.attempts_20200102 (LIKE rowcall.attempts)`) // detached, and not dropped
	if err := s.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := scan[int](t, conn, `SELECT count(*) FROM pg_class WHERE relname ~ '^attempts_2020'`); n > 0 {
		t.Fatalf("%d old days are left", n)
	}
	if n := scan[int](t, conn, `SELECT count(*) FROM rowcall.attempts`); n != 4 {
		t.Fatalf("%d attempts are left, want 4", n)
	}
}
