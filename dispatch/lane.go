package dispatch

import (
	"math"
	"slices"
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

	rules    *rules   // nil: its subscription has no expressions
	ordering string   // which ordering the keys of its entries are of
	others   []string // those of its foreign entries
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
	walkAfter store.Offset         // until the lane is there, which is what it had come by before a crash, the side reader stays behind it
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
	probed    string // sampleKey of the last probe
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
	fed      store.Offset        // while attached: behind the last event that it took
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
	counts         store.Counts
	savedCounts    store.Counts
	inDoubt        bool // what the store has may be something else than saved*
}

func newLane(s *session, l store.Lane, target *Target, hold Hold) *lane {
	ln := &lane{
		s: s, id: l.ID, epoch: l.Epoch, sub: l.Subscription, target: target,
		order: newOrder(), rows: make(map[store.Offset]*entry), overflows: make(map[string]*overflow), dying: make(map[store.Offset]*entry),
		pos: l.Cursor, skip: l.Ahead, room: make(chan struct{}, 1),
		heldMS: l.HeldMS, savedHeldMS: l.HeldMS, counts: l.Counts, savedCounts: l.Counts,
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
	ln.throttle = newThrottle(l.Subscription.MaxInFlight, ln.batches.on())
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
	e.foreign = l.foreign(d.Ordering)
	if l.sub.Ordering != subscriptions.OrderNone && len(d.Keys) > 0 {
		e.key = d.Keys[0]
		if len(d.Keys) > 1 {
			e.key2 = d.Keys[1]
		}
	}
	return e
}

// foreign numbers another ordering than the one in force, from 1 on; 0 is this one,
// or none. l.mu is held, or the lane is being made.
func (l *lane) foreign(ordering string) uint8 {
	if ordering == l.ordering || l.sub.Ordering == subscriptions.OrderNone {
		return 0
	}
	i := slices.Index(l.others, ordering)
	if i < 0 {
		if i = len(l.others); i == math.MaxUint8 {
			return math.MaxUint8 // so many edits that rows of the last ones are in the order of their keys alone
		}
		l.others = append(l.others, ordering)
	}
	return uint8(i + 1)
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

// idle reports whether nothing is in flight, of the lane or lent by it: what its
// replays hear of the endpoint is the lane's to take note of. l.mu is held.
func (l *lane) idle() bool { return l.inFlight+l.guests.lent == 0 }

// finish notes that a stopped lane has nothing left to settle. l.mu is held.
func (l *lane) finish() {
	if !l.done {
		l.done = true
		poke(l.s.reclaim)
	}
}

// finishAbandoned notes that nothing of an abandoned lane goes on. l.mu is held.
func (l *lane) finishAbandoned() {
	if l.abandoned && !l.disabling && l.idle() {
		l.finish()
	}
}

// stop starts nothing more; what is in flight ends by itself.
func (l *lane) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attached {
		l.attached = false
		l.pos = max(l.pos, l.fed, l.s.position())
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
