package dispatch

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/rowcall/rowcall/store"
)

// maxDoubts is how many tries of a batch may fail because of the endpoint, while
// other POSTs to it succeed or there are none, before that is laid to one of its
// events.
const maxDoubts = 3

// landBatch is land for a batch.
func (l *lane) landBatch(b *batch, reply Reply) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rules.transforms() {
		for range b.entries {
			l.transformSample.add(false)
		}
	}
	first := b.entries[0]
	l.judgeBatch(b, reply)
	return l.goOn(first)
}

// judgeBatch turns a reply into what it means for a batch. What is said of an
// event is said of one of them: the batch is halved until that one is found, and
// it alone is charged. What is said of the endpoint leaves the batch whole, to go
// again; but if others get through all the while, or there are no others that
// could tell, one of its events may be behind that, too.
func (l *lane) judgeBatch(b *batch, reply Reply) {
	l.lower(b.entries[0])
	if reply.Err != nil && l.s.flightCtx.Err() != nil {
		l.scatter(b) // cut off by our own stop: sent again by the next life
		return
	}
	v, first := Judge(reply), b.entries[0]
	l.s.observeBatch(l, b.events, reply, v)
	l.sense(first, v, reply)
	l.unsettled += len(b.entries)
	if v.Outcome != Delivered || l.s.config.historyOfAll() {
		l.history = append(l.history, l.recordBatch(b, reply, v))
	}
	switch v.Fault {
	case FaultNone:
		l.successes++
		l.count(int64(len(b.entries)), 0)
		l.raise(reply, 2*len(b.entries) >= int(l.batches.size) || 2*b.size >= l.batches.bytes)
		for _, e := range b.entries {
			e.batch = nil
			l.countDelivered(e)
			l.finishEntry(e)
		}
		l.trim()
		l.queue(b.then)
		return
	case FaultLocal:
		l.holdUntil = time.Now().Add(localBackoff)
		l.delay(b, localBackoff)
		return
	case FaultEndpoint:
		l.cut()
	case FaultEvent:
		if reply.Status == http.StatusRequestEntityTooLarge {
			l.batches.size = max(1, float64(len(b.entries)/2))
		}
	}
	switch {
	case v.Reason == ReasonGone:
		l.scatter(b)
		l.giveUp()
		return
	case len(b.entries) == 1:
		first.batch = nil
		l.fail(first, v, reply, true)
		l.queue(b.then)
		return
	}
	if b.entries = slices.DeleteFunc(b.entries, l.endDiscarded); len(b.entries) == 0 {
		l.queue(b.then)
		return
	}
	up := v.Fault == FaultEvent || l.successes > first.successes
	alone := l.inFlight == 1 && l.ready.len()+l.again.len()+len(l.sleepers) == 0
	if v.Fault == FaultEndpoint && (up || alone) {
		b.doubts++
	}
	l.note(b, v, reply)
	wait, _ := NextTry(l.sub.Retry, b.fails, 0, rand.Float64())
	switch {
	case v.Fault == FaultEndpoint && b.doubts < maxDoubts || l.holds():
		l.delay(b, wait)
	case up:
		l.queue(l.split(b))
	default:
		l.delay(l.split(b), wait)
	}
}

// note has the events of a batch remember a try that failed.
func (l *lane) note(b *batch, v Verdict, reply Reply) {
	now := time.Now()
	text := reply.said()
	b.tries++
	b.fails++
	for _, e := range b.entries {
		e.tries, e.successes = b.tries, l.successes
		e.shared++
		e.reason, e.status, e.errText = v.Reason, reply.Status, text
		if e.firstFailed.IsZero() {
			e.firstFailed, e.heldMS = now, l.heldNow(now)
		}
		if e.row {
			l.toRow(e)
		}
	}
}

// endDiscarded ends an event that was discarded while it was in flight.
func (l *lane) endDiscarded(e *entry) bool {
	if e.discarded {
		e.batch = nil
		l.end(e)
	}
	return e.discarded
}

// split halves a batch and returns the first half. The second goes when that has
// landed, so that events of a key keep their order.
func (l *lane) split(b *batch) *batch {
	if len(b.entries) == 1 {
		return b
	}
	middle := len(b.entries) / 2
	second := &batch{entries: b.entries[middle:], doubts: b.doubts, then: b.then}
	first := &batch{entries: b.entries[:middle:middle], doubts: b.doubts, then: second}
	l.group(second).state = grouped
	l.group(first)
	return first
}

// queue has a batch go before all others.
func (l *lane) queue(b *batch) {
	for ; b != nil; b = b.then {
		if len(b.entries) > 0 {
			b.entries[0].state = ready
			l.putBack(b.entries[0])
			return
		}
	}
}

// delay keeps a batch whole until it is due. One that the cursor has passed by is
// rows from then on, which go one by one.
func (l *lane) delay(b *batch, wait time.Duration) {
	due := time.Now().Add(wait)
	switch {
	case l.holds():
		l.scatter(b) // to probe with
		return
	case b.entries[0].row:
		l.disband(b, due)
		return
	}
	for _, e := range b.entries {
		e.state, e.due = grouped, due
	}
	l.sleep(b.entries[0])
}

// disband turns the events of a batch that are rows into such as go alone, when
// they are due. The others go with whichever come next.
func (l *lane) disband(b *batch, due time.Time) {
	rows := slices.Clone(b.entries)
	l.scatter(b)
	for _, e := range rows {
		if !e.row {
			continue
		}
		if e.discarded {
			continue // it ends when its turn comes
		}
		l.unload(e)
		e.due = due
		l.toRow(e)
		if e.waits == 0 {
			l.sleep(e)
		}
	}
}

// scatter ends a batch that is not in flight, and those behind it: each of their
// events goes when its turn comes, with whichever come then.
func (l *lane) scatter(b *batch) {
	for ; b != nil; b = b.then {
		for _, e := range slices.Backward(b.entries) {
			l.unsleep(e)
			e.batch, e.due = nil, time.Time{}
			switch {
			case e.waits > 0:
				e.state = waiting
			case e.queued:
				e.state = ready
			default:
				e.state = ready
				l.putBack(e)
			}
		}
		b.entries = nil
	}
}

// scatterAll ends the batches that wait.
func (l *lane) scatterAll() {
	if !l.batches.on() {
		return
	}
	for e := range l.all() {
		if e.batch != nil && e.state != flying {
			l.scatter(e.batch)
		}
	}
}

// leaveBatch ends the batch of e, if it waits, so that something can be done
// with e alone.
func (l *lane) leaveBatch(e *entry) {
	if e.batch != nil && e.state != flying {
		l.scatter(e.batch)
	}
}

// spillBatches is spillStragglers where events share POSTs. A batch that fails or
// takes its time holds the cursor for as long as there is room beside it; only
// where it keeps everything else from going on do its events become rows.
func (l *lane) spillBatches() {
	old := time.Now().Add(-stragglerAge)
	for l.stuck() {
		first := l.window.first()
		b := first.batch
		switch {
		case first.state == flying && first.started.After(old):
			return
		case first.state == flying && b == nil:
			l.toRow(first)
			continue
		case b == nil || l.successes == b.since:
			return // nothing says that it is not the endpoint
		}
		due, held := first.due, first.state != flying
		for _, e := range b.entries {
			l.toRow(e)
		}
		if held {
			l.disband(b, due)
		}
	}
}

// stuck reports whether the lane is full, and of that at least half has ended or
// waits for what is before it, and nothing else can go.
func (l *lane) stuck() bool {
	if l.stopped || l.holds() || l.ready.len()+l.again.len() > 0 || l.window.first() == nil || !l.full() {
		return false
	}
	idle := 0
	for i := range l.window.len() {
		if e := l.window.at(i); e.row || e.state == ended || e.state == waiting {
			idle++
		}
	}
	return 2*idle >= l.window.len()
}

// recordBatch is the history of one attempt with several events.
func (l *lane) recordBatch(b *batch, reply Reply, v Verdict) store.Attempt {
	a := l.record(b.entries[0], reply, v)
	a.Attempt = b.tries + 1
	if v.Outcome != Delivered {
		a.Detail = detail(reply, BatchID(b.events...))
	}
	a.Others = make([]store.Offset, len(b.entries)-1)
	for i, e := range b.entries[1:] {
		a.Others[i] = e.offset
	}
	return a
}
