package dispatch

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// A simulated week: an event every twenty seconds; the endpoint dies after a day,
// stays dead for five, flaps for some hours, and is well again. rowcall restarts
// twice in between.
func TestAWeekWithAFiveDayOutageLosesNothingAndChargesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		start := time.Now()
		down := func(at time.Duration) bool {
			switch {
			case at < day:
				return false
			case at < 6*day:
				return true
			case at < 6*day+3*time.Hour: // flapping: down for half of every ten minutes
				return at%(10*time.Minute) < 5*time.Minute
			}
			return false
		}
		chance := rand.New(rand.NewPCG(1, 1))
		var requests [8]int // by day
		e := newEndpoint(nil)
		e.answer = func(string, int) (int, time.Duration) {
			at := time.Since(start)
			requests[int(at/day)]++
			if at > day+5*time.Minute && at < 6*day {
				flying := 0
				for _, n := range e.flying {
					flying += n
				}
				if flying > 1 {
					t.Errorf("%d probes in flight at %v", flying, at)
				}
			}
			if down(at) {
				return []int{0, 503, 502}[chance.IntN(3)], time.Duration(chance.IntN(200)) * time.Millisecond
			}
			return 200, 20 * time.Millisecond
		}
		m := newMemory(simulated(nil))
		end, kill := life(t, m, e)
		events := 0
		for at := time.Duration(0); at < 7*day; at += 20 * time.Second {
			m.append(rowEvent(events, events%300))
			events++
			time.Sleep(20 * time.Second)
			switch at {
			case 2 * day, 4 * day:
				kill()
				end, kill = life(t, m, e)
			case 5 * day:
				m.mu.Lock()
				rows, saved, settles := len(m.deliveries), m.rowsSaved, m.settles
				for _, d := range m.deliveries {
					if d.Charged > 0 || d.State == store.Dead {
						t.Errorf("event %d was charged %d times in the outage, and is %s", d.Offset, d.Charged, d.State)
					}
				}
				if m.health.State != string(Parked) && m.health.State != string(Probing) {
					t.Errorf("after four days of outage the endpoint is %s", m.health.State)
				}
				if m.cursor > 5000 {
					t.Errorf("the cursor has moved to %d", m.cursor)
				}
				m.mu.Unlock()
				t.Logf("after four days of outage: %d deliveries, %d rows and %d settlements written", rows, saved, settles)
				if rows > 400 || saved > 4000 {
					t.Errorf("%d deliveries, %d rows written: the outage costs storage by the event or by the try", rows, saved)
				}
			}
		}
		await(t, 2*time.Minute, "all delivered", func() bool { return e.delivered() == events })
		await(t, time.Hour, "healthy", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.health.State == string(Healthy)
		})
		end()
		e.check(t, true)
		if len(m.deliveries) != 0 {
			t.Errorf("%d deliveries are left", len(m.deliveries))
		}
		t.Logf("requests by day: %v", requests)
		for d := 2; d < 6; d++ {
			// At the cap of 15 minutes, jittered over its upper half: 96 to 192 a day.
			if requests[d] < 90 || requests[d] > 220 {
				t.Errorf("%d requests on day %d of the outage, want one probe every 7.5 to 15 minutes", requests[d], d)
			}
		}
	})
}

func TestAfterAnOutageConcurrencyRampsUpFromOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		const outage = time.Hour
		var flying, most int
		var ramp []int
		e := newEndpoint(nil)
		e.answer = func(string, int) (int, time.Duration) {
			flying = 0
			for _, n := range e.flying {
				flying += n
			}
			if time.Since(start) < outage {
				return 503, time.Millisecond
			}
			if flying > most {
				most = flying
				ramp = append(ramp, flying)
			}
			return 200, 50 * time.Millisecond
		}
		m := newMemory(simulated(nil))
		for n := range 5000 {
			m.append(rowEvent(n, n))
		}
		end, _ := life(t, m, e)
		time.Sleep(outage)
		await(t, time.Hour, "all delivered", func() bool { return e.delivered() == 5000 })
		end()
		e.check(t, false)
		for i, n := range ramp {
			if n != i+1 {
				t.Errorf("concurrency jumped to %d: %v", n, ramp)
				break
			}
		}
		if most < 16 {
			t.Errorf("at most %d at once: the ramp never took off", most)
		}
	})
}

func TestAPoisonEventOnAQuietNightParksNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		poison := "01-0000000000000000-0"
		e := newEndpoint(func(id string, _ int) (int, time.Duration) {
			if id == poison {
				return 500, time.Millisecond // a receiver that stumbles over this one row
			}
			return 200, time.Millisecond
		})
		m := newMemory(simulated(func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 5 }))
		end, _ := life(t, m, e)
		m.append(rowEvent(0, 0))
		for n := 1; n < 500; n++ {
			time.Sleep(30 * time.Second)
			m.append(rowEvent(n, n))
			await(t, 10*time.Second, "the others delivered", func() bool { return e.delivered() == n })
		}
		dead := func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.deliveries[1].State == store.Dead
		}
		await(t, time.Hour, "the poison event dead: others succeeded meanwhile, so its failures count", dead)
		end()
		if m.health.State != "" && m.health.State != string(Healthy) {
			t.Errorf("the endpoint is %s", m.health.State)
		}
	})
}

func TestACronExpressionDecidesWhenToProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var probes []time.Time
		e := newEndpoint(func(string, int) (int, time.Duration) {
			probes = append(probes, time.Now())
			return 503, time.Millisecond
		})
		m := newMemory(simulated(func(s *subscriptions.Spec) { s.Outage.Probe = "30 * * * *" }))
		for n := range 100 {
			m.append(rowEvent(n, n))
		}
		end, _ := life(t, m, e)
		time.Sleep(time.Minute)
		e.mu.Lock()
		tried := len(probes)
		e.mu.Unlock()
		time.Sleep(10 * time.Hour)
		end()
		if got := len(probes) - tried; got != 10 {
			t.Errorf("%d probes in ten hours, want 10", got)
		}
		for _, at := range probes[tried:] {
			if at.UTC().Minute() != 30 || at.Second() > 1 {
				t.Errorf("a probe at %v, want half past", at.UTC())
			}
		}
	})
}

// An endpoint that refuses everything is up, and yet nothing gets through: that is
// what the rate of its health says.
func TestAnEndpointThatRefusesEverythingFailsByItsRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(simulated(nil))
		end, _ := life(t, m, newEndpoint(func(string, int) (int, time.Duration) { return 422, time.Millisecond }))
		for n := range 2 * sampleKeys {
			m.append(rowEvent(n, n))
		}
		await(t, time.Hour, "parked", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.health.State == string(Parked)
		})
		m.mu.Lock()
		rate, success := m.health.FailureRate, m.health.LastSuccess
		m.mu.Unlock()
		if rate != 1 || !success.IsZero() {
			t.Errorf("failure rate %v, last success %v; want 1 and never", rate, success)
		}
		end()
	})
}
