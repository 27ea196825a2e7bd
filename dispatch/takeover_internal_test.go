package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
)

// The floor counts for every lane of the instance that follows, also for those
// of an earlier life: it must not move before they were claimed.
func TestALifeThatClaimedNothingMovesNoCursor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(string, int) (int, time.Duration) { return 200, time.Millisecond })
		m := newMemory(simulated(nil))
		end, _ := life(t, m, e)
		for n := range 10 {
			m.append(rowEvent(n, n))
		}
		await(t, time.Minute, "the lane following", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.following && m.floor == 11
		})
		end()
		m.restart()
		for n := range 5 {
			m.append(rowEvent(10+n, n))
		}
		m.mu.Lock()
		m.unclaimed = errors.New("too slow")
		m.mu.Unlock()
		end, _ = life(t, m, e)
		time.Sleep(10 * time.Second)
		end()
		m.restart()
		m.mu.Lock()
		m.unclaimed = nil
		m.mu.Unlock()
		end, _ = life(t, m, e)
		await(t, time.Minute, "all delivered", func() bool { return e.delivered() == 15 })
		end()
		e.check(t, false)
	})
}

// A process that slept finds that another one of its name has taken over, and
// is gone again: it gets the lease back, and what it knew before counts no more.
func TestALeaseThatWasLostAndWonAgainLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		e := newEndpoint(func(_ string, try int) (int, time.Duration) {
			if failing.Load() && try == 1 {
				return 500, time.Second
			}
			return 200, time.Millisecond
		})
		m := newMemory(simulated(nil))
		end, _ := life(t, m, e)
		for n := range 10 {
			m.append(rowEvent(n, n))
		}
		await(t, time.Minute, "the lane following", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.following && m.floor == 11
		})
		failing.Store(true)
		m.mu.Lock()
		m.leaseEpoch++ // the other process
		m.epoch++
		m.owner = m.leaseEpoch
		m.leaseEpoch++ // and this one again
		m.mu.Unlock()
		for n := range 10 {
			m.append(rowEvent(10+n, n))
		}
		await(t, time.Minute, "all delivered", func() bool { return e.delivered() == 20 })
		end()
		e.check(t, true)
	})
}

// A settlement whose answer was lost may stand: what the store has is then not
// what the lane believes.
func TestASettlementInDoubtLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(_ string, try int) (int, time.Duration) {
			if try == 1 {
				return 0, 10 * time.Second
			}
			return 200, 0
		})
		m := newMemory(simulated(nil))
		m.doubtful = 1 // the one that says that the lane follows
		_, kill := life(t, m, e)
		time.Sleep(settleEvery + 10*time.Millisecond)
		m.append(rowEvent(0, 0))
		time.Sleep(5 * time.Second)
		kill()
		end, _ := life(t, m, e)
		await(t, time.Minute, "delivered", func() bool { return e.delivered() == 1 })
		end()
	})
}

// lanesInTwo is a store of two lanes, of which the second cannot be opened yet.
type lanesInTwo struct {
	*memory
	broken error
}

func (s *lanesInTwo) ClaimLanes(_ context.Context, have map[store.LaneID]int64) (lanes []store.Lane, owned []store.LaneID, err error) {
	for id := store.LaneID(1); id <= 2; id++ {
		if id == 2 && s.broken == nil {
			continue // it was deleted
		}
		owned = append(owned, id)
		if _, ok := have[id]; !ok {
			lanes = append(lanes, store.Lane{ID: id, Epoch: 1, Cursor: 1, Subscription: s.sub})
		}
	}
	return lanes, owned, nil
}

func (s *lanesInTwo) LaneDeliveries(_ context.Context, id store.LaneID, _ bool) ([]store.Delivery, error) {
	if id == 2 {
		return nil, s.broken
	}
	return nil, nil
}

func TestALaneThatCannotBeOpenedKeepsNoOtherFromItsEvents(t *testing.T) {
	t.Parallel()
	m := &lanesInTwo{memory: newMemory(simulated(nil)), broken: errors.New("no answer")}
	s := sessionOver(t, m)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	s.readCtx, s.flightCtx = over, over // lanes are only routed here
	if err := s.claim(t.Context()); !errors.Is(err, m.broken) {
		t.Fatalf("claim: %v", err)
	}
	m.broken = nil
	if err := s.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.readers.Wait()
	if got := fmt.Sprint(s.table.set.Match("public.t.updated")); got != "[0]" || len(s.table.lanes) != 1 || s.table.lanes[0].id != 1 {
		t.Errorf("lanes %v want the event, of %d", got, len(s.table.lanes))
	}
}

// Every edit of a subscription opens a new lane: the one before must leave.
func TestALaneThatWasReplacedIsLookedAtNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(string, int) (int, time.Duration) { return 200, time.Second })
		m := newMemory(simulated(nil))
		d, err := newDispatcher(m, Config{Transport: e})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 40 {
			m.append(rowEvent(n, n))
		}
		s := newSession(d, store.Lease{Instance: "sim", Epoch: m.leaseEpoch})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.run(ctx) }()
		await(t, time.Minute, "some delivered", func() bool { return e.delivered() > 0 })
		m.mu.Lock()
		m.sub.Version++
		m.changes <- store.TopicSubscriptions
		m.mu.Unlock()
		await(t, time.Minute, "all delivered", func() bool { return e.delivered() == 40 })
		time.Sleep(stallEvery * 3 / 2)
		synctest.Wait()
		s.stalls.mu.Lock()
		for l := range s.stalls.lanes {
			if l.isDone() {
				t.Errorf("a lane that is done, with %d events in its window, is looked at again", l.window.len())
			}
		}
		s.stalls.mu.Unlock()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
