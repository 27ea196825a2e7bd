package dispatch

import (
	"strings"
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
	// failures say anything: so many in a row without a success park the endpoint.
	sampleKeys = 20
	// parkShare and parkEventShare are the shares of failures, keys weighing alike,
	// that park it too: of failures that speak about it, and of replies that speak
	// about events but come for nearly all of them.
	parkShare      = 0.8
	parkEventShare = 0.95
	// parkAfter is how long an endpoint may go without any success.
	parkAfter = time.Minute
	// healthEvery is how old the row's word of the last success, or of how much
	// fails, may be while all else stays as it is.
	healthEvery = time.Minute
	// recoveredAfter is how many successes make an endpoint healthy again, if
	// failures do not outnumber them before.
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
	Setbacks     int       // failures since then
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
	switch {
	case e.fault == FaultLocal: // says nothing of the endpoint
	case up && !e.nearlyAllRefused():
		h.FailingSince = time.Time{}
	case h.FailingSince.IsZero():
		h.FailingSince = now
	}
	switch h.State {
	case Healthy:
		if e.fault == FaultLocal || up && !e.nearlyAllRefused() {
			return h
		}
		if e.retryAfter > 0 || e.reason == ReasonBlocked || e.mostFail() || e.nearlyAllRefused() || h.tooLong(e, now) {
			return h.park(e, probe, now, random)
		}
	case Probing:
		switch {
		case e.fault == FaultLocal:
			h.State, h.NextProbe = Parked, probe.Next(now, 0, random)
		case up:
			h = health{State: Recovering, Since: now, Reason: h.Reason, Failures: h.Failures, LastSuccess: h.LastSuccess, Successes: 1, Limit: 1}
		default:
			h.Failures++
			return h.parkAgain(e, probe, now, random)
		}
	case Recovering:
		switch {
		case e.fault == FaultLocal:
		case !up:
			// An endpoint that fails now and then may recover; one that is down again
			// shows it at once, for it starts with one attempt at a time.
			h.Setbacks++
			h.Limit = max(1, h.Limit/2)
			if e.retryAfter > 0 || h.Setbacks > h.Successes {
				h.Failures++
				return h.park(e, probe, now, random)
			}
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
	return e.share.row >= sampleKeys || e.share.keys >= sampleKeys && e.share.failing >= parkShare
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
	h.State, h.Reason, h.Successes, h.Setbacks, h.Limit = Parked, e.reason, 0, 0, 0
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
// how often that failed. Keys weigh alike: one event that fails again and again
// says nothing about the endpoint.
type sample struct {
	now, before map[string]tally
	turned      time.Time
	row         map[string]struct{} // keys that failed since the last success
}

// tally is how the tries with one key ended.
type tally struct{ ok, failed, refused int32 }

// maxSample bounds the keys of half a minute.
const maxSample = 512

func (s *sample) add(key string, fault Fault, at time.Time) {
	if fault == FaultLocal {
		return
	}
	if s.now == nil || at.Sub(s.turned) > parkAfter/2 {
		if fault == FaultNone && !s.failed() {
			*s = sample{} // all is well: nothing is counted until something fails
			return
		}
		s.before, s.now, s.turned = s.now, make(map[string]tally), at
	}
	if fault == FaultEndpoint {
		if s.row == nil {
			s.row = make(map[string]struct{})
		}
		if len(s.row) < sampleKeys {
			s.row[strings.Clone(key)] = struct{}{}
		}
	} else {
		clear(s.row)
	}
	t, there := s.now[key]
	if !there {
		if len(s.now) >= maxSample {
			return
		}
		key = strings.Clone(key) // it may be part of something large
	}
	switch fault {
	case FaultEndpoint:
		t.failed++
	case FaultEvent:
		t.refused++
	case FaultNone, FaultLocal:
		t.ok++
	}
	s.now[key] = t
}

// active reports whether a failure is remembered, so that successes count.
func (s *sample) active() bool { return s.now != nil }

// failed reports whether a failure came in the last half minute or so.
func (s *sample) failed() bool {
	for _, t := range s.now {
		if t.failed+t.refused > 0 {
			return true
		}
	}
	return false
}

// shares is what a sample says.
type shares struct {
	keys    int     // that were tried
	row     int     // that failed in a row, up to sampleKeys
	failing float64 // share of tries that failed because of the endpoint, keys weighing alike
	refused float64 // share of tries that were refused because of the event
}

func (s *sample) shares() shares {
	all := shares{row: len(s.row)}
	count := func(a, b tally) {
		ok, failed, refused := float64(a.ok+b.ok), float64(a.failed+b.failed), float64(a.refused+b.refused)
		all.keys++
		all.failing += failed / (ok + failed + refused)
		all.refused += refused / (ok + failed + refused)
	}
	for key, t := range s.before {
		if _, newer := s.now[key]; !newer {
			count(t, tally{})
		}
	}
	for key, t := range s.now {
		count(t, s.before[key])
	}
	if all.keys > 0 {
		all.failing /= float64(all.keys)
		all.refused /= float64(all.keys)
	}
	return all
}
