package dispatch

import "time"

const (
	// firstLimit is the concurrency that a lane starts with.
	firstLimit = 4
	// leastWindow is how many replies are looked at together at least, and leastSpan
	// over how long: a machine that is short of CPU stalls for tens of milliseconds,
	// in which a fast endpoint answers hundreds. While the limit doubles, doubleSpan.
	leastWindow = 20
	leastSpan   = 100 * time.Millisecond
	doubleSpan  = 20 * time.Millisecond
	// slack is how much later than alone a reply may come whatever its endpoint's
	// latency. So short a queue does nobody harm, and on a machine that is short of
	// CPU it is our own: to send less at once would only cost more of that.
	slack = 50 * time.Millisecond
	// measureEvery is after how many windows the latency of few attempts is measured
	// anew, where latency is what keeps the limit down.
	measureEvery = 64
)

// throttle is how many attempts of a lane may be in flight. It rises while there is
// more to send and replies come as soon as with few in flight; it stays, and falls,
// where they come later: then the endpoint has them wait, and more at once would
// not be done sooner. A value: it knows no clock but what it is told.
//
// Replies are taken in windows, of at least as many as may be in flight, all of
// attempts that started within.
type throttle struct {
	limit  float64
	base   time.Duration // mean latency with few in flight; 0: not known yet
	steep  bool          // the limit doubles, until latency or a failure says that it is enough
	resume float64       // while base is measured: the limit to go back to; 0: it is not
	over   int           // windows in a row whose latency was too high
	age    int           // windows since base was measured

	since  time.Time // of the window
	n      int       // replies
	all    time.Duration
	warm   int // of those: the ones that no connection had to be made for
	reused time.Duration
	peak   int // most in flight
}

// newThrottle begins with few; batches says that events share requests, and then full
// ones come before many at once.
func newThrottle(most int, batches bool) throttle {
	return throttle{limit: float64(min(firstLimit, most)), steep: !batches}
}

// succeeded takes note of a reply that took so long to an attempt that started at a
// time; fresh says that a connection was made for it. So many were in flight with
// it, and most may be.
func (t *throttle) succeeded(started, now time.Time, took time.Duration, fresh bool, inFlight, most int) {
	if t.since.IsZero() {
		t.since = started
	}
	if started.Before(t.since) {
		return
	}
	t.n++
	t.all += took
	if !fresh {
		t.warm++
		t.reused += took
	}
	t.peak = max(t.peak, inFlight)
	span := leastSpan
	if t.steep {
		span = doubleSpan
	}
	if t.n < max(leastWindow, int(t.limit)) || now.Sub(t.since) < span {
		return
	}
	mean := t.all / time.Duration(t.n)
	if 2*t.warm >= t.n { // else the endpoint closes its connections, and making one is part of it
		mean = t.reused / time.Duration(t.warm)
	}
	t.turn(mean, float64(most))
	t.since, t.n, t.all, t.warm, t.reused, t.peak = now, 0, 0, 0, 0, 0
}

// turn ends a window.
func (t *throttle) turn(mean time.Duration, most float64) {
	bound := t.peak >= int(t.limit)
	switch {
	case t.resume > 0:
		t.steep = t.base > 0 && mean > t.base*5/4 // the endpoint itself became slower: there may be a long way back
		t.base, t.limit, t.resume, t.age, t.over = mean, min(t.resume, most), 0, 0, 0
		return
	case t.base == 0:
		t.base = mean
	case mean < t.base:
		t.base = (t.base + mean) / 2
	case 2*t.peak <= int(t.limit): // few were in flight: this is what it takes now
		t.base += (mean - t.base) / 4
	}
	if !bound {
		return
	}
	low, high := t.base*5/4+slack/2, t.base*3/2+slack
	t.age++
	switch {
	case mean > high:
		t.steep = false
		t.over++
		t.limit = max(1, t.limit*max(0.75, float64(high)/float64(mean)))
	case t.steep && mean <= (low+high)/2:
		t.limit = min(most, 2*t.limit)
		t.steep = t.limit < most
	case mean <= low:
		t.over = 0
		t.limit = min(most, t.limit+max(1, t.limit/8))
	default:
		t.steep, t.over = false, 0
	}
	// Where the limit falls and latency does not, it is not ours; and a base that
	// was measured while the endpoint was busy lets in too many.
	if t.over >= 2 || t.age >= measureEvery && t.limit < most {
		t.resume, t.limit, t.age = t.limit, max(1, t.limit/4), 0
	}
}

// failed halves the limit.
func (t *throttle) failed() {
	t.steep = false
	t.limit, t.resume = max(1, t.limit/2), t.resume/2
	if t.resume < 1 {
		t.resume = 0
	}
}
