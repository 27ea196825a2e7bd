package dispatch

import (
	"strings"
	"time"

	"github.com/rowcall/rowcall/store"
)

// entry is one event that its lane owes and that has not ended.
type entry struct {
	offset  store.Offset
	event   *store.Event // nil: fetched when its turn comes
	key     string       // "" where the subscription asks for no order
	key2    string       // the other key of a key change
	barrier string       // the table all of whose keys it waits for, and holds

	state stage
	waits int      // entries before it that have not ended
	loose int      // those of them that no row holds
	next  []*entry // entries that wait for it

	tries       int // attempts that said something
	shared      int // of those: in a batch, in this life
	charged     int // of those: the ones that count against its budget
	successes   int // of the lane, when it was last tried
	due         time.Time
	firstFailed time.Time
	started     time.Time // of the attempt in flight; before it, where batches wait, when its turn came
	heldMS      int64
	reason      Reason
	status      int
	errText     string

	batch *batch // that it is in, from when it is made until it has landed

	size      int64 // of the payload; 0: not known
	bytes     int64 // that its payload weighs in the lane's window
	lifted    int64 // that its attempt weighs
	wire      int32 // bytes of its place in the body of a batch; 0: not known
	queued    bool  // in ready or again
	depth     int32 // how many of its key it waited behind, since the first of them
	unjudged  bool  // nobody has asked the filter
	walked    bool  // of an overflowed key, which holds it: it needs no row of its own
	row       bool  // held by a deliveries row: the cursor need not wait for it
	dirty     bool  // its row is to be written
	saved     bool  // a row of it is in the store
	rides     bool  // reform: what it waits for is in its batch
	foreign   uint8 // which other ordering than the one in force its keys are of; 0: of this one
	discarded bool  // a person ended it; it goes when its turn comes
	revisited bool  // a dead letter that a person had taken up again
	heapIndex int   // in the lane's timers; -1: not there
}

// sampleKey is what e's attempts speak of beside the endpoint: its key, or without
// one the event itself.
func (e *entry) sampleKey() string {
	if e.key == "" {
		return e.offset.String()
	}
	return e.key
}

// stage is where an entry stands.
type stage int8

const (
	waiting  stage = iota // behind others of its key
	ready                 // may be sent
	flying                // being sent
	sleeping              // until due
	grouped               // in a batch whose first event says when it goes
	lying                 // dead, and holding its key
	faulty                // until the subscription is edited: an expression failed on it
	ended
)

// order knows which entries wait for which: an entry waits for the last
// unended one of each of its keys, a barrier for all of its table, and all of
// its table for the barrier. Not safe for concurrent use.
type order struct {
	tails    map[string]*entry // last unended entry of a key
	barriers map[string]*entry // last unended barrier of a table
	gate     *entry            // waits for every entry of another ordering; nil: there is none
}

func newOrder() order {
	return order{tails: make(map[string]*entry), barriers: make(map[string]*entry)}
}

// add puts e behind the entries that it must follow. Entries are added in the
// order of their offsets.
func (o *order) add(e *entry) {
	if o.gate != nil {
		e.follow(o.gate)
	}
	if e.key == "" {
		return
	}
	follow := e.follow
	if len(o.barriers) > 0 {
		if b := o.barriers[tableOf(e.key)]; b != nil {
			follow(b)
		}
		if e.key2 != "" && tableOf(e.key2) != tableOf(e.key) {
			if b := o.barriers[tableOf(e.key2)]; b != nil {
				follow(b)
			}
		}
	}
	if e.barrier != "" {
		for key, tail := range o.tails {
			if tableOf(key) == e.barrier {
				follow(tail)
			}
		}
		o.barriers[e.barrier] = e
	} else if tail := o.tails[e.key]; tail != nil {
		follow(tail)
	}
	if e.key2 != "" {
		if tail := o.tails[e.key2]; tail != nil {
			follow(tail)
		}
		o.tails[e.key2] = e
	}
	o.tails[e.key] = e
}

// addAll adds entries: first what is being sent, then the rest by offset. Keys of
// one ordering say nothing of who follows those of another: where rows of one
// follow rows of another there is a gate between, and all that has no row yet waits
// for the last one, as whatever comes will.
func (o *order) addAll(entries []*entry) {
	foreign := 0 // how many there are up to the last foreign one
	for i, e := range entries {
		if e.foreign != 0 {
			foreign = i + 1
		}
	}
	var run []*entry // those of one ordering, since the last gate
	var rest []*entry
	for i, e := range entries {
		if i >= foreign || !e.row && e.foreign == 0 && e.state != flying {
			rest = append(rest, e)
			continue
		}
		if n := len(run); n > 0 && e.foreign != run[n-1].foreign && e.state != flying {
			o.gate, run = gateBehind(run), nil
		}
		if o.add(e); e.row || e.foreign != 0 {
			run = append(run, e)
		}
	}
	if len(run) > 0 {
		o.gate = gateBehind(run)
	}
	for _, e := range rest {
		o.add(e)
	}
}

// gateBarrier is the barrier of a gate: no table's name.
const gateBarrier = "*"

// gateBehind is a gate that ends with the last of some rows. What waits for it
// waits for rows alone, whatever their number.
func gateBehind(rows []*entry) *entry {
	gate := &entry{row: true, barrier: gateBarrier, heapIndex: -1}
	for _, e := range rows {
		gate.follow(e)
	}
	return gate
}

// follow has e wait for before.
func (e *entry) follow(before *entry) {
	before.next = append(before.next, e)
	e.waits++
	if before.barrier == "" {
		e.depth = max(e.depth, before.depth+1)
	}
	if !before.row {
		e.loose++
	}
}

// mustRow reports whether e is to become a row because it waits for rows, or for
// an edit, and for nothing else. While it waits for an event without a row it may not: the
// next life takes rows in before it reads the log, and would have e go before
// that event.
func (e *entry) mustRow() bool {
	return !e.row && !e.walked && e.loose == 0 && (e.waits > 0 || e.state == faulty)
}

// related reports whether two entries order each other.
func related(a, b *entry) bool {
	if b.key == "" {
		return false
	}
	if a.key == b.key || a.key == b.key2 || a.key2 != "" && (a.key2 == b.key || a.key2 == b.key2) {
		return true
	}
	return a.barrier != "" && (tableOf(b.key) == a.barrier || tableOf(b.key2) == a.barrier) ||
		b.barrier != "" && (tableOf(a.key) == b.barrier || tableOf(a.key2) == b.barrier)
}

// end takes e out and returns the entries that now wait for nothing.
func (o *order) end(e *entry) (freed []*entry) {
	if e.key != "" {
		o.forget(e.key, e)
		if e.key2 != "" {
			o.forget(e.key2, e)
		}
		if e.barrier != "" && o.barriers[e.barrier] == e {
			delete(o.barriers, e.barrier)
		}
	}
	for _, n := range e.next {
		if !e.row {
			n.loose--
		}
		switch n.waits--; {
		case n.waits > 0:
		case n.barrier == gateBarrier:
			if n == o.gate {
				o.gate = nil
			}
			freed = append(freed, o.end(n)...)
		default:
			freed = append(freed, n)
		}
	}
	e.next = nil
	return freed
}

// rekey has the tails know e by its own keys, not by equal ones of others.
func (o *order) rekey(e *entry) {
	for _, key := range [...]string{e.key, e.key2} {
		if key != "" && o.tails[key] == e {
			o.tails[key] = e // which replaces the key too
		}
	}
}

func (o *order) forget(key string, e *entry) {
	if o.tails[key] == e {
		delete(o.tails, key)
	}
}

// tableOf is the part of a key that names its table: what a barrier holds.
func tableOf(key string) string {
	table, _, _ := strings.Cut(key, "/")
	return table
}
