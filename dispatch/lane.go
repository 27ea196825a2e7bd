package dispatch

import (
	"container/heap"
	"iter"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const (
	// windowEvents bounds what a lane has read and not ended; a full lane leaves
	// the head reader and goes on by itself when half of it is free. (boundsOf has
	// what large batches need.)
	windowEvents = 2048
	// windowBytes bounds the payloads among them.
	windowBytes = 4 << 20
	// maxUnsettled is how many outcomes a lane may owe the store: beyond it no
	// attempt starts. It bounds what a crash sends twice.
	maxUnsettled = 1000
	// maxRows bounds the deliveries that a lane keeps in memory. Beyond it the
	// lane reads no further until some have ended.
	maxRows = 100_000
	// stragglerAge is how long an attempt may hold back the cursor: after it
	// the event becomes a row, and the cursor passes.
	stragglerAge = time.Second
	// maxErrorText bounds an error text in a row, in bytes.
	maxErrorText = 1024
)

// lane serves one subscription: it keeps the events that are owed and not
// ended, sends them with bounded concurrency, one at a time per key, and tells
// the settler what became of them.
type lane struct {
	s      *session
	id     store.LaneID
	epoch  int64
	sub    subscriptions.Subscription
	target *Target
	probe  subscriptions.Probe
	bounds bounds

	rules    *rules // nil: its subscription has no expressions
	ordering string // which ordering the keys of its entries are of
	cost     cost
	version  int64   // of the rows that it was opened with
	replay   *replay // nil: the subscription's own lane

	mu     sync.Mutex
	order  order
	window deque                   // entries not held by a row, by offset: the cursor is the first
	rows   map[store.Offset]*entry // entries held by a row
	bytes  int64                   // what the payloads in window weigh
	filled bool                    // no more is taken until half of it is free
	scarce bool                    // there was no room for a payload
	slab   slab                    // payloads are copied into

	overflows map[string]*overflow // keys of which no more rows are written
	walking   bool                 // the side reader runs
	walkAfter store.Offset         // not before the lane has come by again what it had before a crash
	barred    string               // a table whose barrier is not taken while keys of it overflow
	draining  bool                 // keys of an ordering that is no more overflow: nothing else is read

	ready    deque // entries whose turn it is
	again    deque // the same, of rows
	turn     bool  // whose turn it is of the two
	sleepers timers
	timer    *time.Timer // fires when the first sleeper is due; nil: none set
	alarm    time.Time   // when timer fires

	inFlight  int
	lifted    int64 // bytes of attempts in flight
	throttle  throttle
	cutAt     time.Time // when the throttle was last told of a failure
	batches   batching
	holdUntil time.Time // no attempt starts before it
	health    health
	sample    sample
	successes int
	probed    string // key of the last probe
	revisited int    // dead letters that were taken up again and have not ended
	crowded   bool   // some more of them wait until others have ended
	stopped   bool   // nothing starts any more
	done      bool   // stopped, and all settled
	abandoned bool   // stopped, and nothing of it is settled any more
	disabling bool   // abandoned, and the subscription is being disabled
	reopen    bool   // the endpoint was parked: the lane goes on without its window

	rate   *rate.Limiter // requests a second; nil: no limit
	paceAt time.Time     // when it lets the next one go

	openings *subscriptions.Openings // of its delivery window; nil: there is none
	clock    *time.Timer             // when that is looked at again
	closes   time.Time               // no attempt starts from then on

	ending *store.HoldEnd // what it gives up before it is opened anew; touched by claims alone

	scolded         bool // it was said that an expression fails
	filterSample    faults
	transformSample faults
	holdError       string // of HoldFilter

	hold         Hold      // why it sends nothing, beside its endpoint's health
	heldFrom     time.Time // since when it cannot deliver; zero: it can
	savedSuccess time.Time // the last success that its row has
	failureRate  float64   // as its row has it
	healthAt     time.Time // when its row last got a health

	aheadUntil time.Time // a lane that compacts reads ahead, and sends nothing; zero: it does not

	guests guests // the subscription's replays

	attached bool         // the head reader feeds it
	inbox    []*candidate // what it was given and nobody has looked at
	reading  bool         // a reader of its own feeds it
	pos      store.Offset
	room     chan struct{}       // told when there is room again
	skip     []store.OffsetRange // settled above the cursor, before this life

	// What the settler has not yet saved.
	marked         bool // the settler knows that there is something
	unsettled      int
	dirty          []*entry
	gone           []store.Offset
	relieved       []string                // keys that overflow no more
	dying          map[store.Offset]*entry // dead letters that may not be in the store yet
	applied, moot  []int64                 // intents
	history        []store.Attempt
	healthDirty    bool
	heldMS         int64 // time in which the lane could not deliver
	savedCursor    store.Offset
	savedAhead     []store.OffsetRange
	savedFollowing bool
	savedHeldMS    int64
	inDoubt        bool // what the store has may be something else than saved*
}

func newLane(s *session, l store.Lane, target *Target, hold Hold) *lane {
	ln := &lane{
		s: s, id: l.ID, epoch: l.Epoch, sub: l.Subscription, target: target,
		order: newOrder(), rows: make(map[store.Offset]*entry), overflows: make(map[string]*overflow), dying: make(map[store.Offset]*entry),
		throttle: newThrottle(l.Subscription.MaxInFlight), pos: l.Cursor, skip: l.Ahead, room: make(chan struct{}, 1),
		heldMS: l.HeldMS, savedHeldMS: l.HeldMS,
		savedCursor: l.Cursor, savedAhead: l.Ahead, savedFollowing: l.Following,
		hold: hold, rules: newRules(s.programs, &l.Subscription.Spec), ordering: orderingOf(&l.Subscription.Spec),
		version: l.Version,
	}
	if l.Replay != nil {
		ln.replay = newReplay(l.Replay, &l.Subscription)
		if ln.hold == HoldNone {
			ln.hold = ln.replay.hold()
		}
	}
	ln.resume(l.Health, time.Now())
	ln.bounds = boundsOf(l.Subscription.Batch)
	if l.Subscription.Compact {
		ln.bounds.events = max(ln.bounds.events, compactEvents)
	}
	ln.batches = newBatching(l.Subscription.Batch, ln.health.State)
	ln.throttle.steep = !ln.batches.on() // full batches come before many at once
	return ln
}

// restore takes in the deliveries that an earlier life left. Those whose keys are
// of another ordering order each other as before, and all that is not theirs
// waits for them.
func (l *lane) restore(ds []store.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := make([]*entry, len(ds))
	for i := range ds {
		entries[i] = l.entryOf(&ds[i])
	}
	l.order.addAll(entries)
	for i, e := range entries {
		d := &ds[i]
		l.rows[e.offset] = e
		switch {
		case d.State == store.Dead:
			e.state = lying
		case l.isFaulty(d):
			e.state = faulty
		case e.waits > 0:
			e.state = waiting
		case e.due.IsZero():
			l.makeReady(e)
		default:
			l.sleep(e)
		}
	}
}

// entryOf makes the entry of a delivery as it lies in the store.
func (l *lane) entryOf(d *store.Delivery) *entry {
	e := &entry{
		offset: d.Offset, barrier: d.Barrier, tries: d.Attempts, due: d.DueAt, firstFailed: d.FirstFailedAt,
		charged: d.Charged, heldMS: d.HeldMS, reason: Reason(d.Reason), status: d.Status, errText: d.Error,
		row: true, saved: true, heapIndex: -1,
	}
	e.foreign = d.Ordering != l.ordering && l.sub.Ordering != subscriptions.OrderNone
	if l.sub.Ordering != subscriptions.OrderNone && len(d.Keys) > 0 {
		e.key = d.Keys[0]
		if len(d.Keys) > 1 {
			e.key2 = d.Keys[1]
		}
	}
	return e
}

// full reports whether the lane takes no more events.
func (l *lane) full() bool {
	if l.holds() && l.inFlight+len(l.sleepers)+l.ready.len()+l.again.len() > 0 {
		return true // one event is enough to probe with
	}
	l.filled = l.filled || l.window.len() >= l.bounds.events || l.bytes >= l.bounds.bytes ||
		l.scarce && l.window.len() >= scarceEvents || len(l.rows) >= maxRows || len(l.gone) >= maxRows
	return l.stopped || l.filled || l.draining || l.hold != HoldNone
}

// easy reports whether there is room again for enough to be worth a page.
func (l *lane) easy() bool {
	room := l.bounds.events / 2
	if l.scarce {
		room = scarceEvents / 2
	}
	return l.window.len() <= room && l.bytes <= l.bounds.bytes/2 && len(l.rows) < maxRows && len(l.gone) < maxRows && l.barred == ""
}

// take adds the first of events. What an earlier life settled, or left a row for,
// goes into the window too: what lies above the cursor is remembered from there.
// v is what the lane's expressions say of it, nil where nobody asked them. It
// reports whether the event is a new one.
func (l *lane) take(events []*store.Event, v *verdict) (fresh bool) {
	ev := events[0]
	if row := l.rows[ev.Offset]; row != nil {
		l.window.push(row)
		l.trim()
		return false
	}
	e := &entry{offset: ev.Offset, heapIndex: -1}
	if l.settledBefore(ev.Offset) {
		e.state = ended
		l.window.push(e)
		l.trim()
		return false
	}
	switch {
	case l.sub.Ordering == subscriptions.OrderNone:
	case l.rules.orders():
		e.key, e.key2 = v.key, v.before
		if v.barrier {
			e.barrier = v.table
		}
	default:
		e.key, e.key2 = ev.Key, ev.OldKey
		if ev.Kind == store.KindTruncate {
			e.barrier = strings.Clone(ev.Table())
		}
	}
	if len(l.overflows) > 0 && l.holdBack(e) {
		e.state = ended
		l.window.push(e)
		l.trim()
		return false
	}
	if l.sub.Compact && (v == nil || v.fault == nil) && l.compact(e, events) {
		return true
	}
	l.window.push(e)
	if v != nil && v.fault != nil {
		l.stick(e, v.fault)
		e.ownKeys()
		l.order.add(e)
		if e.mustRow() {
			l.toRow(e) // and what waits for it becomes a row too
		}
		return true
	}
	l.keep(e, events)
	l.order.add(e)
	if e.mustRow() {
		l.unload(e)
		l.toRow(e) // behind an event that failed: it waits as a row, without payload
		if e.depth >= l.s.limits.blocked && e.barrier == "" && !l.rules.orders() {
			l.spill(e)
		}
		return true
	}
	if e.waits == 0 {
		l.makeReady(e)
	}
	return true
}

// settledBefore reports whether an earlier life settled the event.
func (l *lane) settledBefore(at store.Offset) bool {
	for len(l.skip) > 0 && l.skip[0].Past <= at {
		l.skip = l.skip[1:]
	}
	return len(l.skip) > 0 && l.skip[0].From <= at
}

func (l *lane) makeReady(e *entry) {
	e.state = ready
	if e.queued {
		return
	}
	e.queued = true
	if l.batches.wait > 0 {
		e.started = time.Now()
	}
	if e.row || e.batch != nil {
		l.again.push(e)
	} else {
		l.ready.push(e)
	}
}

// sleep lets e wait until it is due.
func (l *lane) sleep(e *entry) {
	e.state = sleeping
	heap.Push(&l.sleepers, e)
	l.setTimer()
}

// setTimer has the lane woken when its first sleeper is due, or its rate lets the
// next request go, or, while its endpoint is parked, at the next probe. An idle lane
// has no timer.
func (l *lane) setTimer() {
	var due time.Time
	switch {
	case l.stopped || l.hold != HoldNone:
		return
	case l.health.State == Parked:
		if due = later(l.health.NextProbe, l.paceAt); !due.After(time.Now()) {
			return // whatever can be sent is
		}
	case l.health.State == Probing:
		return
	default:
		due = l.batches.ripe
		if len(l.sleepers) > 0 && (due.IsZero() || l.sleepers[0].due.Before(due)) {
			due = l.sleepers[0].due
		}
		if l.ready.len()+l.again.len() > 0 && l.paceAt.After(time.Now()) && (due.IsZero() || l.paceAt.Before(due)) {
			due = l.paceAt
		}
		if due.IsZero() {
			return
		}
	}
	if l.timer != nil {
		if l.alarm.Equal(due) && l.alarm.After(time.Now()) {
			return
		}
		l.timer.Stop()
	}
	l.alarm = due
	l.timer = time.AfterFunc(time.Until(due), l.wake)
}

// wake moves the sleepers that are due to the ready ones and starts what can be
// started.
func (l *lane) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for !l.holds() && len(l.sleepers) > 0 && !l.sleepers[0].due.After(now) {
		e := heap.Pop(&l.sleepers).(*entry)
		if e.waits > 0 && e.batch == nil {
			e.state = waiting
		} else {
			l.makeReady(e)
		}
	}
	if !l.batches.ripe.After(now) {
		l.batches.ripe = time.Time{} // pump looks at it
	}
	l.setTimer()
	l.pump()
}

// end takes out an entry that needs nothing more.
func (l *lane) end(e *entry) {
	l.finishEntry(e)
	l.trim()
}

// finishEntry is end, but leaves it to the caller to trim the window.
func (l *lane) finishEntry(e *entry) {
	e.state = ended
	if e.row {
		l.unrow(e)
		if e.saved {
			l.gone = append(l.gone, e.offset)
		}
	}
	l.release(e)
	e.event = nil
	l.pass(e)
}

// pass lets go what waited for e, or has it held by a row where rows are all
// that it still waits for.
func (l *lane) pass(e *entry) {
	next := e.next
	for _, n := range l.order.end(e) {
		if n.state == waiting {
			l.makeReady(n)
		}
	}
	for _, n := range next {
		if n.mustRow() {
			l.toRow(n)
		}
	}
	if len(l.overflows) > 0 {
		l.relieve(e)
	}
}

// toRow has e, and what waits for it alone, held by rows: the cursor may pass them.
func (l *lane) toRow(e *entry) {
	if !e.dirty {
		e.dirty = true
		l.dirty = append(l.dirty, e)
	}
	l.mark()
	if e.row {
		return
	}
	e.row = true
	l.rows[e.offset] = e
	for _, n := range e.next {
		if n.loose--; n.mustRow() {
			l.toRow(n)
		}
	}
	l.trim()
}

// trim moves the start of the window past what needs the cursor no more.
func (l *lane) trim() {
	for e := l.window.first(); e != nil && (e.row || e.state == ended); e = l.window.first() {
		l.window.pop()
		l.release(e)
		if e.state != flying {
			l.unload(e)
		}
	}
	if l.easy() {
		l.filled, l.scarce = false, false
		poke(l.room)
	}
}

// all goes through every entry that has not ended.
func (l *lane) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for i := range l.window.len() {
			if e := l.window.at(i); !e.row && e.state != ended && !yield(e) {
				return
			}
		}
		for _, e := range l.rows {
			if !yield(e) {
				return
			}
		}
		for _, o := range l.overflows {
			for _, e := range o.pending {
				if e.walked && e.key == o.key && !e.row && e.state != ended && !yield(e) {
					return
				}
			}
		}
	}
}

// unsleep takes e out of the sleepers.
func (l *lane) unsleep(e *entry) {
	if e.heapIndex >= 0 {
		heap.Remove(&l.sleepers, e.heapIndex)
	}
}

// serving reports whether the lane takes events.
func (l *lane) serving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.stopped && l.hold == HoldNone
}

// isDone reports whether the lane has stopped and settled all.
func (l *lane) isDone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done
}

// finish notes that a stopped lane has nothing left to settle. l.mu is held.
func (l *lane) finish() {
	if !l.done {
		l.done = true
		poke(l.s.reclaim)
	}
}

// finishAbandoned notes that nothing of an abandoned lane goes on. l.mu is held.
func (l *lane) finishAbandoned() {
	if l.abandoned && !l.disabling && l.inFlight == 0 {
		l.finish()
	}
}

// stop starts nothing more; what is in flight ends by itself.
func (l *lane) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attached {
		l.attached = false
		l.pos = max(l.pos, l.s.position())
		if len(l.inbox) > 0 {
			l.leave(nil)
		}
	}
	l.stopped = true
	l.unloadAll()
	for _, timer := range []*time.Timer{l.timer, l.clock} {
		if timer != nil {
			timer.Stop()
		}
	}
	poke(l.room)
}
