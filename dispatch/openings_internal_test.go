package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Ten days of a subscription that is delivered to from two to six in the morning:
// an event every minute, one that is refused for two days, a day on which the
// endpoint is down, and two crashes.
func TestASubscriptionIsDeliveredToInItsWindowOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		start := time.Now().UTC() // midnight
		poison := "01-0000000000000000-0"
		var outside []time.Time
		byDay := map[int]int{}
		across := 0
		e := newEndpoint(nil)
		e.answer = func(id string, _ int) (int, time.Duration) {
			at := time.Since(start)
			of, in := int(at/day), at%day
			if in < 2*time.Hour || in >= 6*time.Hour {
				outside = append(outside, time.Now())
			}
			byDay[of]++
			switch {
			case id == poison && of < 2:
				return 422, time.Second
			case of == 5:
				return 503, time.Second
			}
			if in+5*time.Second > 6*time.Hour {
				across++
			}
			return 200, 5 * time.Second
		}
		m := newMemory(simulated(func(s *subscriptions.Spec) {
			s.Window = &subscriptions.Window{Cron: "0 2 * * *", For: subscriptions.Duration(4 * time.Hour)}
			s.Retry = subscriptions.Retry{
				Initial: subscriptions.Duration(time.Minute), Max: subscriptions.Duration(10 * time.Minute),
				MaxAttempts: 1000, MaxAge: subscriptions.Duration(9 * time.Hour),
			}
			s.MaxInFlight = 2
		}))
		end, kill := life(t, m, e)
		events, settles := 0, 0
		time.Sleep(57 * time.Second) // so that one is in flight when the window closes
		for at := time.Duration(0); at < 10*day; at += time.Minute {
			m.append(rowEvent(events, events%50))
			events++
			time.Sleep(time.Minute)
			switch {
			case at%day == 6*time.Hour+10*time.Minute:
				m.mu.Lock()
				settles = m.moves
				if m.health.Hold != string(HoldWindow) || m.health.HeldSince.IsZero() {
					t.Errorf("on day %d the lane's row says %+v", at/day, m.health)
				}
				m.mu.Unlock()
			case at%day == 20*time.Hour && at > day:
				m.mu.Lock()
				if m.moves > settles {
					t.Errorf("on day %d the lane was written %d times while its window was closed", at/day, m.moves-settles)
				}
				for _, d := range m.deliveries {
					if d.State == store.Dead {
						t.Errorf("event %d is dead after %d attempts", d.Offset, d.Attempts)
					}
				}
				m.mu.Unlock()
			case at == 3*day+12*time.Hour, at == 7*day+3*time.Hour:
				kill()
				end, kill = life(t, m, e)
			}
		}
		await(t, 6*time.Hour+time.Minute, "all delivered", func() bool { return e.delivered() == events })
		end()
		e.check(t, true)
		if len(outside) > 0 {
			t.Errorf("%d requests outside of the window, the first at %v", len(outside), outside[0])
		}
		if across == 0 {
			t.Error("no attempt was in flight when the window closed: the test shows less than it should")
		}
		if n := byDay[5]; n < 16 || n > 100 { // until it is parked, and then a probe every 7.5 to 15 minutes
			t.Errorf("%d requests on the day that the endpoint was down", n)
		}
		t.Logf("requests by day %v; held for %v", byDay, time.Duration(m.heldMS)*time.Millisecond)
	})
}

func TestAWindowIsTakenUpAndGivenUpByAnEdit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(string, int) (int, time.Duration) { return 200, time.Millisecond })
		m := newMemory(simulated(nil))
		end, _ := life(t, m, e)
		m.append(rowEvent(0, 0))
		await(t, time.Minute, "delivered", func() bool { return e.delivered() == 1 })
		m.edit(t, func(sub *subscriptions.Subscription) {
			sub.Window = &subscriptions.Window{Cron: "0 2 * * *", For: subscriptions.Duration(time.Hour)}
		})
		await(t, time.Minute, "held", func() bool { return m.saved().Hold == string(HoldWindow) })
		m.append(rowEvent(1, 1))
		time.Sleep(time.Hour)
		if got := e.requests(); got != 1 {
			t.Errorf("%d requests while the window is closed", got-1)
		}
		m.edit(t, func(sub *subscriptions.Subscription) { sub.Window = nil })
		await(t, time.Minute, "delivered", func() bool { return e.delivered() == 2 })
		end()
	})
}
