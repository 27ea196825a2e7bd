package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

func TestLanesMoveWithTheFloorOfTheOwnerTheyAreTakenFrom(t *testing.T) {
	t.Parallel()
	for name, succeed := range map[string]func(w *world) *store.Store{
		"a former life": func(w *world) *store.Store { s, _ := w.instance("a"); return s },
		"a dead instance": func(w *world) *store.Store {
			w.expire("a")
			s, _ := w.instance("b")
			// Its own floor, from before, says nothing about lanes of others.
			settle(w.t, s, store.Settlement{Floor: 500})
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first, leave := w.instance("a")
			for _, name := range []string{"follows", "owes", "new"} {
				subscribe(t, first, name, store.Start{})
			}
			lanes := claim(t, first)
			follows, owes := lanes["follows"], lanes["owes"]
			ahead := []store.OffsetRange{{From: 25, Past: 28}}
			settle(t, first, store.Settlement{Floor: 20, Lanes: []store.LaneSettlement{
				{Lane: follows.ID, Epoch: follows.Epoch, Cursor: 20, Following: true},
				{Lane: owes.ID, Epoch: owes.Epoch, Cursor: 20, Ahead: ahead, HeldMS: 3},
			}})
			settle(t, first, store.Settlement{Floor: 50})
			leave()

			second := succeed(w)
			taken := claim(t, second)
			if l := taken["follows"]; l.Cursor != 50 || l.Following || l.Epoch != follows.Epoch+1 {
				t.Errorf("the lane that followed is %+v", l)
			}
			if l := taken["owes"]; l.Cursor != 20 || l.Following || l.Epoch != owes.Epoch+1 || !slices.Equal(l.Ahead, ahead) || l.HeldMS != 3 {
				t.Errorf("the lane that owed is %+v", l)
			}
			want := map[string]store.Offset{"follows": 50, "owes": 20, "new": 1}
			diff(t, "cursors", want, w.cursors(second))

			// Who wakes up moves its floor no more.
			if _, _, err := first.Settle(t.Context(), store.Settlement{Floor: 90}); !errors.Is(err, store.ErrFenced) {
				t.Errorf("error %v, want fenced", err)
			}
			settle(t, second, store.Settlement{Floor: 600})
			diff(t, "cursors", want, w.cursors(second))
		})
	}
}

func TestLanesOfALiveInstanceAreLeftToIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, _ := w.instance("a")
	subscribe(t, first, "x", store.Start{})
	claim(t, first)
	second, leave := w.instance("b")
	if got, owned, err := second.ClaimLanes(t.Context(), nil); err != nil || len(got)+len(owned) > 0 {
		t.Fatalf("claimed %v, owned %v, error %v", got, owned, err)
	}
	subscribe(t, first, "y", store.Start{})
	if got := claim(t, second); len(got) != 1 || got["y"].ID == 0 {
		t.Fatalf("claimed %v", got)
	}
	// One that gave up its lease is not waited for.
	leave()
	if err := second.ReleaseLease(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := claim(t, first); len(got) != 2 {
		t.Fatalf("claimed %v", got)
	}
}

func TestOnlyWhatIsNewsIsReturned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	x, y := subscribe(t, s, "x", store.Start{}), subscribe(t, s, "y", store.Start{})
	paused := subscribe(t, s, "paused", store.Start{})
	paused.State, paused.StateReason = subscriptions.Paused, "a person"
	if err := s.UpdateSubscription(t.Context(), paused, 1); err != nil {
		t.Fatal(err)
	}
	lanes := claim(t, s)
	if lanes["paused"].Subscription.State != subscriptions.Paused {
		t.Fatalf("the paused lane is %+v", lanes["paused"])
	}
	diff(t, "subscription", *x, lanes["x"].Subscription)
	have := map[store.LaneID]int64{}
	for _, l := range lanes {
		have[l.ID] = l.Subscription.Version
	}
	names := func() (news []string, owned int) {
		got, all, err := s.ClaimLanes(t.Context(), have)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range got {
			news = append(news, l.Subscription.Name)
		}
		return news, len(all)
	}
	if news, owned := names(); news != nil || owned != 3 {
		t.Fatalf("news %v of %d", news, owned)
	}
	if err := s.UpdateSubscription(t.Context(), x, x.Version); err != nil {
		t.Fatal(err)
	}
	if news, owned := names(); !slices.Equal(news, []string{"x"}) || owned != 3 {
		t.Fatalf("news %v of %d", news, owned)
	}
	if err := s.DeleteSubscription(t.Context(), y.ID, y.Version); err != nil {
		t.Fatal(err)
	}
	have[lanes["x"].ID] = x.Version
	if news, owned := names(); news != nil || owned != 2 {
		t.Fatalf("news %v of %d", news, owned)
	}
	// Claimed anew, a lane is news though its subscription is not.
	w.exec(`UPDATE rowcall.cursors SET owner = 'nobody' WHERE lane = $1`, lanes["x"].ID)
	if news, owned := names(); !slices.Equal(news, []string{"x"}) || owned != 2 {
		t.Fatalf("news %v of %d", news, owned)
	}
}

func TestTwoInstancesThatClaimAtOnceShareNoLane(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stores := make([]*store.Store, 4)
	for i := range stores {
		stores[i], _ = w.instance(fmt.Sprint(i))
	}
	for i := range 50 {
		subscribe(t, stores[0], fmt.Sprint(i), store.Start{})
	}
	owned := make([][]store.LaneID, len(stores))
	errs := make([]error, len(stores))
	var wait sync.WaitGroup
	for i, s := range stores {
		wait.Go(func() {
			var lanes []store.Lane
			lanes, owned[i], errs[i] = s.ClaimLanes(t.Context(), nil)
			for _, l := range lanes {
				if l.Epoch != 1 {
					t.Errorf("lane %d was claimed %d times", l.ID, l.Epoch)
				}
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(owned...)
	slices.Sort(all)
	if n := len(slices.Compact(slices.Clone(all))); len(all) != 50 || n != 50 {
		t.Fatalf("%d lanes owned, %d of them different", len(all), n)
	}
}

func TestAnInstanceWithoutItsLeaseClaimsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, leave := w.instance("a")
	subscribe(t, first, "x", store.Start{})
	leave()
	second, _ := w.instance("a")
	claim(t, second)
	before := w.state()
	if _, _, err := first.ClaimLanes(t.Context(), nil); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("error %v, want fenced", err)
	}
	if after := w.state(); after != before {
		t.Fatalf("rows were\n%s\nand are\n%s", before, after)
	}
}

func BenchmarkClaimLanesUnchanged(b *testing.B) {
	w := newWorld(b)
	s, _ := w.instance("a")
	subscribe(b, s, "first", store.Start{})
	w.exec(`INSERT INTO rowcall.subscriptions (id, name, spec, secrets)
SELECT 'sub_' || lpad(i::text, 26, '0'), 'copy ' || i, s.spec, s.secrets FROM rowcall.subscriptions s, generate_series(2, 10000) i`)
	w.exec(`INSERT INTO rowcall.cursors (subscription, "offset") SELECT id, 1 FROM rowcall.subscriptions WHERE name LIKE 'copy %'`)
	w.exec(`ANALYZE rowcall.subscriptions, rowcall.cursors`)
	lanes, _, err := s.ClaimLanes(b.Context(), nil)
	if err != nil || len(lanes) != 10_000 {
		b.Fatalf("%d lanes, error %v", len(lanes), err)
	}
	have := map[store.LaneID]int64{}
	for _, l := range lanes {
		have[l.ID] = l.Subscription.Version
	}
	b.ResetTimer()
	for b.Loop() {
		if news, owned, err := s.ClaimLanes(b.Context(), have); err != nil || len(news) > 0 || len(owned) != 10_000 {
			b.Fatalf("%d of %d, error %v", len(news), len(owned), err)
		}
	}
}

// A lane changes hands while its owner settles without pause. Whatever its owner
// was told is settled, the next one finds, and nothing more.
func TestAHandOverLosesNoSettlementAndLetsNoneThroughAfterwards(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	instances := []string{"a", "b"}
	stores := make([]*store.Store, 2)
	for i, name := range instances {
		s, leave := w.instance(name)
		leave() // it neither renews its lease nor hears that it lost it
		stores[i] = s
	}
	subscribe(t, stores[0], "follows", store.Start{})
	subscribe(t, stores[0], "owes", store.Start{})
	alive := func(i int) { // instance i has a lease, the other has none
		w.exec(`UPDATE rowcall.leases SET expires_at = now() + CASE WHEN instance = $1 THEN interval '1 hour' ELSE interval '-1 hour' END`,
			instances[i])
	}
	next := store.Offset(1)
	for round := range 12 {
		owner := round % 2
		s := stores[owner]
		alive(owner)
		// What it believes of its lease must be so for it to settle at all.
		lease, err := s.Lease(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.exec(`UPDATE rowcall.leases SET epoch = $2 WHERE instance = $1`, lease.Instance, lease.Epoch)
		w.exec(`UPDATE rowcall.cursors SET owner_epoch = -1 WHERE owner = $1`, lease.Instance)
		lanes := claim(t, s)
		follows, owes := lanes["follows"], lanes["owes"]
		settle(t, s, store.Settlement{Floor: next, Lanes: []store.LaneSettlement{
			{Lane: follows.ID, Epoch: follows.Epoch, Cursor: next, Following: true},
			{Lane: owes.ID, Epoch: owes.Epoch, Cursor: next, Delete: []store.Offset{next - 1}},
		}})
		var settled store.Offset
		stopped := make(chan error, 1)
		begun := make(chan struct{})
		go func() {
			for at := next + 1; ; at++ {
				fenced, _, err := s.Settle(t.Context(), store.Settlement{Floor: at, Lanes: []store.LaneSettlement{
					{Lane: owes.ID, Epoch: owes.Epoch, Cursor: at, Upsert: []store.Delivery{{Offset: at, State: store.Dead}}, Delete: []store.Offset{at - 1}},
				}})
				if err != nil || len(fenced) > 0 {
					settled = at - 1
					stopped <- err
					return
				}
				if at == next+5 {
					close(begun)
				}
			}
		}()
		<-begun
		alive(1 - owner)
		other := stores[1-owner]
		lease, err = other.Lease(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.exec(`UPDATE rowcall.leases SET epoch = $2 WHERE instance = $1`, lease.Instance, lease.Epoch)
		taken := claim(t, other)
		if err := <-stopped; !errors.Is(err, store.ErrFenced) {
			t.Fatalf("the former owner was stopped by %v", err)
		}
		if l := taken["owes"]; l.Cursor != settled {
			t.Fatalf("round %d: the lane was settled to %d and was taken at %d", round, settled, l.Cursor)
		}
		if l := taken["follows"]; l.Cursor != settled {
			t.Fatalf("round %d: the floor was settled to %d and was taken at %d", round, settled, l.Cursor)
		}
		if got := one[[]int64](w, `SELECT array_agg("offset") FROM rowcall.deliveries`); len(got) != 1 || store.Offset(got[0]) != settled {
			t.Fatalf("round %d: deliveries %v, want %d", round, got, settled)
		}
		next = settled + 1
	}
}
