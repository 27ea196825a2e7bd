package dispatch

import (
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

// clockEvery is how often a delivery window is held against the clock at least: a
// clock may be set, and a machine may sleep.
const clockEvery = time.Minute

// openingsOf are the times at which a subscription is delivered to; nil: always.
func openingsOf(sub *subscriptions.Subscription) (*subscriptions.Openings, error) {
	if sub.Window == nil {
		return nil, nil
	}
	openings, err := subscriptions.ParseWindow(*sub.Window)
	if err != nil {
		return nil, err
	}
	return &openings, nil
}

// watchClock holds a lane while its delivery window is closed, and looks again
// when that may change. From the moment of closing nothing starts any more; what is
// in flight ends. Then, as at the opening, the lane is opened anew: a closed one
// keeps nothing in memory but its rows, and reads nothing.
func (l *lane) watchClock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.openings == nil || l.stopped || l.hold != HoldNone && l.hold != HoldWindow {
		return
	}
	now := time.Now()
	open, until := l.openings.At(now)
	if open == (l.hold == HoldNone) {
		wait := clockEvery
		if !until.IsZero() {
			wait = min(wait, until.Sub(now))
		}
		l.clock = time.AfterFunc(wait, l.watchClock)
		if open {
			l.closes = until
			l.pump()
		}
		return
	}
	if !open {
		l.hold = HoldWindow
		l.keepTime(now)
	}
	l.reopen = true
	poke(l.s.reclaim)
}

// closed reports whether the delivery window has closed, if there is one: the
// timer that says so may be late.
func (l *lane) closed(now time.Time) bool { return l.openings != nil && !now.Before(l.closes) }
