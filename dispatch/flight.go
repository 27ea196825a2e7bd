package dispatch

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// pump starts attempts while there are events whose turn it is, and slots.
func (l *lane) pump() {
	if l.replay != nil {
		l.mirror()
		defer l.repay(nil)
	}
	if l.holds() {
		l.pumpProbe()
		return
	}
	for l.mayStart() {
		e := l.next()
		if e == nil {
			return
		}
		if !l.s.budget.take(l) {
			l.lower(e)
			l.putBack(e)
			return
		}
		l.launch(e)
		l.s.flights.Go(func() { l.fly(e) })
	}
}

// mayStart reports whether one more attempt may start now.
func (l *lane) mayStart() bool {
	if l.stopped || l.hold != HoldNone || l.holds() || l.inFlight >= l.concurrency() || l.unsettled >= l.bounds.unsettled || l.ready.len()+l.again.len() == 0 {
		return false
	}
	now := time.Now()
	if l.closed(now) || l.readsAhead(now) || !l.paced(now) {
		return false
	}
	if now.Before(l.holdUntil) || !l.s.live(now) {
		l.s.stall(l)
		return false
	}
	return l.replay == nil || l.borrow()
}

// next takes the entry to send from the ready ones; nil: there is none.
func (l *lane) next() *entry {
	if l.batches.on() {
		return l.nextBatch()
	}
	for {
		e := l.pop()
		if e == nil {
			return nil
		}
		e.queued = false
		switch {
		case e.state != ready:
		case e.waits > 0:
			e.state = waiting
		case e.discarded:
			l.end(e)
		case !l.lift(e):
			l.putBack(e)
			return nil
		default:
			return e
		}
	}
}

// pop takes from the rows and from the window by turns, so that neither waits for
// thousands of the other.
func (l *lane) pop() *entry {
	first, second := &l.again, &l.ready
	if l.turn = !l.turn; !l.turn {
		first, second = second, first
	}
	if e := first.pop(); e != nil {
		return e
	}
	return second.pop()
}

func (l *lane) putBack(e *entry) {
	e.queued = true
	if e.row || e.batch != nil {
		l.again.pushFront(e)
	} else {
		l.ready.pushFront(e)
	}
}

// launch marks e as being sent.
func (l *lane) launch(e *entry) {
	e.state = flying
	e.started = time.Now()
	if e.batch != nil {
		l.launchBatch(e.batch, e.started)
	}
	l.inFlight++
	if l.rate != nil {
		l.rate.ReserveN(e.started, 1) // paced said that there is one
	}
	if l.replay != nil {
		l.replay.launched(e)
		if l.replay.pace != nil {
			l.replay.pace.ReserveN(e.started, 1)
		}
		l.s.yielding.took(e.started)
	}
}

// fly sends e, and then whatever else the lane has, until there is nothing left
// to send or the slot is wanted elsewhere.
func (l *lane) fly(e *entry) {
	for e != nil {
		if b := e.batch; b != nil {
			ctx := l.following(b.events...)
			if faults, err := l.applyAll(l.s.flightCtx, b); faults != nil || err != nil {
				e = l.landUnsent(b, faults, err)
				continue
			}
			e = l.landBatch(b, l.s.sender.TryBatch(ctx, l.target, b.events, b.tries+1))
			continue
		}
		ev, err := l.payload(e)
		ctx := l.following(ev)
		if err == nil {
			ev, err = l.apply(l.s.flightCtx, e, ev)
		}
		var reply Reply
		if err == nil {
			reply = l.s.sender.Try(ctx, l.target, ev, e.tries+1)
		}
		e = l.land(e, ev, reply, err)
	}
}

// following is the context of attempts in flight, with the traces that events
// belong to where somebody asks for them.
func (l *lane) following(events ...*store.Event) context.Context {
	if l.s.sender.tracer == nil && (l.target == nil || !l.target.traceContext) {
		return l.s.flightCtx
	}
	return follow(l.s.flightCtx, events...)
}

// payload is the event to send: one that the lane does not keep is looked up.
func (l *lane) payload(e *entry) (*store.Event, error) {
	if e.event != nil {
		return e.event, nil // nobody lets go of it while e is in flight
	}
	select {
	case l.s.fetches <- struct{}{}:
	case <-l.s.flightCtx.Done():
		return nil, l.s.flightCtx.Err()
	}
	defer func() { <-l.s.fetches }()
	ev, err := l.s.store.Event(l.s.flightCtx, e.offset)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.size = int64(len(ev.Data)); !l.lift(e) {
		return nil, errNoMemory
	}
	return new(slab).copy([]*store.Event{ev}), nil
}

// errNoMemory says that attempts in flight weigh so much that this one has to wait.
var errNoMemory = errors.New("attempts in flight weigh too much")

// land records what became of an attempt and returns the entry that goes next
// in its slot, or nil when the slot was given back.
func (l *lane) land(e *entry, ev *store.Event, reply Reply, err error) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lower(e)
	switch {
	case errors.Is(err, errNoMemory):
		l.postpone(e, stallEvery)
	case errors.Is(err, errUnwanted):
		l.countUnwanted(e)
		l.end(e)
	case isFault(err):
		l.landFault(e, err)
	case errors.Is(err, store.ErrNotFound):
		l.fail(e, Verdict{Failed, ReasonUnknown, FaultEvent}, Reply{Err: errors.New("the payload is no longer in the log")}, false)
	case err != nil:
		l.postpone(e, time.Second)
	default:
		l.transformSample.add(false)
		l.judge(e, ev, reply)
	}
	return l.goOn(e)
}

// goOn returns the entry that goes next in the slot of the attempt of e, which has
// landed, or nil when the slot was given back.
func (l *lane) goOn(e *entry) *entry {
	l.endProbe()
	if l.replay != nil {
		l.repay(e)
		defer l.repay(nil)
	}
	l.mark()
	if l.inFlight > 1 && l.s.budget.wanted() {
		return l.giveBack()
	}
	if !l.mayStartInSlot() {
		return l.giveBack()
	}
	next := l.next()
	if next == nil {
		return l.giveBack()
	}
	l.inFlight--
	l.launch(next)
	l.pump() // what ended may have freed more than one
	return next
}

// startInSlot takes the entry to send in a slot that was handed to the lane, or
// gives the slot on.
func (l *lane) startInSlot() *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.replay != nil {
		defer l.repay(nil)
	}
	if l.mayStart() {
		if e := l.next(); e != nil {
			l.launch(e)
			l.pump() // what it wants beyond that waits behind the others
			return e
		}
	}
	l.s.budget.release(l)
	return nil
}

// mayStartInSlot is mayStart for an attempt that takes over a slot.
func (l *lane) mayStartInSlot() bool {
	l.inFlight--
	may := l.mayStart()
	l.inFlight++
	return may
}

// giveBack gives the slot back.
func (l *lane) giveBack() *entry {
	l.inFlight--
	l.guests.wake(l)
	if l.stopped && l.idle() {
		l.mark()
		l.finishAbandoned()
	}
	l.s.budget.release(l)
	return nil
}

// judge turns a reply into what it means for e.
func (l *lane) judge(e *entry, ev *store.Event, reply Reply) {
	if reply.Err != nil && l.s.flightCtx.Err() != nil {
		l.postpone(e, 0) // cut off by our own stop: sent again by the next life
		return
	}
	v := Judge(reply)
	l.s.observe(l, ev, reply, v)
	l.sense(e, v, reply)
	l.unsettled++
	if v.Outcome != Delivered || l.s.config.historyOfAll() {
		l.history = append(l.history, l.record(e, reply, v))
	}
	switch v.Fault {
	case FaultNone:
		l.successes++
		l.count(1, 0)
		l.countDelivered(e)
		l.raise(reply, true)
		l.end(e)
	case FaultLocal:
		l.holdUntil = time.Now().Add(localBackoff)
		l.postpone(e, localBackoff)
	default:
		if v.Fault == FaultEndpoint {
			l.cut()
		}
		switch v.Reason {
		case ReasonGone:
			l.postpone(e, 0)
			l.giveUp()
		default:
			l.fail(e, v, reply, true)
		}
	}
}

// giveUp has the subscription disabled whose endpoint says that it is gone.
func (l *lane) giveUp() {
	l.holdUntil = time.Now().Add(time.Minute)
	l.s.flights.Go(func() {
		if err := l.s.disable(l, "the endpoint answered 410 Gone; resume when it takes events again"); err != nil {
			l.s.log.Warn().Err(err).Str("subscription", string(l.sub.ID)).Msg("cannot disable the subscription, trying again at its next attempt")
		}
	})
}

// raise takes note of a success; typical says whether the request was as large as
// they are while there is more to send.
func (l *lane) raise(reply Reply, typical bool) {
	if l.batches.on() {
		l.batches.grow()
	}
	if typical {
		l.throttle.succeeded(reply.At, reply.At.Add(reply.Duration), reply.Duration, reply.Fresh, l.inFlight, l.sub.MaxInFlight)
	}
}

// cut halves what is sent at once, at most once a second.
func (l *lane) cut() {
	if now := time.Now(); now.Sub(l.cutAt) > time.Second {
		l.cutAt = now
		l.throttle.failed()
		l.batches.size = max(1, l.batches.size/2)
	}
}

// fail records a failed try: e sleeps, or dies when its budget is used up.
func (l *lane) fail(e *entry, v Verdict, reply Reply, may bool) {
	if e.discarded {
		l.end(e)
		return
	}
	now := time.Now()
	e.tries++
	if e.firstFailed.IsZero() {
		e.firstFailed, e.heldMS = now, l.heldNow(now)
	}
	step := e.tries - e.shared
	if v.Fault == FaultEvent || l.successes > e.successes && !l.holds() {
		// A failure of the endpoint is charged only where another event has
		// succeeded since this one was last tried: then it is the event.
		e.charged++
		step = e.charged
	}
	e.successes = l.successes
	e.reason, e.status, e.errText = v.Reason, reply.Status, reply.said()
	age := now.Sub(e.firstFailed) - time.Duration(l.heldNow(now)-e.heldMS)*time.Millisecond
	wait, _ := NextTry(l.sub.Retry, step, age, rand.Float64())
	ok := e.charged < l.sub.Retry.MaxAttempts && age+wait <= l.sub.Retry.MaxAge.D()
	l.toRow(e)
	l.unload(e)
	if may && ok {
		e.due = now.Add(wait)
		l.sleep(e)
		return
	}
	l.die(e)
}

// die makes e a dead letter: the store keeps it, and the lane forgets it once it
// does, unless it holds its key.
func (l *lane) die(e *entry) {
	e.due = time.Time{}
	e.state = lying
	l.count(0, 1)
	l.s.died(l, e)
	if l.sub.OnDead == subscriptions.Block && e.key != "" {
		return
	}
	l.unrow(e)
	l.dying[e.offset] = e
	l.pass(e)
}

// postpone puts an entry back whose try says nothing about it.
func (l *lane) postpone(e *entry, wait time.Duration) {
	if e.discarded {
		l.end(e)
		return
	}
	if e.row {
		l.unload(e)
	}
	if wait == 0 {
		e.state = ready
		l.putBack(e)
		return
	}
	e.due = time.Now().Add(wait)
	l.sleep(e)
}

// record is the history of one attempt.
func (l *lane) record(e *entry, reply Reply, v Verdict) store.Attempt {
	a := store.Attempt{
		At: reply.At, Lane: l.id, Offset: e.offset, Attempt: e.tries + 1, Duration: reply.Duration,
		Status: reply.Status, Outcome: int16(v.Outcome), Reason: string(v.Reason), Timings: reply.Timings,
	}
	if v.Outcome != Delivered {
		a.Detail = detail(reply, "")
	}
	return a
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	return text[:min(len(text), maxErrorText)]
}
