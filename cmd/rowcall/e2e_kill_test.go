package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/pgtemp"
	"github.com/rowcall/rowcall/store/storetest"
)

const (
	killWriters = 4
	// unsettled is how long before a fault an event may have arrived and yet come
	// again: outcomes are settled every 20 ms, and a busy machine takes its time.
	unsettled = 1500 * time.Millisecond
)

// cut is a time in which nothing could be settled: from when the store crashed,
// or just before the kill, to when rowcall was killed.
type cut struct{ from, to time.Time }

// TestKilledAtRandomPointsItLosesNothing kills rowcall fifty times under load,
// and crashes source and store in between. Every transaction of the writers also
// writes an append-only oracle, which at the end says what must have arrived, in
// which order.
func TestKilledAtRandomPointsItLosesNothing(t *testing.T) { surviveKills(t, 50, nil) }

// With batches, what is in flight at a kill is more, and is put together anew.
func TestKilledAtRandomPointsItLosesNothingOfBatches(t *testing.T) {
	surviveKills(t, 12, map[string]any{"max_events": 100, "max_wait": "20ms"})
}

func surviveKills(t *testing.T, kills int, batch map[string]any) {
	t.Helper()
	source := storetest.Cluster(t, map[string]string{"fsync": "on"})
	store := storetest.Cluster(t, map[string]string{"fsync": "on"})
	w := newWorld(t, source, store)
	db := database(t, source)
	mustExec(t, db, `CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL, note text)`)
	mustExec(t, db, `CREATE SCHEMA oracle`)
	mustExec(t, db, `CREATE TABLE oracle.writes (n bigint PRIMARY KEY, item bigint NOT NULL, op text NOT NULL)`)
	w.start(t)
	w.awaitState(t, "streaming")
	r := hooktest.Start(t, hooktest.Config{})
	spec := map[string]any{"name": "items", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()}}
	if batch != nil {
		spec["batch"] = batch
	}
	sub := w.subscribe(t, spec)

	ctx, cancel := context.WithCancel(t.Context())
	var pause sync.RWMutex // held while the source is down
	var writers sync.WaitGroup
	var counter atomic.Int64
	for n := range killWriters {
		writers.Go(func() { writeItems(ctx, t, source, &pause, n, &counter) })
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	var faults []cut
	for n := range kills {
		if n%3 > 0 { // one life in three is cut off wherever its start has come to
			before := r.Counts().Succeeded
			waitFor(t, time.Minute, "a life delivers", func() bool { return r.Counts().Succeeded > before }, w.gateway.tail)
		}
		select {
		case <-time.After(time.Duration(random.IntN(500)) * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
		f := cut{from: time.Now()}
		switch n % 10 {
		case 3:
			pause.Lock()
			crash(t, source)
			pause.Unlock()
			f.from = time.Now() // the store was there
		case 7:
			crash(t, store)
		}
		w.gateway.kill()
		f.to = time.Now()
		faults = append(faults, f)
		w.start(t)
	}
	cancel()
	writers.Wait()
	w.awaitState(t, "streaming")
	want := oracle(t, db)
	total := 0
	for _, ops := range want {
		total += len(ops)
	}
	t.Logf("%d writes over %d kills", total, kills)
	if total < 100*kills {
		t.Errorf("only %d writes: too weak a load to find anything", total)
	}
	waitFor(t, 2*time.Minute, "everything has arrived", func() bool { return len(arrived(r)) >= total }, func() string {
		return fmt.Sprintf("%d of %d", len(arrived(r)), total)
	})
	checkBalance(t, w, sub.ID, total)
	w.stop(t)
	checkOracle(t, want, r)
	checkDuplicates(t, r, faults)
	if batch != nil && r.Counts().Succeeded > len(r.Events())/2 {
		t.Errorf("%d POSTs for %d events: hardly any batches", r.Counts().Succeeded, len(r.Events()))
	}
	checkLog(t, w, total)
}

// writeItems writes until ctx ends. Each writer has items of its own, so that the
// oracle's numbers say the order in which each item was written.
func writeItems(ctx context.Context, t *testing.T, source *pgtemp.Cluster, pause *sync.RWMutex, writer int, counter *atomic.Int64) {
	random := rand.New(rand.NewPCG(uint64(writer), 1))
	var conn *pgx.Conn
	live := map[int64]bool{}
	for ctx.Err() == nil {
		pause.RLock()
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(ctx, source.URL("postgres")); err != nil {
				pause.RUnlock()
				if ctx.Err() == nil {
					t.Errorf("connect writer: %v", err)
				}
				return
			}
		}
		if conn.Ping(ctx) == nil { // not the connection that a crash has cut
			next, err := writeOnce(conn, random, writer, counter, live)
			if err != nil {
				t.Errorf("write: %v", err)
			}
			live = next
		}
		pause.RUnlock()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(random.IntN(8)) * time.Millisecond):
		}
	}
	if conn != nil {
		_ = conn.Close(context.Background())
	}
}

// writeOnce makes one transaction; one in ten is rolled back.
func writeOnce(conn *pgx.Conn, random *rand.Rand, writer int, counter *atomic.Int64, live map[int64]bool) (map[int64]bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return live, err
	}
	defer tx.Rollback(ctx) // no effect once it is committed
	next := map[int64]bool{}
	for id := range live {
		next[id] = true
	}
	for range 1 + random.IntN(5) {
		n := counter.Add(1)
		id := int64(writer*1000 + random.IntN(15))
		op, sql, args := "insert", `INSERT INTO items VALUES ($1, $2, 'x')`, []any{id, n}
		if next[id] {
			op, sql = "update", `UPDATE items SET n = $2 WHERE id = $1`
			if random.IntN(4) == 0 {
				op, sql, args = "delete", `DELETE FROM items WHERE id = $1`, []any{id}
			}
		}
		next[id] = op != "delete"
		if !next[id] {
			delete(next, id)
		}
		if _, err := tx.Exec(ctx, sql, args...); err != nil {
			return live, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO oracle.writes VALUES ($1, $2, $3)`, n, id, op); err != nil {
			return live, err
		}
	}
	if random.IntN(10) == 0 {
		return live, tx.Rollback(ctx)
	}
	return next, tx.Commit(ctx)
}

// crash stops a cluster as a power cut would and starts it again.
func crash(t *testing.T, c *pgtemp.Cluster) {
	t.Helper()
	if err := c.Restart(t.Context(), pgtemp.Immediate); err != nil {
		t.Fatalf("crash: %v", err)
	}
}

// itemWrite is one change of an item: what it was, and, but for deletes, its number.
type itemWrite struct {
	op string
	n  int64
}

// oracle is what was committed, by item, in order.
func oracle(t *testing.T, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
},
) map[int64][]itemWrite {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT item, op, CASE WHEN op = 'delete' THEN 0 ELSE n END FROM oracle.writes ORDER BY oracle.writes.n`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[int64][]itemWrite{}
	var item, n int64
	var op string
	if _, err := pgx.ForEachRow(rows, []any{&item, &op, &n}, func() error {
		want[item] = append(want[item], itemWrite{op, n})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return want
}

// arrived is the first success of each event.
func arrived(r *hooktest.Receiver) map[string]hooktest.Delivery {
	first := map[string]hooktest.Delivery{}
	for _, d := range r.Events() {
		if !d.Succeeded() {
			continue
		}
		if f, ok := first[d.WebhookID]; !ok || d.Answered < f.Answered {
			first[d.WebhookID] = d
		}
	}
	return first
}

// checkOracle compares what arrived with what was committed.
func checkOracle(t *testing.T, want map[int64][]itemWrite, r *hooktest.Receiver) {
	t.Helper()
	for _, fault := range r.Check() {
		t.Error(fault)
	}
	got := map[int64][]itemWrite{}
	events := arrived(r)
	ordered := make([]hooktest.Delivery, 0, len(events))
	for _, d := range events {
		ordered = append(ordered, d)
	}
	slices.SortFunc(ordered, func(a, b hooktest.Delivery) int { // in a batch r.Check knows the order
		return cmp.Or(cmp.Compare(a.Answered, b.Answered), cmp.Compare(a.Sequence, b.Sequence))
	})
	for _, d := range ordered {
		var data struct {
			Op  string
			Key struct{ ID int64 }
			Row struct{ N int64 }
		}
		if err := json.Unmarshal(d.Data, &data); err != nil {
			t.Fatal(err)
		}
		got[data.Key.ID] = append(got[data.Key.ID], itemWrite{data.Op, data.Row.N})
	}
	for item, ops := range want {
		if !slices.Equal(got[item], ops) {
			t.Errorf("item %d: arrived %v, committed %v", item, brief(got[item]), brief(ops))
		}
		delete(got, item)
	}
	for item, ops := range got {
		t.Errorf("item %d: %d events that nobody committed", item, len(ops))
	}
}

func brief(ops []itemWrite) string {
	var b strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&b, "%s%d ", o.op[:1], o.n)
	}
	return b.String()
}

// checkDuplicates demands of every event that came again that its first copy
// came just before a fault, or was in flight at it.
func checkDuplicates(t *testing.T, r *hooktest.Receiver, faults []cut) {
	t.Helper()
	again := 0
	defer func() {
		if again == 0 {
			t.Error("nothing came twice: no kill hit an event in flight, so this run has shown little")
		}
	}()
	for id, copies := range r.Duplicates() {
		again += len(copies) - 1
		for i := range len(copies) - 1 {
			excused := slices.ContainsFunc(faults, func(f cut) bool {
				return copies[i].At.After(f.from.Add(-unsettled)) && copies[i].At.Before(f.to.Add(500*time.Millisecond))
			})
			if !excused {
				t.Errorf("event %s came again, and no fault was near its first copy at %v", id, copies[i].At)
			}
		}
	}
	t.Logf("%d duplicates", again)
}

// checkBalance demands that every event is counted as delivered once, however
// often it came.
func checkBalance(t *testing.T, w *world, id string, total int) {
	t.Helper()
	var b client.Balance
	waitFor(t, 30*time.Second, "all is settled", func() bool {
		b = w.health(t, id).Balance
		return b.Waiting+b.Retrying+b.Blocked == 0
	}, func() string { return fmt.Sprintf("%+v", b) })
	if want := (client.Balance{Matched: int64(total), Delivered: int64(total)}); b != want {
		t.Errorf("balance %+v, want %+v", b, want)
	}
}

// checkLog demands of the log that it holds each event once, without gaps. What
// rowcall says of itself on a machine that can hardly breathe is there as well.
func checkLog(t *testing.T, w *world, total int) {
	t.Helper()
	db := database(t, w.store)
	if n := mustCount(t, db, `SELECT count(*) FROM rowcall.events WHERE type NOT LIKE 'rowcall.%'`); n != total {
		t.Errorf("%d events in the log, want %d", n, total)
	}
	if n := mustCount(t, db, `SELECT count(DISTINCT (generation, lsn, ordinal)) FROM rowcall.events WHERE type NOT LIKE 'rowcall.%'`); n != total {
		t.Errorf("%d different positions in the log, want %d", n, total)
	}
	all := mustCount(t, db, `SELECT count(*) FROM rowcall.events`)
	if n := mustCount(t, db, `SELECT max("offset") - min("offset") + 1 FROM rowcall.events`); n != all {
		t.Errorf("offsets span %d, want %d", n, all)
	}
	if all > total {
		t.Logf("beside %d events the log has %d notices", total, all-total)
	}
}
