package store_test

import (
	"testing"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// At its bound the log lets go of delivered events first, then of dead ranges,
// and only then of what a lane holds, which is the lane's owner's to do.
func TestAtItsBoundTheLogLetsGoOfTheOldestAndSaysWhatItIs(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	a := newAged(t, config)
	exec(t, a.conn, `UPDATE rowcall.partitions SET created_at = now()`)
	exec(t, a.conn, `DELETE FROM rowcall.log_times`) // nothing is past its retention
	insert := `INSERT INTO rowcall.dead_ranges (lane, "from", past, patterns, events, bytes, reason) VALUES ($1, $2, $3, '{public.orders.*}', 50, 1, '')`
	exec(t, a.conn, insert, a.lanes[0], 110, 160)
	exec(t, a.conn, insert, a.lanes[1], 310, 360)
	full := storetest.OpenIdle(t, store.Config{URL: config.URL, Cipher: config.Cipher, Instance: "full", LogMaxBytes: 1})
	state := func() string {
		return scan[string](t, a.conn, `SELECT format('from %s: ranges %s, must pass %s, dropped %s', (SELECT min("offset") FROM rowcall.events),
			(SELECT coalesce(string_agg("from"::text, ' ' ORDER BY "from"), 'none') FROM rowcall.dead_ranges),
			(SELECT string_agg(must_pass::text, ' ' ORDER BY lane) FROM rowcall.cursors), (SELECT sum(dropped) FROM rowcall.cursors))`)
	}
	bound := func(want string) {
		t.Helper()
		if err := full.Bound(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := state(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	// Both lanes stand at 450: what is before goes, the ranges with it, and the
	// lanes are asked for the partition that they stand in.
	bound("from 401: ranges none, must pass 501 501, dropped 100")
	if n := scan[int](t, a.conn, `SELECT count(*) FROM rowcall.kept_partitions`); n > 0 {
		t.Errorf("%d partitions are kept for nobody", n)
	}
	bound("from 401: ranges none, must pass 501 501, dropped 100") // until they do
	exec(t, a.conn, `UPDATE rowcall.cursors SET "offset" = 501 WHERE lane = $1`, a.lanes[0])
	bound("from 401: ranges none, must pass 501 501, dropped 100")
	exec(t, a.conn, `UPDATE rowcall.cursors SET "offset" = 1020`)
	bound("from 1001: ranges none, must pass 1151 1151, dropped 100")
	exec(t, a.conn, `UPDATE rowcall.cursors SET "offset" = 1151`)
	bound("from : ranges none, must pass 1151 1151, dropped 100") // all was delivered
	// The partition that is written to stays, whatever it weighs.
	mustAppend(t, full, a.claim, batch(600, 1))
	bound("from 1151: ranges none, must pass 1151 1151, dropped 100")
}

func TestTheBoundOfTheLogTakesADeadRangeBeforeWhatALaneHolds(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	a := newAged(t, config)
	insert := `INSERT INTO rowcall.dead_ranges (lane, "from", past, patterns, events, bytes, reason) VALUES ($1, $2, $3, '{public.orders.*}', 50, 1, '')`
	for _, from := range []int{10, 110, 460} {
		exec(t, a.conn, insert, a.lanes[0], from, from+50)
	}
	a.retain(t) // what is older than the retention goes, but for what the ranges hold
	if n := scan[int](t, a.conn, `SELECT count(*) FROM rowcall.kept_events`); n != 100 {
		t.Fatalf("%d events are kept, want 100", n)
	}
	most := scan[int64](t, a.conn, `SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits
		WHERE inhparent IN ('rowcall.events'::regclass, 'rowcall.kept_events'::regclass)`)
	full := storetest.OpenIdle(t, store.Config{URL: config.URL, Cipher: config.Cipher, Instance: "full", LogMaxBytes: most - 1})
	if err := full.Bound(t.Context()); err != nil {
		t.Fatal(err)
	}
	// One range was enough; the lanes are left alone.
	got := scan[string](t, a.conn, `SELECT (SELECT string_agg("from"::text, ' ' ORDER BY "from") FROM rowcall.dead_ranges) ||
		(SELECT format(' %s %s', sum(must_pass), sum(dropped)) FROM rowcall.cursors)`)
	if want := "110 460 0 50"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Lanes cannot pass a gap that nobody has accepted: nothing is asked of them, and once
// it is they have time.
func TestTheBoundOfTheLogAsksNothingOfLanesAtAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.LogMaxBytes = 1
	s, _ := w.instance("a")
	claimed := source(t, s, "shop")
	subscribe(t, s, "x", store.Start{Earliest: true})
	lane := claim(t, s)["x"]
	mustAppend(t, s, claimed, batch(100, 10))
	if err := s.RecordGap(t.Context(), claimed, store.Gap{Reason: "slot gone", From: 1, To: 2}, store.Checkpoint{Commit: 200}); err != nil {
		t.Fatal(err)
	}
	for lsn := range store.LSN(7) {
		mustAppend(t, s, claimed, batch(300+lsn, 1500))
	}
	marker := one[store.Offset](w, `SELECT marker FROM rowcall.gaps`)
	past := one[store.Offset](w, `SELECT min(past) FROM rowcall.partitions`)
	if head := s.Head(); past <= marker || past > head {
		t.Fatalf("the marker is at %d, the partition ends at %d and the head is %d", marker, past, head)
	}
	asked := func(at string, want store.Offset) {
		t.Helper()
		if err := s.Bound(t.Context()); err != nil {
			t.Fatal(err)
		}
		held, err := s.Holdings(t.Context())
		if err != nil || len(held) != 1 || held[0].MustPass != want {
			t.Errorf("%s: %+v, error %v, want the lane to be asked to pass %d", at, held, err, want)
		}
	}
	asked("before the marker", 0)
	if n := one[int](w, `SELECT max(must_pass)::int FROM rowcall.cursors`); n != 0 {
		t.Errorf("its owner is not told, but it is asked to pass %d", n)
	}
	settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{Lane: lane.ID, Epoch: lane.Epoch, Cursor: marker}}})
	asked("at the marker", 0)
	backlog, err := s.Backlog(t.Context(), lane.Subscription.ID)
	if err != nil || backlog.GapSince.IsZero() {
		t.Errorf("%+v, error %v: it stands at a gap", backlog, err)
	}
	w.exec(`UPDATE rowcall.cursors SET "offset" = $1`, int64(marker)+1) // of a subscription that was made since
	if backlog, err = s.Backlog(t.Context(), lane.Subscription.ID); err != nil || !backlog.GapSince.IsZero() {
		t.Errorf("%+v, error %v: it stands behind the gap", backlog, err)
	}
	w.exec(`UPDATE rowcall.cursors SET "offset" = $1`, int64(marker))
	w.exec(`UPDATE rowcall.cursors SET must_pass = $1`, int64(past)) // asked for before the gap was found
	asked("at the marker", 0)
	if n, err := s.AcceptGaps(t.Context(), "shop", "ann"); err != nil || n != 1 {
		t.Fatalf("%d accepted, error %v", n, err)
	}
	asked("it has just been accepted", 0)
	if backlog, err = s.Backlog(t.Context(), lane.Subscription.ID); err != nil || !backlog.GapSince.IsZero() {
		t.Errorf("%+v, error %v: it stands at no gap", backlog, err)
	}
	w.exec(`UPDATE rowcall.gaps SET at = now() - interval '3 minutes', accepted_at = now() - interval '2 minutes 50 seconds'`)
	asked("it was open for ten seconds, and a minute has passed", past)
	w.exec(`UPDATE rowcall.gaps SET at = now() - interval '5 minutes', accepted_at = now() - interval '2 minutes'`)
	w.exec(`UPDATE rowcall.cursors SET must_pass = 0`)
	asked("it was open for three minutes, and two have passed", 0)
	w.exec(`UPDATE rowcall.gaps SET at = now() - interval '3 days', accepted_at = now() - interval '61 minutes'`)
	asked("it was open for days, and an hour has passed", past)
}
