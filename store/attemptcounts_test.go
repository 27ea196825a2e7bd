package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

func TestAttemptsAreCountedOnceWhoeverSavesAndCountsThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, _ := w.instance("a")
	b, _ := w.instance("b")
	subscribe(t, a, "x", store.Start{})
	subscribe(t, a, "y", store.Start{})
	lanes := claim(t, a)
	step := time.Now().UTC().Truncate(store.QuarterStep)
	const rounds, each = 20, 50
	var savers sync.WaitGroup
	for n, s := range []*store.Store{a, b} {
		savers.Go(func() {
			for i := range rounds {
				var as []store.Attempt
				for j := range each {
					lane := lanes[[]string{"x", "y"}[j%2]]
					took := time.Duration(1+(i*each+j)%100) * 10 * time.Millisecond // 10 ms to 1 s
					as = append(as, store.Attempt{
						At: time.Now().Add(-took), Lane: lane.ID, Offset: store.Offset(n*rounds*each + i*each + j + 1), Attempt: 1,
						Duration: took, Outcome: int16(j % 5 / 4), // each fifth failed
					})
				}
				if err := s.SaveAttempts(t.Context(), as); err != nil {
					t.Error(err)
				}
				if _, err := s.AttemptCounts(t.Context(), "", store.LabelsOf(nil), store.MinuteStep, step); err != nil {
					t.Error(err)
				}
			}
		})
	}
	savers.Wait()
	sum := func(of subscriptions.ID, step time.Duration) store.AttemptCount {
		t.Helper()
		counts, err := b.AttemptCounts(t.Context(), of, store.LabelsOf(nil), step, time.Now().Add(-4*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return store.SumAttempts(counts)
	}
	const all = 2 * rounds * each
	for late := time.After(30 * time.Second); ; {
		got := sum("", store.MinuteStep)
		if n := got.Delivered + got.Failed; n == all {
			break
		} else if n > all {
			t.Fatalf("counted %d of %d", n, all)
		}
		select {
		case <-late:
			t.Fatalf("counted %+v, want %d", got, all)
		case <-time.After(50 * time.Millisecond):
		}
	}
	for _, step := range []time.Duration{store.MinuteStep, store.QuarterStep, store.ChartStep} {
		got := sum("", step)
		if got.Delivered != all*4/5 || got.Failed != all/5 {
			t.Errorf("by %s: %d delivered, %d failed", step, got.Delivered, got.Failed)
		}
		for share, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.95: 950 * time.Millisecond} {
			if took := got.Took(share); took < want*4/5 || took > want*6/5 {
				t.Errorf("by %s: %v of them took no longer than %s, want about %s", step, share, took, want)
			}
		}
		if one := sum(lanes["x"].Subscription.ID, step); one.Delivered+one.Failed != all/2 {
			t.Errorf("of one, by %s: %+v", step, one)
		}
		tries, err := b.RecentTries(t.Context(), []subscriptions.ID{lanes["x"].Subscription.ID}, step, time.Now().Add(-4*time.Hour))
		if err != nil || len(tries) != 1 {
			t.Fatalf("%v, %v", tries, err)
		}
		var delivered, failed, own int64
		for _, of := range tries[lanes["x"].Subscription.ID] {
			delivered, failed, own = delivered+of.Delivered, failed+of.Failed, own+of.Own
		}
		if one := sum(lanes["x"].Subscription.ID, step); delivered != one.Delivered || failed != one.Failed || own != delivered {
			t.Errorf("by %s: %d delivered, %d of them its own, %d failed; want %+v", step, delivered, own, failed, one)
		}
	}
}

func TestHowFarTheLogHadComeIsKnownOfThePast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	conn := connect(t, w.config.URL)
	now := time.Now().UTC().Truncate(time.Minute)
	exec(t, conn, `INSERT INTO rowcall.log_times VALUES ($1, 11), ($2, 21)`, now.Add(-10*time.Minute), now.Add(-5*time.Minute))
	times := []time.Time{now.Add(-time.Hour), now.Add(-9 * time.Minute), now.Add(-5 * time.Minute), now.Add(-time.Minute)}
	look := func(want ...store.Offset) {
		t.Helper()
		got, err := s.HeadsAt(t.Context(), times)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("got %v, want %v", got, want)
			}
		}
	}
	look(1, 11, 21, 21)
	exec(t, conn, `UPDATE rowcall.log_head SET oldest = 5`) // its beginning is gone
	look(0, 11, 21, 21)
}
