package dispatch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/rowcall/rowcall/store"
)

const (
	// settleEvery is how long outcomes are gathered before they are settled
	// together. It bounds what a crash sends twice.
	settleEvery = 20 * time.Millisecond
	// settleAt is the number of a lane's outcomes that does not wait for it.
	settleAt = 250
	// floorEvery is how often the floor alone is saved, when nothing else is.
	floorEvery = time.Second
)

// settler records what became of events: cursor moves, deliveries and attempts
// of all lanes, in group commits.
type settler struct {
	s *session

	mu     sync.Mutex
	marked []*lane       // lanes with something to settle
	urgent chan struct{} // a lane has enough not to wait
	some   chan struct{} // a lane has something
	moved  chan struct{} // the floor has moved
	floor  store.Offset  // as saved
}

func newSettler(s *session) *settler {
	return &settler{s: s, urgent: make(chan struct{}, 1), some: make(chan struct{}, 1), moved: make(chan struct{}, 1)}
}

// mark tells the settler that l has something to settle. l.mu is held.
func (l *lane) mark() {
	st := l.s.settler
	if l.abandoned || l.done {
		return // a lane that was opened in its place may settle already
	}
	if !l.marked {
		l.marked = true
		st.mu.Lock()
		st.marked = append(st.marked, l)
		st.mu.Unlock()
		poke(st.some)
	}
	if l.unsettled >= l.bounds.settle {
		poke(st.urgent)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run settles until ctx ends, or the lease is lost (store.ErrFenced).
func (st *settler) run(ctx context.Context) error {
	var floor <-chan time.Time // while the floor has moved and nothing else has
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-st.moved:
			if floor == nil {
				floor = time.After(floorEvery)
			}
			continue
		case <-floor:
			floor = nil
		case <-st.some:
			select {
			case <-ctx.Done():
				return nil
			case <-st.urgent:
			case <-time.After(settleEvery):
			}
		}
		if err := st.settle(ctx); err != nil {
			return err
		}
	}
}

// settle settles all there is, trying again while the store is unavailable.
func (st *settler) settle(ctx context.Context) error {
	wait := 50 * time.Millisecond
	failing := false
	for {
		err := st.once(ctx)
		switch {
		case err == nil:
			if failing {
				st.s.log.Info().Msg("settling again")
			}
			return nil
		case errors.Is(err, store.ErrFenced):
			return err
		case ctx.Err() != nil:
			return nil
		case !failing:
			failing = true
			st.s.log.Warn().Err(err).Msg("cannot settle, trying again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
			wait = min(2*wait, 2*time.Second)
		}
	}
}

// last settles what the drain has left, until nothing is left or ctx ends.
func (st *settler) last(ctx context.Context) error {
	for {
		if err := st.settle(ctx); err != nil {
			return err
		}
		st.mu.Lock()
		left := len(st.marked)
		st.mu.Unlock()
		if left == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// once makes one group commit of what the marked lanes have.
func (st *settler) once(ctx context.Context) error {
	// The floor is read before the lanes are looked at: whatever the head reader
	// gave a lane below it, the lane either has settled or shows as pending.
	floor := st.s.position()
	st.mu.Lock()
	lanes := st.marked
	st.marked = nil
	st.mu.Unlock()

	set := store.Settlement{Lease: st.s.lease.Epoch, Lanes: make([]store.LaneSettlement, 0, len(lanes))}
	// It would count for the lanes of an earlier life, too.
	if floor != st.floor && st.s.claimed.Load() {
		set.Floor = floor
	}
	all := make([]*collected, 0, len(lanes))
	var history []store.Attempt
	for _, l := range lanes {
		c := l.collect(floor)
		history = append(history, c.history...)
		all = append(all, c)
		if c.changed {
			set.Lanes = append(set.Lanes, c.LaneSettlement)
		}
	}
	if len(history) > 0 {
		st.s.history.add(history)
	}
	if err := st.save(ctx, set, all); err != nil {
		for _, c := range all {
			c.lane.unsettle(c)
		}
		return err
	}
	return nil
}

// save settles what was collected and has the lanes take note.
func (st *settler) save(ctx context.Context, set store.Settlement, all []*collected) error {
	var fenced []store.LaneID
	var faulty map[store.LaneID]error
	if set.Floor != 0 || len(set.Lanes) > 0 {
		var err error
		if fenced, faulty, err = st.s.store.Settle(ctx, set); err != nil {
			return err
		}
	}
	if set.Floor != 0 {
		st.floor = set.Floor
	}
	for _, c := range all {
		switch fault := faulty[c.Lane]; {
		case fault != nil:
			st.s.faulted(c.lane, fault)
		case slices.Contains(fenced, c.Lane):
			st.s.drop(c.lane)
		default:
			c.lane.settled(c)
		}
	}
	return nil
}

// collected is what collect found, and what settled needs to take note of it.
type collected struct {
	store.LaneSettlement
	lane      *lane
	changed   bool
	history   []store.Attempt
	dirty     []*entry
	gone      int
	applied   int
	moot      int
	unsettled int
	relieved  []string
}

// collect says what of the lane is to be settled. Cursor and rows are taken at
// one moment, so that a cursor passes only what ended or is held by a row of the
// same settlement.
func (l *lane) collect(floor store.Offset) *collected {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marked = false
	if l.abandoned {
		return &collected{lane: l}
	}
	if l.batches.on() {
		l.spillBatches()
	} else {
		l.spillStragglers()
	}

	c := &collected{lane: l, history: l.history, gone: len(l.gone), applied: len(l.applied), moot: len(l.moot), unsettled: l.unsettled}
	l.history = nil
	c.Lane, c.Epoch = l.id, l.epoch
	switch first := l.window.first(); {
	case first != nil:
		c.Cursor, c.Ahead = first.offset, l.ahead()
	case len(l.inbox) > 0:
		c.Cursor = l.inbox[0].event.Offset
		c.Ahead = l.skipFrom(c.Cursor)
	case l.attached || l.readAll():
		c.Cursor, c.Following = max(floor, l.pos, l.fed), true
	default:
		c.Cursor = l.pos
		c.Ahead = l.skipFrom(c.Cursor)
	}
	c.HeldMS = l.heldMS
	if l.healthDirty {
		c.Health, l.healthDirty = l.savedHealth(), false
	}
	c.dirty = l.dirty
	l.dirty = nil
	for _, e := range c.dirty {
		e.dirty = false
		if e.state != ended && !e.discarded {
			c.Upsert = append(c.Upsert, l.delivery(e))
			e.saved = true // it may be, even if the settlement fails: then deleting what is not there is no error
		}
	}
	c.Delete = slices.Clone(l.gone)
	c.Intents, c.Moot = slices.Clone(l.applied), slices.Clone(l.moot)
	if len(l.overflows)+len(l.relieved) > 0 {
		l.collectOverflows(c)
	}
	c.Counts = l.counts
	c.Progress = l.progress()
	c.changed = l.inDoubt || c.Counts != l.savedCounts || c.Progress != nil || len(c.Overflows) > 0 || c.Following != l.savedFollowing || c.Health != nil || c.HeldMS != l.savedHeldMS || len(c.Upsert)+len(c.Delete)+len(c.Intents)+len(c.Moot) > 0 ||
		!c.Following && (c.Cursor != l.savedCursor || !slices.Equal(c.Ahead, l.savedAhead))
	return c
}

// settled takes note that the store has what was collected.
func (l *lane) settled(c *collected) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.abandoned {
		return
	}
	if c.changed {
		l.savedCursor, l.savedAhead, l.savedFollowing, l.savedHeldMS = c.Cursor, c.Ahead, c.Following, c.HeldMS
		l.savedCounts = c.Counts
		l.inDoubt = false
		if c.Progress != nil {
			l.replay.saved = *c.Progress
		}
	}
	l.gone = l.gone[c.gone:]
	l.applied, l.moot = l.applied[c.applied:], l.moot[c.moot:]
	if len(l.dying) > 0 {
		for _, e := range c.dirty {
			if !e.dirty && l.dying[e.offset] == e {
				delete(l.dying, e.offset)
			}
		}
	}
	l.unsettled -= c.unsettled
	switch {
	case len(l.relieved)+len(l.dirty)+len(l.gone)+len(l.applied)+len(l.moot) > 0:
		l.mark()
	case l.window.len() > 1 && !l.stopped && (l.inFlight > 0 || l.batches.on() && l.full()):
		l.s.stall(l) // looked at again, for stragglers
	}
	if l.stopped && l.idle() && !l.marked {
		l.finish()
	}
	l.pump()
	l.trim()
	if len(l.overflows) > 0 {
		l.startWalk()
	}
}

// unsettle puts back what a failed settlement did not write, or may have written.
func (l *lane) unsettle(c *collected) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.healthDirty = l.healthDirty || c.Health != nil
	l.inDoubt = true
	l.unsettleOverflows(c)
	for _, e := range c.dirty {
		if !e.dirty && e.state != ended {
			e.dirty = true
			l.dirty = append(l.dirty, e)
		}
	}
	l.mark()
}

// ahead is what has ended above the first entry of the window.
func (l *lane) ahead() []store.OffsetRange {
	var ranges []store.OffsetRange
	open := false
	for i := range l.window.len() {
		e := l.window.at(i)
		switch {
		case e.state != ended && !e.row:
			open = false
		case open:
			ranges[len(ranges)-1].Past = e.offset + 1
		default:
			ranges = append(ranges, store.OffsetRange{From: e.offset, Past: e.offset + 1})
			open = true
		}
	}
	return append(ranges, l.skipFrom(l.window.at(l.window.len()-1).offset+1)...)
}

// skipFrom is what an earlier life settled from an offset on.
func (l *lane) skipFrom(at store.Offset) []store.OffsetRange {
	for len(l.skip) > 0 && l.skip[0].Past <= at {
		l.skip = l.skip[1:]
	}
	if len(l.skip) > 0 && l.skip[0].From < at {
		return append([]store.OffsetRange{{From: at, Past: l.skip[0].Past}}, l.skip[1:]...)
	}
	return l.skip
}

// spillStragglers has events that have been in flight for long, with ended ones
// above them, held by rows.
func (l *lane) spillStragglers() {
	if l.window.len() < 2 {
		return
	}
	old := time.Now().Add(-stragglerAge)
	for first := l.window.first(); first != nil && l.window.len() > 1; first = l.window.first() {
		if first.state != flying || first.started.After(old) {
			return
		}
		l.toRow(first) // and the window moves on
	}
}

// delivery is the row of an entry.
func (l *lane) delivery(e *entry) store.Delivery {
	d := store.Delivery{
		Lane: l.id, Offset: e.offset, State: store.Retrying, Barrier: e.barrier, Attempts: e.tries, Charged: e.charged, DueAt: e.due,
		FirstFailedAt: e.firstFailed, HeldMS: e.heldMS, Reason: string(e.reason), Status: e.status, Error: e.errText,
		Keys: []string{}, Ordering: l.ordering,
	}
	if e.foreign != 0 {
		d.Ordering = l.others[e.foreign-1]
	}
	if e.key != "" {
		d.Keys = append(d.Keys, e.key)
	}
	if e.key2 != "" {
		d.Keys = append(d.Keys, e.key2)
	}
	switch e.state {
	case waiting:
		d.State = store.Blocked
	case ready:
		if e.tries == 0 && e.reason == "" {
			d.State = store.Blocked
		}
	case faulty:
		d.State, d.Version = store.Blocked, l.sub.Version
	case lying:
		d.State = store.Dead
	case flying, sleeping, grouped, ended:
	}
	return d
}

// historyOfAll reports whether successes go into the history too.
func (c *Config) historyOfAll() bool { return c.Attempts != "failures" }
