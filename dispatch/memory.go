package dispatch

import (
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/rowcall/rowcall/store"
)

const (
	// keptBytes bounds what the payloads weigh that all lanes together keep of
	// what they have read and not ended.
	keptBytes = 64 << 20
	// flyingBytes bounds what attempts in flight weigh, the light ones left out:
	// an event, and the body that is made of it.
	flyingBytes = 64 << 20
	// lightBytes is the size up to which an attempt asks nobody: of these there
	// are as many as there are slots.
	lightBytes = 8 << 10
	// scarceEvents is how many events a lane reads ahead where there is no room
	// for their payloads: each of them costs a look-up when its turn comes.
	scarceEvents = 64
	// slabBytes and slabEvents bound what is copied out of a page into one piece
	// of memory, and so what one event of it holds on to.
	slabBytes  = 8 << 10
	slabEvents = 16
	// fetches bounds the payloads that are being looked up one by one.
	fetches = 8
)

// commons is memory that lanes share. Nobody is given more than a quarter of
// what is free: so the more lanes want of it, the less each may have, and there is
// always some left for one that comes anew.
type commons struct {
	all  int64
	free atomic.Int64
}

func (a *commons) init(all int64) {
	a.all = all
	a.free.Store(all)
}

// take gives n bytes to one that holds some already, or reports that it may not
// have them.
func (a *commons) take(held, n int64) bool {
	if held+n > a.free.Load()/4 {
		return false
	}
	a.free.Add(-n)
	return true
}

// takeFirst gives n bytes to one that has nothing: as long as there are so many,
// or, so that the largest go too, when nobody else has any.
func (a *commons) takeFirst(n int64) bool {
	for {
		free := a.free.Load()
		if n > free && free < a.all {
			return false
		}
		if a.free.CompareAndSwap(free, free-n) {
			return true
		}
	}
}

func (a *commons) give(n int64) { a.free.Add(n) }

// weightOf is what an event weighs that is kept.
func weightOf(e *store.Event) int64 {
	return int64(unsafe.Sizeof(*e)) + int64(textOf(e)+e.Given.Size())
}

// slab copies events out of the pages that they were read in: a lane that kept a
// pointer into a page, or into the log's ring, would hold all of it. Neighbours
// share two allocations. The zero value is ready.
type slab struct {
	events []store.Event
	text   []byte
}

// copy copies the first of events. The others are likely to be next.
func (s *slab) copy(events []*store.Event) *store.Event {
	need := textOf(events[0])
	if len(s.events) == 0 || cap(s.text)-len(s.text) < need {
		n, size := 0, 0
		for n < min(len(events), slabEvents) && (n == 0 || size+textOf(events[n]) <= slabBytes) {
			size += textOf(events[n])
			n++
		}
		s.events, s.text = make([]store.Event, n), make([]byte, 0, size)
	}
	e := &s.events[0]
	s.events = s.events[1:]
	*e = *events[0]
	e.Key, e.OldKey, e.Subject, e.PublicID = s.string(e.Key), s.string(e.OldKey), s.string(e.Subject), s.string(e.PublicID)
	e.Data = s.bytes(e.Data)
	return e
}

func textOf(e *store.Event) int {
	return len(e.Data) + len(e.Key) + len(e.OldKey) + len(e.Subject) + len(e.PublicID)
}

func (s *slab) bytes(b []byte) []byte {
	at := len(s.text)
	s.text = append(s.text, b...)
	return s.text[at:len(s.text):len(s.text)]
}

// string is bytes as a string: nobody writes to them again.
func (s *slab) string(text string) string {
	if text == "" {
		return ""
	}
	at := len(s.text)
	s.text = append(s.text, text...)
	return unsafe.String(&s.text[at], len(text))
}

// keep gives e its payload, copied, if there is room for it; else its keys alone.
// events are of the page: e's is the first.
func (l *lane) keep(e *entry, events []*store.Event) {
	e.size = int64(len(events[0].Data))
	n := weightOf(events[0])
	if !l.s.kept.take(l.bytes, n) {
		l.scarce = true
		e.ownKeys()
		return
	}
	e.event, e.bytes = l.slab.copy(events), n
	if e.key != "" && !l.rules.orders() {
		e.key, e.key2 = e.event.Key, e.event.OldKey
	}
	l.bytes += n
}

// ownKeys has e hold no page by its keys.
func (e *entry) ownKeys() { e.key, e.key2 = strings.Clone(e.key), strings.Clone(e.key2) }

// unload lets go of e's payload, which is looked up again when its turn comes.
func (l *lane) unload(e *entry) {
	l.release(e)
	if e.event == nil {
		return
	}
	e.event = nil
	e.ownKeys()
	l.order.rekey(e)
}

// release gives back what e's payload takes of the lane's share.
func (l *lane) release(e *entry) {
	if e.bytes > 0 {
		l.s.kept.give(e.bytes)
		l.bytes -= e.bytes
		e.bytes = 0
	}
}

// unloadAll lets go of every payload of a lane that starts nothing any more.
func (l *lane) unloadAll() {
	for i := range l.window.len() {
		e := l.window.at(i)
		l.release(e)
		if e.state != flying {
			e.event = nil
		}
	}
}

// lift takes the memory that an attempt with e needs; false: there is none now, and
// the lane is looked at again soon. The first attempt of a lane goes before others'
// second ones.
func (l *lane) lift(e *entry) bool {
	n := 2 * e.size // itself, and the body that is made of it
	if e.batch != nil {
		n = 2 * e.batch.size
	}
	if n <= lightBytes || e.lifted > 0 {
		return true
	}
	var ok bool
	if l.lifted == 0 {
		ok = l.s.flying.takeFirst(n)
	} else {
		ok = l.s.flying.take(l.lifted, n)
	}
	if !ok {
		l.s.stall(l)
		return false
	}
	e.lifted = n
	l.lifted += n
	return true
}

// lower gives it back.
func (l *lane) lower(e *entry) {
	if e.lifted > 0 {
		l.s.flying.give(e.lifted)
		l.lifted -= e.lifted
		e.lifted = 0
	}
}
