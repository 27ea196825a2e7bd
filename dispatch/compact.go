package dispatch

import (
	"sort"
	"time"

	"github.com/rowcall/rowcall/store"
)

const (
	// compactEvents is how many events a lane that compacts reads ahead from a backlog.
	compactEvents = 10_000
	// compactTime is for how long it reads ahead before it begins to send.
	compactTime = 2 * time.Second
)

// readAhead has a lane that compacts read ahead before it sends. l.mu is held.
func (l *lane) readAhead() {
	if l.sub.Compact {
		l.aheadUntil = time.Now().Add(compactTime)
	}
}

// readsAhead reports whether it still does: until it has caught up, has no more
// room, or has read for long enough.
func (l *lane) readsAhead(now time.Time) bool {
	if l.aheadUntil.IsZero() {
		return false
	}
	if l.attached || l.filled || now.After(l.aheadUntil) {
		l.aheadUntil = time.Time{}
		return false
	}
	l.s.stall(l)
	return true
}

// compact has e, which is read from a backlog, supersede the event before it of its
// key, if that was never tried and nothing waits for it: the entry of that one is
// now e's. It reports whether it did.
//
// What changes a key, is a barrier, or is of a table without keys, whose rows share
// one, neither supersedes nor is superseded; nor is what a row holds.
func (l *lane) compact(e *entry, events []*store.Event) bool {
	if l.attached || e.key == tableOf(e.key) || e.key2 != "" || e.barrier != "" {
		return false
	}
	t := l.order.tails[e.key]
	if t == nil || t.key2 != "" || t.barrier != "" || len(t.next) > 0 || t.state != waiting && t.state != ready ||
		t.row || t.walked || t.batch != nil || t.tries > 0 {
		return false
	}
	at := sort.Search(l.window.len(), func(i int) bool { return l.window.at(i).offset >= t.offset })
	if at == l.window.len() || l.window.at(at) != t {
		return false
	}
	l.window.set(at, &entry{offset: t.offset, state: ended, heapIndex: -1})
	l.release(t)
	t.event, t.offset, t.wire = nil, e.offset, 0
	l.keep(t, events)
	l.order.rekey(t)
	l.window.push(t)
	l.s.metrics.compacted.Inc()
	l.counts.Compacted++
	l.trim()
	return true
}
