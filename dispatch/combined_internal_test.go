package dispatch

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// failing answers as an endpoint that refuses, or fails at, three events in ten.
func failing(chance *rand.Rand) func(store.Offset, int) (int, time.Duration) {
	var mu sync.Mutex // it may answer for a lane and a replay
	return func(store.Offset, int) (int, time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		status := 200
		if chance.IntN(10) < 3 {
			status = []int{400, 400, 400, 500}[chance.IntN(4)]
		}
		return status, time.Duration(chance.ExpFloat64()*15) * time.Millisecond
	}
}

// patient has a subscription try again soon, and give nothing up.
func patient(s *subscriptions.Spec) {
	s.Retry.MaxAttempts = 1000
	s.Retry.Max = s.Retry.Initial
}

// replaying is a combination that a replay is tried with.
type replaying struct {
	edit     func(*subscriptions.Spec)
	overflow bool
}

// A replay of a subscription with batches, with keys that overflow, or that compacts,
// beside what is new, over stops or crashes: neither loses an event, or sends one
// before what it follows; without a crash nothing comes twice; and the replay ends,
// and says of how many events what became.
func TestAReplayKeepsWhatItsSubscriptionPromises(t *testing.T) {
	t.Parallel()
	batches := func(s *subscriptions.Spec) { s.Batch.MaxEvents = 7 }
	compacts := func(s *subscriptions.Spec) { s.Compact = true }
	for name, of := range map[string]replaying{
		"plain": {},
		"batch": {edit: batches},
		"batch that may wait": {edit: func(s *subscriptions.Spec) {
			batches(s)
			s.Batch.MaxWait = subscriptions.Duration(50 * time.Millisecond)
		}},
		"overflow":              {overflow: true},
		"overflow, one at once": {edit: func(s *subscriptions.Spec) { s.MaxInFlight = 1 }, overflow: true},
		"overflow and batch":    {edit: batches, overflow: true},
		"compact":               {edit: compacts},
		"compact and batch":     {edit: func(s *subscriptions.Spec) { compacts(s); batches(s) }},
		"compact and overflow":  {edit: compacts, overflow: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var shown atomic.Int64
			t.Cleanup(func() {
				if shown.Load() == 0 {
					t.Error("no replay was stopped half way, overflowed or compacted: this has shown nothing")
				}
			})
			histories(t, 8, func(t *testing.T, seed uint64, random, chance *rand.Rand) {
				shown.Add(of.run(t, seed, random, chance))
			})
		})
	}
}

// run is one history. It returns how much it has shown.
func (of replaying) run(t *testing.T, seed uint64, random, chance *rand.Rand) (shown int64) {
	m := newMemory(simulated(func(s *subscriptions.Spec) {
		patient(s)
		if of.edit != nil {
			of.edit(s)
		}
	}))
	var small limits
	if of.overflow {
		small = limits{blocked: int32(1 + random.IntN(4)), walk: 1 + random.IntN(4)}
		m.page = 10 // else all is read before anything has failed
		if m.sub.Compact {
			m.page = 1
		}
	}
	answer := failing(chance)
	both := apart{newJudge(m, answer), newJudge(m, answer)}
	crashes := seed%2 == 1
	var spec store.ReplaySpec
	n, stops, overflows := 0, int64(0), int64(0)
	for turn := range 6 {
		end, kill := liveWith(t, m, both, small)
		if turn == 2 {
			time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
			spec.From, spec.Past = store.Offset(1+random.IntN(20)), store.Offset(n+1-random.IntN(20))
			both.again.first = spec.From
			m.startReplay(spec)
		}
		for range 30 + random.IntN(120) {
			m.append(randomEvent(n, random))
			n++
			time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
			overflows += int64(m.replayOverflows())
		}
		m.upset(random)
		if said, done := m.replayed(); !done && said.Delivered > 0 {
			stops++
		}
		if crashes {
			kill()
		} else {
			end()
			m.restart()
		}
	}
	end, _ := liveWith(t, m, both, small)
	await(t, 24*time.Hour, "the replay over, and nothing owed", func() bool {
		_, done := m.replayed()
		return done && m.idle()
	})
	end()
	both.live.verify(t, m.events, crashes)
	both.again.verify(t, m.events[:spec.Past-1], crashes)
	said, _ := m.replayed()
	c := m.second.counts
	if total := int64(spec.Past - spec.From); said.Delivered+c.Compacted != total || said.Dead != 0 {
		t.Errorf("of %d events the replay says %+v, its lane %+v", total, said, c)
	}
	switch {
	case of.overflow && m.sub.Compact:
		return min(overflows, c.Compacted)
	case of.overflow:
		return overflows
	case m.sub.Compact:
		return c.Compacted
	}
	return stops
}

// verify finds fault with what was sent, once all of events has ended.
func (j *judge) verify(t *testing.T, events []store.Event, crashes bool) {
	t.Helper()
	what := "live"
	if j.first > 0 {
		what = "replay"
	}
	for _, f := range j.faults {
		t.Errorf("%s: %s", what, f)
	}
	if j.twice > 0 && !crashes {
		t.Errorf("%s: %d events came twice without a crash", what, j.twice)
	}
	for i := max(0, int(j.first)-1); i < len(events); i++ {
		e := &events[i]
		wanted := j.m.wanted == nil || j.m.wanted(e)
		switch superseded := j.m.sub.Compact && superseded(events, i); {
		case j.acked[e.Offset] && !wanted:
			t.Errorf("%s: event %d was sent, which nobody wants", what, e.Offset)
		case !j.acked[e.Offset] && wanted && !superseded:
			t.Errorf("%s: event %d is lost", what, e.Offset)
		}
	}
}
