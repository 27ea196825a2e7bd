package dispatch

import (
	"context"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const (
	// maxBlocked is how many events of a key wait as rows behind one that fails.
	// Beyond it the key overflows.
	maxBlocked = 1000
	// walkEvents is how many events of an overflowed key are taken in at once.
	walkEvents = 256
)

// overflow is a key with more events waiting than rows are written for. Whatever of
// it the lane comes by is left in the log; when all that was taken in of it has
// ended, the lane's side reader takes in what follows, until it has come up to the
// lane. The key's row in the store says from where on it is owed.
type overflow struct {
	key     string
	walk    store.Offset        // its events below it are taken in: ended, in order or held by rows
	last    store.Offset        // its last event that the lane has come by
	skip    []store.OffsetRange // given up with what the lane held
	open    bool                // the side reader takes in more of it
	here    bool                // from the page that it looks at
	taken   int                 // taken in since it was last opened
	pending []*entry            // taken in, by offset; those that ended or became rows go when from is asked for
	saved   store.Offset        // from, as the store has it; 0: it may have something else
}

// owedFrom is below what of o is neither ended nor held by a row.
func (l *lane) owedFrom(o *overflow) store.Offset {
	for len(o.pending) > 0 && (o.pending[0].state == ended || o.pending[0].row) {
		if e := o.pending[0]; e.walked {
			e.walked = false // of a key change, which two have, it is counted once
			l.counts.Overflowed--
		}
		o.pending = o.pending[1:]
	}
	if len(o.pending) == 0 {
		o.pending = nil
		return o.walk
	}
	return o.pending[0].offset
}

func (o *overflow) skips(at store.Offset) bool {
	return slices.ContainsFunc(o.skip, func(r store.OffsetRange) bool { return r.From <= at && at < r.Past })
}

// restoreOverflows takes in the overflows that an earlier life left. What the lane
// came by then is below its cursor, or settled above it.
func (l *lane) restoreOverflows(all []store.Overflow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	past := l.pos
	if n := len(l.skip); n > 0 {
		past = max(past, l.skip[n-1].Past)
	}
	if l.replay != nil {
		past = min(past, l.replay.Past)
	}
	for _, o := range all {
		l.overflows[o.Key] = &overflow{key: o.Key, walk: o.From, last: past - 1, saved: o.From, skip: o.Skip}
	}
	if l.draining = len(all) > 0 && l.ordering != ""; !l.draining { // only the keys of rows overflow
		l.walkAfter = past
	}
	l.openOverflows()
}

// spill has what follows e of its keys left in the log from now on.
func (l *lane) spill(e *entry) {
	for _, key := range [...]string{e.key, e.key2} {
		if key != "" && l.overflows[key] == nil {
			l.overflow(key, e.offset+1)
		}
	}
	l.s.log.Info().Str("subscription", string(l.sub.ID)).Int("events", int(e.depth)).
		Msg("many events wait behind one that fails; what follows of its key is read from the log when its turn comes")
}

// overflow has a key overflow from an offset on. What is below is ended, held by rows,
// or in the window: then the cursor is below it too, and the next life reads it again.
func (l *lane) overflow(key string, from store.Offset) *overflow {
	o := &overflow{key: strings.Clone(key), walk: from, last: from - 1}
	l.overflows[o.key] = o
	l.mark()
	return o
}

// holdBack reports whether an event is left in the log, because one of its keys
// overflows. Of a key change both keys do from there on, so that neither goes past it.
func (l *lane) holdBack(e *entry) bool {
	// One that is below was in the window of an earlier life, before its key overflowed.
	holds := func(key string) bool { o := l.overflows[key]; return o != nil && o.walk <= e.offset }
	if !holds(e.key) && !holds(e.key2) {
		return false
	}
	for _, key := range [...]string{e.key, e.key2} {
		o := l.overflows[key]
		switch {
		case key == "":
			continue
		case o == nil:
			o = l.overflow(key, e.offset)
		}
		o.walk = min(o.walk, e.offset) // what follows it of that key is held back, too
		o.last = max(o.last, e.offset)
	}
	l.counts.Overflowed++
	return true
}

// bars reports whether e waits for all keys of a table of which one overflows: then
// the lane does not go past it until none does.
func (l *lane) bars(ev *store.Event) bool {
	if ev.Kind != store.KindTruncate || l.sub.Ordering == subscriptions.OrderNone {
		return false
	}
	table := ev.Table()
	for key, o := range l.overflows {
		if tableOf(key) == table && o.walk < ev.Offset { // else all of the key that it has to follow is in order
			l.barred = strings.Clone(table)
			l.filled = true
			return true
		}
	}
	return false
}

// relieve looks at the overflows of the keys of an entry that ended.
func (l *lane) relieve(e *entry) {
	for _, key := range [...]string{e.key, e.key2} {
		if l.overflows[key] != nil && l.order.tails[key] == nil {
			l.openOverflows()
			return
		}
	}
}

// openOverflows has more taken in of the overflows of which all that was taken in
// has ended.
func (l *lane) openOverflows() {
	l.endOverflows()
	for key, o := range l.overflows {
		if !o.open && l.order.tails[key] == nil {
			o.open, o.taken = true, 0
		}
	}
	l.startWalk()
}

// endOverflows ends the overflows of which nothing is left.
func (l *lane) endOverflows() {
	barred := false
	for key, o := range l.overflows {
		if o.walk > o.last && l.order.tails[key] == nil {
			l.owedFrom(o)
			delete(l.overflows, key)
			l.relieved = append(l.relieved, key)
			continue
		}
		barred = barred || tableOf(key) == l.barred && o.walk < l.pos // where the lane stands
	}
	if !barred {
		l.barred = ""
	}
	if len(l.overflows) == 0 { // what is left was wanted no more when its turn came
		l.counts.Filtered += l.counts.Overflowed
		l.counts.Overflowed = 0
	}
	l.draining = l.draining && len(l.overflows) > 0
	l.mark()
	l.trim()
}

// startWalk starts the side reader, if there is something to be taken in.
func (l *lane) startWalk() {
	if _, ok := l.walkFrom(); !ok || l.walking {
		return
	}
	l.walking = true
	l.s.readers.Go(func() { l.s.walk(l.s.readCtx, l) })
}

// walkFrom is where the side reader reads next; false: nowhere, for now.
func (l *lane) walkFrom() (store.Offset, bool) {
	from := store.Offset(math.MaxInt64)
	if l.stopped || l.hold != HoldNone {
		return 0, false
	}
	if l.holds() && l.candidate() != nil {
		return 0, false // one event is enough to probe with
	}
	for _, o := range l.overflows {
		if o.open {
			from = min(from, o.walk)
		}
	}
	return from, from < l.walkPast()
}

// walkPast is what the side reader does not reach: above it is what an earlier life
// had read, and this one has not yet. What is left in the log of that may have to
// follow events that were in the window then.
func (l *lane) walkPast() store.Offset {
	if l.attached || l.pos >= l.walkAfter {
		return math.MaxInt64
	}
	return l.pos
}

// walk is the side reader: it takes in events of overflowed keys until all that
// may have some have enough.
func (s *session) walk(ctx context.Context, l *lane) {
	wants := l.wants()
	for {
		l.mu.Lock()
		from, ok := l.walkFrom()
		if !ok {
			l.walking = false
		}
		l.mu.Unlock()
		if !ok {
			return
		}
		events := s.read(ctx, from, s.pages)
		if events == nil {
			return // the session ends
		}
		l.takeIn(from, events, wants)
		<-s.pages
	}
}

// takeIn takes in what a page, read from an offset, has of the keys that are open.
// One that was opened meanwhile, and has come less far, is for the next page.
func (l *lane) takeIn(from store.Offset, events []store.Event, wants func(*store.Event) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return
	}
	for _, o := range l.overflows {
		o.here = o.open && o.walk >= from
	}
	past := min(events[len(events)-1].Offset+1, l.walkPast())
	for i := range events {
		ev := &events[i]
		if ev.Offset >= past {
			break
		}
		a, b := l.overflows[ev.Key], l.overflows[ev.OldKey]
		if (a != nil || b != nil) && ev.Kind != store.KindGap && wants(ev) {
			l.takeInOne(ev, a, b)
		}
	}
	for _, o := range l.overflows {
		if o.here {
			// Not past what the lane has come by: it has still to hold back what follows.
			o.walk = max(o.walk, min(past, o.last+1))
			o.open = o.walk <= o.last
		}
	}
	l.endOverflows()
	l.pump()
}

// takeInOne takes in one event of overflowed keys, where all of them have come up
// to it. That of a key change waits for the key that has not.
func (l *lane) takeInOne(ev *store.Event, a, b *overflow) {
	limit, may := l.s.limits.walk, true
	if l.holds() {
		limit = 1
	}
	keys := [...]*overflow{a, b}
	for _, o := range keys {
		if o != nil && (ev.Offset < o.walk || ev.Offset > o.last || o.skips(ev.Offset)) {
			return // taken in before, not yet come by, or given up
		}
	}
	if l.rows[ev.Offset] != nil {
		return
	}
	for _, o := range keys {
		if o == nil {
			continue
		}
		if l.order.tails[o.key] == nil { // nothing is left of what was taken in, so nothing would open it again
			o.taken = 0
			if !o.open && o.walk == ev.Offset {
				o.open, o.here = true, true // it was this one that it waited for
			}
		}
		may = may && o.here && o.taken < limit
	}
	if !may {
		for _, o := range keys {
			if o != nil && o.here {
				o.here, o.walk = false, ev.Offset
				o.open = o.open && o.taken < limit && l.comes(keys, o)
			}
		}
		return
	}
	e := &entry{
		offset: ev.Offset, key: ev.Key, key2: ev.OldKey, size: int64(len(ev.Data)), walked: true, heapIndex: -1,
		unjudged: l.rules.filters(),
	}
	if l.draining {
		e.foreign = l.foreign("") // only the keys of rows overflow
	}
	e.ownKeys()
	l.order.add(e)
	if l.draining && ev.Offset >= l.pos && !slices.ContainsFunc(l.skip, func(r store.OffsetRange) bool { return r.From <= ev.Offset && ev.Offset < r.Past }) {
		l.holdBackNow(ev.Offset)
	}
	for _, o := range keys {
		if o != nil {
			o.pending = append(o.pending, e)
			o.taken++
		}
	}
	if e.waits == 0 {
		l.makeReady(e)
	}
}

// holdBackNow has an event count as held back that the lane has not come by again since
// a crash, and is not to: the walk, which nothing precedes while keys of another
// ordering are drained, has taken it in.
func (l *lane) holdBackNow(at store.Offset) {
	i := sort.Search(len(l.skip), func(i int) bool { return l.skip[i].From > at })
	l.skip = slices.Insert(slices.Clone(l.skip), i, store.OffsetRange{From: at, Past: at + 1})
	l.counts.Overflowed++
}

// comes reports whether the other key of a key change is on its way to it: then o
// need not be opened anew to go on.
func (l *lane) comes(keys [2]*overflow, o *overflow) bool {
	for _, other := range keys {
		if other != nil && other != o && other.open && !other.here {
			return true
		}
	}
	return false
}

// collectOverflows says what of the overflows is to be settled.
func (l *lane) collectOverflows(c *collected) {
	for _, key := range l.relieved {
		if l.overflows[key] == nil {
			c.Overflows = append(c.Overflows, store.Overflow{Key: key})
		}
	}
	c.relieved = l.relieved
	l.relieved = nil
	for _, o := range l.overflows {
		if from := l.owedFrom(o); from != o.saved {
			o.saved = from
			c.Overflows = append(c.Overflows, store.Overflow{Key: o.key, From: from})
		}
	}
}

// unsettleOverflows puts back what may not have been written of them.
func (l *lane) unsettleOverflows(c *collected) {
	l.relieved = append(l.relieved, c.relieved...)
	for _, o := range l.overflows {
		o.saved = 0
	}
}
