package dispatch

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// checkRelated finds events that were sent before an earlier one that orders
// them, by either of their keys or as a truncate, was acknowledged.
func (e *endpoint) checkRelated(t *testing.T, events []store.Event) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	entries := make([]*entry, len(events))
	for i := range events {
		entries[i] = &entry{offset: events[i].Offset, key: events[i].Key, key2: events[i].OldKey}
		if events[i].Kind == store.KindTruncate {
			entries[i].barrier = events[i].Table()
		}
	}
	done := make(map[int]bool)
	in := make(map[int]int) // the last body that an event was in
	for _, s := range e.got {
		if done[s.sequence] {
			continue // again, after a crash
		}
		at := s.sequence - 1
		for i := range at {
			if !done[i+1] && in[i+1] != s.post && related(entries[i], entries[at]) {
				t.Fatalf("event %d (%q, %q) was sent before event %d (%q, %q)",
					at+1, entries[at].key, entries[at].key2, i+1, entries[i].key, entries[i].key2)
			}
		}
		in[s.sequence] = s.post
		if s.ok {
			done[s.sequence] = true
		}
	}
}

// livesOfRelated writes rows of few keys, some of them truncates and changes of a
// key, a number in each of fifteen lives with less than gap between two, and
// returns how many. A life ends in a kill, after an edit, or in a stop.
func livesOfRelated(t *testing.T, m *memory, e *endpoint, random *rand.Rand, each int, gap time.Duration) int {
	t.Helper()
	n := 0
	for turn := range 15 {
		end, kill := life(t, m, e)
		for range each {
			ev := rowEvent(n, random.IntN(8))
			switch random.IntN(20) {
			case 0:
				ev.Kind, ev.Key, ev.Type = store.KindTruncate, "public.t", "public.t.truncated"
			case 1, 2, 3:
				if other := rowEvent(n, random.IntN(8)).Key; other != ev.Key {
					ev.OldKey = other
				}
			}
			m.append(ev)
			n++
			time.Sleep(time.Duration(random.Int64N(int64(gap))).Truncate(time.Millisecond))
		}
		switch turn % 3 {
		case 0:
			kill()
			continue
		case 1:
			m.mu.Lock()
			m.sub.Version++ // as an edit does
			m.changes <- store.TopicSubscriptions
			m.mu.Unlock()
			time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
		}
		end()
		m.restart()
	}
	return n
}

// A truncate waits for every key of its table, and a change of a key for two:
// where one of them fails while another is still under way, that must hold over
// a pause and over a crash, too.
func TestTruncatesAndKeyChangesKeepTheirPlaceOverPausesAndCrashes(t *testing.T) {
	t.Parallel()
	histories(t, 8, func(t *testing.T, seed uint64, random, chance *rand.Rand) {
		e := newEndpoint(func(string, int) (int, time.Duration) {
			status := 200
			if chance.IntN(10) < 3 {
				status = 500
			}
			return status, time.Duration(chance.ExpFloat64()*200) * time.Millisecond
		})
		m := newMemory(simulated(func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 1000; s.Retry.Max = s.Retry.Initial }))
		n := livesOfRelated(t, m, e, random, 20, 50*time.Millisecond)
		end, _ := life(t, m, e)
		await(t, 2*time.Hour, "all delivered", func() bool { return e.delivered() == n })
		end()
		e.checkRelated(t, m.events)
	})
}

// A truncate waits for an event that has failed, which a row holds, and for one
// that is still being sent, which none does. If a row held the truncate, the
// next life would have it wait for the first alone.
func TestATruncateWaitsForWhatIsStillBeingSentOverACrash(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"written before the failure": false, "written after it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEndpoint(func(id string, try int) (int, time.Duration) {
					switch {
					case id == "01-0000000000000000-0" && try < 3:
						return 0, stragglerAge * 3 / 4
					case id == "01-0000000000000001-0" && try == 1:
						return 500, 100 * time.Millisecond
					}
					return 200, 0
				})
				m := newMemory(simulated(nil))
				_, kill := life(t, m, e)
				m.append(rowEvent(0, 0))
				m.append(rowEvent(1, 1))
				if late {
					time.Sleep(200 * time.Millisecond)
				}
				truncate := rowEvent(2, 0)
				truncate.Kind, truncate.Key = store.KindTruncate, "public.t"
				m.append(truncate)
				time.Sleep(300 * time.Millisecond)
				kill()
				end, _ := life(t, m, e)
				await(t, time.Minute, "all delivered", func() bool { return e.delivered() == 3 })
				end()
				e.checkRelated(t, m.events)
			})
		})
	}
}
