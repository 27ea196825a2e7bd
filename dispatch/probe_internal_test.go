package dispatch

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// An endpoint that is up again is found to be, though the oldest event that is
// owed fails whatever happens: probes take turns.
func TestAnEventThatAlwaysFailsDoesNotKeepAnEndpointParked(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*subscriptions.Spec){
		"by key":   nil,
		"unsorted": func(s *subscriptions.Spec) { s.Ordering = subscriptions.OrderNone },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				down.Store(true)
				poison := "01-0000000000000000-0"
				e := newEndpoint(func(id string, _ int) (int, time.Duration) {
					if down.Load() || id == poison {
						return 503, time.Millisecond
					}
					return 200, time.Millisecond
				})
				m := newMemory(simulated(edit))
				end, _ := life(t, m, e)
				const events = 100
				for n := range events {
					m.append(rowEvent(n, n))
				}
				parked := func() bool {
					m.mu.Lock()
					defer m.mu.Unlock()
					return m.health.State == string(Parked) && m.health.Failures > 3
				}
				await(t, time.Hour, "parked", parked)
				down.Store(false)
				await(t, time.Hour, "all the others delivered", func() bool { return e.delivered() == events-1 })
				end()
				e.check(t, false)
			})
		})
	}
}

// The same, where it was the only one when the endpoint was parked.
func TestAnEventThatAlwaysFailsLetsThoseBehindItProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(id string, _ int) (int, time.Duration) {
			if id == "01-0000000000000000-0" {
				return 503, time.Millisecond
			}
			return 200, time.Millisecond
		})
		m := newMemory(simulated(nil))
		end, _ := life(t, m, e)
		m.append(rowEvent(0, 0))
		await(t, time.Hour, "parked", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.health.State == string(Parked)
		})
		const others = 10
		for n := 1; n <= others; n++ {
			m.append(rowEvent(n, n))
		}
		await(t, time.Hour, "the others delivered", func() bool { return e.delivered() == others })
		end()
	})
}

// What a replay's attempt says of the endpoint goes to the lane that lent it: that
// lane ends after it, and one that has ended settles nothing any more, for another
// has come in its place.
func TestALaneEndsAfterWhatItLent(t *testing.T) {
	t.Parallel()
	m := newMemory(simulated(nil))
	s := sessionOver(t, m)
	l := newLane(s, store.Lane{ID: 1, Cursor: 1, Subscription: m.sub}, nil, HoldNone)
	guest := newLane(s, store.Lane{ID: 2, Cursor: 1, Subscription: m.sub, Replay: &store.Replay{}}, nil, HoldNone)
	e := &entry{offset: 1, key: "k", heapIndex: -1}
	guest.replay.lenders[e], l.guests.lent = l, 1

	settle := func() {
		t.Helper()
		if err := s.settler.settle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.retire(l, true)
	settle()
	if l.isDone() {
		t.Error("the lane has ended while an attempt that it lent is in flight")
	}
	guest.mu.Lock()
	guest.repay(e)
	guest.mu.Unlock()
	settle()
	if !l.isDone() {
		t.Error("the lane has not ended, though nothing is in flight")
	}
	settles := m.moves
	l.mu.Lock()
	l.health.NextProbe, l.healthDirty = time.Now(), true
	l.mark()
	l.mu.Unlock()
	settle()
	if m.moves != settles {
		t.Error("a lane that had ended was settled")
	}
}
