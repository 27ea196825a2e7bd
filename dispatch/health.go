package dispatch

import (
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

// HealthState is what is known of an endpoint.
type HealthState string

const (
	Healthy    HealthState = "healthy"    // events are sent
	Parked     HealthState = "parked"     // it is down: everything is held, nothing is charged
	Probing    HealthState = "probing"    // one event is being sent to see whether it is up
	Recovering HealthState = "recovering" // it is up again: concurrency grows from 1
)

const (
	// sampleKeys is how many different keys must have been tried before their
	// share of failures says anything.
	sampleKeys = 20
	// parkShare and parkEventShare are the shares of failing keys that park an
	// endpoint: of failures that speak about it, and of replies that speak about
	// events but come for nearly all of them.
	parkShare      = 0.8
	parkEventShare = 0.95
	// parkAfter is how long an endpoint may go without any success.
	parkAfter = time.Minute
	// recoveredAfter is how many successes in a row, with the ramp at its top or
	// not, make an endpoint healthy again.
	recoveredAfter = 50
)

// health is an endpoint's state and what decides on the next one. A value: its
// methods take what happened and the time, and return the state after it. What
// is saved of it survives a restart; the sample does not.
type health struct {
	State        HealthState
	Since        time.Time // when State began
	Reason       Reason    // why it is not healthy
	NextProbe    time.Time // while parked
	Failures     int       // probes, and recoveries, that failed since it was healthy
	LastSuccess  time.Time
	FailingSince time.Time // first failure since the last success; zero: none
	Successes    int       // since it began to recover
	Limit        float64   // while it recovers: how many attempts at once
}

// happened is what an attempt means to the endpoint.
type happened struct {
	fault      Fault
	reason     Reason
	retryAfter time.Duration
	share      shares
	others     bool // events of other keys are owed
}

// after is the health after an attempt that ended at now. random, in [0, 1),
// spreads the next probe.
func (h health) after(e happened, probe subscriptions.Probe, limit float64, now time.Time, random float64) health {
	up := e.fault == FaultNone || e.fault == FaultEvent // it answers: whatever it says of the event
	if e.fault == FaultNone {
		h.LastSuccess = now
	}
	if up && !e.nearlyAllRefused() {
		h.FailingSince = time.Time{}
	} else if h.FailingSince.IsZero() {
		h.FailingSince = now
	}
	switch h.State {
	case Healthy:
		if e.fault == FaultLocal || up && !e.nearlyAllRefused() {
			return h
		}
		if e.retryAfter > 0 || e.mostFail() || e.nearlyAllRefused() || h.tooLong(e, now) {
			return h.park(e, probe, now, random)
		}
	case Probing:
		switch {
		case e.fault == FaultLocal:
			h.State, h.NextProbe = Parked, probe.Next(now, 0, random)
		case up:
			h = health{State: Recovering, Since: now, Reason: h.Reason, Failures: h.Failures, LastSuccess: h.LastSuccess, Limit: 1}
		default:
			h.Failures++
			return h.parkAgain(e, probe, now, random)
		}
	case Recovering:
		switch {
		case e.fault == FaultLocal:
		case !up:
			h.Failures++
			return h.park(e, probe, now, random)
		default:
			h.Successes++
			h.Limit = min(limit, h.Limit+1) // one more a success: doubles every round trip
			if h.Successes >= recoveredAfter {
				return health{State: Healthy, Since: now, LastSuccess: h.LastSuccess}
			}
		}
	case Parked: // what was in flight when it was parked says nothing new
		if e.retryAfter > 0 {
			h.NextProbe = later(h.NextProbe, now.Add(e.retryAfter))
		}
	}
	return h
}

func (e happened) mostFail() bool {
	return e.share.keys >= sampleKeys && e.share.failing >= parkShare
}

func (e happened) nearlyAllRefused() bool {
	return e.share.keys >= sampleKeys && e.share.refused >= parkEventShare
}

// tooLong reports whether the endpoint has failed for long enough, with events of
// more than one key, or of all there are.
func (h health) tooLong(e happened, now time.Time) bool {
	return e.fault == FaultEndpoint && now.Sub(h.FailingSince) >= parkAfter && (e.share.keys > 1 || !e.others)
}

// park holds everything until a probe succeeds.
func (h health) park(e happened, probe subscriptions.Probe, now time.Time, random float64) health {
	h.State, h.Since = Parked, now
	return h.parkAgain(e, probe, now, random)
}

func (h health) parkAgain(e happened, probe subscriptions.Probe, now time.Time, random float64) health {
	h.State, h.Reason, h.Successes, h.Limit = Parked, e.reason, 0, 0
	h.NextProbe = probe.Next(now, h.Failures, random)
	if e.retryAfter > 0 { // what the endpoint says itself is obeyed exactly
		h.NextProbe = now.Add(e.retryAfter)
	}
	return h
}

// probe is the health from the moment that a probe is sent.
func (h health) probe() health {
	h.State = Probing
	return h
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sample remembers, for about a minute, which keys an endpoint was tried with and
// how the last try of each ended. It counts keys, not tries: one event that fails
// again and again says nothing about the endpoint.
type sample struct {
	now, before map[string]Fault
	turned      time.Time
}

// maxSample bounds the keys of half a minute.
const maxSample = 512

func (s *sample) add(key string, fault Fault, at time.Time) {
	if fault == FaultLocal {
		return
	}
	if s.now == nil || at.Sub(s.turned) > parkAfter/2 {
		s.before, s.now, s.turned = s.now, make(map[string]Fault), at
	}
	if _, there := s.now[key]; there || len(s.now) < maxSample {
		s.now[key] = fault
	}
}

// shares is what a sample says.
type shares struct {
	keys    int
	failing float64 // share of keys whose last try failed because of the endpoint
	refused float64 // share of keys whose last try was refused because of the event
}

func (s *sample) shares() shares {
	var all, failing, refused int
	count := func(f Fault) {
		all++
		switch f {
		case FaultEndpoint:
			failing++
		case FaultEvent:
			refused++
		case FaultNone, FaultLocal:
		}
	}
	for key, f := range s.before {
		if _, newer := s.now[key]; !newer {
			count(f)
		}
	}
	for _, f := range s.now {
		count(f)
	}
	if all == 0 {
		return shares{}
	}
	return shares{keys: all, failing: float64(failing) / float64(all), refused: float64(refused) / float64(all)}
}
