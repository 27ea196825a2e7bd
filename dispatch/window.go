package dispatch

import (
	"iter"
	"strings"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// full reports whether the lane takes no more events.
func (l *lane) full() bool {
	if l.holds() && l.inFlight+len(l.sleepers)+l.ready.len()+l.again.len() > 1 {
		return true // to probe with one, and then with another
	}
	l.filled = l.filled || l.window.len() >= l.bounds.events || l.bytes >= l.bounds.bytes ||
		l.scarce && l.window.len() >= scarceEvents || len(l.rows) >= l.s.limits.rows || len(l.gone) >= l.s.limits.rows
	return l.stopped || l.filled || l.draining || l.hold != HoldNone
}

// easy reports whether there is room again for enough to be worth a page.
func (l *lane) easy() bool {
	room := l.bounds.events / 2
	if l.scarce {
		room = scarceEvents / 2
	}
	return l.window.len() <= room && l.bytes <= l.bounds.bytes/2 && len(l.rows) < l.s.limits.rows && len(l.gone) < l.s.limits.rows && l.barred == ""
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
		if e.depth >= l.s.limits.blocked && e.barrier == "" && l.overflowing() {
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
