package dispatch

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// batched is a subscription that asks for batches.
func batched(most int, edit func(*subscriptions.Spec)) subscriptions.Subscription {
	return simulated(func(s *subscriptions.Spec) {
		s.Batch.MaxEvents = most
		if edit != nil {
			edit(s)
		}
	})
}

func always(status int, wait time.Duration) func([]string) (int, time.Duration) {
	return func([]string) (int, time.Duration) { return status, wait }
}

func TestABacklogGoesInFullBatchesInOrderOfItsKeys(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{1, 7, 1000, 100_000} {
		t.Run(strconv.Itoa(keys)+" keys", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEndpoint(nil)
				e.batch = always(200, 10*time.Millisecond)
				m := newMemory(batched(100, nil))
				random := rand.New(rand.NewPCG(7, uint64(keys)))
				const events = 10_000
				for n := range events {
					m.append(rowEvent(n, random.IntN(keys)))
				}
				end, _ := life(t, m, e)
				await(t, time.Hour, "all delivered", func() bool { return e.delivered() == events })
				end()
				e.check(t, false)
				if got := len(e.posts); got > events/100*3/2 {
					t.Errorf("%d POSTs for %d events in batches of 100", got, events)
				}
				if most := slices.Max(e.posts); most != 100 {
					t.Errorf("the largest batch has %d events, want 100", most)
				}
				if len(m.deliveries) != 0 || max(m.cursor, m.floor) != events+1 {
					t.Errorf("%d deliveries, cursor %d", len(m.deliveries), m.cursor)
				}
				if len(m.attempts) != len(e.posts) {
					t.Errorf("%d attempts in history for %d POSTs", len(m.attempts), len(e.posts))
				}
				rows := map[store.Offset]int{}
				for _, a := range m.attempts {
					for _, at := range append([]store.Offset{a.Offset}, a.Others...) {
						rows[at]++
					}
				}
				if len(rows) != events {
					t.Errorf("%d of %d events have a row in history", len(rows), events)
				}
			})
		})
	}
}

func TestBatchesUnderRandomFailuresLoseNothingAndKeepOrder(t *testing.T) {
	t.Parallel()
	for _, most := range []int{2, 10, 1000} {
		t.Run(strconv.Itoa(most), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random, chance := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, uint64(most)))
				e := newEndpoint(nil)
				e.batch = func([]string) (int, time.Duration) {
					status := 200
					if chance.IntN(10) < 3 {
						status = []int{500, 400, 503, 0}[chance.IntN(4)]
					}
					return status, time.Duration(chance.IntN(20)) * time.Millisecond
				}
				m := newMemory(batched(most, func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 1000 }))
				end, _ := life(t, m, e)
				const events = 5000
				for n := range events {
					m.append(rowEvent(n, random.IntN(200)))
					if n%100 == 0 {
						time.Sleep(10 * time.Millisecond)
					}
				}
				await(t, 2*time.Hour, "all delivered", func() bool { return e.delivered() == events })
				end()
				e.check(t, false)
				if len(m.deliveries) != 0 || max(m.cursor, m.floor) != events+1 {
					t.Errorf("%d deliveries are left, cursor %d", len(m.deliveries), m.cursor)
				}
				t.Logf("%d POSTs, %d rows written", len(e.posts), m.rowsSaved)
			})
		})
	}
}

// As above, with key changes, truncates, crashes and edits.
func TestBatchesKeepTruncatesAndKeyChangesInPlaceOverCrashes(t *testing.T) {
	t.Parallel()
	histories(t, 8, func(t *testing.T, seed uint64, random, chance *rand.Rand) {
		e := newEndpoint(nil)
		e.batch = func([]string) (int, time.Duration) {
			status := 200
			if chance.IntN(10) < 3 {
				status = []int{500, 422}[chance.IntN(2)]
			}
			return status, time.Duration(chance.ExpFloat64()*200) * time.Millisecond
		}
		m := newMemory(batched([]int{2, 5, 50}[seed%3], func(s *subscriptions.Spec) {
			s.Retry.MaxAttempts = 1000
			s.Retry.Max = s.Retry.Initial
			s.Batch.MaxWait = subscriptions.Duration(seed%2) * subscriptions.Duration(50*time.Millisecond)
		}))
		n := livesOfRelated(t, m, e, random, 100, 20*time.Millisecond)
		end, _ := life(t, m, e)
		await(t, 2*time.Hour, "all delivered", func() bool { return e.delivered() == n })
		end()
		e.checkRelated(t, m.events)
	})
}

func TestBatchesWaitForCompanyNoLongerThanTheyMay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(nil)
		e.batch = always(200, time.Millisecond)
		m := newMemory(batched(10, func(s *subscriptions.Spec) { s.Batch.MaxWait = subscriptions.Duration(5 * time.Second) }))
		end, _ := life(t, m, e)
		time.Sleep(time.Second)
		started := time.Now()
		send := func(from, n int, pause time.Duration) {
			for i := range n {
				m.append(rowEvent(from+i, from+i))
				time.Sleep(pause)
			}
		}
		send(0, 4, 100*time.Millisecond) // four wait five seconds for others
		await(t, time.Minute, "the first four", func() bool { return e.delivered() == 4 })
		if at := e.got[0].at.Sub(started); at < 5*time.Second || at > 5100*time.Millisecond {
			t.Errorf("the first event went after %v, want 5s", at)
		}
		started = time.Now()
		send(4, 13, 100*time.Millisecond) // ten go as soon as they are ten; the others wait on
		if got := e.delivered(); got != 14 {
			t.Errorf("%d events delivered, want 14", got)
		}
		if at := e.got[4].at.Sub(started); at > 950*time.Millisecond {
			t.Errorf("a full batch went after %v", at)
		}
		await(t, time.Minute, "all", func() bool { return e.delivered() == 17 })
		if want := []int{4, 10, 3}; !slices.Equal(e.posts, want) {
			t.Errorf("POSTs of %v events, want %v", e.posts, want)
		}
		end()
	})
}

func TestNothingWaitsForCompanyWhereItNeedNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(nil)
		e.batch = always(200, 50*time.Millisecond)
		m := newMemory(batched(100, nil))
		end, _ := life(t, m, e)
		time.Sleep(time.Second)
		for n := range 50 {
			m.append(rowEvent(n, n))
			at := time.Now()
			await(t, time.Second, "delivered", func() bool { return e.delivered() == n+1 })
			if took := e.got[n].at.Sub(at); took != 50*time.Millisecond {
				t.Errorf("event %d took %v", n, took)
			}
		}
		end()
	})
}

func TestABodyStaysWithinItsBoundAndALargeEventGoesAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(nil)
		e.batch = always(200, time.Millisecond)
		sizes := &sizes{next: e}
		m := newMemory(batched(1000, func(s *subscriptions.Spec) { s.Batch.MaxBytes = 8 << 10 }))
		end, _ := life(t, m, sizes)
		for n := range 300 {
			ev := rowEvent(n, n%40)
			if n == 100 {
				ev.Data = slices.Concat([]byte(`"`), slices.Repeat([]byte("x"), 20<<10), []byte(`"`))
			}
			m.append(ev)
		}
		await(t, time.Minute, "all", func() bool { return e.delivered() == 300 })
		end()
		e.check(t, false)
		large, full := 0, 0
		for i, n := range sizes.bytes {
			switch {
			case n > 8<<10:
				large++
				if e.posts[i] != 1 {
					t.Errorf("a body of %d bytes has %d events", n, e.posts[i])
				}
			case n > 7<<10:
				full++
			}
		}
		if large != 1 || full < 8 {
			t.Errorf("%d bodies are larger than the bound, %d full: %v", large, full, sizes.bytes)
		}
	})
}

// sizes notes the lengths of bodies on their way.
type sizes struct {
	next  http.RoundTripper
	mu    sync.Mutex
	bytes []int64
}

func (s *sizes) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.bytes = append(s.bytes, r.ContentLength)
	s.mu.Unlock()
	return s.next.RoundTrip(r)
}

func TestAStoreThatIsDownBoundsWhatBatchesOweIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(nil)
		e.batch = always(200, time.Millisecond)
		m := newMemory(batched(100, nil))
		outliveStore(t, m, e, 2*maxUnsettled+firstLimit*100)
	})
}
