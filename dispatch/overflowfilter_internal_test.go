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

// Keys that overflow where a filter leaves events out, and fails on some until it is
// edited: what is left in the log is asked for when its turn comes, and the counts say
// nothing of what was not wanted.
func TestAFilterIsAskedOfWhatAnOverflowedKeyLeftInTheLog(t *testing.T) {
	t.Parallel()
	histories(t, 24, func(t *testing.T, seed uint64, random, chance *rand.Rand) {
		m := newMemory(simulated(func(s *subscriptions.Spec) {
			patient(s)
			s.Filter = new(`int(data.n) % 3 != 0`)
			if seed%3 == 2 {
				s.Batch.MaxEvents = 7
			}
		}))
		m.wanted = func(e *store.Event) bool { return (e.Offset-1)%3 != 0 || string(e.Data) == "{}" }
		m.page = int(seed % 4 * 5)
		j := newJudge(m, failing(chance))
		small := limits{blocked: int32(1 + random.IntN(4)), walk: 1 + random.IntN(4)}
		crashes := seed%2 == 1
		n, most := 0, 0
		for range 6 {
			end, kill := liveWith(t, m, j, small)
			for range 30 + random.IntN(120) {
				e := randomEvent(n, random)
				if random.IntN(60) == 0 {
					e.Data = []byte("{}") // which the filter fails on
				}
				m.append(e)
				n++
				time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
				m.mu.Lock()
				most = max(most, len(m.overflows))
				m.mu.Unlock()
			}
			m.upset(random)
			if crashes {
				kill()
			} else {
				end()
				m.restart()
			}
		}
		end, _ := liveWith(t, m, j, small)
		time.Sleep(time.Minute)
		m.edit(t, func(sub *subscriptions.Subscription) { sub.Filter = new(`!has(data.n) || int(data.n) % 3 != 0`) })
		await(t, 24*time.Hour, "nothing owed", m.idle)
		end()
		j.verify(t, m.events, crashes)
		if most == 0 {
			t.Error("no key overflowed: this run has shown nothing")
		}
		if m.counts.Delivered != m.matching(1, 1<<60).Events || m.counts.Filtered+m.counts.Overflowed != 0 {
			t.Errorf("of %d events that are wanted %+v", m.matching(1, 1<<60).Events, m.counts)
		}
	})
}

// Keys of an ordering_key cannot be read off the log, so they do not overflow: one that
// fails for long has rows, up to the bound, and these hold its lane, until it goes on.
func TestRowsOfAnOrderingKeyHoldTheirLaneAndNothingOverflows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(simulated(func(s *subscriptions.Spec) {
			s.Retry.MaxAttempts = 1000
			s.Retry.MaxAge = subscriptions.Duration(1000 * time.Hour)
			s.OrderingKey = new(`string(int(data.n) % 4)`)
		}))
		m.page = 20
		var healed atomic.Bool
		j := newJudge(m, refusedUntil(&healed))
		const rows, events = 50, 1000
		small := limits{blocked: 2, walk: 2, rows: rows}
		_, kill := liveWith(t, m, j, small)
		for n := range events {
			m.append(rowEvent(n, n%4)) // the same keys
		}
		held := func() {
			t.Helper()
			m.mu.Lock()
			defer m.mu.Unlock()
			if got := len(m.deliveries); got != rows || len(m.overflows) > 0 || m.following {
				t.Errorf("%d rows and %d overflows, want %d and none; the lane follows: %v", got, len(m.overflows), rows, m.following)
			}
			if got := j.count(); got < 3*(rows-1) || got > 4*rows {
				t.Errorf("%d events of other keys were delivered before the lane was held, want what is between %d rows", got, rows)
			}
		}
		time.Sleep(10 * time.Hour)
		held()
		kill()
		end, _ := liveWith(t, m, j, small)
		time.Sleep(10 * time.Hour)
		held()
		healed.Store(true)
		await(t, 30*time.Hour, "all delivered", func() bool { return j.count() == events && m.idle() })
		end()
		j.verify(t, m.events, true)
	})
}

// A subscription whose ordering is edited while keys overflow, time and again, and before
// all of the time before has gone, over stops or crashes. Its expressions give the rows'
// own keys, so the order that is kept is the same throughout.
func TestOverflowsAreDrainedInOrderWhereTheOrderingIsEdited(t *testing.T) {
	t.Parallel()
	var edits, again atomic.Int64
	t.Cleanup(func() {
		if edits.Load() == 0 || again.Load() == 0 {
			t.Errorf("%d keys overflowed at edits, %d edits came before all of another ordering had gone: this has shown nothing", edits.Load(), again.Load())
		}
	})
	histories(t, 24, func(t *testing.T, seed uint64, random, chance *rand.Rand) {
		m := newMemory(simulated(patient))
		m.page = int(seed % 4 * 5)
		j := newJudge(m, failing(chance))
		small := limits{blocked: int32(1 + random.IntN(4)), walk: 1 + random.IntN(4)}
		crashes := seed%2 == 1
		n := 0
		write := func() {
			for range 30 + random.IntN(60) {
				e := randomEvent(n, random)
				if e.OldKey = ""; e.Kind == store.KindTruncate { // not waited for: see DESIGN.md
					e = rowEvent(n, random.IntN(4))
				}
				m.append(e)
				n++
				time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
			}
		}
		for range 6 {
			end, kill := liveWith(t, m, j, small)
			write()
			old, overflows := m.ofOtherOrderings()
			edits.Add(int64(overflows))
			again.Add(int64(min(old, 1)))
			m.edit(t, func(sub *subscriptions.Subscription) {
				others := slices.DeleteFunc([]string{"", `key`, `key + ""`, `"" + key`}, func(key string) bool {
					return sub.OrderingKey == nil && key == "" || sub.OrderingKey != nil && *sub.OrderingKey == key
				})
				sub.OrderingKey = nil
				if key := others[random.IntN(len(others))]; key != "" {
					sub.OrderingKey = &key
				}
			})
			write()
			time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
			if crashes {
				kill()
			} else {
				end()
				m.restart()
			}
		}
		end, _ := liveWith(t, m, j, small)
		await(t, 24*time.Hour, "nothing owed", m.idle)
		end()
		j.verify(t, m.events, crashes)
	})
}

// ofOtherOrderings is how much is owed in the order of another ordering than the
// subscription's, and how many keys overflow.
func (m *memory) ofOtherOrderings() (old, overflows int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ordering := orderingOf(&m.sub.Spec)
	for _, d := range m.deliveries {
		if d.Ordering != ordering {
			old++
		}
	}
	if ordering != "" {
		old += len(m.overflows)
	}
	return old, len(m.overflows)
}
