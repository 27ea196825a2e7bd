package dispatch

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
)

func TestTheLimitOfReplaysFollowsHowLateLiveEventsAre(t *testing.T) {
	t.Parallel()
	const usual = time.Millisecond
	for name, c := range map[string]struct {
		late        func(speed float64) time.Duration
		ceiling     float64
		least, most float64 // attempts a second, on average, once it has found them
	}{
		"nothing gets later":       {func(float64) time.Duration { return usual }, 50_000, 35_000, 50_000},
		"later from a speed on":    {func(speed float64) time.Duration { return max(usual, time.Duration(speed/1000*2)*usual) }, 50_000, 600, 1600},
		"late whatever replays do": {func(float64) time.Duration { return 40 * usual }, 5000, 3500, 5000},
		"always later":             {func(speed float64) time.Duration { return usual + time.Duration(speed*speed)*time.Microsecond }, 50_000, 50, 125},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, 2))
			y := newYield(0)
			speed := 0.0
			var sum float64
			const windows = 2000
			for n := range windows {
				unrest := time.Duration(random.ExpFloat64() * float64(usual) / 5)
				if random.IntN(50) == 0 {
					unrest = 50 * usual // somebody else's work
				}
				y.turn(c.late(speed)+unrest, speed)
				if speed = min(c.ceiling, y.allowed()); y.limit < yieldLeast {
					t.Fatalf("limit %v", y.limit)
				}
				if n >= windows/2 {
					sum += speed
				}
			}
			if mean := sum / (windows / 2); mean < c.least || mean > c.most {
				t.Errorf("%.0f/s, want %.0f to %.0f", mean, c.least, c.most)
			}
			if y.turn(usual, 0); y.limit != yieldFirst {
				t.Errorf("after a window without replays the next begins with %v", y.limit)
			}
		})
	}
}

// Whatever kind live events are of, it is measured how late they come.
func TestLiveEventsOfEveryKindAreLookedAt(t *testing.T) {
	t.Parallel()
	for kind := store.KindRow; kind <= store.KindNotice; kind++ {
		y := newYielding()
		at := y.begun
		for range 2*yieldWindow + 1 {
			at = at.Add(yieldSpan / 10)
			ev := rowEvent(1, 1)
			ev.Kind, ev.Time = kind, at.Add(-3*time.Millisecond).UnixMicro()
			y.saw(at, []store.Event{ev})
		}
		if y.yield.usual == 0 {
			t.Errorf("of kind %d nothing is known after %d events", kind, 2*yieldWindow+1)
		}
		if !y.applies(at.Add(yieldMost-time.Millisecond)) || y.applies(at.Add(yieldMost)) || newYielding().applies(at) {
			t.Errorf("of kind %d: live for another time than %v", kind, yieldMost)
		}
	}
}

// What clocks differ by makes no event late, also where there are several sources,
// and where a clock is set.
func TestLatenessIsAgainstTheQuickestOfItsSource(t *testing.T) {
	t.Parallel()
	y := newYielding()
	at := time.Unix(1_800_000_000, 0)
	offsets := []time.Duration{0, time.Hour, -time.Hour}
	see := func(late time.Duration) (most time.Duration) {
		for n, offset := range offsets {
			ev := rowEvent(1, 1)
			ev.SourceID, ev.Time = store.SourceID(n), at.Add(offset-late).UnixMicro()
			most = max(most, y.lateness(at, &ev))
		}
		return most
	}
	see(time.Millisecond)
	if got := see(5 * time.Millisecond); got != 4*time.Millisecond {
		t.Errorf("%v late, want 4ms", got)
	}
	offsets[1] -= 10 * time.Minute
	if got := see(time.Millisecond); got < 10*time.Minute {
		t.Fatalf("%v late: the clock was not set", got)
	}
	for range 3 {
		at = at.Add(usualFor + time.Second)
		see(time.Millisecond)
	}
	if got := see(5 * time.Millisecond); got != 4*time.Millisecond {
		t.Errorf("%v late after a clock was set, want 4ms", got)
	}
}

// crowded is an endpoint on a machine that has room for so many requests a second:
// what goes beyond makes everything late.
type crowded struct {
	room int

	mu sync.Mutex
	at []time.Time
}

func (c *crowded) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.at = append(c.at, time.Now())
	c.mu.Unlock()
	time.Sleep(2 * time.Millisecond)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// between is how many requests came in a stretch of time.
func (c *crowded) between(from, until time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, _ := slices.BinarySearchFunc(c.at, from, time.Time.Compare)
	last, _ := slices.BinarySearchFunc(c.at, until, time.Time.Compare)
	return last - first
}

// late is how late events are now.
func (c *crowded) late() time.Duration {
	now := time.Now()
	const span = 100 * time.Millisecond
	return time.Millisecond * time.Duration(max(1, 4*c.between(now.Add(-span), now)*int(time.Second/span)/c.room))
}

func TestAReplayYieldsToLiveEventsAndToNobodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const events, every, ceiling = 60_000, 10 * time.Millisecond, 4000
		e := &crowded{room: 1500}
		m := newMemory(simulated(nil))
		for n := range events {
			m.append(rowEvent(n, n))
		}
		m.mu.Lock()
		m.cursor, m.counts.Delivered = events+1, events
		m.mu.Unlock()
		end, _ := life(t, m, e)
		defer end()
		n, sum := events, time.Duration(0)
		live := func(span time.Duration) {
			for until := time.Now().Add(span); time.Now().Before(until); n++ {
				late := e.late()
				sum += late
				ev := rowEvent(n, n)
				ev.Time = time.Now().Add(-late).UnixMicro()
				m.append(ev)
				time.Sleep(every)
			}
		}
		speed := func(span time.Duration, do func(time.Duration)) float64 {
			began := time.Now()
			do(span)
			return float64(e.between(began, time.Now())) / span.Seconds()
		}
		live(5 * time.Second)
		m.startReplay(store.ReplaySpec{From: 1, Past: events + 1, PerSecond: ceiling, Types: []string{"**"}})
		live(5 * time.Second)

		sum = 0
		beside := speed(20*time.Second, live) - float64(time.Second/every)
		if mean := sum / (20 * time.Second / every); beside < 250 || beside > 900 || mean > 5*time.Millisecond/2 {
			t.Errorf("%.0f/s beside live events, which were %v late on average", beside, mean)
		}
		time.Sleep(yieldMost + 100*time.Millisecond)
		if alone := speed(5*time.Second, time.Sleep); alone < ceiling*9/10 || alone > ceiling*11/10 {
			t.Errorf("%.0f/s alone, want %d", alone, ceiling)
		}
		await(t, time.Minute, "the replay is done", func() bool { p, done := m.replayed(); return done && p.Delivered == events })
	})
}
