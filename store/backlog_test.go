package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

func TestBacklogsCountWhatEachLaneOwes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	mustAppend(t, s, source(t, s, "shop"), batch(100, 10))
	x, y := subscribe(t, s, "x", store.Start{Offset: 3}), subscribe(t, s, "y", store.Start{Now: true})
	lanes := claim(t, s)
	settle(t, s, store.Settlement{Floor: 11, Lanes: []store.LaneSettlement{
		{Lane: lanes["y"].ID, Epoch: lanes["y"].Epoch, Cursor: 9, Following: true},
		{Lane: lanes["x"].ID, Epoch: lanes["x"].Epoch, Cursor: 8, Upsert: []store.Delivery{
			{Offset: 3, State: store.Retrying},
			{Offset: 4, State: store.Blocked},
			{Offset: 5, State: store.Blocked},
			{Offset: 6, State: store.Dead},
			{Offset: 7, State: store.Dead},
			{Offset: 2, State: store.Dead},
		}},
	}})
	got, err := s.Backlogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "backlogs", []store.Backlog{
		{Lane: lanes["x"].ID, Subscription: x.ID, Cursor: 8, Waiting: store.LogCount{Events: 3, Bytes: 111}, Retrying: 1, Blocked: 2, Dead: 3, OldestAt: 1_780_000_000_000_100},
		{Lane: lanes["y"].ID, Subscription: y.ID, Cursor: 11},
	}, got)
}

// blocksDiffer is the number of rows of log_blocks that are not what the log
// below the head holds.
const blocksDiffer = `
WITH want AS (
  SELECT "offset" / 16384 AS block, type, count(*) AS events, sum(octet_length(data)) AS bytes
  FROM rowcall.events WHERE kind <> 6 GROUP BY 1, 2)
SELECT count(*) FROM want FULL JOIN rowcall.log_blocks b USING (block, type)
WHERE want.events IS DISTINCT FROM b.events OR want.bytes IS DISTINCT FROM b.bytes`

// mixed is n events of several types and sizes, and now and then a marker.
func mixed(random *rand.Rand, lsn store.LSN, n int) *store.Batch {
	b := &store.Batch{Checkpoint: store.Checkpoint{Commit: lsn, Ordinal: int64(n), End: lsn + 8}}
	for i := range n {
		e := store.Event{LSN: lsn, Ordinal: int64(i), Generation: 1, Type: fmt.Sprintf("public.t%d.updated", random.IntN(5)), Key: "k"}
		if random.IntN(1000) == 0 {
			e.Kind, e.Type = store.KindGap, "rowcall.source.gap"
		}
		b.End(append(b.Begin(e), payload[:random.IntN(100)]...))
	}
	return b
}

func TestTheLogIsCountedExactlyByWhomeverAndHoweverOftenItIsCutShort(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	s := storetest.OpenWith(t, config)
	config.Instance, config.RingBytes = "other", 1 // it has nothing in memory
	other := storetest.OpenWith(t, config)
	conn := connect(t, config.URL)
	claims := []store.SourceClaim{source(t, s, "shop"), source(t, s, "bank")}
	sub := subscribe(t, s, "some", store.Start{Earliest: true})
	exec(t, conn, `UPDATE rowcall.subscriptions SET spec = spec || '{"events":["public.t1.*","public.t3.updated"]}'`)
	for lsn := range store.LSN(30) {
		mustAppend(t, s, claims[lsn%2], mixed(random, lsn+1, 1+random.IntN(3000)))
		if random.IntN(3) == 0 {
			for _, by := range []*store.Store{s, other} {
				if err := by.CountLog(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if random.IntN(5) == 0 { // one is killed after it has counted, and before it has committed
			exec(t, conn, `BEGIN; UPDATE rowcall.log_counted SET next = next + 1; ROLLBACK`)
		}
	}
	head := s.Head()
	wait(t, "all is counted", func() bool { return scan[store.Offset](t, conn, `SELECT next FROM rowcall.log_counted`) == head })
	if n := scan[int](t, conn, blocksDiffer); n != 0 {
		t.Errorf("%d rows of log_blocks are wrong", n)
	}
	captured, err := other.Captured(t.Context())
	if err != nil || len(captured) != 2 {
		t.Fatalf("%+v, error %v", captured, err)
	}
	for i, name := range []string{"bank", "shop"} {
		var wrote int64
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM rowcall.events e JOIN rowcall.sources s ON s.id = e.source
			WHERE s.name = $1 AND e.kind <> $2`, name, int16(store.KindGap)).Scan(&wrote); err != nil || captured[i] != (store.Captured{Source: name, Events: wrote}) {
			t.Errorf("%+v, of which %s wrote %d, error %v", captured, name, wrote, err)
		}
	}
	if head < 2*16384 {
		t.Fatalf("the head is at %d: the test shows too little", head)
	}
	for _, cursor := range []store.Offset{1, 2, 16383, 16384, 16385, 20_000, head - 5, head} {
		exec(t, conn, `UPDATE rowcall.cursors SET "offset" = $1`, int64(cursor))
		var actual store.LogCount
		if err := conn.QueryRow(t.Context(), `SELECT count(*), coalesce(sum(octet_length(data)), 0)::bigint FROM rowcall.events
			WHERE "offset" >= $1 AND type IN ('public.t1.updated', 'public.t3.updated')`, int64(cursor)).Scan(&actual.Events, &actual.Bytes); err != nil {
			t.Fatal(err)
		}
		for name, by := range map[string]*store.Store{"who appends": s, "the other": other} {
			wait(t, "it knows the head", func() bool { return by.Head() == head })
			lanes, err := by.Backlogs(t.Context())
			if err != nil || len(lanes) != 1 || lanes[0].Subscription != sub.ID {
				t.Fatalf("%+v, error %v", lanes, err)
			}
			// The bound is not above what is left of the cursor's block.
			over := lanes[0].Waiting.Events - actual.Events
			if over < 0 || over > 16384 || cursor%16384 == 0 && lanes[0].Waiting != actual {
				t.Errorf("%s says that %+v wait from %d on, of which there are %+v", name, lanes[0].Waiting, cursor, actual)
			}
			exact, err := by.CountHeld(t.Context(), []string{"public.t1.*", "public.t3.updated"}, cursor, head)
			if err != nil || exact != actual {
				t.Errorf("%s counts %+v from %d on, error %v; there are %+v", name, exact, cursor, err, actual)
			}
		}
	}
}

func TestTypesWithoutEndDoNotFillTheCounts(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t)}
	s := storetest.OpenWith(t, config)
	conn := connect(t, config.URL)
	claim := source(t, s, "shop")
	subscribe(t, s, "all", store.Start{Earliest: true})
	for lsn := range store.LSN(2) {
		b := &store.Batch{Checkpoint: store.Checkpoint{Commit: lsn + 1}}
		for i := range 500 {
			b.End(append(b.Begin(store.Event{LSN: lsn + 1, Ordinal: int64(i), Type: fmt.Sprintf("user.%d.%d", lsn, i), Key: "k"}), `{}`...))
		}
		mustAppend(t, s, claim, b)
		if err := s.CountLog(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "all is counted", func() bool { return scan[int](t, conn, `SELECT next::int FROM rowcall.log_counted`) == 1001 })
	if n := scan[int](t, conn, `SELECT count(*) FROM rowcall.log_blocks`); n != 201 {
		t.Errorf("%d rows, want 200 and one for the rest", n)
	}
	lanes, err := s.Backlogs(t.Context())
	if err != nil || lanes[0].Waiting != (store.LogCount{Events: 1000, Bytes: 2000}) {
		t.Errorf("%+v wait, error %v", lanes, err)
	}
}

func TestAnEventsTimeInTheLogIsTheStoresNotItsSources(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t)}
	s := storetest.OpenWith(t, config)
	conn := connect(t, config.URL)
	claim := source(t, s, "shop")
	mustAppend(t, s, claim, batch(1, 10)) // committed long ago, by the source's clock
	mark := func(past int) {
		wait(t, "it is noted when they came", func() bool {
			return scan[int](t, conn, `SELECT coalesce(max(next), 0)::int FROM rowcall.log_times`) == past
		})
	}
	mark(11)
	exec(t, conn, `UPDATE rowcall.log_times SET at = at - interval '90 seconds'`)
	mustAppend(t, s, claim, batch(2, 5))
	mark(16)
	for age, want := range map[time.Duration]store.Offset{time.Hour: 0, time.Minute: 11, 0: 16} {
		if got, err := s.LoggedBefore(t.Context(), age); err != nil || got != want {
			t.Errorf("below %d for %s, error %v, want %d", got, age, err, want)
		}
	}
	// Of old marks, one a minute stays, and one an hour of very old ones.
	exec(t, conn, `DELETE FROM rowcall.log_times`)
	exec(t, conn, `INSERT INTO rowcall.log_times SELECT date_trunc('hour', now()) - interval '3 hours' + i * interval '1 second', 2 + i FROM generate_series(0, 119) i`)
	exec(t, conn, `INSERT INTO rowcall.log_times SELECT date_trunc('hour', now()) - interval '9 days' + i * interval '1 minute', 2 FROM generate_series(0, 119) i`)
	if err := s.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := scan[int](t, conn, `SELECT count(*) FROM rowcall.log_times`); n != 4 {
		t.Errorf("%d marks stay, want 4", n)
	}
}

// A log of ten million events, a thousand lanes at places of their own.
func BenchmarkBacklogsOfAThousandLanes(b *testing.B) {
	w := newWorld(b)
	s, _ := w.instance("a")
	subscribe(b, s, "first", store.Start{})
	w.exec(`INSERT INTO rowcall.subscriptions (id, name, spec, secrets)
SELECT 'sub_' || lpad(i::text, 26, '0'), 'copy ' || i, s.spec || jsonb_build_object('events', jsonb_build_array('public.t' || i % 30 || '.*', 'user.**')), s.secrets
FROM rowcall.subscriptions s, generate_series(2, 1000) i`)
	w.exec(`INSERT INTO rowcall.cursors (subscription, "offset") SELECT id, 1 + (random() * 9999999)::bigint FROM rowcall.subscriptions WHERE name LIKE 'copy %'`)
	w.exec(`INSERT INTO rowcall.log_blocks SELECT b, 'public.t' || t || '.updated', 546, 273000 FROM generate_series(0, 610) b, generate_series(0, 29) t`)
	w.exec(`UPDATE rowcall.log_counted SET next = 10000000`)
	w.exec(`UPDATE rowcall.log_head SET next = 10000000, partitioned_to = 10000000`)
	w.exec(`ANALYZE`)
	wait(b, "it knows the head", func() bool { return s.Head() == 10_000_000 })
	var slowest time.Duration
	for b.Loop() {
		begun := time.Now()
		lanes, err := s.Backlogs(b.Context())
		slowest = max(slowest, time.Since(begun))
		if err != nil || len(lanes) != 1000 || lanes[7].Waiting.Events == 0 {
			b.Fatalf("%d lanes, error %v", len(lanes), err)
		}
	}
	b.ReportMetric(float64(slowest.Milliseconds()), "ms-slowest")
}
