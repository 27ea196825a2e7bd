package dispatch

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/subscriptions"
)

func TestTheThrottleStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 1000).Draw(t, "most")
		th := newThrottle(most, false)
		now := time.Unix(0, 0)
		for range rapid.IntRange(1, 500).Draw(t, "replies") {
			before := th.limit
			if rapid.IntRange(0, 50).Draw(t, "fails") == 0 {
				th.failed()
				if th.limit > before {
					t.Fatalf("a failure raises the limit from %v to %v", before, th.limit)
				}
			} else {
				took := time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "took"))
				started := now.Add(-time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "ago")))
				th.succeeded(started, now, took, rapid.Bool().Draw(t, "fresh"), rapid.IntRange(1, int(th.limit)).Draw(t, "in flight"), most)
			}
			if th.limit < 1 || th.limit > float64(most) || th.base < 0 {
				t.Fatalf("limit %v of at most %d, base %v", th.limit, most, th.base)
			}
			now = now.Add(time.Millisecond)
		}
	})
}

// closedLoop feeds a throttle windows of replies, as many in flight as it allows,
// with the latency that so many have.
func closedLoop(t *throttle, now time.Time, windows, most int, latency func(inFlight int) time.Duration) time.Time {
	for range windows {
		n := int(t.limit)
		took := latency(n)
		for more := true; more; more = t.n > 0 {
			now = now.Add(max(took/time.Duration(n), 100*time.Microsecond))
			t.succeeded(now, now, took, false, n, most)
		}
	}
	return now
}

func TestConstantLatencyLetsTheLimitRiseToTheMost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 1000).Draw(t, "most")
		took := time.Duration(rapid.Int64Range(0, int64(30*time.Second)).Draw(t, "took"))
		th := newThrottle(most, false)
		now, last := time.Unix(0, 0), th.limit
		for range 12 { // doubling from 4
			now = closedLoop(&th, now, 1, most, func(int) time.Duration { return took })
			if th.limit < last {
				t.Fatalf("with a latency of %v the limit falls from %v to %v", took, last, th.limit)
			}
			last = th.limit
		}
		if th.limit != float64(most) {
			t.Fatalf("with a latency of %v it is %v after 12 windows, want %d", took, th.limit, most)
		}
	})
}

// An endpoint that works on so many at once, and has the others wait.
func TestTheLimitSettlesWhereLatencyRises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		knee := rapid.IntRange(1, 200).Draw(t, "knee")
		alone := time.Duration(rapid.Int64Range(int64(300*time.Millisecond), int64(5*time.Second)).Draw(t, "alone"))
		th := newThrottle(1000, false)
		queue := func(n int) time.Duration { return alone * time.Duration(max(n, knee)) / time.Duration(knee) }
		now := closedLoop(&th, time.Unix(0, 0), 300, 1000, queue)
		for range 100 {
			now = closedLoop(&th, now, 1, 1000, queue)
			if th.resume > 0 {
				continue // few in flight for one window, to measure
			}
			if th.limit < float64(knee)*0.95 || th.limit > float64(knee)*2+2 {
				t.Fatalf("the limit is %v with a knee at %d", th.limit, knee)
			}
		}
	})
}

func TestAnEndpointThatIsSlowerFromNowOnGetsAsManyAgain(t *testing.T) {
	t.Parallel()
	th := newThrottle(64, false)
	now := closedLoop(&th, time.Unix(0, 0), 20, 64, func(int) time.Duration { return 50 * time.Millisecond })
	now = closedLoop(&th, now, 1, 64, func(int) time.Duration { return time.Second })
	if th.limit > 48 {
		t.Errorf("the limit is %v after a window in which latency rose twentyfold", th.limit)
	}
	closedLoop(&th, now, 20, 64, func(int) time.Duration { return time.Second })
	if th.limit != 64 {
		t.Errorf("the limit is %v: latency that has nothing to do with it keeps it down", th.limit)
	}
}

// servers is a receiver that works on some requests at once, each for a random
// time, and has the others wait in line: M/M/c, but that the sender waits for
// replies.
type servers struct {
	random *rand.Rand
	mean   time.Duration
	free   []time.Time // when each server is
}

func (s *servers) wait() time.Duration {
	now, first := time.Now(), 0
	for i := range s.free {
		if s.free[i].Before(s.free[first]) {
			first = i
		}
	}
	start := later(now, s.free[first])
	s.free[first] = start.Add(time.Duration(s.random.ExpFloat64() * float64(s.mean)))
	return s.free[first].Sub(now)
}

func TestAQueueingEndpointIsNotPushedFarBeyondItsKnee(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		servers     int
		mean        time.Duration
		least, most float64 // attempts in flight
		useful      float64 // share of what it can do that it is given to do
	}{
		"one that works on one at a time":     {1, 500 * time.Millisecond, 1, 5, 0.8},
		"one that works on eight":             {8, 500 * time.Millisecond, 6, 20, 0.75},
		"one that works on twenty-four":       {24, 500 * time.Millisecond, 18, 46, 0.75},
		"one that works on more than it gets": {1000, 100 * time.Millisecond, 50, 64, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &servers{random: rand.New(rand.NewPCG(1, uint64(c.servers))), mean: c.mean, free: make([]time.Time, c.servers)}
				var inFlight []int
				var at []time.Time
				e := newEndpoint(nil)
				e.answer = func(string, int) (int, time.Duration) {
					n := 0
					for _, flying := range e.flying {
						n += flying
					}
					inFlight, at = append(inFlight, n), append(at, time.Now())
					return 200, s.wait()
				}
				m := newMemory(simulated(func(s *subscriptions.Spec) { s.Endpoint.Timeout = subscriptions.Duration(2 * time.Minute) }))
				end, _ := life(t, m, e)
				events := 6000
				for n := range events {
					m.append(rowEvent(n, n))
				}
				await(t, time.Hour, "all delivered", func() bool { return e.delivered() == events })
				end()
				settled := inFlight[events/3:]
				sum := 0
				for _, n := range settled {
					sum += n
				}
				mean := float64(sum) / float64(len(settled))
				took := at[events-1].Sub(at[events/3])
				useful := float64(len(settled)) / took.Seconds() * c.mean.Seconds() / float64(c.servers)
				t.Logf("%.1f in flight on average, %d at most, %.0f %% of what it can do", mean, slices.Max(settled), useful*100)
				if mean < c.least || mean > c.most || useful < c.useful {
					t.Errorf("want %v to %v in flight, %.0f %% used", c.least, c.most, c.useful*100)
				}
			})
		})
	}
}

// Full batches come before many at once, also for a replay whose endpoint was parked.
func TestTheLimitOfBatchesDoesNotDouble(t *testing.T) {
	t.Parallel()
	for _, events := range []int{1, 100} {
		sub := simulated(func(s *subscriptions.Spec) { s.Batch.MaxEvents = events })
		host := &lane{health: health{State: Parked}}
		l := &lane{sub: sub, batches: newBatching(sub.Batch, Healthy), replay: &replay{host: host}, health: health{State: Probing}}
		l.mirror()
		if l.health.State != Parked || l.throttle.limit != firstLimit || l.throttle.steep != (events == 1) {
			t.Errorf("%d events a batch: %+v", events, l.throttle)
		}
	}
}
