package dispatch

import (
	"cmp"
	"slices"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

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
