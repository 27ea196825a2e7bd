package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// state is all that a settlement may write, as text.
func (w *world) state() string {
	return one[string](w, `
SELECT concat_ws(E'\n',
  (SELECT string_agg(c::text, E'\n' ORDER BY lane) FROM rowcall.cursors c),
  (SELECT string_agg(d::text, E'\n' ORDER BY lane, "offset") FROM rowcall.deliveries d),
  (SELECT string_agg(i::text, E'\n' ORDER BY id) FROM rowcall.intents i),
  (SELECT string_agg(instance || floor, E'\n' ORDER BY instance) FROM rowcall.leases))`)
}

func TestASettlementOfAllKindsOfRowsStandsAsAWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	fill(t, s, 40)
	subscribe(t, s, "x", store.Start{Earliest: true})
	subscribe(t, s, "y", store.Start{Earliest: true})
	lanes := claim(t, s)
	x, y := lanes["x"], lanes["y"]
	due, failed := micro(time.Now().Add(time.Minute)), micro(time.Now())
	settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{Lane: x.ID, Epoch: x.Epoch, Cursor: 5, Upsert: []store.Delivery{
		{Offset: 2, State: store.Retrying, Keys: []string{"k"}},
		{Offset: 3, State: store.Blocked, Keys: []string{"k"}},
		{Offset: 4, State: store.Dead, Keys: []string{"l"}},
	}}}})
	for _, at := range []store.Offset{2, 3} {
		if err := s.Request(t.Context(), store.Intent{Lane: x.ID, Action: "retry", Offset: at, Actor: "ann"}); err != nil {
			t.Fatal(err)
		}
	}
	intents, err := s.Intents(t.Context(), 0, 100)
	if err != nil || len(intents) != 2 {
		t.Fatalf("intents %v, error %v", intents, err)
	}

	changed := store.Delivery{
		Offset: 2, State: store.Retrying, Keys: []string{"k", "k2"}, Attempts: 3, DueAt: due, FirstFailedAt: failed,
		HeldMS: 7, Reason: "server_error", Status: 500, Error: "boom\x00 \xff",
	}
	barrier := store.Delivery{Offset: 9, State: store.Blocked, Keys: []string{}, Barrier: "public.orders"}
	set := store.Settlement{Floor: 30, Lanes: []store.LaneSettlement{
		{
			Lane: x.ID, Epoch: x.Epoch, Cursor: 10, Ahead: []store.OffsetRange{{From: 12, Past: 14}, {From: 20, Past: 21}}, HeldMS: 99,
			Upsert: []store.Delivery{changed}, Delete: []store.Offset{3, 4, 1000}, Intents: []int64{intents[0].ID, 12345},
		},
		{Lane: y.ID, Epoch: y.Epoch, Cursor: 30, Following: true, Upsert: []store.Delivery{barrier}},
	}}
	settle(t, s, set)
	settle(t, s, set) // once more: nothing changes

	again, _, err := s.ClaimLanes(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "lanes", []store.Lane{
		{ID: x.ID, Epoch: x.Epoch, Cursor: 10, Ahead: set.Lanes[0].Ahead, HeldMS: 99},
		{ID: y.ID, Epoch: y.Epoch, Cursor: 30, Following: true},
	}, again, cmpopts.IgnoreFields(store.Lane{}, "Subscription", "Version"))
	left, err := s.Intents(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "intents", intents[1:], left)

	changed.Lane, changed.Error = x.ID, "boom\uFFFD \uFFFD"
	barrier.Lane = y.ID
	for lane, want := range map[store.LaneID]store.Delivery{x.ID: changed, y.ID: barrier} {
		got, err := s.LaneDeliveries(t.Context(), lane, true)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "deliveries", []store.Delivery{want}, got, cmpopts.IgnoreFields(store.Delivery{}, "UpdatedAt"))
	}
}

func TestADeliveryThatASettlementBothDeletesAndSavesStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	subscribe(t, s, "x", store.Start{})
	x := claim(t, s)["x"]
	for range 2 {
		settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{
			Lane: x.ID, Epoch: x.Epoch, Cursor: 1, Upsert: []store.Delivery{{Offset: 1, State: store.Dead}}, Delete: []store.Offset{1},
		}}})
		if n := one[int](w, `SELECT count(*) FROM rowcall.deliveries`); n != 1 {
			t.Fatalf("%d deliveries", n)
		}
	}
}

func TestALaneWhoseEpochHasMovedOnIsFencedAndTheOthersStand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	for _, name := range []string{"x", "y", "z"} {
		subscribe(t, s, name, store.Start{})
	}
	lanes := claim(t, s)
	x, y, z := lanes["x"], lanes["y"], lanes["z"]
	settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{
		{Lane: x.ID, Epoch: x.Epoch, Cursor: 3, Upsert: []store.Delivery{{Offset: 1, State: store.Dead}}},
	}})
	if err := s.Request(t.Context(), store.Intent{Lane: x.ID, Action: "retry", Offset: 1, Actor: "ann"}); err != nil {
		t.Fatal(err)
	}
	intent := one[int64](w, `SELECT id FROM rowcall.intents`)
	if err := s.DeleteSubscription(t.Context(), z.Subscription.ID, z.Subscription.Version); err != nil {
		t.Fatal(err)
	}
	w.exec(`UPDATE rowcall.cursors SET epoch = epoch + 1 WHERE lane = $1`, x.ID)

	fenced, faulty, err := s.Settle(t.Context(), store.Settlement{Floor: 9, Lanes: []store.LaneSettlement{
		{
			Lane: x.ID, Epoch: x.Epoch, Cursor: 8, Following: true, HeldMS: 4, Ahead: []store.OffsetRange{{From: 9, Past: 10}},
			Upsert: []store.Delivery{{Offset: 1, State: store.Retrying}, {Offset: 2, State: store.Dead}},
			Delete: []store.Offset{1}, Intents: []int64{intent},
		},
		{Lane: y.ID, Epoch: y.Epoch, Cursor: 8},
		{Lane: z.ID, Epoch: z.Epoch, Cursor: 8, Upsert: []store.Delivery{{Offset: 1, State: store.Dead}}},
	}})
	if err != nil || len(faulty) > 0 {
		t.Fatalf("faulty %v, error %v", faulty, err)
	}
	diff(t, "fenced", []store.LaneID{x.ID, z.ID}, fenced)
	want := fmt.Sprintf("%d 3 f 0 {} {1:dead} 1;%d 8 f 0 {}  0", x.ID, y.ID)
	got := one[string](w, `SELECT string_agg(concat_ws(' ', lane, "offset", following, held_ms, ahead,
  coalesce((SELECT array_agg("offset" || ':' || state)::text FROM rowcall.deliveries d WHERE d.lane = c.lane), ''),
  (SELECT count(*) FROM rowcall.intents i WHERE i.lane = c.lane)), ';' ORDER BY lane) FROM rowcall.cursors c`)
	if got != want {
		t.Fatalf("rows are %q, want %q", got, want)
	}
}

func TestTheSettlementOfALifeThatWasSucceededWritesNothing(t *testing.T) {
	t.Parallel()
	for name, succeed := range map[string]func(w *world) *store.Store{
		"by its own next life": func(w *world) *store.Store { s, _ := w.instance("a"); return s },
		"by another instance": func(w *world) *store.Store {
			w.expire("a")
			s, _ := w.instance("b")
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first, leave := w.instance("a")
			subscribe(t, first, "x", store.Start{})
			x := claim(t, first)["x"]
			leave()
			second := succeed(w)
			taken := claim(t, second)["x"]
			if taken.Epoch <= x.Epoch {
				t.Fatalf("epoch %d after %d", taken.Epoch, x.Epoch)
			}
			before := w.state()
			_, _, err := first.Settle(t.Context(), store.Settlement{Floor: 50, Lanes: []store.LaneSettlement{{
				Lane: x.ID, Epoch: x.Epoch, Cursor: 7, Upsert: []store.Delivery{{Offset: 1, State: store.Dead}},
			}}})
			if !errors.Is(err, store.ErrFenced) {
				t.Errorf("error %v, want fenced", err)
			}
			// Nor does a lane's new epoch help who has no lease.
			_, _, err = first.Settle(t.Context(), store.Settlement{Lanes: []store.LaneSettlement{{Lane: x.ID, Epoch: taken.Epoch, Cursor: 7}}})
			if !errors.Is(err, store.ErrFenced) {
				t.Errorf("error %v, want fenced", err)
			}
			if after := w.state(); after != before {
				t.Errorf("rows were\n%s\nand are\n%s", before, after)
			}
			settle(t, second, store.Settlement{Floor: 2, Lanes: []store.LaneSettlement{{Lane: x.ID, Epoch: taken.Epoch, Cursor: 2, Following: true}}})
		})
	}
}

// A process that is killed leaves its last settlement to the server, where it may
// have to wait for a row: the next life does not get between its statements.
func TestASettlementThatTheNextLifeFindsUnderWayStandsAsAWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, kill := w.instance("a")
	subscribe(t, first, "x", store.Start{})
	x := claim(t, first)["x"]
	settle(t, first, store.Settlement{Lanes: []store.LaneSettlement{
		{Lane: x.ID, Epoch: x.Epoch, Cursor: 3, Upsert: []store.Delivery{{Offset: 2, State: store.Retrying}}},
	}})
	held, err := w.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.Exec(t.Context(), `SELECT FROM rowcall.deliveries WHERE "offset" = 2 FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	settled := make(chan error, 1)
	go func() {
		_, _, err := first.Settle(t.Context(), store.Settlement{Lanes: []store.LaneSettlement{{
			Lane: x.ID, Epoch: x.Epoch, Cursor: 9, Delete: []store.Offset{2}, Upsert: []store.Delivery{{Offset: 7, State: store.Retrying}},
		}}})
		settled <- err
	}()
	observer := connect(t, w.config.URL)
	waiting := func() int {
		return scan[int](t, observer, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
	}
	wait(t, "the settlement waits for the row", func() bool { return waiting() == 1 })
	// That its lease is held costs no renewal.
	deadline := first.LeaseDeadline()
	wait(t, "the lease is renewed", func() bool { return first.LeaseDeadline().After(deadline) })

	kill()
	config := w.config
	config.Instance = "a"
	second := storetest.OpenIdle(t, config)
	t.Cleanup(storetest.Run(t, second))
	wait(t, "the next life has the lease, or waits for it", func() bool { return !second.LeaseDeadline().IsZero() || waiting() == 2 })
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = lease(t, second)
	if err := <-settled; err != nil && !errors.Is(err, store.ErrFenced) {
		t.Fatal(err)
	}
	at := claim(t, second)["x"].Cursor
	left := one[string](w, `SELECT coalesce(string_agg("offset"::text, ' '), '') FROM rowcall.deliveries`)
	if whole, nothing := at == 9 && left == "7", at == 3 && left == "2"; !whole && !nothing {
		t.Errorf("the cursor stands at %d, with deliveries of %q", at, left)
	}
}

func TestALaneWhoseRowsAreRefusedIsFoundAndTheOthersStand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	const n = 9
	for i := range n {
		subscribe(t, s, fmt.Sprint(i), store.Start{})
	}
	lanes := claim(t, s)
	set := func(floor store.Offset) store.Settlement {
		set := store.Settlement{Floor: floor}
		for i := range n {
			l := lanes[fmt.Sprint(i)]
			set.Lanes = append(set.Lanes, store.LaneSettlement{Lane: l.ID, Epoch: l.Epoch, Cursor: floor, Following: true})
		}
		return set
	}
	settle(t, s, set(10))

	next := set(90)
	bad := map[store.LaneID]bool{}
	for _, i := range []int{2, 3, 8} {
		l := &next.Lanes[i]
		bad[l.Lane] = true
		l.Following, l.Cursor = false, 40
		l.Upsert = []store.Delivery{{Offset: 20, State: store.Retrying}, {Offset: 21, State: "lost"}}
	}
	next.Lanes[5].Upsert = []store.Delivery{{Offset: 20, State: store.Dead}}
	next.Lanes[6].Epoch--
	fenced, faulty, err := s.Settle(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "fenced", []store.LaneID{next.Lanes[6].Lane}, fenced)
	if len(faulty) != len(bad) {
		t.Fatalf("faulty %v, want %v", faulty, bad)
	}
	for lane, err := range faulty {
		if !bad[lane] || err == nil {
			t.Errorf("lane %d is faulty: %v", lane, err)
		}
	}
	want := map[string]store.Offset{}
	for i := range n {
		want[fmt.Sprint(i)] = 90
	}
	// The refused ones stand where the floor had them, and it moves them no more.
	want["2"], want["3"], want["8"] = 10, 10, 10
	diff(t, "cursors", want, w.cursors(s))
	if n := one[int](w, `SELECT count(*) FROM rowcall.deliveries`); n != 1 {
		t.Errorf("%d deliveries, want the one that could be stored", n)
	}
}

func TestTheFloorComesDownToALaneThatBeginsToFollowBelowIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	subscribe(t, s, "x", store.Start{})
	x := claim(t, s)["x"]
	settle(t, s, store.Settlement{Floor: 70})
	settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{Lane: x.ID, Epoch: x.Epoch, Cursor: 30, Following: true}}})
	diff(t, "cursors", map[string]store.Offset{"x": 30}, w.cursors(s))
	settle(t, s, store.Settlement{Floor: 80})
	diff(t, "cursors", map[string]store.Offset{"x": 80}, w.cursors(s))
	// And a lane that follows no more stands at its own.
	settle(t, s, store.Settlement{Floor: 99, Lanes: []store.LaneSettlement{{Lane: x.ID, Epoch: x.Epoch, Cursor: 85}}})
	diff(t, "cursors", map[string]store.Offset{"x": 85}, w.cursors(s))
}

func BenchmarkSettle(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("lanes=%d", n), func(b *testing.B) {
			w := newWorld(b)
			s, _ := w.instance("a")
			for i := range n {
				subscribe(b, s, fmt.Sprint(i), store.Start{})
			}
			var set store.Settlement
			for _, l := range claim(b, s) {
				set.Lanes = append(set.Lanes, store.LaneSettlement{Lane: l.ID, Epoch: l.Epoch})
			}
			b.ResetTimer()
			for b.Loop() {
				set.Floor++
				for i := range set.Lanes {
					set.Lanes[i].Cursor = set.Floor
				}
				settle(b, s, set)
			}
		})
	}
}

// A process that lost its lease and won it back settles nothing that it did
// under the one before.
func TestASettlementUnderAnotherLeaseIsFenced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	subscribe(t, s, "x", store.Start{})
	x := claim(t, s)["x"]
	settle(t, s, store.Settlement{Lease: lease.Epoch, Floor: 3})
	before := w.state()
	_, _, err = s.Settle(t.Context(), store.Settlement{Lease: lease.Epoch + 1, Floor: 50, Lanes: []store.LaneSettlement{{
		Lane: x.ID, Epoch: x.Epoch, Cursor: 7,
	}}})
	if !errors.Is(err, store.ErrFenced) {
		t.Errorf("error %v, want fenced", err)
	}
	if after := w.state(); after != before {
		t.Errorf("rows were\n%s\nand are\n%s", before, after)
	}
}
