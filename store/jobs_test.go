package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// dead gives lanes dead letters at every offset of [1, past).
func dead(t *testing.T, s *store.Store, past int, lanes ...store.Lane) {
	t.Helper()
	var set store.Settlement
	for _, l := range lanes {
		one := store.LaneSettlement{Lane: l.ID, Epoch: l.Epoch, Cursor: store.Offset(past)}
		for at := 1; at < past; at++ {
			one.Upsert = append(one.Upsert, store.Delivery{Offset: store.Offset(at), State: store.Dead, Reason: "rejected", Keys: []string{"k"}})
		}
		set.Lanes = append(set.Lanes, one)
	}
	settle(t, s, set)
}

// job waits until a job is as it should be.
func (w *world) job(s *store.Store, id store.JobID, what string, ok func(store.Job) bool) store.Job {
	w.t.Helper()
	late := time.After(30 * time.Second)
	for {
		j, err := s.Job(w.t.Context(), id)
		if err == nil && ok(j) {
			return j
		}
		select {
		case <-late:
			w.t.Fatalf("the job is not %s: %+v, error %v", what, j, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// take applies every intent there is for lanes, as their owner does, and says
// which offsets they were for; those of odd offsets find nothing left to do.
func take(t *testing.T, s *store.Store, lanes ...store.Lane) (at map[store.LaneID][]store.Offset) {
	t.Helper()
	intents, err := s.Intents(t.Context(), 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	at = map[store.LaneID][]store.Offset{}
	var set store.Settlement
	for _, l := range lanes {
		one := store.LaneSettlement{Lane: l.ID, Epoch: l.Epoch, Cursor: l.Cursor}
		for _, in := range intents {
			switch {
			case in.Lane != l.ID:
			case in.Void || in.Offset%2 == 1:
				one.Moot = append(one.Moot, in.ID)
				at[l.ID] = append(at[l.ID], in.Offset)
			default:
				one.Intents = append(one.Intents, in.ID)
				at[l.ID] = append(at[l.ID], in.Offset)
			}
		}
		set.Lanes = append(set.Lanes, one)
	}
	settle(t, s, set)
	settle(t, s, set) // as after an answer in doubt: counted once
	return at
}

func TestABulkJobAsksForEachDeliveryOnceAcrossTheLivesOfItsInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, leave := w.instance("a")
	const past = 3502
	fill(t, s, past)
	for _, name := range []string{"x", "y", "z"} {
		subscribe(t, s, name, store.Start{Earliest: true})
	}
	lanes := claim(t, s)
	dead(t, s, past, lanes["x"], lanes["y"])
	filter := store.DeliveryFilter{State: store.Dead, Reason: "rejected", Type: "public.orders.updated"}
	n, atLeast, err := s.CountDeliveries(t.Context(), filter, time.Minute)
	if err != nil || n != 2*(past-1) || atLeast {
		t.Fatalf("counted %d, at least %v, error %v", n, atLeast, err)
	}
	if n, atLeast, err := s.CountDeliveries(t.Context(), filter, -time.Second); err != nil || n != 0 || !atLeast {
		t.Errorf("in no time: counted %d, at least %v, error %v", n, atLeast, err)
	}
	j := store.Job{Kind: store.RetryJob, Filter: filter, Total: n, CreatedBy: "ann"}
	if err := s.CreateJob(t.Context(), &j); err != nil {
		t.Fatal(err)
	}
	if j.CreatedAt.Location() != time.UTC || j.UpdatedAt.Location() != time.UTC {
		t.Errorf("made at %v, in the zone of this machine", j.CreatedAt)
	}
	// What becomes a dead letter from now on is none of its business.
	settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{
		Lane: lanes["z"].ID, Epoch: lanes["z"].Epoch, Cursor: past, Upsert: []store.Delivery{{Offset: 1, State: store.Dead, Reason: "rejected"}},
	}}})
	asked := map[store.LaneID][]store.Offset{}
	turn := 0
	w.job(s, j.ID, "done", func(got store.Job) bool {
		if turn++; turn == 3 { // killed, and back
			leave()
			s, leave = w.instance("a")
			lanes = claim(t, s)
		}
		if unapplied := one[int](w, `SELECT count(*) FROM rowcall.intents`); unapplied > 2000 {
			t.Fatalf("%d intents are not applied", unapplied)
		}
		for lane, offsets := range take(t, s, lanes["x"], lanes["y"], lanes["z"]) {
			asked[lane] = append(asked[lane], offsets...)
		}
		return got.State == store.JobDone
	})
	got, err := s.Job(t.Context(), j.ID)
	if err != nil || got.Done != past-2 || got.Skipped != past || got.Total != 2*(past-1) || got.EndedAt.IsZero() {
		t.Errorf("the job says %+v, error %v", got, err)
	}
	if len(asked) != 2 {
		t.Errorf("%d lanes were asked", len(asked))
	}
	for lane, offsets := range asked {
		if len(offsets) != past-1 || !slices.IsSorted(offsets) || len(slices.Compact(offsets)) != past-1 {
			t.Errorf("lane %d was asked for %d deliveries, sorted: %v", lane, len(offsets), slices.IsSorted(offsets))
		}
	}
}

func TestAPausedJobAsksForNothingAndACancelledOneTakesItBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	const past = 3000
	fill(t, s, past)
	sub := subscribe(t, s, "x", store.Start{Earliest: true})
	x := claim(t, s)["x"]
	dead(t, s, past, x)
	j := store.Job{Kind: store.DiscardJob, Filter: store.DeliveryFilter{Subscription: sub.ID}, Total: past - 1}
	if err := s.CreateJob(t.Context(), &j); err != nil {
		t.Fatal(err)
	}
	w.job(s, j.ID, "asking for a full share", func(store.Job) bool { return one[int](w, `SELECT count(*) FROM rowcall.intents`) == 2000 })
	visible := func() int {
		intents, err := s.Intents(t.Context(), 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		return len(intents)
	}
	for range 2 { // twice is once
		if got, err := s.SetJobState(t.Context(), j.ID, store.JobPaused); err != nil || got.State != store.JobPaused || got.Version != 2 {
			t.Fatalf("pause: %+v, error %v", got, err)
		}
	}
	if n := visible(); n != 0 {
		t.Errorf("%d intents of a paused job", n)
	}
	if _, err := s.SetJobState(t.Context(), j.ID, store.JobRunning); err != nil {
		t.Fatal(err)
	}
	if n := visible(); n != 2000 {
		t.Errorf("%d intents after it was resumed", n)
	}
	if _, err := s.SetJobState(t.Context(), j.ID, store.JobCancelled); err != nil {
		t.Fatal(err)
	}
	take(t, s, x)
	got, err := s.Job(t.Context(), j.ID)
	if err != nil || got.Done != 0 || got.Skipped != 2000 || got.State != store.JobCancelled || got.EndedAt.IsZero() {
		t.Errorf("the cancelled job says %+v, error %v", got, err)
	}
	for _, state := range []store.JobState{store.JobRunning, store.JobPaused, store.JobDone} {
		if _, err := s.SetJobState(t.Context(), j.ID, state); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s after the end: %v", state, err)
		}
	}
	if _, err := s.SetJobState(t.Context(), "job_nobody", store.JobPaused); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of no job: %v", err)
	}
}

func TestJobsAreListedNewestFirstAndBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := storetest.OpenIdle(t, w.config)
	var ids []store.JobID
	for i := range 100 {
		kind := store.RetryJob
		if i%2 == 1 {
			kind = store.DiscardJob
		}
		j := store.Job{Kind: kind, Filter: store.DeliveryFilter{State: store.Dead}}
		if err := s.CreateJob(t.Context(), &j); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.ID)
	}
	if err := s.CreateJob(t.Context(), &store.Job{Kind: store.RetryJob}); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	slices.Reverse(ids)
	var got []store.JobID
	for past := int64(0); ; {
		page, err := s.Jobs(t.Context(), store.JobFilter{Past: past}, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page {
			got, past = append(got, j.ID), j.N
		}
		if len(page) < 7 {
			break
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("listed %d, want %d in their order", len(got), len(ids))
	}
	if page, err := s.Jobs(t.Context(), store.JobFilter{Kind: store.DiscardJob, State: store.JobRunning}, 1000); err != nil || len(page) != 50 {
		t.Errorf("%d of one kind, error %v", len(page), err)
	}
}
