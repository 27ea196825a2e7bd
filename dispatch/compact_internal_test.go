package dispatch

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// latest is the plain reference of what compaction leaves of a backlog: an event
// goes unsent exactly where the next one that has to follow it is of its own key
// alone, and neither is more than that.
func latest(events []store.Event) map[store.Offset]bool {
	left := map[store.Offset]bool{}
	for i := range events {
		if !superseded(events, i) {
			left[events[i].Offset] = true
		}
	}
	return left
}

// superseded reports whether compaction may leave out the i-th of events.
func superseded(events []store.Event, i int) bool {
	plain := func(e *store.Event) bool {
		return e.OldKey == "" && e.Kind != store.KindTruncate && strings.Contains(e.Key, "/")
	}
	for next := i + 1; next < len(events); next++ {
		if follows(&events[next], &events[i]) {
			return plain(&events[i]) && plain(&events[next])
		}
	}
	return false
}

func TestCompactionLeavesTheLatestOfEachKeyOfABacklog(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 5))
			m := newMemory(simulated(func(s *subscriptions.Spec) { s.Compact = true; s.Retry.MaxAttempts = 1000 }))
			var acked []store.Offset
			j := newJudge(m, nil)
			j.answer = func(at store.Offset, _ int) (int, time.Duration) {
				if random.IntN(10) == 0 {
					return 400, time.Millisecond // an event that was tried is owed
				}
				acked = append(acked, at)
				return 200, 10 * time.Millisecond
			}
			const backlog = 3000
			for n := range backlog {
				e := randomEvent(n, random)
				if e.Kind == store.KindTruncate && n%100 > 0 || e.OldKey != "" && n%20 > 0 {
					e = rowEvent(n, random.IntN(6))
				}
				if n%50 == 7 {
					e = rowEvent(n, 0)
					e.Key = "public.log" // a table without keys
				}
				m.append(e)
			}
			want := latest(m.events)
			end, _ := life(t, m, j)
			await(t, time.Hour, "the backlog delivered", func() bool { return j.count() >= len(want) })
			synctest.Wait()
			for at := range want {
				if !j.acked[at] {
					t.Errorf("seed %d: %d was not delivered", seed, at)
				}
			}
			if len(j.acked) != len(want) || len(want) > backlog/2 {
				t.Errorf("seed %d: %d delivered, want %d", seed, len(j.acked), len(want))
			}
			for i := range acked {
				for _, later := range acked[i+1:] {
					if later < acked[i] && follows(&m.events[acked[i]-1], &m.events[later-1]) {
						t.Errorf("seed %d: %d was delivered before %d", seed, acked[i], later)
					}
				}
			}
			// What comes now is no backlog.
			before := j.count()
			for n := range 200 {
				m.append(rowEvent(backlog+n, n%3))
				time.Sleep(time.Millisecond)
			}
			await(t, time.Hour, "all that came later delivered", func() bool { return j.count() == before+200 })
			end()
			if got := max(m.cursor, m.floor); got != backlog+201 {
				t.Errorf("cursor %d, want %d", got, backlog+201)
			}
		})
	}
}
