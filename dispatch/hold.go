package dispatch

import (
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Hold is why a lane sends nothing at all: a closed set, used in rows and the API.
type Hold string

const (
	HoldNone     Hold = ""
	HoldPaused   Hold = "paused"       // by a person
	HoldDisabled Hold = "disabled"     // by rowcall, until a person resumes it
	HoldEndpoint Hold = "endpoint"     // the endpoint's settings cannot be used
	HoldWindow   Hold = "window"       // its delivery window is closed
	HoldStore    Hold = "store"        // the store refuses what the lane settles
	HoldFilter   Hold = "filter_error" // its expressions fail on most events, until it is edited
	HoldParked   Hold = "parked"       // the endpoint is down
)

// holdOf is why a subscription's lane sends nothing now, whatever its endpoint's
// health; err is what keeps its settings from being used.
func holdOf(sub *subscriptions.Subscription, openings *subscriptions.Openings, now time.Time, err error) Hold {
	switch {
	case sub.State == subscriptions.Paused:
		return HoldPaused
	case sub.State != subscriptions.Active:
		return HoldDisabled
	case err != nil:
		return HoldEndpoint
	}
	if openings != nil {
		if open, _ := openings.At(now); !open {
			return HoldWindow
		}
	}
	return HoldNone
}

// holds reports whether the endpoint is down: nothing but probes is sent.
func (l *lane) holds() bool { return l.health.State == Parked || l.health.State == Probing }

// heldNow is for how long, in milliseconds, the lane could not deliver: an
// event's age does not count it.
func (l *lane) heldNow(now time.Time) int64 {
	if l.heldFrom.IsZero() {
		return l.heldMS
	}
	return l.heldMS + now.Sub(l.heldFrom).Milliseconds()
}

// keepTime counts the time in which the lane cannot deliver, from the first
// reason to the end of the last. It comes after whatever changes one of them.
func (l *lane) keepTime(now time.Time) {
	switch held := l.hold != HoldNone || l.holds(); {
	case held && l.heldFrom.IsZero():
		l.heldFrom, l.healthDirty = now, true
	case !held && !l.heldFrom.IsZero():
		l.heldMS = l.heldNow(now)
		l.heldFrom, l.healthDirty = time.Time{}, true
		if l.health.State == Healthy {
			l.health.FailingSince = time.Time{} // a hold says nothing about the endpoint
		}
		l.rouse(now)
		l.setTimer()
	}
}

// savedHealth is what the lane's row has of its endpoint and of what holds it.
func (l *lane) savedHealth() *store.EndpointHealth {
	l.healthAt = time.Now()
	h := l.health.saved()
	h.Hold, h.HeldSince, h.Origin = string(l.hold), l.heldFrom, l.target.origin()
	if l.holdError != "" {
		h.HoldError, h.HoldVersion = l.holdError, l.sub.Version
	}
	switch {
	case l.sample.active():
		share := l.sample.shares()
		l.failureRate = share.failing + share.refused
	case l.health.State == Healthy:
		l.failureRate = 0
	}
	h.FailureRate = l.failureRate
	return h
}

// resume takes over what an earlier life knew. An endpoint at another origin is
// another endpoint, of which nothing is known: one event is sent to see.
func (l *lane) resume(saved store.EndpointHealth, now time.Time) {
	l.health = healthOf(saved)
	if saved.HoldError != "" && saved.HoldVersion == l.sub.Version { // it was not edited since
		l.holdError = saved.HoldError
		if l.hold == HoldNone {
			l.hold = HoldFilter
		}
	}
	l.heldFrom, l.savedSuccess, l.failureRate = saved.HeldSince, saved.LastSuccess, saved.FailureRate
	if l.heldFrom.IsZero() && l.health.State == Parked {
		l.heldFrom = l.health.Since // as a version wrote it that kept no more
	}
	if origin := l.target.origin(); saved.Origin != "" && origin != "" && origin != saved.Origin {
		l.health = health{State: Parked, Since: now, NextProbe: now}
		l.savedSuccess, l.failureRate, l.healthDirty = time.Time{}, 0, true
	}
	l.healthDirty = l.healthDirty || string(l.hold) != saved.Hold
}
