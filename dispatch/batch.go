package dispatch

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// maxDoubts is how many tries of a batch may fail because of the endpoint, while
// other POSTs to it succeed or there are none, before that is laid to one of its
// events.
const maxDoubts = 3

// batch is the events of one POST, two or more, or what is left of them where it
// was split. Its events wait for none outside of it, so batches in flight share
// no key; each may wait for at most one other in it. It has no row: until it is
// delivered, its events hold the cursor.
type batch struct {
	entries []*entry       // by offset; the first stands for all where a lane keeps entries
	events  []*store.Event // what is sent
	then    *batch         // goes when this one has landed: the other half of one that was split
	size    int64          // of the payloads
	tries   int            // the most that any of its events has had
	fails   int            // of it as it is
	doubts  int            // of it, and of what it was split from: see maxDoubts
	since   int            // successes of the lane when it was last sent
}

// batching is how a lane puts events together.
type batching struct {
	max     int           // most events of a batch; 1: none are made
	bytes   int64         // most bytes of a body
	wait    time.Duration // how long an event whose turn it is waits for others
	size    float64       // most events of a batch now: less than max after failures
	ripe    time.Time     // when the events that wait for others go; zero: none do
	scratch []*entry
}

func newBatching(b subscriptions.Batch, health HealthState) batching {
	g := batching{max: max(1, b.MaxEvents), bytes: b.MaxBytes, wait: b.MaxWait.D()}
	if g.size = float64(g.max); health != Healthy {
		g.size = 1
	}
	if !g.on() {
		g.wait = 0
	}
	return g
}

// on reports whether events share POSTs.
func (g *batching) on() bool { return g.max > 1 }

// grow lets batches have more events after a success.
func (g *batching) grow() { g.size = min(float64(g.max), g.size+max(1, g.size/8)) }

// bounds are what a lane has in memory.
type bounds struct {
	events    int   // read and not ended
	bytes     int64 // of their payloads
	unsettled int   // outcomes that it owes the store
	settle    int   // outcomes that do not wait for the settler's next turn
}

// boundsOf are the bounds with room for several full batches.
func boundsOf(b subscriptions.Batch) bounds {
	of := bounds{windowEvents, windowBytes, maxUnsettled, settleAt}
	if b.MaxEvents > 1 {
		of.events = max(of.events, 8*b.MaxEvents)
		of.bytes = max(of.bytes, 2*b.MaxBytes)
		of.unsettled = max(2*maxUnsettled, 4*b.MaxEvents)
		of.settle = maxUnsettled // else every other POST would be a settlement
	}
	return of
}

// nextBatch is next where events share POSTs: it returns the first event of a
// batch, or one that goes alone, since a row holds it or no other can go with it.
func (l *lane) nextBatch() *entry {
	for {
		e := l.nextAgain()
		if e == nil {
			e = l.gather()
		}
		switch {
		case e == nil && l.again.len() == 0:
			return nil
		case e == nil:
		case l.lift(e):
			return e
		default:
			l.putBack(e)
			return nil
		}
	}
}

// nextAgain is the first of what goes before all else: rows, and batches that
// have waited.
func (l *lane) nextAgain() *entry {
	for e := l.again.pop(); e != nil; e = l.again.pop() {
		e.queued = false
		switch {
		case e.state != ready:
		case e.batch != nil:
			if first := l.reform(e.batch); first != nil {
				return first
			}
		case e.waits > 0:
			e.state = waiting
		case e.discarded:
			l.end(e)
		default:
			return e
		}
	}
	return nil
}

// gather makes a batch of the events whose turn it is, and of those that wait for
// these alone. It takes what there is; only where batches may wait, one that is
// not full is left until its oldest event has waited for long enough. An event
// whose payload is not in memory goes alone.
func (l *lane) gather() *entry {
	g := &l.batches
	limit, bytes, full := int(g.size), int64(1), false
	all := g.scratch[:0]
	defer func() { g.scratch = all; clear(all) }()
	fits := func(e *entry) bool {
		if e.wire == 0 && e.event != nil {
			e.wire = int32(cloudEventSize(e.event)) + 1 // and a comma
		}
		full = len(all) > 0 && (len(all) == limit || bytes+int64(e.wire) > g.bytes || e.event == nil || all[0].event == nil)
		if !full {
			all = append(all, e)
			bytes += int64(e.wire)
		}
		return !full
	}
	for e := l.ready.first(); e != nil; e = l.ready.first() {
		turn := e.state == ready && e.waits == 0 && !e.row
		if turn && !fits(e) {
			break
		}
		l.ready.pop()
		e.queued = false
		switch {
		case turn || e.state != ready:
		case e.waits > 0:
			e.state = waiting
		default: // a row since it came here: it goes alone
			l.makeReady(e)
		}
	}
	turns := len(all)
	for i := 0; i < len(all) && !full; i++ {
		for _, n := range all[i].next {
			if n.waits == 1 && n.state == waiting && !n.row && !fits(n) {
				break
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	g.ripe = time.Time{}
	if ripe := all[0].started.Add(g.wait); g.wait > 0 && !full && len(all) < limit && time.Now().Before(ripe) {
		for _, e := range slices.Backward(all[:turns]) {
			l.putBack(e)
		}
		g.ripe = ripe
		l.setTimer()
		return nil
	}
	if len(all) == 1 {
		return all[0]
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(a.offset, b.offset) })
	return l.group(&batch{entries: slices.Clone(all)})
}

// group has the entries of a batch belong to it, and returns the first.
func (l *lane) group(b *batch) *entry {
	b.size = 0
	for _, e := range b.entries {
		e.batch, e.state = b, grouped
		b.size += e.size
		b.tries = max(b.tries, e.tries)
	}
	b.entries[0].state = ready
	return b.entries[0]
}

// reform looks again at a batch whose turn it is after it has waited: what was
// put before one of its events meanwhile, or took its payload, takes the event
// out. It returns the first that is left, or, if there is none, of the batch
// behind it.
func (l *lane) reform(b *batch) *entry {
	for ; b != nil; b = b.then {
		for _, e := range b.entries {
			e.rides = false
		}
		kept := b.entries[:0]
		for _, e := range b.entries {
			if e.event == nil || e.waits > 1 || e.waits == 1 && !e.rides {
				e.batch, e.state = nil, waiting
				if e.waits == 0 {
					l.makeReady(e)
				}
				continue
			}
			kept = append(kept, e)
			for _, n := range e.next {
				n.rides = true
			}
		}
		if b.entries = kept; len(kept) > 0 {
			return l.group(b)
		}
	}
	return nil
}

// launch marks the events of a batch as being sent.
func (l *lane) launchBatch(b *batch, now time.Time) {
	b.since = l.successes
	b.events = b.events[:0]
	for _, e := range b.entries {
		e.state, e.started = flying, now
		b.events = append(b.events, e.event)
	}
}

// landBatch is land for a batch.
func (l *lane) landBatch(b *batch, reply Reply) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.judgeBatch(b, reply)
	return l.goOn()
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
	l.feel(first, v, reply)
	l.unsettled += len(b.entries)
	if v.Outcome != Delivered || l.s.config.historyOfAll() {
		l.history = append(l.history, l.recordBatch(b, reply, v))
	}
	switch v.Fault {
	case FaultNone:
		l.successes++
		l.raise()
		for _, e := range b.entries {
			e.batch = nil
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
	text := errorText(reply.Err)
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
