package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// deadRanges are the dead ranges by age, as text.
func (w *world) deadRanges(s *store.Store) string {
	w.t.Helper()
	ranges, err := s.DeadRanges(w.t.Context(), store.DeadRangeFilter{}, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	text := ""
	for i := len(ranges) - 1; i >= 0; i-- {
		r := ranges[i]
		text += fmt.Sprintf("[%d,%d) %d events %s;", r.Range.From, r.Range.Past, r.Events.Events, r.Reason)
		for _, settled := range r.Settled {
			text += fmt.Sprintf(" without [%d,%d)", settled.From, settled.Past)
		}
	}
	return text
}

func TestAHoldEndsInOneRangeHoweverManyEventsItHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	fill(t, s, 40_000)
	subscribe(t, s, "x", store.Start{Earliest: true})
	lane := claim(t, s)["x"]
	settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{
		Lane: lane.ID, Epoch: lane.Epoch, Cursor: 11,
		Ahead:  []store.OffsetRange{{From: 12, Past: 20}, {From: 29_990, Past: 30_010}},
		Upsert: []store.Delivery{{Offset: 3, State: store.Retrying}, {Offset: 5, State: store.Dead}, {Offset: 30_001, State: store.Blocked}},
	}}})
	end := func(h store.HoldEnd) store.HoldEnded {
		t.Helper()
		h.Lane, h.Epoch, h.Reason = lane.ID, lane.Epoch, "hold_limit_age"
		ended, err := s.EndHold(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		return ended
	}
	// 29,989 offsets, of which eight and ten were settled.
	for i, want := range []store.HoldEnded{
		{Range: store.OffsetRange{From: 11, Past: 30_000}, Events: store.LogCount{Events: 29_971}, Deliveries: 1},
		{}, // again, after an error that left it in doubt
	} {
		got := end(store.HoldEnd{Past: 30_000, Rows: true})
		got.Events.Bytes = 0
		diff(t, fmt.Sprintf("call %d", i), want, got)
	}
	if got, want := w.deadRanges(s), "[11,30000) 29971 events hold_limit_age; without [12,20) without [29990,30000)"; got != want {
		t.Errorf("dead ranges %s, want %s", got, want)
	}
	bytes := one[int64](w, `SELECT sum(octet_length(data))::bigint FROM rowcall.events WHERE "offset" >= 11 AND "offset" < 30000
		AND NOT "offset" BETWEEN 12 AND 19 AND "offset" < 29990`)
	if got := one[int64](w, `SELECT bytes FROM rowcall.dead_ranges`); got != bytes {
		t.Errorf("%d bytes, want %d", got, bytes)
	}
	// The row below is dead, that above still owed.
	if got := one[string](w, `SELECT string_agg("offset" || state || reason, ' ' ORDER BY "offset") FROM rowcall.deliveries`); got != "3deadhold_limit_age 5dead 30001blocked" {
		t.Errorf("deliveries %s", got)
	}
	if got := one[string](w, `SELECT "offset" || ahead::text FROM rowcall.cursors`); got != "30000{30000,30010}" {
		t.Errorf("cursor %s", got)
	}
	// What is given up next to it makes it longer.
	end(store.HoldEnd{Past: 30_020})
	if got, want := w.deadRanges(s), "[11,30020) 29981 events hold_limit_age; without [12,20) without [29990,30000) without [30000,30010)"; got != want {
		t.Errorf("dead ranges %s, want %s", got, want)
	}
	// Dropped events are counted alone, and the head is not passed.
	if got := end(store.HoldEnd{Past: 99_999, Drop: true, Rows: true}); got.Events.Events != 9981 || got.Range.Past != 40_001 || got.Deliveries != 1 {
		t.Errorf("dropped %+v", got)
	}
	if got := one[int](w, `SELECT dropped::int FROM rowcall.cursors`); got != 9982 {
		t.Errorf("%d dropped, want 9982", got)
	}
	_, err := s.EndHold(t.Context(), store.HoldEnd{Lane: lane.ID, Epoch: lane.Epoch - 1, Past: 99_999})
	if !errors.Is(err, store.ErrFenced) {
		t.Errorf("of another's lane: %v, want fenced", err)
	}
	if err := s.DiscardDeadRange(t.Context(), one[int64](w, `SELECT id FROM rowcall.dead_ranges`)); err != nil {
		t.Error(err)
	}
	if got := one[int](w, `SELECT given_up::int FROM rowcall.cursors`); got != 29_981 {
		t.Errorf("%d given up by a person, want 29981", got)
	}
}

func TestAHoldDoesNotEndPastAGapThatNobodyAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	claimed := source(t, s, "shop")
	mustAppend(t, s, claimed, batch(100, 10))
	if err := s.RecordGap(t.Context(), claimed, store.Gap{Reason: "slot gone", From: 1, To: 2}, store.Checkpoint{Commit: 200}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, claimed, batch(300, 10))
	subscribe(t, s, "x", store.Start{Earliest: true})
	lane := claim(t, s)["x"]
	h := store.HoldEnd{Lane: lane.ID, Epoch: lane.Epoch, Past: 20}
	for _, want := range []store.Offset{12, 20} {
		ended, err := s.EndHold(t.Context(), h)
		if err != nil || ended.Range.Past != want {
			t.Fatalf("%+v, error %v, want the hold to end at %d", ended, err, want)
		}
		if _, err := s.AcceptGaps(t.Context(), "shop", "me"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheNewestBytesOfAPatternAreFoundAcrossBlocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	fill(t, s, 40_000)
	patterns := []string{"public.orders.*"}
	all := one[int64](w, `SELECT sum(octet_length(data))::bigint FROM rowcall.events`)
	for _, bytes := range []int64{0, 1, 100, 500_000, 900_000, all - 1, all, all + 1} {
		got, err := s.LastBytes(t.Context(), patterns, 5, bytes)
		if err != nil {
			t.Fatal(err)
		}
		left := one[int64](w, `SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM rowcall.events WHERE "offset" >= $1`, int64(got))
		more := one[int64](w, `SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM rowcall.events WHERE "offset" >= $1`, int64(got)-1)
		if left > bytes || got > 5 && more <= bytes {
			t.Errorf("the last %d bytes begin at %d: there are %d from there, %d from one before", bytes, got, left, more)
		}
	}
}

// What a dead range holds stays readable when the log drops it, and nothing else does.
func TestTheEventsOfADeadRangeStayWhenTheLogDropsThem(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t), RingBytes: 1, DeadRetention: time.Hour}
	a := newAged(t, config)
	insert := `INSERT INTO rowcall.dead_ranges (lane, "from", past, settled, patterns, events, bytes, reason) VALUES ($1, $2, $3, $4, $5, 1, 1, '')`
	exec(t, a.conn, insert, a.lanes[0], 150, 260, []int64{160, 170}, []string{"public.orders.*"})
	exec(t, a.conn, insert, a.lanes[1], 155, 165, []int64{}, []string{"public.orders.updated"})
	exec(t, a.conn, insert, a.lanes[1], 1, 400, []int64{}, []string{"public.other.*"})
	before, err := a.Event(t.Context(), 200)
	if err != nil {
		t.Fatal(err)
	}
	a.retain(t)
	a.wantOldest(t, 401)
	kept := scan[string](t, a.conn, `SELECT string_agg("offset"::text, ' ' ORDER BY "offset") FROM rowcall.kept_events`)
	want := ""
	for at := 150; at < 260; at++ {
		if at < 165 || at >= 170 {
			want += fmt.Sprintf(" %d", at)
		}
	}
	if kept != want[1:] {
		t.Errorf("kept %s, want %s", kept, want)
	}
	after, err := a.Event(t.Context(), 200)
	diff(t, "the kept event", before, after)
	if byID, err2 := a.EventByID(t.Context(), before.ID()); err != nil || err2 != nil || byID.Offset != 200 {
		t.Errorf("by id: %+v, errors %v %v", byID, err, err2)
	}
	if n := scan[int](t, a.conn, `SELECT count(*) FROM rowcall.kept_partitions`); n != 4 {
		t.Errorf("%d partitions of kept events, want 4", n)
	}
	// As the ranges go, so do the partitions that none needs any more.
	exec(t, a.conn, `UPDATE rowcall.dead_ranges SET updated_at = now() - interval '2 hours' WHERE patterns <> '{public.orders.updated}'`)
	a.retain(t)
	if n := scan[int](t, a.conn, `SELECT sum(first)::int FROM rowcall.kept_partitions`); n != 101 {
		t.Errorf("partitions whose first add up to %d stay, want the one from 101", n)
	}
	if n := scan[int](t, a.conn, `SELECT sum(expired)::int FROM rowcall.cursors`); n != 2 {
		t.Errorf("%d events expired, want 2", n)
	}
	if _, err := a.Event(t.Context(), 240); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an event of a range that is gone: %v", err)
	}
	if _, err := a.Event(t.Context(), 156); err != nil {
		t.Error(err)
	}
}

// While a partition's events are copied, a lane that needs it may come, and give
// up what it holds there.
func TestTheEventsOfADeadRangeThatComesWhileAPartitionGoesStay(t *testing.T) {
	t.Parallel()
	const insert = `INSERT INTO rowcall.dead_ranges (lane, "from", past, patterns, events, bytes, reason) VALUES ($1, $2, $3, '{public.**}', 1, 1, '')`
	for name, between := range map[string]func(t *testing.T, a aged){
		"behind what was kept": func(t *testing.T, a aged) {
			exec(t, a.conn, `UPDATE rowcall.cursors SET "offset" = 1 WHERE lane = $1`, a.lanes[1])
		},
		"at the last moment": func(t *testing.T, a aged) {
			exec(t, a.conn, insert, a.lanes[1], 1, 51)
		},
		"in one that was there": func(t *testing.T, a aged) {
			exec(t, a.conn, `UPDATE rowcall.dead_ranges SET past = 71`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAged(t, store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t), DeadRetention: time.Hour})
			exec(t, a.conn, insert, a.lanes[0], 51, 61)
			if err := a.KeepAndLeave(t.Context(), 1, 101, func() { between(t, a) }); err == nil {
				t.Error("the partition was left")
			}
			if scan[int](t, a.conn, `SELECT min("offset") FROM rowcall.cursors`) == 1 { // and then it gave up what it held
				exec(t, a.conn, insert, a.lanes[1], 1, 51)
				exec(t, a.conn, `UPDATE rowcall.cursors SET "offset" = 450`)
			}
			want := scan[int](t, a.conn, `SELECT sum(past - "from") FROM rowcall.dead_ranges`)
			a.retain(t)
			a.wantOldest(t, 401)
			if kept := scan[int](t, a.conn, `SELECT count(*) FROM rowcall.kept_events`); kept != want {
				t.Errorf("%d events were kept, want %d", kept, want)
			}
		})
	}
}

func TestAFullLogTakesWhatOverflowedKeysAreOwed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	for lsn := range store.LSN(30) { // thirty rounds, one event a key
		mustAppend(t, s, source(t, s, "shop"), batch(100+lsn, 10))
	}
	subscribe(t, s, "x", store.Start{Earliest: true})
	lane := claim(t, s)["x"]
	settle(t, s, store.Settlement{Floor: 301, Lanes: []store.LaneSettlement{{
		Lane: lane.ID, Epoch: lane.Epoch, Cursor: 301, Following: true,
		Overflows: []store.Overflow{{Key: "public.orders/id=1", From: 21}, {Key: "public.orders/id=2", From: 250}},
	}}})
	if held, err := s.Holdings(t.Context()); err != nil || len(held) != 0 {
		t.Fatalf("a lane that follows: %+v, error %v", held, err)
	}
	w.exec(`UPDATE rowcall.cursors SET must_pass = 101`)
	held, err := s.Holdings(t.Context())
	if err != nil || len(held) != 1 || held[0].Overflow != 21 || held[0].MustPass != 101 {
		t.Fatalf("%+v, error %v", held, err)
	}
	for _, want := range []int64{8, 0} { // of eight rounds one event each
		ended, err := s.EndHold(t.Context(), store.HoldEnd{Lane: lane.ID, Epoch: lane.Epoch, Past: 101, Drop: true, Overflows: true})
		if err != nil || ended.Deliveries != want {
			t.Errorf("%+v, error %v, want %d given up", ended, err, want)
		}
	}
	if got := one[string](w, `SELECT string_agg("from"::text, ' ' ORDER BY "from") || (SELECT ' ' || dropped FROM rowcall.cursors) FROM rowcall.overflows`); got != "101 250 8" {
		t.Errorf("overflows and dropped %s, want 101 250 8", got)
	}
}

func TestToCountWhatOverflowedKeysAreOwedReadsTheLogOnce(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	a := newAged(t, config)
	exec(t, a.conn, `UPDATE rowcall.cursors SET owner = 'test', owner_epoch = 1, epoch = 1, "offset" = 1001`)
	exec(t, a.conn, `INSERT INTO rowcall.overflows (lane, digest, key, "from") SELECT $1, n::text::bytea, 'public.orders/id=' || n, 1 + n FROM generate_series(0, 99) n`, a.lanes[0])
	exec(t, a.conn, `VACUUM ANALYZE`)
	const connected = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()`
	others := scan[int](t, a.conn, connected)
	s := storetest.OpenIdle(t, config)
	stop := storetest.Run(t, s)
	if l := lease(t, s); l.Epoch != 1 {
		t.Fatalf("epoch %d", l.Epoch)
	}
	const read = `SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables WHERE relname ~ '^events_[0-9]+$'`
	before := scan[int64](t, a.conn, read)
	// Of each of the hundred keys one event in each of the ten batches.
	ended, err := s.EndHold(t.Context(), store.HoldEnd{Lane: store.LaneID(a.lanes[0]), Epoch: 1, Past: 1001, Drop: true, Overflows: true})
	if err != nil || ended.Deliveries != 1000 {
		t.Errorf("%+v, error %v, want 1,000 given up", ended, err)
	}
	stop()
	s.Close() // only now the server has counted all
	wait(t, "the connections are gone", func() bool {
		return scan[int](t, a.conn, connected) <= others
	})
	if n := scan[int64](t, a.conn, read) - before; n > 5_000 {
		t.Errorf("%d rows of 1,000 were read", n)
	}
}

// What is kept of an event for dead ranges is all of it.
func TestKeptEventsHaveEveryColumnOfTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	columns := func(table string) string {
		return one[string](w, `SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull, ', ' ORDER BY attname)
			FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped`, "rowcall."+table)
	}
	if events, kept := columns("events"), columns("kept_events"); events != kept {
		t.Errorf("the log has %s\nkept are %s\na migration that adds to the one adds to the other", events, kept)
	}
}

// A hold that ends leaves an overflowed key what its lane had passed, and takes
// from it what it gives up; at the log's bound both go, each counted once.
func TestTheEndOfAHoldAndAnOverflowHaveNoEventInCommon(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	shop := source(t, s, "shop")
	b := &store.Batch{Checkpoint: store.Checkpoint{Commit: 100, Ordinal: 60}}
	for i := range 60 {
		b.End(append(b.Begin(store.Event{LSN: 100, Ordinal: int64(i), Generation: 1, Type: "public.t.updated", Key: fmt.Sprint("public.t/id=", i%2)}), "{}"...))
	}
	mustAppend(t, s, shop, b)
	id := subscribe(t, s, "x", store.Start{Earliest: true}).ID
	lane := claim(t, s)["x"]
	// Of key 0, odd offsets, all from 11 on are owed: 5 below the cursor, and 2 of those that were passed above it.
	settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{
		Lane: lane.ID, Epoch: lane.Epoch, Cursor: 21, Ahead: []store.OffsetRange{{From: 25, Past: 29}},
		Counts: store.Counts{Delivered: 17, Overflowed: 7}, Overflows: []store.Overflow{{Key: "public.t/id=0", From: 11}},
	}}})
	end := func(h store.HoldEnd) store.HoldEnded {
		t.Helper()
		h.Lane, h.Epoch = lane.ID, lane.Epoch
		ended, err := s.EndHold(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		return ended
	}
	balance := func(want store.Balance) {
		t.Helper()
		want.Lane, want.Subscription, want.Sources, want.Matched, want.Exact = lane.ID, id, []string{"shop"}, 60, true
		diff(t, "balance", want, balanceOf(t, s, id))
	}
	balance(store.Balance{Delivered: 17, Waiting: 43})
	end(store.HoldEnd{Past: 31, Reason: "hold_limit_age"})
	end(store.HoldEnd{Past: 41, Reason: "hold_limit_age"})
	lane = claim(t, s)["x"]
	diff(t, "overflows", []store.Overflow{{Key: "public.t/id=0", From: 11, Skip: []store.OffsetRange{{From: 21, Past: 25}, {From: 29, Past: 41}}}}, lane.Overflows)
	balance(store.Balance{Delivered: 17, DeadRanges: 16, Waiting: 27})
	if got := end(store.HoldEnd{Past: 51, Drop: true, Overflows: true, Reason: "log_full"}); got.Deliveries != 7 || got.Events.Events != 10 {
		t.Errorf("at the log's bound: %+v", got)
	}
	balance(store.Balance{Delivered: 17, DeadRanges: 16, Dropped: 17, Waiting: 10})
}
