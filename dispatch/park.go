package dispatch

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"github.com/rowcall/rowcall/store"
)

// concurrency is how many attempts may be in flight now.
func (l *lane) concurrency() int {
	if l.crowdedOut() {
		return 0
	}
	if l.health.State == Recovering {
		return int(min(l.throttle.limit, l.health.Limit))
	}
	return int(l.throttle.limit)
}

// feel has the endpoint's health take note of an attempt; others says that
// somebody else owes it events of other keys.
func (l *lane) feel(e *entry, v Verdict, reply Reply, others bool) {
	now := time.Now()
	if l.health.State == Healthy && v.Fault == FaultNone && l.health.FailingSince.IsZero() && !l.sample.active() {
		l.health.LastSuccess = now // while all is well, nothing is counted
		if now.Sub(l.savedSuccess) >= healthEvery {
			l.savedSuccess, l.healthDirty = now, true
		}
		return
	}
	was := l.sample.active()
	l.sample.add(e.sampleKey(), v.Fault, now)
	if l.sample.active() != was || now.Sub(l.healthAt) >= healthEvery {
		l.healthDirty = true
	}
	what := happened{fault: v.Fault, reason: v.Reason, retryAfter: reply.RetryAfter}
	if v.Fault != FaultNone {
		what.share, what.others = l.sample.shares(), others || l.owesOthers(e)
	}
	before := l.health
	l.health = before.after(what, l.probe, float64(l.sub.MaxInFlight), now, rand.Float64())
	if l.health.State == before.State && l.health.NextProbe.Equal(before.NextProbe) {
		return
	}
	l.changeHealth(before, now)
}

// changeHealth does what a change of health asks for. l.mu is held.
func (l *lane) changeHealth(before health, now time.Time) {
	l.healthDirty = true
	switch l.health.State {
	case Parked:
		if before.State == Healthy || before.State == Recovering {
			l.refund(l.health.FailingSince)
			l.scatterAll()
			l.reopen = true // without its window: memory is not held for an endpoint that is down
			poke(l.s.reclaim)
		}
		l.throttle = newThrottle(l.sub.MaxInFlight, l.batches.on())
	case Recovering:
		l.sample = sample{}
		poke(l.room)
		l.batches.size = 1
	case Healthy, Probing:
	}
	l.keepTime(now)
	l.s.healthChanged(l, before, l.health)
	l.s.guestsTold(l)
	l.setTimer()
	l.mark()
}

// refund takes back the charges of the failures that led to parking.
func (l *lane) refund(since time.Time) {
	for _, e := range l.rows {
		if e.charged > 0 && !e.firstFailed.Before(since) && e.state != lying {
			e.charged = 0
			l.toRow(e)
		}
	}
}

// rouse has every sleeper go as soon as the ramp allows, in a new random order:
// their dues are of before the outage.
func (l *lane) rouse(now time.Time) {
	for _, e := range l.sleepers {
		e.due = now.Add(time.Duration(rand.Int64N(int64(time.Second))))
	}
	heap.Init(&l.sleepers)
}

// owesOthers reports whether an event of another key than e's, or outside its
// batch, is owed.
func (l *lane) owesOthers(e *entry) bool {
	for other := range l.all() {
		if e.batch != nil {
			if other.batch != e.batch && (other.state == ready || other.state == flying || other.state == sleeping) {
				return true
			}
			continue // what waits, waits for these or for others that are counted
		}
		if other != e && (e.key == "" || !related(e, other)) {
			return true
		}
	}
	return l.pos < l.s.position() // more is to be read: it may hold others
}

// pumpProbe sends a probe when it is due: the oldest owed event that may go, of
// another key than the last probe's where there is one, so that one that always
// fails does not speak for the endpoint. At most one is in flight.
func (l *lane) pumpProbe() {
	if l.replay != nil {
		l.pumpReplayProbe()
		return
	}
	now := time.Now()
	if l.health.State != Parked || l.stopped || l.hold != HoldNone || l.inFlight+l.guests.lent > 0 || l.unsettled >= l.bounds.unsettled {
		return
	}
	if l.closed(now) {
		return
	}
	if now.Before(l.health.NextProbe) {
		l.setTimer()
		return
	}
	if !l.paced(now) {
		return
	}
	if now.Before(l.holdUntil) || !l.s.live(now) {
		l.s.stall(l)
		return
	}
	e := l.candidate()
	if e == nil {
		l.endDiscards() // they are in the way of the next event, which comes by here
		poke(l.room)
		return
	}
	if !l.lift(e) {
		return // the lane is looked at again
	}
	if !l.s.budget.take(l) {
		l.lower(e)
		return // the next slot comes by here
	}
	l.unsleep(e)
	l.probed = e.sampleKey()
	l.health = l.health.probe()
	l.healthDirty = true
	l.launch(e)
	l.mark()
	l.s.flights.Go(func() { l.fly(e) })
}

// endDiscards ends what was discarded while its turn had come.
func (l *lane) endDiscards() {
	for _, queue := range [...]*deque{&l.again, &l.ready} {
		for range queue.len() {
			e := queue.pop()
			if e.discarded && e.state == ready && e.waits == 0 && e.batch == nil {
				e.queued = false
				l.end(e)
			} else {
				queue.push(e)
			}
		}
	}
}

// candidate is the event to probe with; nil: none is owed.
func (l *lane) candidate() *entry {
	var first, other *entry
	for e := range l.all() {
		if e.waits > 0 || e.discarded || e.state != ready && e.state != sleeping {
			continue
		}
		if first == nil || e.offset < first.offset {
			first = e
		}
		if (other == nil || e.offset < other.offset) && e.sampleKey() != l.probed {
			other = e
		}
	}
	if other != nil {
		return other
	}
	return first
}

// endProbe notes that a probe said nothing about the endpoint: it is due again.
func (l *lane) endProbe() {
	if l.health.State == Probing {
		l.health.State, l.health.NextProbe, l.healthDirty = Parked, time.Now().Add(time.Second), true
		l.setTimer()
	}
}

// saved is the health as its row has it.
func (h health) saved() *store.EndpointHealth {
	state := h.State
	if state == Probing {
		state = Parked // a probe that was under way at a crash is due again
	}
	return &store.EndpointHealth{
		State: string(state), Since: h.Since, Reason: string(h.Reason), NextProbe: h.NextProbe, Failures: h.Failures,
		LastSuccess: h.LastSuccess, FailingSince: h.FailingSince,
	}
}

// healthOf is what an earlier life saved.
func healthOf(s store.EndpointHealth) health {
	h := health{
		State: HealthState(s.State), Since: s.Since, Reason: Reason(s.Reason), NextProbe: s.NextProbe, Failures: s.Failures,
		LastSuccess: s.LastSuccess, FailingSince: s.FailingSince,
	}
	switch h.State {
	case Parked:
	case Recovering:
		h.Limit = 1
	default:
		h.State = Healthy
	}
	return h
}
