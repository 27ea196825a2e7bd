package dispatch

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// dies is a subscription whose events are dead letters after one try.
func dies() subscriptions.Subscription {
	return simulated(func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 1 })
}

// count is how many deliveries the store has in a state.
func (m *memory) count(state store.DeliveryState) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, d := range m.deliveries {
		if d.State == state {
			n++
		}
	}
	return n
}

// settledAll reports whether nothing is left to do.
func (m *memory) settledAll() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.deliveries) == 0 && len(m.intents) == 0
}

// Whatever the order in which they were asked for, dead letters of a key go by
// offset: behind what is being sent, before what is not.
func TestDeadLettersRetriedTogetherGoInTheOrderOfTheirKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const keys, dead, fresh = 4, 400, 100
		var healed atomic.Bool
		e := newEndpoint(func(string, int) (int, time.Duration) {
			if healed.Load() {
				return 200, time.Second
			}
			return 422, time.Millisecond
		})
		m := newMemory(dies())
		end, _ := life(t, m, e)
		for n := range dead {
			m.append(rowEvent(n, n%keys))
		}
		await(t, time.Hour, "all dead", func() bool { return m.count(store.Dead) == dead })
		healed.Store(true)
		before := len(e.got)
		for n := range fresh {
			m.append(rowEvent(dead+n, n%keys))
		}
		time.Sleep(100 * time.Millisecond) // one of each key is being sent
		offsets := make([]store.Offset, dead)
		for i := range offsets {
			offsets[i] = store.Offset(i + 1)
		}
		rand.New(rand.NewPCG(1, 2)).Shuffle(dead, func(i, j int) { offsets[i], offsets[j] = offsets[j], offsets[i] })
		for part := range slices.Chunk(offsets, 90) {
			m.wishFor("job_x", "retry", part...)
		}
		await(t, time.Hour, "all delivered", func() bool { return e.delivered() == dead+fresh })
		await(t, time.Minute, "all settled", m.settledAll)
		end()
		got := map[string][]int{}
		for _, s := range e.got[before:] {
			got[s.key] = append(got[s.key], s.sequence)
		}
		for key, sequences := range got {
			if sequences[0] <= dead {
				t.Errorf("key %s: %d overtook what was being sent", key, sequences[0])
			}
			if !slices.IsSorted(sequences[1:]) || len(sequences) != (dead+fresh)/keys {
				t.Errorf("key %s went as %v", key, sequences)
			}
		}
	})
}

// A settlement of which nobody knows whether it stands may have written a dead
// letter, or not: what a person asks for it meanwhile is done once.
func TestADeadLetterIsRetriedOrDiscardedWhileItsSettlementIsInDoubt(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"retry", "discard"} {
		for name, stands := range map[string]bool{"it stands": true, "it does not": false} {
			t.Run(action+" where "+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var healed atomic.Bool
					e := newEndpoint(func(string, int) (int, time.Duration) {
						if healed.Load() {
							return 200, 0
						}
						return 422, 0
					})
					m := newMemory(dies())
					end, _ := life(t, m, e)
					m.append(rowEvent(0, 0))
					m.mu.Lock()
					if stands {
						m.doubtful = 3
					} else {
						m.failing = 3
					}
					m.mu.Unlock()
					time.Sleep(2 * settleEvery)
					healed.Store(true)
					if in := m.count(store.Dead) == 1; in != stands {
						t.Fatalf("the dead letter is in the store: %v", in)
					}
					m.wish(action, 1)
					await(t, time.Minute, "settled", m.settledAll)
					end()
					if want := map[string]int{"retry": 1}[action]; e.delivered() != want {
						t.Errorf("%d delivered, want %d", e.delivered(), want)
					}
				})
			})
		}
	}
}

// A hundred thousand dead letters that are retried at once are taken up by and
// by, and new events do not wait for all of them.
func TestALaneTakesUpNoMoreDeadLettersThanItHasRoomFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const events = 3 * maxRevisited
		var healed atomic.Bool
		chance := 0
		e := newEndpoint(func(string, int) (int, time.Duration) {
			if healed.Load() {
				return 200, 20 * time.Millisecond
			}
			if chance++; chance%5 == 0 { // so that nobody takes the endpoint to be down
				return 200, 0
			}
			return 422, 0
		})
		m := newMemory(dies())
		end, _ := life(t, m, e)
		for n := range events {
			m.append(rowEvent(n, n))
		}
		await(t, time.Hour, "all tried", func() bool { return m.count(store.Dead)+e.delivered() == events })
		healed.Store(true)
		var offsets []store.Offset
		for at := range m.deliveries {
			offsets = append(offsets, at)
		}
		m.wishFor("job_x", "retry", offsets...)
		most, began := 0, time.Now()
		m.append(rowEvent(events, events))
		await(t, time.Hour, "all delivered", func() bool {
			most = max(most, m.count(store.Retrying)+m.count(store.Blocked))
			return e.delivered() == events+1
		})
		await(t, time.Minute, "all settled", m.settledAll)
		end()
		if most > maxRevisited || most < maxRevisited/2 {
			t.Errorf("%d were taken up at once, want at most %d", most, maxRevisited)
		}
		for _, s := range e.got {
			if s.sequence == events+1 && s.at.Sub(began) > time.Second {
				t.Errorf("a new event waited for %v", s.at.Sub(began))
			}
		}
	})
}

// What has ended when it is asked for is nobody's work.
func TestAnIntentForWhatHasEndedIsTakenAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(string, int) (int, time.Duration) { return 200, 0 })
		m := newMemory(dies())
		end, _ := life(t, m, e)
		m.append(rowEvent(0, 0))
		await(t, time.Minute, "delivered", func() bool { return e.delivered() == 1 })
		m.wish("retry", 1)
		m.wish("discard", 1)
		await(t, time.Minute, "taken away", m.settledAll)
		end()
		if m.moot != 2 || len(e.got) != 1 {
			t.Errorf("%d intents were moot, and %d requests were made; want 2 and 1", m.moot, len(e.got))
		}
	})
}
