package dispatch

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/rowcall/rowcall/store"
)

const (
	// yieldFirst is how many attempts a second replays begin with beside live
	// events, and yieldLeast what they always may have, however late those are.
	yieldFirst = 250
	yieldLeast = 100
	// yieldSlack is how much later than usual live events may come in any case: so
	// much is a machine's own unrest.
	yieldSlack = 500 * time.Microsecond
	// yieldWindow is how many pages of live events are looked at together, and
	// yieldSpan and yieldMost over how long at least and at most. After yieldMost
	// without any, nothing is live.
	yieldWindow = 20
	yieldSpan   = 100 * time.Millisecond
	yieldMost   = 2 * time.Second
	// yieldRest is after how many windows it is measured how late live events are
	// without replays: for one window these have the eighth part.
	yieldRest = 8
	// yieldLook is how often bulk retries take dead letters up beside live events.
	yieldLook = 100 * time.Millisecond
	// usualFor is for how long a source's quickest event counts: clocks drift.
	usualFor = time.Minute
)

// yield is how many attempts a second all replays may make together while live
// events come, so that these come about as soon as without replays. A value: it
// knows no clock.
type yield struct {
	limit   float64
	usual   time.Duration // nine in ten live events are less late without replays; 0: not known yet
	beside  time.Duration // and beside them
	steep   bool          // the limit rises fast, until live events come later
	resting bool          // usual is measured
	age     int           // windows since it was
}

func newYield(usual time.Duration) yield {
	return yield{limit: yieldFirst, usual: usual, beside: usual, steep: true}
}

// turn ends a window in which nine in ten live events were less late than late,
// and replays made so many attempts a second.
func (y *yield) turn(late time.Duration, speed float64) {
	if speed == 0 || y.usual == 0 {
		*y = newYield(smooth(y.usual, late))
		return
	}
	if y.resting {
		y.usual, y.resting, y.age = smooth(y.usual, late), false, 0
		return
	}
	y.beside = smooth(y.beside, late)
	y.age++
	y.resting = y.age >= yieldRest
	switch {
	case y.beside > y.usual*5/4+yieldSlack:
		y.steep = false
		y.limit = max(yieldLeast, min(y.limit, speed)*5/6)
	case speed < y.limit/2: // it is not this that they wait for
	case y.steep:
		y.limit += y.limit / 4
	default:
		y.limit += y.limit / 16
	}
}

// smooth moves a lateness a quarter of the way to a new one, by their logarithms:
// the one in a hundred that is of another order does not carry it away.
func smooth(was, now time.Duration) time.Duration {
	if was == 0 {
		return max(now, 1)
	}
	w := float64(was)
	return time.Duration(math.Sqrt(w * math.Sqrt(w*float64(max(now, 1)))))
}

// allowed is the limit of the window that begins.
func (y *yield) allowed() float64 {
	if y.resting {
		return y.limit / 8
	}
	return y.limit
}

// yielding has an instance's replays, and bulk retries, yield to live events. The head
// reader tells it how late these are; it has no part in how lanes that are not replays go.
type yielding struct {
	limiter  *rate.Limiter
	bulk     *rate.Limiter // of dead letters that bulk retries take up: they have the same, beside replays
	launched atomic.Int64  // attempts of replays, and those dead letters
	begun    time.Time
	live     atomic.Int64 // when the head reader last had events, in ns since begun; 0: never

	// What follows is touched by the head reader alone.
	yield   yield
	sources map[store.SourceID]*quickest
	since   time.Time // of the window
	before  int64     // launched, at its start
	late    []time.Duration
}

// quickest is how soon after its commit a source's event came at best, by the
// clocks of the two, now and in the time before.
type quickest struct {
	now, before time.Duration
	since       time.Time
}

func newYielding() *yielding {
	y := newYield(0)
	return &yielding{
		yield: y, limiter: rate.NewLimiter(rate.Limit(y.limit), burst(y.limit)), bulk: rate.NewLimiter(rate.Limit(y.limit), bulkBurst(y.limit)),
		begun: time.Now(), sources: make(map[store.SourceID]*quickest),
	}
}

// saw takes note of live events that are about to go to their lanes, oldest first.
func (y *yielding) saw(now time.Time, events []store.Event) {
	y.live.Store(int64(max(now.Sub(y.begun), 1)))
	y.late = append(y.late, y.lateness(now, &events[0]))
	span := now.Sub(y.since)
	if span < yieldSpan || len(y.late) < yieldWindow && span < yieldMost {
		return
	}
	launched := y.launched.Load()
	if span < 2*yieldMost { // else nothing was live
		slices.Sort(y.late)
		y.yield.turn(y.late[len(y.late)*9/10], float64(launched-y.before)/span.Seconds())
		limit := y.yield.allowed()
		y.limiter.SetLimitAt(now, rate.Limit(limit))
		y.limiter.SetBurstAt(now, burst(limit))
		y.bulk.SetLimitAt(now, rate.Limit(limit))
		y.bulk.SetBurstAt(now, bulkBurst(limit))
	}
	y.since, y.before, y.late = now, launched, y.late[:0]
}

// lateness is how much later after its commit, or its publication, an event came than the quickest of
// its source: what clocks differ by is in both.
func (y *yielding) lateness(now time.Time, ev *store.Event) time.Duration {
	took := now.Sub(time.UnixMicro(ev.Time))
	q := y.sources[ev.SourceID]
	switch {
	case q == nil:
		q = &quickest{now: took, before: took, since: now}
		y.sources[ev.SourceID] = q
	case now.Sub(q.since) > usualFor:
		q.now, q.before, q.since = took, q.now, now
	default:
		q.now = min(q.now, took)
	}
	return took - min(q.now, q.before)
}

// applies reports whether replays are to yield: whether live events come.
func (y *yielding) applies(now time.Time) bool {
	live := y.live.Load()
	return live > 0 && now.Sub(y.begun)-time.Duration(live) < yieldMost
}

// took takes note of an attempt of a replay.
func (y *yielding) took(now time.Time) {
	y.launched.Add(1)
	if y.applies(now) {
		y.limiter.ReserveN(now, 1)
	}
}

// bulkBurst is how many dead letters bulk retries may take up at once.
func bulkBurst(perSecond float64) int { return max(1, int(perSecond*yieldLook.Seconds())) }

// room is how many dead letters bulk retries may take up now.
func (y *yielding) room(now time.Time) int {
	if !y.applies(now) {
		return math.MaxInt
	}
	return max(0, int(y.bulk.TokensAt(now)))
}

// tookUp takes note of so many that they took up.
func (y *yielding) tookUp(now time.Time, n int) {
	y.launched.Add(int64(n))
	if y.applies(now) {
		y.bulk.ReserveN(now, min(n, y.bulk.Burst()))
	}
}
