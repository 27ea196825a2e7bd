package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

// limited runs a simulated subscription with a rate and returns when its requests
// were made.
func limited(t *testing.T, perSecond float64, events int, answer func(try int) (int, time.Duration), during func(m *memory)) []time.Time {
	t.Helper()
	var at []time.Time
	e := newEndpoint(nil)
	e.answer = func(_ string, try int) (int, time.Duration) {
		at = append(at, time.Now())
		return answer(try)
	}
	m := newMemory(simulated(func(s *subscriptions.Spec) {
		s.RateLimit = &subscriptions.RateLimit{PerSecond: perSecond}
		s.Retry.Initial, s.Retry.Max = subscriptions.Duration(100*time.Millisecond), subscriptions.Duration(time.Second)
		s.Retry.MaxAttempts = 1000
		s.Outage.Probe = "1s..1s"
	}))
	for n := range events {
		m.append(rowEvent(n, n))
	}
	end, _ := life(t, m, e)
	if during != nil {
		during(m)
	}
	await(t, 10*24*time.Hour, "all delivered", func() bool { return e.delivered() == events })
	end()
	e.check(t, false)
	return at
}

// keepsRate checks every stretch of requests against the rate: no more than its
// burst at once, and then no faster.
func keepsRate(t *testing.T, at []time.Time, perSecond float64) {
	t.Helper()
	for i := range at {
		for _, n := range []int{1, 2, 5, 10, 100, 1000, len(at) - 1} {
			if i+n >= len(at) {
				continue
			}
			least := time.Duration(float64(n+1-burst(perSecond)) / perSecond * float64(time.Second))
			if took := at[i+n].Sub(at[i]); took < least-time.Millisecond {
				t.Fatalf("%d requests within %v, want at least %v", n+1, took, least)
			}
		}
	}
}

func TestARateIsKeptAndUsedUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		perSecond float64
		events    int
	}{
		"one in a thousand seconds": {0.001, 5},
		"one in two seconds":        {0.5, 40},
		"fifty":                     {50, 1000},
		"five thousand":             {5000, 20_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				at := limited(t, c.perSecond, c.events, func(int) (int, time.Duration) { return 200, 2 * time.Millisecond }, nil)
				keepsRate(t, at, c.perSecond)
				took, want := at[len(at)-1].Sub(at[0]), time.Duration(float64(c.events)/c.perSecond*float64(time.Second))
				if took > want*11/10+time.Second {
					t.Errorf("it took %v, want about %v: the rate is not used up", took, want)
				}
			})
		})
	}
}

func TestRetriesAndProbesCountIntoTheRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		at := limited(t, 20, 300, func(try int) (int, time.Duration) {
			switch {
			case time.Since(start) < time.Minute && try < 3:
				return 400, time.Millisecond
			case time.Since(start) > 20*time.Second && time.Since(start) < time.Minute:
				return 503, time.Millisecond
			}
			return 200, time.Millisecond
		}, nil)
		keepsRate(t, at, 20)
		if len(at) < 600 {
			t.Errorf("%d requests: too few were retried for the test to show anything", len(at))
		}
	})
}

func TestALaneThatIsOpenedAnewDoesNotFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := limited(t, 10, 300, func(int) (int, time.Duration) { return 200, time.Millisecond }, func(m *memory) {
			for range 100 {
				time.Sleep(150 * time.Millisecond)
				m.edit(t, func(sub *subscriptions.Subscription) { sub.Description += "x" })
			}
		})
		keepsRate(t, at, 10)
	})
}

func TestARateThatIsEditedHoldsFromThenOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		at := limited(t, 1, 1000, func(int) (int, time.Duration) { return 200, time.Millisecond }, func(m *memory) {
			time.Sleep(100 * time.Second)
			m.edit(t, func(sub *subscriptions.Subscription) { sub.RateLimit = &subscriptions.RateLimit{PerSecond: 100} })
			time.Sleep(2 * time.Second)
			m.edit(t, func(sub *subscriptions.Subscription) { sub.RateLimit = nil })
		})
		var slow, faster int
		for _, when := range at {
			switch since := when.Sub(start); {
			case since < 100*time.Second:
				slow++
			case since < 102*time.Second:
				faster++
			}
		}
		if slow < 95 || slow > 101 || faster < 150 || faster > 210 {
			t.Errorf("%d requests in 100 s at 1/s, %d in 2 s at 100/s", slow, faster)
		}
		if took := at[len(at)-1].Sub(start); took > 105*time.Second {
			t.Errorf("without a limit the rest took until %v", took)
		}
	})
}
