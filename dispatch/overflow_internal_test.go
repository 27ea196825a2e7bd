package dispatch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// judge is an endpoint that knows the log, and finds fault with every event that is
// sent before one that it has to follow was acknowledged: the plainest reference of
// the order there is, which looks at all pairs. An array is in the order of its events.
type judge struct {
	mu     sync.Mutex
	m      *memory
	first  store.Offset // of those that are owed to it; 0: all are
	answer func(at store.Offset, try int) (status int, wait time.Duration)
	acked  map[store.Offset]bool
	tries  map[store.Offset]int
	twice  int // events acknowledged again
	faults []string
}

func newJudge(m *memory, answer func(at store.Offset, try int) (int, time.Duration)) *judge {
	return &judge{m: m, answer: answer, acked: map[store.Offset]bool{}, tries: map[store.Offset]int{}}
}

func (j *judge) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	body = bytes.TrimSpace(body)
	if r.Header.Get("Content-Type") != batchContent {
		body = slices.Concat([]byte("["), body, []byte("]"))
	}
	var sent []struct {
		Sequence store.Offset `json:",string"`
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		return nil, err
	}
	j.m.mu.Lock()
	events, compact := j.m.events, j.m.sub.Compact
	j.m.mu.Unlock()
	j.mu.Lock()
	within := map[store.Offset]bool{}
	for _, s := range sent {
		j.tries[s.Sequence]++
		if !j.acked[s.Sequence] {
			j.look(events[:s.Sequence], within, compact)
		}
		within[s.Sequence] = true
	}
	status, wait := j.answer(sent[0].Sequence, j.tries[sent[0].Sequence])
	j.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if status == 0 {
		return nil, errors.New("connection reset by peer")
	}
	for _, s := range sent {
		if status/100 != 2 {
			break
		}
		if j.acked[s.Sequence] {
			j.twice++
		}
		j.acked[s.Sequence] = true
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// look finds fault with the last of events, which is being sent behind those within
// its body: whatever it follows has to be acknowledged, or superseded.
func (j *judge) look(events []store.Event, within map[store.Offset]bool, compact bool) {
	e := &events[len(events)-1]
	for i := len(events) - 2; i >= max(0, int(j.first)-1); i-- {
		before := &events[i]
		if j.acked[before.Offset] || within[before.Offset] || !follows(e, before) || j.m.wanted != nil && !j.m.wanted(before) ||
			compact && superseded(events, i) {
			continue
		}
		j.faults = append(j.faults, fmt.Sprintf("%d (%s, %s) was sent before %d (%s, %s)", e.Offset, e.Key, e.OldKey,
			before.Offset, before.Key, before.OldKey))
		return
	}
}

// follows reports whether e may go only after before.
func follows(e, before *store.Event) bool {
	for _, a := range []string{e.Key, e.OldKey} {
		for _, b := range []string{before.Key, before.OldKey} {
			if a == "" || b == "" {
				continue
			}
			if a == b || (e.Kind == store.KindTruncate || before.Kind == store.KindTruncate) && tableOf(a) == tableOf(b) {
				return true
			}
		}
	}
	return false
}

func (j *judge) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.acked)
}

// randomEvent is a row of few keys, now and then a key change, and seldom a truncate.
func randomEvent(n int, random *rand.Rand) store.Event {
	e := rowEvent(n, random.IntN(4))
	table := func() string { return "public.t" + strconv.Itoa(random.IntN(2)) }
	e.Key = table() + "/id=" + strconv.Itoa(random.IntN(4))
	switch random.IntN(40) {
	case 0:
		e.Kind, e.Key, e.Type = store.KindTruncate, table(), "public.t.truncated"
	case 1, 2, 3, 4:
		if other := table() + "/id=" + strconv.Itoa(random.IntN(4)); other != e.Key {
			e.OldKey = other
		}
	}
	return e
}

// Keys that overflow at once, under random failures, crashes, key changes and
// truncates: nothing is lost, nothing goes before what it has to follow, and at the
// end no row is left.
func TestOverflowedKeysKeepTheirOrderOverCrashesAndKeyChanges(t *testing.T) {
	t.Parallel()
	histories(t, 40, func(t *testing.T, seed uint64, random, chance *rand.Rand) {
		m := newMemory(simulated(func(s *subscriptions.Spec) {
			s.Retry.MaxAttempts = 1000
			s.Retry.Max = s.Retry.Initial
		}))
		j := newJudge(m, func(store.Offset, int) (int, time.Duration) {
			status := 200
			if chance.IntN(10) < 3 {
				status = []int{400, 400, 400, 500}[chance.IntN(4)]
			}
			return status, time.Duration(chance.ExpFloat64()*15) * time.Millisecond
		})
		small := limits{blocked: int32(1 + random.IntN(4)), walk: 1 + random.IntN(4)}
		n, most := 0, 0
		for range 6 {
			_, kill := liveWith(t, m, j, small)
			for range 30 + random.IntN(120) {
				m.append(randomEvent(n, random))
				n++
				time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
				m.mu.Lock()
				most = max(most, len(m.overflows))
				m.mu.Unlock()
			}
			m.upset(random)
			kill()
		}
		end, _ := liveWith(t, m, j, small)
		await(t, 24*time.Hour, "all delivered", func() bool { return j.count() == n })
		await(t, time.Minute, "no row left", m.idle)
		end()
		for _, f := range j.faults {
			t.Error(f)
		}
		if most == 0 {
			t.Error("no key overflowed: this run has shown nothing")
		}
		if got := max(m.cursor, m.floor); got != store.Offset(n+1) {
			t.Errorf("cursor %d, want %d", got, n+1)
		}
	})
}

// Without a crash an overflowed key is sent each event once.
func TestAPoisonEventHoldsItsKeyAndNeitherItsLaneNorRows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(simulated(func(s *subscriptions.Spec) {
			s.Retry.MaxAttempts = 1000
			s.Retry.MaxAge = subscriptions.Duration(1000 * time.Hour)
		}))
		var healed atomic.Bool
		j := newJudge(m, refusedUntil(&healed))
		end, _ := life(t, m, j)
		const events = 8000
		for n := range events {
			key := 0
			if n%20 == 19 {
				key = n
			}
			m.append(rowEvent(n, key))
		}
		await(t, time.Hour, "all other keys delivered", func() bool { return j.count() == events/20 })
		m.mu.Lock()
		rows, saved := len(m.deliveries), m.rowsSaved
		m.mu.Unlock()
		if rows > maxBlocked+windowEvents {
			t.Errorf("%d deliveries wait behind one event (%d writes)", rows, saved)
		}
		healed.Store(true)
		await(t, 30*time.Hour, "the blocked key delivered", func() bool { return j.count() == events })
		await(t, time.Minute, "no row left", m.idle)
		end()
		for _, f := range j.faults {
			t.Error(f)
		}
		if j.twice > 0 {
			t.Errorf("%d events came twice", j.twice)
		}
	})
}

// An overflow outlives the ordering that it came of: what is owed is sent once.
func TestAnOverflowIsDrainedWhenTheSubscriptionOrdersNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(simulated(func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 1000 }))
		var healed atomic.Bool
		j := newJudge(m, refusedUntil(&healed))
		end, _ := liveWith(t, m, j, limits{blocked: 3, walk: 2})
		const events = 400
		for n := range events {
			m.append(rowEvent(n, n%4))
			time.Sleep(10 * time.Millisecond)
		}
		await(t, time.Hour, "the other keys delivered", func() bool { return j.count() == events*3/4 })
		m.mu.Lock()
		sub, overflows := m.sub, len(m.overflows)
		m.mu.Unlock()
		if overflows != 1 {
			t.Errorf("%d keys overflow, want 1", overflows)
		}
		sub.Ordering = subscriptions.OrderNone
		if err := m.UpdateSubscription(t.Context(), &sub, sub.Version); err != nil {
			t.Fatal(err)
		}
		await(t, time.Hour, "all but one delivered", func() bool { return j.count() == events-1 })
		healed.Store(true)
		await(t, 3*time.Hour, "all delivered", func() bool { return j.count() == events })
		await(t, time.Minute, "no row left", m.idle)
		end()
		if j.twice > 0 {
			t.Errorf("%d events came twice", j.twice)
		}
	})
}

// A hold that ends while keys overflow gives up what the lane has not come by, and
// nothing that the keys are owed: no event is in both places, or in none.
func TestAHoldThatEndsWhileKeysOverflowGivesUpNothingThatTheyAreOwed(t *testing.T) {
	t.Parallel()
	histories(t, 8, func(t *testing.T, seed uint64, random, _ *rand.Rand) {
		m := newMemory(simulated(func(s *subscriptions.Spec) {
			s.Retry.MaxAttempts = 1000
			s.Retry.MaxAge = subscriptions.Duration(1000 * time.Hour)
			s.Outage.HoldLimit = subscriptions.HoldLimit{
				Age: subscriptions.Duration(1000 * time.Hour), Bytes: new(int64(300)), Then: subscriptions.HoldDeadLetter,
			}
		}))
		var healed atomic.Bool
		j := newJudge(m, func(at store.Offset, _ int) (int, time.Duration) {
			if at%97 == 1 && !healed.Load() {
				return 422, time.Millisecond
			}
			return 200, time.Millisecond
		})
		crashes := seed%2 == 1
		end, kill := liveWith(t, m, j, limits{blocked: 3, walk: 2})
		n, most := 0, 0
		write := func(events int) {
			for range events {
				e := rowEvent(n, random.IntN(4))
				if random.IntN(10) == 0 {
					e.OldKey = rowEvent(n, 7).Key
				}
				m.append(e)
				n++
				time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
			}
		}
		for range 5 {
			write(100)
			time.Sleep(10 * time.Second)
			m.edit(t, func(sub *subscriptions.Subscription) { sub.State = subscriptions.Paused })
			write(20 + random.IntN(60))
			time.Sleep(20 * time.Second)
			m.mu.Lock()
			if len(m.overflows) > 0 {
				most = max(most, len(m.held.ranges))
			}
			m.mu.Unlock()
			m.edit(t, func(sub *subscriptions.Subscription) { sub.State = subscriptions.Active })
			if crashes {
				kill()
				end, kill = liveWith(t, m, j, limits{blocked: 3, walk: 2})
			}
		}
		healed.Store(true)
		await(t, 30*time.Hour, "nothing owed", m.idle)
		end()
		gone := m.held.givenUp()
		for at := store.Offset(1); at <= store.Offset(n); at++ {
			switch {
			case !gone[at] && !j.acked[at]:
				t.Errorf("event %d is lost", at)
			case gone[at] && j.acked[at] && !crashes:
				t.Errorf("event %d was delivered and given up", at)
			}
		}
		if most == 0 || int64(n) != m.counts.Delivered+int64(len(gone)) {
			t.Errorf("%d ranges while keys overflowed; of %d events %d delivered, %d given up", most, n, m.counts.Delivered, len(gone))
		}
	})
}

// All that was taken in of an overflowed key may have ended before the walk comes by
// the next of its events: then nothing that ends opens it again.
func TestAnOverflowedKeyGoesOnThoughItsEventsAreFarApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(simulated(patient))
		m.page = 1
		var healed atomic.Bool
		j := newJudge(m, refusedUntil(&healed))
		end, _ := liveWith(t, m, j, limits{blocked: 1, walk: 1})
		const events = 60
		for n := range events {
			m.append(rowEvent(n, min(1, n%10))) // every tenth is of the key that fails
			time.Sleep(readTime)
		}
		await(t, time.Hour, "the other key delivered", func() bool { return j.count() == events*9/10 })
		healed.Store(true)
		await(t, time.Hour, "all delivered", func() bool { return j.count() == events && m.idle() })
		end()
		j.verify(t, m.events, false)
	})
}
