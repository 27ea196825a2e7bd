package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Lanes that want more than there is share all of it: a slot that comes free is
// used, however many wait.
func TestLanesThatWaitForSlotsLeaveNoneUnused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slots, lanes, events, each = 12, 4, 600, 10 * time.Millisecond
		e := newEndpoint(func(string, int) (int, time.Duration) { return 200, each })
		m := newMemory(simulated(func(s *subscriptions.Spec) { s.Ordering = subscriptions.OrderNone }))
		d, err := newDispatcher(m, Config{Transport: e, MaxInFlight: slots})
		if err != nil {
			t.Fatal(err)
		}
		s := newSession(d, store.Lease{Instance: "sim", Epoch: 1})
		s.flightCtx = t.Context()
		target, err := NewTarget(&m.sub)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for id := range lanes {
			l := newLane(s, store.Lane{ID: store.LaneID(id), Cursor: 1, Subscription: m.sub}, target, HoldNone)
			l.throttle.limit = slots
			page := make([]*store.Event, events)
			for n := range events {
				ev := rowEvent(id*events+n, id*events+n)
				ev.Offset = store.Offset(id*events + n + 1)
				page[n] = &ev
			}
			l.mu.Lock()
			l.takeAll(page)
			l.mu.Unlock()
		}
		s.flights.Wait()
		if got := e.delivered(); got != lanes*events {
			t.Fatalf("%d delivered, want %d", got, lanes*events)
		}
		if took, ideal := time.Since(began), lanes*events/slots*each; took > ideal*5/4 {
			t.Errorf("took %v, where %d slots that are always used take %v", took, slots, ideal)
		}
		if s.budget.free != slots || len(s.budget.queue) != 0 {
			t.Errorf("at the end %d slots are free, want %d, and %d lanes wait", s.budget.free, slots, len(s.budget.queue))
		}
	})
}
