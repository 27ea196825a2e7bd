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

// traffic is a lane's life on a crowded machine: past are there and delivered, and
// live events come.
type traffic struct {
	e    *crowded
	m    *memory
	n    int
	late time.Duration // of all live events together
}

const liveEvery = 10 * time.Millisecond

func newTraffic(past int) *traffic {
	f := &traffic{e: &crowded{room: 1500}, m: newMemory(simulated(nil)), n: past}
	for n := range past {
		f.m.append(rowEvent(n, n))
	}
	f.m.cursor, f.m.counts.Delivered = store.Offset(past)+1, int64(past)
	return f
}

// live has events come for so long.
func (f *traffic) live(span time.Duration) {
	for until := time.Now().Add(span); time.Now().Before(until); f.n++ {
		late := f.e.late()
		f.late += late
		ev := rowEvent(f.n, f.n)
		ev.Time = time.Now().Add(-late).UnixMicro()
		f.m.append(ev)
		time.Sleep(liveEvery)
	}
}

// speed is how many requests a second come meanwhile.
func (f *traffic) speed(span time.Duration, do func(time.Duration)) float64 {
	began := time.Now()
	do(span)
	return float64(f.e.between(began, time.Now())) / span.Seconds()
}

// yields checks that what goes on beside live events leaves these their room.
func (f *traffic) yields(t *testing.T, span time.Duration) {
	t.Helper()
	f.late = 0
	beside := f.speed(span, f.live) - float64(time.Second/liveEvery)
	if mean := f.late / (span / liveEvery); beside < 250 || beside > 900 || mean > 5*time.Millisecond/2 {
		t.Errorf("%.0f/s beside live events, which were %v late on average", beside, mean)
	}
}

func TestAReplayYieldsToLiveEventsAndToNobodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const events, ceiling = 60_000, 4000
		f := newTraffic(events)
		end, _ := life(t, f.m, f.e)
		defer end()
		f.live(5 * time.Second)
		f.m.startReplay(store.ReplaySpec{From: 1, Past: events + 1, PerSecond: ceiling, Types: []string{"**"}})
		f.live(5 * time.Second)
		f.yields(t, 20*time.Second)
		time.Sleep(yieldMost + 100*time.Millisecond)
		if alone := f.speed(5*time.Second, time.Sleep); alone < ceiling*9/10 || alone > ceiling*11/10 {
			t.Errorf("%.0f/s alone, want %d", alone, ceiling)
		}
		await(t, time.Minute, "the replay is done", func() bool { p, done := f.m.replayed(); return done && p.Delivered == events })
	})
}

func TestABulkRetryYieldsToLiveEventsAndASingleOneDoesNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const dead, page = 20_000, 1000
		f := newTraffic(dead + 2)
		f.m.sub.Events = []string{"public.t.*"} // of which no balance is struck, which takes long for so many rows
		for at := store.Offset(1); at <= dead+2; at++ {
			f.m.deliveries[at] = store.Delivery{Lane: 1, Offset: at, State: store.Dead, Keys: []string{f.m.events[at-1].Key}, Attempts: 1}
		}
		f.m.counts.Delivered = 0
		end, _ := life(t, f.m, f.e)
		defer end()
		f.live(5 * time.Second)
		asked := store.Offset(0)
		feed := func() { // as the store does: no more than 2,000 are not taken up
			f.m.mu.Lock()
			room := len(f.m.intents) <= page
			f.m.mu.Unlock()
			if !room || asked == dead {
				return
			}
			var offsets []store.Offset
			for range page {
				asked++
				offsets = append(offsets, asked)
			}
			f.m.wishFor("job_x", "retry", offsets...)
		}
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-time.After(20 * time.Millisecond):
					feed()
				case <-stop:
					return
				}
			}
		}()
		f.live(5 * time.Second)
		f.yields(t, 10*time.Second)
		f.m.wish("retry", dead+1)
		f.m.wishFor("job_y", "discard", dead+2)
		f.live(200 * time.Millisecond)
		f.m.mu.Lock()
		for at, what := range map[store.Offset]string{dead + 1: "what a person retries", dead + 2: "what is discarded"} {
			if _, waits := f.m.deliveries[at]; waits {
				t.Errorf("%s waits behind a job", what)
			}
		}
		before := len(f.m.deliveries)
		f.m.mu.Unlock()
		if before < 8000 {
			t.Fatalf("%d of %d are left: too few to see how fast they go alone", before, dead)
		}
		time.Sleep(yieldMost + 100*time.Millisecond)
		if alone := f.speed(time.Second, time.Sleep); alone < 4000 {
			t.Errorf("%.0f/s alone", alone)
		}
		await(t, time.Minute, "all are delivered", f.m.settledAll)
	})
}
