package dispatch

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// replay is what makes a lane one that delivers a range of the log again. It has
// a cursor, a window, rows and an order of its own; the endpoint is its
// subscription's: it knows what the subscription's own lane, its host, knows of the
// endpoint's health, tells it what it sees, and borrows each of its attempts from
// what the host may have in flight. Of the two locks the replay's comes first.
type replay struct {
	store.Replay
	wants    func(kind string) bool
	pace     *rate.Limiter // its own; nil: none
	host     *lane         // nil: not open
	lenders  map[*entry]*lane
	borrowed *lane // of an attempt that is about to start
	saved    store.Progress
}

// guests are the replays of a lane's subscription.
type guests struct {
	lanes []*lane
	lent  int  // attempts of theirs that are in flight
	want  bool // one of them could not borrow
}

func newReplay(r *store.Replay, sub *subscriptions.Subscription) *replay {
	out := &replay{Replay: *r, saved: r.Progress, wants: r.Matches(sub.Events), lenders: make(map[*entry]*lane)}
	if r.PerSecond > 0 {
		out.pace = rate.NewLimiter(rate.Limit(r.PerSecond), burst(r.PerSecond))
	}
	return out
}

// hold is why a replay sends nothing, beside its subscription's reasons.
func (r *replay) hold() Hold {
	switch r.State {
	case store.JobPaused:
		return HoldPaused
	case store.JobCancelled, store.JobFailed:
		return HoldDisabled
	case store.JobRunning, store.JobDone: // of one that is done, dead letters may be retried
	}
	return HoldNone
}

// given up reports whether nothing of a replay is to be delivered any more.
func (r *replay) givenUp() bool { return r.State == store.JobCancelled || r.State == store.JobFailed }

// readAll reports whether the lane is a replay that has nothing more to read.
func (l *lane) readAll() bool {
	return l.replay != nil && (l.pos >= l.replay.Past || l.replay.givenUp())
}

// link lets replays find the lanes of their subscriptions, and those their
// replays. It comes after lanes were opened or let go of.
func (s *session) link() {
	hosts := make(map[subscriptions.ID]*lane)
	var replays []*lane
	for _, l := range s.lanes {
		if l.replay != nil {
			replays = append(replays, l)
		}
	}
	if len(replays) == 0 && !s.linked {
		return
	}
	s.linked = len(replays) > 0
	of := make(map[*lane][]*lane)
	for _, l := range s.lanes {
		if l.replay == nil {
			hosts[l.sub.ID] = l
		}
	}
	for _, r := range replays {
		host := hosts[r.sub.ID]
		of[host] = append(of[host], r)
		r.mu.Lock()
		r.replay.host = host
		s.stall(r)
		r.mu.Unlock()
	}
	for _, host := range hosts {
		host.mu.Lock()
		host.guests.lanes = of[host]
		host.mu.Unlock()
	}
}

// mirror takes over what the host knows of the endpoint. l.mu is held.
func (l *lane) mirror() {
	host := l.replay.host
	if host == nil {
		return
	}
	host.mu.Lock()
	now := host.health
	host.mu.Unlock()
	before := l.health
	l.health = now
	if now.State == before.State && now.NextProbe.Equal(before.NextProbe) {
		return
	}
	switch now.State {
	case Parked:
		if before.State == Healthy || before.State == Recovering {
			l.refund(now.FailingSince)
			l.scatterAll()
			l.reopen = true
			poke(l.s.reclaim)
		}
		l.throttle = newThrottle(l.sub.MaxInFlight, l.batches.on())
	case Recovering:
		poke(l.room)
		l.batches.size = 1
	case Healthy, Probing:
	}
	l.keepTime(time.Now())
	l.setTimer()
}

// borrow takes one attempt of what the host may have in flight. The host goes
// first: while it has more to send than it has slots, a replay has one attempt in
// flight, and never more than half.
func (l *lane) borrow() bool {
	r := l.replay
	if r.borrowed != nil {
		return true
	}
	if r.host == nil {
		l.s.stall(l)
		return false
	}
	host := r.host
	host.mu.Lock()
	defer host.mu.Unlock()
	g := &host.guests
	busy := host.ready.len()+host.again.len() > 0
	switch ceiling := host.ceiling(); {
	case host.stopped, host.hold != HoldNone, host.holds(): // it tells when that ends, or link does
		l.s.stall(l)
		return false
	case host.inFlight+g.lent >= ceiling, g.lent >= max(1, ceiling/2), busy && (g.lent > 0 || host.rate != nil):
		g.want = true
		return false
	}
	g.lent++
	r.borrowed = host
	return true
}

// ceiling is how many attempts a lane and its replays may have in flight together.
func (l *lane) ceiling() int {
	if l.health.State == Recovering {
		return int(min(float64(l.sub.MaxInFlight), l.health.Limit))
	}
	return l.sub.MaxInFlight
}

// crowdedOut reports whether replays hold what is left of the ceiling. l.mu is held.
func (l *lane) crowdedOut() bool {
	return l.guests.lent > 0 && l.inFlight+l.guests.lent >= l.ceiling()
}

// launched notes whose attempt e is.
func (r *replay) launched(e *entry) { r.lenders[e], r.borrowed = r.borrowed, nil }

// repay gives back what was borrowed for e; nil: for what did not start.
func (l *lane) repay(e *entry) {
	r := l.replay
	lender := r.borrowed
	if e != nil {
		lender = r.lenders[e]
		delete(r.lenders, e)
	} else {
		r.borrowed = nil
	}
	if lender == nil {
		return
	}
	lender.mu.Lock()
	defer lender.mu.Unlock()
	lender.guests.lent--
	if lender.stopped && lender.idle() {
		lender.mark()
		lender.finishAbandoned()
	}
	lender.endProbe()
	lender.pump()
	lender.guests.wake(lender)
}

// wake has the replays of a lane look whether they may borrow now.
func (g *guests) wake(l *lane) {
	if !g.want {
		return
	}
	g.want = false
	for _, guest := range g.lanes {
		l.s.flights.Go(guest.revive)
	}
}

// sense has the endpoint's health take note of an attempt: the host's, where it is
// one of a replay.
func (l *lane) sense(e *entry, v Verdict, reply Reply) {
	if v.Reason == ReasonBlocked {
		l.s.blocked(l, reply.Err)
	}
	if l.replay == nil {
		l.feel(e, v, reply, false)
		return
	}
	lender := l.replay.lenders[e]
	if lender == nil {
		return
	}
	others := v.Fault != FaultNone && l.owesOthers(e)
	lender.mu.Lock()
	lender.feel(e, v, reply, others)
	lender.mu.Unlock()
	l.mirror()
}

// pumpReplayProbe sends the probe that is due where the host has nothing to probe
// with.
func (l *lane) pumpReplayProbe() {
	now := time.Now()
	if l.health.State != Parked || l.stopped || l.hold != HoldNone || l.inFlight > 0 || l.unsettled >= l.bounds.unsettled || l.closed(now) {
		return
	}
	if now.Before(l.health.NextProbe) {
		l.setTimer()
		return
	}
	l.s.stall(l) // unless it goes now, or the host probes
	if now.Before(l.holdUntil) || !l.s.live(now) || !l.paced(now) {
		return
	}
	e := l.candidate()
	if e == nil || !l.lift(e) {
		return
	}
	if !l.replay.host.lendProbe(l, now) || !l.s.budget.take(l) {
		l.lower(e)
		l.repay(nil)
		return
	}
	l.unsleep(e)
	l.probed = e.sampleKey()
	l.health = l.health.probe()
	l.launch(e)
	l.mark()
	l.s.flights.Go(func() { l.fly(e) })
}

// lendProbe lets a replay probe, where a probe is due and the lane has no event to
// probe with.
func (l *lane) lendProbe(to *lane, now time.Time) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	idle := l.candidate() == nil && (l.attached || l.pos >= l.s.position())
	if l.stopped || l.hold != HoldNone || l.health.State != Parked || now.Before(l.health.NextProbe) || l.inFlight+l.guests.lent > 0 || !idle {
		return false
	}
	l.guests.lent++
	to.replay.borrowed = l
	l.health = l.health.probe()
	l.healthDirty = true
	l.mark()
	return true
}

// progress is what is to be saved of a replay; nil: nothing new.
func (l *lane) progress() *store.Progress {
	r := l.replay
	if r == nil {
		return nil
	}
	if !r.Over && !r.givenUp() {
		r.Over = l.readAll() && l.window.len()+len(l.overflows) == 0 && !l.owes()
	}
	if r.Progress == r.saved {
		return nil
	}
	return new(r.Progress)
}

// owes reports whether a row is owed: dead letters are not.
func (l *lane) owes() bool {
	for _, e := range l.rows {
		if e.state != lying {
			return true
		}
	}
	return false
}

// count notes what became of one of a replay's events.
func (l *lane) count(delivered, dead int64) {
	if l.replay != nil {
		l.replay.Delivered += delivered
		l.replay.Dead += dead
	}
}

// abandon ends what an earlier life left of a replay that was cancelled; its dead
// letters stay.
func (l *lane) abandon(ds []store.Delivery, overflows []store.Overflow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range overflows {
		l.relieved = append(l.relieved, o.Key)
	}
	for i := range ds {
		if ds[i].State != store.Dead {
			l.gone = append(l.gone, ds[i].Offset)
		}
	}
	l.mark()
}
