package dispatch

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// account finds events that are neither acknowledged nor given up visibly, and,
// where nothing crashed, those that are both.
func (m *memory) account(t *testing.T, e *endpoint, crashes bool) (givenUp int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	gone := m.held.givenUp()
	for at, d := range m.deliveries {
		if d.State == store.Dead {
			gone[at] = true
		}
	}
	for i := range m.events {
		ev := &m.events[i]
		switch done := e.done[ev.ID()]; {
		case !done && !gone[ev.Offset]:
			t.Errorf("event %d is lost", ev.Offset)
		case done && gone[ev.Offset] && !crashes:
			t.Errorf("event %d was delivered and given up", ev.Offset)
		}
	}
	return len(gone)
}

func TestAPausedLaneGivesUpWhatIsOlderThanItsHoldLimit(t *testing.T) {
	t.Parallel()
	for _, then := range []string{subscriptions.HoldDeadLetter, subscriptions.HoldDrop} {
		t.Run(then, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEndpoint(func(string, int) (int, time.Duration) { return 200, time.Millisecond })
				m := newMemory(simulated(func(s *subscriptions.Spec) {
					s.Outage.HoldLimit = subscriptions.HoldLimit{Age: subscriptions.Duration(time.Hour), Then: then}
				}))
				m.sub.CreatedAt = time.Now()
				_, kill := life(t, m, e)
				m.edit(t, func(sub *subscriptions.Subscription) { sub.State = subscriptions.Paused })
				const events = 300
				for n := range events { // one a minute
					m.append(rowEvent(n, n%7))
					time.Sleep(time.Minute)
					if n == 100 || n == 200 {
						kill()
						_, kill = life(t, m, e)
					}
				}
				m.edit(t, func(sub *subscriptions.Subscription) { sub.State = subscriptions.Active })
				await(t, time.Minute, "the last hour delivered", func() bool { return e.delivered() >= 58 })
				time.Sleep(time.Minute)
				kill()
				e.check(t, true)
				if got := e.delivered(); got > 62 {
					t.Errorf("%d were delivered, of which 60 are less than an hour old", got)
				}
				if then == subscriptions.HoldDrop {
					if got := int(m.held.dropped) + e.delivered(); got != events || len(m.held.ranges) > 0 {
						t.Errorf("%d delivered or dropped of %d, %d ranges", got, events, len(m.held.ranges))
					}
					return
				}
				if got := m.account(t, e, true) + e.delivered(); got != events {
					t.Errorf("%d delivered or dead of %d", got, events)
				}
			})
		})
	}
}

func TestALaneWhoseHoldCannotBeEndedGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(string, int) (int, time.Duration) { return 200, time.Millisecond })
		m := newMemory(simulated(func(s *subscriptions.Spec) {
			s.Outage.HoldLimit = subscriptions.HoldLimit{Age: subscriptions.Duration(time.Hour), Then: subscriptions.HoldDrop}
		}))
		m.sub.CreatedAt = time.Now()
		m.held.refuse = errors.New("it takes too long")
		_, kill := life(t, m, e)
		m.edit(t, func(sub *subscriptions.Subscription) { sub.State = subscriptions.Paused })
		m.append(rowEvent(1, 1))
		time.Sleep(3 * time.Hour) // in which it is to give that up, again and again
		m.edit(t, func(sub *subscriptions.Subscription) { sub.State = subscriptions.Active })
		m.append(rowEvent(2, 2))
		await(t, time.Minute, "both delivered", func() bool { return e.delivered() == 2 })
		kill()
		e.check(t, true)
	})
}

func TestAParkedLaneHoldsNoMoreBytesThanItsHoldLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := false
		e := newEndpoint(func(string, int) (int, time.Duration) {
			if up {
				return 200, time.Millisecond
			}
			return 503, time.Millisecond
		})
		m := newMemory(simulated(func(s *subscriptions.Spec) {
			s.Outage.HoldLimit = subscriptions.HoldLimit{
				Age: subscriptions.Duration(30 * 24 * time.Hour), Bytes: new(int64(2000)), Then: subscriptions.HoldDeadLetter,
			}
		}))
		_, kill := life(t, m, e)
		const events = 2000
		most := int64(0)
		for n := range events {
			m.append(rowEvent(n, n%50))
			time.Sleep(10 * time.Second)
			if n%500 == 499 {
				kill()
				_, kill = life(t, m, e)
			}
			m.mu.Lock()
			if n%500 > 60 {
				most = max(most, m.matching(m.cursor, 1<<60).Bytes)
			}
			m.mu.Unlock()
		}
		if most > 2300 { // what came since the last look
			t.Errorf("it held %d bytes", most)
		}
		up = true
		await(t, time.Hour, "the rest delivered", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			rest := 0
			for _, d := range m.deliveries {
				if d.State != store.Dead {
					rest++
				}
			}
			return m.following && rest == 0
		})
		kill()
		e.check(t, true)
		if got := m.account(t, e, true); got < 1500 {
			t.Errorf("%d given up", got)
		}
	})
}

// An endpoint that comes and goes, a limit so tight that it always bites, and a
// process that is killed again and again: nothing is lost unseen, nothing goes
// out of order.
func TestWhatIsInFlightWhenAHoldEndsIsNotLost(t *testing.T) {
	t.Parallel()
	histories(t, 5, func(t *testing.T, seed uint64, random, chance *rand.Rand) {
		e := newEndpoint(func(string, int) (int, time.Duration) {
			status := 200
			if chance.IntN(10) < 2 {
				status = []int{500, 422, 0}[chance.IntN(3)]
			}
			return status, time.Duration(chance.IntN(2000)) * time.Millisecond
		})
		m := newMemory(simulated(func(s *subscriptions.Spec) {
			s.MaxInFlight = 4
			s.Retry.MaxAttempts = 1000
			s.Retry.Max = s.Retry.Initial
			s.Outage.HoldLimit = subscriptions.HoldLimit{
				Age: subscriptions.Duration(20 * time.Second), Bytes: new(int64(3000)), Then: subscriptions.HoldDeadLetter,
			}
		}))
		crashes := seed%2 == 1
		end, kill := life(t, m, e)
		n := 0
		for range 20 {
			for range random.IntN(400) {
				m.append(rowEvent(n, random.IntN(30)))
				n++
				time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
			}
			time.Sleep(time.Duration(random.IntN(20)) * time.Second)
			if crashes {
				kill()
				end, kill = life(t, m, e)
			}
		}
		await(t, 2*time.Hour, "nothing owed", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, d := range m.deliveries {
				if d.State != store.Dead {
					return false
				}
			}
			return m.following
		})
		end()
		e.check(t, crashes)
		if got := m.account(t, e, crashes); got == 0 {
			t.Error("nothing was given up: the test shows nothing")
		}
	})
}
