package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
)

func TestTheLaneOfAReplayStaysWithItsSubscriptionsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, leave := w.instance("a")
	fill(t, a, 50)
	sub := subscribe(t, a, "x", store.Start{Earliest: true})
	live := claim(t, a)["x"]
	j := store.Job{
		Subscription: sub.ID, Replay: store.ReplaySpec{From: 10, Past: 30, Types: []string{"public.*.updated"}, PerSecond: 5},
		Total: 20, Bytes: 100, CreatedBy: "ann",
	}
	if err := a.CreateReplay(t.Context(), &j); err != nil {
		t.Fatal(err)
	}
	if err := a.CreateReplay(t.Context(), &store.Job{Subscription: "sub_nobody"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("to nobody: %v", err)
	}
	replayOf := func(s *store.Store, have map[store.LaneID]int64) store.Lane {
		t.Helper()
		lanes, owned, err := s.ClaimLanes(t.Context(), have)
		if err != nil || len(owned) != 2 {
			t.Fatalf("owned %v, error %v", owned, err)
		}
		i := slices.IndexFunc(lanes, func(l store.Lane) bool { return l.Replay != nil })
		if i < 0 {
			t.Fatalf("no replay among %d lanes", len(lanes))
		}
		return lanes[i]
	}
	lane := replayOf(a, map[store.LaneID]int64{live.ID: live.Version})
	if r := lane.Replay; r.Job != j.ID || r.State != store.JobRunning || r.Past != 30 || r.PerSecond != 5 || len(r.Types) != 1 || lane.Cursor != 10 {
		t.Errorf("lane %+v of replay %+v", lane, r)
	}
	b, _ := w.instance("b")
	if lanes, owned, err := b.ClaimLanes(t.Context(), nil); err != nil || len(lanes)+len(owned) > 0 {
		t.Errorf("another instance claims %d, error %v", len(lanes), err)
	}

	// Its progress is all in all: to settle it twice changes nothing.
	set := store.Settlement{Lanes: []store.LaneSettlement{{
		Lane: lane.ID, Epoch: lane.Epoch, Cursor: 20, Progress: &store.Progress{Delivered: 9, Dead: 1},
		Upsert: []store.Delivery{{Offset: 12, State: store.Dead}},
	}}}
	settle(t, a, set)
	settle(t, a, set)
	if got, err := a.Job(t.Context(), j.ID); err != nil || got.Done != 9 || got.Failed != 1 || got.Position != 20 || got.State != store.JobRunning || got.Bytes != 100 {
		t.Errorf("replay %+v, error %v", got, err)
	}
	if _, err := a.SetJobState(t.Context(), j.ID, store.JobPaused); err != nil {
		t.Fatal(err)
	}
	if r := replayOf(a, map[store.LaneID]int64{live.ID: live.Version, lane.ID: lane.Version}).Replay; r.State != store.JobPaused || r.Delivered != 9 || r.Dead != 1 {
		t.Errorf("paused %+v", r)
	}
	leave()
	w.expire("a")
	lane = replayOf(b, nil)
	found, _, err := b.Deliveries(t.Context(), store.DeliveryFilter{Subscription: sub.ID}, 10, within)
	if err != nil || len(found) != 1 || found[0].Replay != j.ID {
		t.Errorf("deliveries %+v, error %v", found, err)
	}
	if backlogs, err := b.Backlogs(t.Context()); err != nil || len(backlogs) != 1 || backlogs[0].Dead != 1 || backlogs[0].Lane != live.ID {
		t.Errorf("backlogs %+v, error %v", backlogs, err)
	}
	settle(t, b, store.Settlement{Lanes: []store.LaneSettlement{{
		Lane: lane.ID, Epoch: lane.Epoch, Cursor: 51, Following: true, Progress: &store.Progress{Delivered: 19, Dead: 1, Over: true},
	}}})
	if got, err := b.Job(t.Context(), j.ID); err != nil || got.State != store.JobDone || got.Done != 19 || got.EndedAt.IsZero() {
		t.Errorf("at its end: %+v, error %v", got, err)
	}
	// Its lane stays for its dead letter, and no longer.
	lanes := func() int { return one[int](w, `SELECT count(*) FROM rowcall.cursors`) }
	w.exec(`UPDATE rowcall.jobs SET ended_at = ended_at - interval '2 minutes'`)
	if err := b.DropJobs(t.Context()); err != nil || lanes() != 2 {
		t.Errorf("%d lanes while a dead letter is there, error %v", lanes(), err)
	}
	settle(t, b, store.Settlement{Lanes: []store.LaneSettlement{{Lane: lane.ID, Epoch: lane.Epoch, Cursor: 51, Following: true, Delete: []store.Offset{12}}}})
	if err := b.DropJobs(t.Context()); err != nil || lanes() != 1 {
		t.Errorf("%d lanes at last, error %v", lanes(), err)
	}
	w.exec(`UPDATE rowcall.jobs SET ended_at = ended_at - interval '200 years'`)
	if err := b.DropJobs(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := b.Job(t.Context(), j.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("long after its end: %v", err)
	}
}

func TestAReplayFailsWithItsSubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	fill(t, s, 5)
	sub := subscribe(t, s, "x", store.Start{})
	j := store.Job{Subscription: sub.ID, Replay: store.ReplaySpec{From: 1, Past: 6}}
	if err := s.CreateReplay(t.Context(), &j); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteSubscription(t.Context(), sub.ID, sub.Version); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Job(t.Context(), j.ID); err != nil || got.State != store.JobFailed || !strings.Contains(got.Reason, "deleted") || got.EndedAt.IsZero() {
		t.Errorf("replay %+v, error %v", got, err)
	}
}

// The counts of whole blocks and those of a range's ends come to what the log has.
func TestEventsOfARangeAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	claim := source(t, s, "shop")
	types := []string{"public.a.inserted", "public.a.updated", "public.b.inserted"}
	const events = 50_000
	for lsn := store.LSN(1); lsn <= events/1000; lsn++ {
		b := &store.Batch{Checkpoint: store.Checkpoint{Commit: lsn, Ordinal: 1000, End: lsn}}
		for i := range 1000 {
			e := store.Event{LSN: lsn, Ordinal: int64(i), Time: time.Now().UnixMicro(), Generation: 1, Type: types[i%3], Key: "k"}
			b.End(append(b.Begin(e), "12345"...))
		}
		mustAppend(t, s, claim, b)
	}
	for _, r := range []store.OffsetRange{
		{From: 1, Past: events + 1},
		{From: 1, Past: 2},
		{From: 7, Past: 7},
		{From: 100, Past: 16_384},
		{From: 16_384, Past: 32_768},
		{From: 16_383, Past: 32_769},
		{From: 20_000, Past: 21_000},
		{From: 20_000, Past: 49_999},
		{From: 32_768, Past: events + 1},
	} {
		for _, kind := range []string{"public.a.*", "**", "public.c.*"} {
			spec := store.ReplaySpec{Types: []string{kind}}
			got, err := s.CountEvents(t.Context(), r.From, r.Past, spec.Matches([]string{"public.**"}))
			want := one[int64](w, `SELECT count(*) FROM rowcall.events WHERE "offset" >= $1 AND "offset" < $2 AND type LIKE $3`,
				int64(r.From), int64(r.Past), map[string]string{"public.a.*": "public.a.%", "**": "%", "public.c.*": "public.c.%"}[kind])
			if err != nil || got.Events != want || got.Bytes != 5*want {
				t.Errorf("%v of %s: %+v, error %v; want %d", r, kind, got, err, want)
			}
		}
	}
}

// A replay that was asked for from what is gone is refused, also where it goes at
// this moment: it would begin later than was asked, and nobody would hear of it.
func TestAReplayOfWhatTheLogDropsIsRefused(t *testing.T) {
	t.Parallel()
	a := newAged(t, store.Config{})
	a.retain(t)
	a.wantOldest(t, 401)
	create := func(from store.Offset) error {
		return a.CreateReplay(t.Context(), &store.Job{Subscription: "sub_1", Replay: store.ReplaySpec{From: from, Past: 700}})
	}
	if err := create(400); !errors.Is(err, store.ErrGone) {
		t.Errorf("from 400: %v", err)
	}
	dropping, err := connect(t, a.conn.Config().ConnString()).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`UPDATE rowcall.partitions SET detaching = true WHERE first = 401`, `UPDATE rowcall.log_head SET oldest = 501`} {
		if _, err := dropping.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	created := make(chan error, 1)
	go func() { created <- create(450) }()
	wait(t, "the replay waits, or is made", func() bool {
		return len(created) > 0 ||
			scan[int](t, a.conn, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
	})
	if err := dropping.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-created; !errors.Is(err, store.ErrGone) {
		t.Errorf("from 450: %v", err)
	}
	if n := scan[int](t, a.conn, `SELECT count(*) FROM rowcall.jobs`); n != 0 {
		t.Errorf("%d jobs were made", n)
	}
	if err := create(501); err != nil {
		t.Errorf("from what is there: %v", err)
	}
}
