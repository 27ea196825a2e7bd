package dispatch

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// One event of a thousand is refused: it is found by halving, and it alone is
// charged and dies.
func TestAPoisonEventInABatchIsFoundByHalving(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"refused": 422, "stumbled over": 500} {
		for _, at := range []int{0, 1, 499, 500, 999} {
			t.Run(name+" at "+strconv.Itoa(at), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					poison := rowEvent(at, 0)
					id := poison.ID()
					e := newEndpoint(nil)
					e.batch = func(ids []string) (int, time.Duration) {
						if slices.Contains(ids, id) {
							return status, time.Millisecond
						}
						return 200, time.Millisecond
					}
					m := newMemory(batched(1000, func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 4 }))
					for n := range 1000 {
						m.append(rowEvent(n, n%500)) // two of each key in the batch
					}
					end, _ := life(t, m, e)
					begun := time.Now()
					// Others get through meanwhile: a failure of the endpoint is none of theirs.
					await(t, time.Hour, "the others delivered, the poison event dead", func() bool {
						m.append(rowEvent(len(m.events), 1000+len(m.events)))
						m.mu.Lock()
						defer m.mu.Unlock()
						return e.delivered() >= 999 && m.deliveries[store.Offset(at+1)].State == store.Dead
					})
					end()
					e.check(t, false)
					if len(m.deliveries) != 1 {
						t.Errorf("%d deliveries, want the dead letter alone", len(m.deliveries))
					}
					if d := m.deliveries[store.Offset(at+1)]; d.Charged != 4 || d.Status != status {
						t.Errorf("the dead letter was charged %d times, status %d", d.Charged, d.Status)
					}
					// The whole, two halves of each of ten levels, three more tries of the one, and
					// the other event of its key, which waited for it. An endpoint that fails is given two more with the whole, and is not
					// known to be well at each try.
					most, own := 1+2*10+3+1, 1+10+3
					if status == 500 {
						most, own = most+6, own+6
					}
					if got := e.tries[id]; got > own {
						t.Errorf("the poison event was sent %d times, want at most %d", got, own)
					}
					search := 0
					for _, a := range m.attempts {
						if len(a.Others) > 0 || a.Offset <= 1000 {
							search++
						}
					}
					if search > most {
						t.Errorf("%d POSTs to find and to charge it, want at most %d: %v", search, most, e.posts)
					}
					t.Logf("%v: %d POSTs, %d tries of the poison event", time.Since(begun), len(e.posts), e.tries[id])
				})
			})
		}
	}
}

// A failure of the endpoint leaves a batch whole, in memory, and charges nobody.
func TestAFailureOfTheEndpointLeavesABatchWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failures := 2
		e := newEndpoint(nil)
		e.batch = func(ids []string) (int, time.Duration) {
			if failures > 0 {
				failures--
				return 503, time.Millisecond
			}
			return 200, time.Millisecond
		}
		m := newMemory(batched(1000, nil))
		for n := range 1000 {
			m.append(rowEvent(n, n))
		}
		end, _ := life(t, m, e)
		await(t, time.Minute, "all delivered", func() bool { return e.delivered() == 1000 })
		end()
		e.check(t, false)
		if want := []int{1000, 1000, 1000}; !slices.Equal(e.posts, want) {
			t.Errorf("POSTs of %v events, want %v", e.posts, want)
		}
		if m.rowsSaved != 0 {
			t.Errorf("%d rows were written", m.rowsSaved)
		}
	})
}

func TestABatchThatHangsDoesNotStopTheLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := "01-0000000000000000-0"
		e := newEndpoint(nil)
		e.batch = func(ids []string) (int, time.Duration) {
			if slices.Contains(ids, slow) {
				return 503, 14 * time.Second
			}
			return 200, time.Millisecond
		}
		m := newMemory(batched(50, func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 3 }))
		end, _ := life(t, m, e)
		const events = 20_000
		for n := range events {
			m.append(rowEvent(n, n%1000))
		}
		await(t, 10*time.Second, "the others delivered", func() bool { return e.delivered() > events*9/10 })
		if m.rowsSaved == 0 || m.rowsSaved > 2000 {
			t.Errorf("%d rows were written", m.rowsSaved)
		}
		await(t, time.Hour, "all but one delivered, that one dead", func() bool {
			m.append(rowEvent(len(m.events), len(m.events))) // so that it shows whose fault it is
			m.mu.Lock()
			defer m.mu.Unlock()
			return e.delivered() >= len(m.events)-10 && len(m.deliveries) == 1 && m.deliveries[1].State == store.Dead
		})
		end()
		e.check(t, false)
	})
}

// A parked endpoint is probed with arrays of one, and ramps up from one event.
func TestAParkedEndpointIsProbedWithBatchesOfOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		e := newEndpoint(nil)
		probes := 0
		var ramp []int
		succeeded, looked := 0, 0 // POSTs that were answered well, as of so many of got
		allowed := 1.0            // by these: most events of a batch
		e.batch = func(ids []string) (int, time.Duration) {
			if at := time.Since(start); at < 10*time.Hour {
				if at > time.Hour {
					probes++
					if len(ids) != 1 {
						t.Errorf("%d events in a probe", len(ids))
					}
				}
				return 503, time.Millisecond
			}
			ramp = append(ramp, len(ids))
			// POSTs that are answered together may come in any order after that, but none is
			// larger than an event more, or an eighth, for each that was answered before it.
			for ; looked < len(e.got); looked++ {
				if s := e.got[looked]; s.ok && (looked == 0 || e.got[looked-1].post != s.post) {
					succeeded++
					allowed = min(500, allowed+max(1, allowed/8))
				}
			}
			if len(ids) > int(allowed) {
				t.Errorf("%d events in a batch after %d successes, want at most %v", len(ids), succeeded, int(allowed))
			}
			return 200, time.Millisecond
		}
		m := newMemory(batched(500, nil))
		const events = 20_000
		for n := range events {
			m.append(rowEvent(n, n%1000))
		}
		_, kill := life(t, m, e)
		time.Sleep(5 * time.Hour)
		kill()
		end, _ := life(t, m, e)
		await(t, 11*time.Hour, "all delivered", func() bool { return e.delivered() == events })
		end()
		e.check(t, true)
		m.mu.Lock()
		defer m.mu.Unlock()
		if probes < 30 || probes > 80 {
			t.Errorf("%d probes in nine hours", probes)
		}
		if m.rowsSaved > 200 {
			t.Errorf("%d rows written in the outage", m.rowsSaved)
		}
		for _, d := range m.deliveries {
			t.Errorf("event %d is %s, charged %d", d.Offset, d.State, d.Charged)
		}
		if slices.Max(ramp) < 100 {
			t.Errorf("after the outage batches stay small: %v", ramp)
		}
	})
}

// What people ask of events takes effect also where they share a POST that is
// under way, or waits to go again.
func TestADiscardTakesAnEventOutOfABatchThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow, discarded := rowEvent(0, 0), rowEvent(7, 0)
		e := newEndpoint(nil)
		e.batch = func(ids []string) (int, time.Duration) {
			if slices.Contains(ids, slow.ID()) && e.tries[slow.ID()] < 3 {
				return []int{0, 503, 422}[e.tries[slow.ID()]], 10 * time.Second
			}
			return 200, time.Millisecond
		}
		m := newMemory(batched(20, nil))
		end, _ := life(t, m, e)
		const events = 20_000
		for n := range events {
			m.append(rowEvent(n, n%100))
		}
		await(t, 9*time.Second, "the batch that hangs held by rows", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.deliveries) >= 20
		})
		m.wish("discard", 8)
		await(t, time.Hour, "the others delivered", func() bool { return e.delivered() == events-1 })
		await(t, time.Minute, "no delivery left", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.deliveries)+len(m.intents) == 0
		})
		end()
		e.check(t, false)
		if e.tries[discarded.ID()] != 1 {
			t.Errorf("the discarded event was sent %d times, want once, before it was discarded", e.tries[discarded.ID()])
		}
	})
}

func TestARetriedDeadLetterGoesBeforeABatchThatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		poison := rowEvent(0, 3)
		e := newEndpoint(nil)
		e.batch = func(ids []string) (int, time.Duration) {
			if at := time.Since(start); at < 10*time.Second && slices.Contains(ids, poison.ID()) {
				return 422, time.Millisecond
			} else if at < 20*time.Second && len(ids) > 1 {
				return 503, time.Millisecond
			}
			return 200, time.Millisecond
		}
		m := newMemory(batched(20, func(s *subscriptions.Spec) {
			s.Retry = subscriptions.Retry{MaxAttempts: 1, Initial: subscriptions.Duration(30 * time.Second), Max: subscriptions.Duration(time.Hour), MaxAge: subscriptions.Duration(time.Hour)}
		}))
		end, _ := life(t, m, e)
		m.append(poison)
		time.Sleep(11 * time.Second)
		for n := 1; n <= 20; n++ {
			m.append(rowEvent(n, n%10))
		}
		time.Sleep(time.Second)
		m.wish("retry", 1)
		await(t, time.Hour, "all delivered", func() bool { return e.delivered() == 21 })
		await(t, time.Minute, "no delivery left", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.deliveries)+len(m.intents) == 0
		})
		end()
		e.check(t, false)
	})
}

// A stop lets what is in flight end, and settles it: the next life sends none of
// it again, failed batches that it held in memory included.
func TestAStopBetweenBatchesSendsNothingTwice(t *testing.T) {
	t.Parallel()
	histories(t, 3, func(t *testing.T, seed uint64, random, chance *rand.Rand) {
		e := newEndpoint(nil)
		e.batch = func([]string) (int, time.Duration) {
			status := 200
			if chance.IntN(10) < 2 {
				status = []int{500, 422}[chance.IntN(2)]
			}
			return status, time.Duration(chance.ExpFloat64() * float64(30*time.Millisecond))
		}
		m := newMemory(batched([]int{2, 10, 100}[seed], func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 1000 }))
		n := 0
		for range 20 {
			end, _ := life(t, m, e)
			for range random.IntN(400) {
				m.append(rowEvent(n, random.IntN(200)))
				n++
				if random.IntN(10) == 0 {
					time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond)
				}
			}
			time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
			end()
			m.restart()
		}
		end, _ := life(t, m, e)
		await(t, 2*time.Hour, "all delivered", func() bool { return e.delivered() == n })
		end()
		e.check(t, false)
	})
}
