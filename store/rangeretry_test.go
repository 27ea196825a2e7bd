package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

// retryWorld is a subscription whose lane gave up offsets 11 to 30 of 60, but for
// 13 and 14, which were settled.
type retryWorld struct {
	*world
	s       *store.Store
	lane    store.Lane
	id      subscriptions.ID
	rangeID int64
}

func newRetryWorld(t *testing.T) *retryWorld {
	t.Helper()
	w := &retryWorld{world: newWorld(t)}
	w.config.Retention = 100 * 365 * 24 * time.Hour
	config := w.config
	config.Instance = "a"
	w.s = storetest.OpenIdle(t, config)
	w.s.SetSpans(10, 10)
	t.Cleanup(storetest.Run(t, w.s))
	if _, err := w.s.Lease(t.Context()); err != nil {
		t.Fatal(err)
	}
	shop := source(t, w.s, "shop")
	for lsn := range store.LSN(6) {
		mustAppend(t, w.s, shop, batch(100*(lsn+1), 10))
	}
	w.id = subscribe(t, w.s, "x", store.Start{Earliest: true}).ID
	w.lane = claim(t, w.s)["x"]
	settle(t, w.s, store.Settlement{Lanes: []store.LaneSettlement{{
		Lane: w.lane.ID, Epoch: w.lane.Epoch, Cursor: 11, Ahead: []store.OffsetRange{{From: 13, Past: 15}}, Counts: store.Counts{Delivered: 12},
	}}})
	if _, err := w.s.EndHold(t.Context(), store.HoldEnd{Lane: w.lane.ID, Epoch: w.lane.Epoch, Past: 31, Reason: "hold_limit_age"}); err != nil {
		t.Fatal(err)
	}
	w.rangeID = one[int64](w.world, `SELECT id FROM rowcall.dead_ranges`)
	return w
}

// retry asks for a retry and returns its lane.
func (w *retryWorld) retry(t *testing.T) (store.Job, store.Lane) {
	t.Helper()
	j := store.Job{CreatedBy: "ann"}
	if err := w.s.RetryDeadRange(t.Context(), w.rangeID, &j); err != nil {
		t.Fatal(err)
	}
	return j, w.laneOf(t, j.ID)
}

func (w *retryWorld) laneOf(t *testing.T, id store.JobID) store.Lane {
	t.Helper()
	lanes, _, err := w.s.ClaimLanes(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(lanes, func(l store.Lane) bool { return l.Replay != nil && l.Replay.Job == id })
	if i < 0 {
		t.Fatalf("no lane of %s", id)
	}
	return lanes[i]
}

// balance demands that what is counted adds up to 60.
func (w *retryWorld) balance(t *testing.T, want store.Balance) {
	t.Helper()
	want.Lane, want.Subscription, want.Sources, want.Matched, want.Exact = w.lane.ID, w.id, []string{"shop"}, 60, true
	diff(t, "balance", want, balanceOf(t, w.s, w.id))
}

// read reads all of a range, a few events at a time.
func (w *retryWorld) read(t *testing.T, r *store.Replay, from store.Offset) (at []store.Offset) {
	t.Helper()
	for from < r.Past {
		events, next, err := w.s.ReadRange(t.Context(), from, r.Past, 3, 1<<20)
		if err != nil || next <= from {
			t.Fatalf("from %d to %d: %v", from, next, err)
		}
		for _, e := range events {
			if e.Offset < r.Past {
				at = append(at, e.Offset)
			}
		}
		from = next
	}
	return at
}

func TestADeadRangeIsRetriedByAReplayOfWhatItHas(t *testing.T) {
	t.Parallel()
	w := newRetryWorld(t)
	w.balance(t, store.Balance{Delivered: 12, DeadRanges: 18, Waiting: 30})
	j, lane := w.retry(t)
	if j.Total != 18 || j.Subscription != w.id || lane.Cursor != 11 || !slices.Equal(lane.Ahead, []store.OffsetRange{{From: 13, Past: 15}}) {
		t.Errorf("job %+v, lane %+v", j, lane)
	}
	if !j.Replay.Matches([]string{"nothing"})("public.orders.updated") {
		t.Error("it is not what the range's patterns match")
	}
	if err := w.s.RetryDeadRange(t.Context(), w.rangeID, &store.Job{}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("again: %v", err)
	}
	if err := w.s.DiscardDeadRange(t.Context(), w.rangeID); !errors.Is(err, store.ErrConflict) {
		t.Errorf("discarded meanwhile: %v", err)
	}
	if err := w.s.RetryDeadRange(t.Context(), 99, &store.Job{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
	w.balance(t, store.Balance{Delivered: 12, DeadRanges: 18, Waiting: 30})

	// It keeps nothing in the log: what that drops is kept beside it.
	settle(t, w.s, store.Settlement{Lanes: []store.LaneSettlement{{
		Lane: w.lane.ID, Epoch: w.lane.Epoch, Cursor: 51, Counts: store.Counts{Delivered: 32},
	}}})
	w.exec(`INSERT INTO rowcall.log_times (at, next) VALUES (now() - interval '200 years', 31)`)
	if err := w.s.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if oldest, err := w.s.Oldest(t.Context()); err != nil || oldest != 31 {
		t.Fatalf("oldest %d, error %v", oldest, err)
	}
	if got, want := w.read(t, lane.Replay, 11), []store.Offset{11, 12, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30}; !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	w.balance(t, store.Balance{Delivered: 32, DeadRanges: 18, Waiting: 10})

	// Up to 20 delivered but for two, of which one is dead.
	set := store.LaneSettlement{
		Lane: lane.ID, Epoch: lane.Epoch, Cursor: 21, Counts: store.Counts{Delivered: 6}, Progress: &store.Progress{Delivered: 6, Dead: 1},
		Upsert: []store.Delivery{{Offset: 12, State: store.Dead, Reason: "rejected"}, {Offset: 16, State: store.Retrying}},
	}
	settle(t, w.s, store.Settlement{Lanes: []store.LaneSettlement{set}})
	settle(t, w.s, store.Settlement{Lanes: []store.LaneSettlement{set}})
	w.balance(t, store.Balance{Delivered: 38, DeadRanges: 10, Dead: 1, Retrying: 1, Waiting: 10})

	// Its end: one was left out by the filter. The range is gone, and its dead
	// letter keeps its event.
	set = store.LaneSettlement{
		Lane: lane.ID, Epoch: lane.Epoch, Cursor: 61, Following: true, Counts: store.Counts{Delivered: 16}, Delete: []store.Offset{16},
		Progress: &store.Progress{Delivered: 16, Dead: 1, Over: true},
	}
	settle(t, w.s, store.Settlement{Lanes: []store.LaneSettlement{set}})
	settle(t, w.s, store.Settlement{Lanes: []store.LaneSettlement{set}})
	if got := w.deadRanges(w.s); got != "" {
		t.Errorf("dead ranges %s", got)
	}
	w.balance(t, store.Balance{Delivered: 48, Dead: 1, Filtered: 1, Waiting: 10})
	if err := w.s.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := one[int](w.world, `SELECT count(*) FROM rowcall.kept_partitions`); n != 0 {
		t.Errorf("%d partitions are kept for nobody", n)
	}
	if d, err := w.s.Delivery(t.Context(), lane.ID, 12); err != nil || d.Event == nil || len(d.Event.Data) == 0 {
		t.Errorf("the dead letter %+v, error %v", d, err)
	}

	// Its lane goes with its last dead letter, and what it counted stays.
	set.Counts.Discarded, set.Delete = 1, []store.Offset{12}
	settle(t, w.s, store.Settlement{Lanes: []store.LaneSettlement{set}})
	w.exec(`UPDATE rowcall.jobs SET ended_at = ended_at - interval '2 minutes'`)
	if err := w.s.DropJobs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := one[int](w.world, `SELECT count(*) FROM rowcall.cursors`); n != 1 {
		t.Errorf("%d lanes", n)
	}
	w.balance(t, store.Balance{Delivered: 48, Discarded: 1, Filtered: 1, Waiting: 10})
}

func TestACancelledRetryGivesItsRangeBackWhatItHadNotComeTo(t *testing.T) {
	t.Parallel()
	w := newRetryWorld(t)
	j, lane := w.retry(t)
	settle(t, w.s, store.Settlement{Lanes: []store.LaneSettlement{{
		Lane: lane.ID, Epoch: lane.Epoch, Cursor: 21, Ahead: []store.OffsetRange{{From: 25, Past: 27}}, Counts: store.Counts{Delivered: 7},
		Progress: &store.Progress{Delivered: 7, Dead: 1},
		Upsert: []store.Delivery{
			{Offset: 12, State: store.Dead, Reason: "rejected"}, {Offset: 16, State: store.Retrying, Reason: "server_error"}, {Offset: 26, State: store.Blocked},
		},
	}}})
	w.balance(t, store.Balance{Delivered: 19, DeadRanges: 8, Dead: 1, Retrying: 1, Blocked: 1, Waiting: 30})
	if _, err := w.s.SetJobState(t.Context(), j.ID, store.JobCancelled); err != nil {
		t.Fatal(err)
	}
	lane = w.laneOf(t, j.ID)
	if err := w.s.ReturnDeadRange(t.Context(), lane.ID, lane.Epoch-1); !errors.Is(err, store.ErrFenced) {
		t.Errorf("of another's lane: %v", err)
	}
	for range 2 { // again, after an error that left it in doubt
		if err := w.s.ReturnDeadRange(t.Context(), lane.ID, lane.Epoch); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := w.deadRanges(w.s), "[21,31) 8 events hold_limit_age; without [25,27)"; got != want {
		t.Errorf("dead ranges %s, want %s", got, want)
	}
	if got := one[string](w.world, `SELECT string_agg("offset" || state || reason, ' ' ORDER BY "offset") FROM rowcall.deliveries`); got != "12deadrejected 16deadserver_error 26deadcancelled" {
		t.Errorf("deliveries %s", got)
	}
	w.balance(t, store.Balance{Delivered: 19, DeadRanges: 8, Dead: 3, Waiting: 30})
	// It can be retried again.
	if j, lane := w.retry(t); j.Total != 8 || lane.Cursor != 21 {
		t.Errorf("job %+v, lane %+v", j, lane)
	}
}

// Many at once would be one long transaction, that holds up who settles them.
func TestDeliveriesOfARetriedRangeGetTheirEventsInSteps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	const past = 5202
	fill(t, s, past)
	subscribe(t, s, "x", store.Start{Earliest: true})
	dead(t, s, past, claim(t, s)["x"])
	w.exec(`CREATE TABLE rowcall.kept_events_all PARTITION OF rowcall.kept_events FOR VALUES FROM (1) TO (10001)`)
	w.exec(`INSERT INTO rowcall.kept_events SELECT * FROM rowcall.events`)
	w.exec(`UPDATE rowcall.log_head SET oldest = 5200`)
	if err := s.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := one[int](w, `SELECT count(*) FROM rowcall.deliveries d JOIN rowcall.events e USING ("offset")
WHERE d.event->>'key' = e.key AND d.data = e.data AND "offset" < 5200`); n != 5199 {
		t.Errorf("%d of 5199 deliveries have their events", n)
	}
	if n := one[int](w, `SELECT count(*) FROM rowcall.deliveries WHERE event IS NOT NULL AND "offset" >= 5200`); n != 0 {
		t.Errorf("%d have one that the log has", n)
	}
	if n := one[int](w, `SELECT count(DISTINCT xmin::text) FROM rowcall.deliveries WHERE event IS NOT NULL`); n < 2 {
		t.Errorf("%d transactions", n)
	}
}
