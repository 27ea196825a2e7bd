package store

import (
	"slices"
	"sort"
	"sync"
)

// ring is the newest part of the log in memory: one contiguous run of offsets,
// at most limit bytes. It is a page cache: what it holds is in the table, with
// the same offsets and bytes.
type ring struct {
	limit int64

	mu       sync.RWMutex
	segments []segment // in rising order, without holes
	bytes    int64
}

// segment is an appended batch.
type segment struct {
	events []Event // never empty
	bytes  int64
}

func (g segment) first() Offset { return g.events[0].Offset }
func (g segment) past() Offset  { return g.events[len(g.events)-1].Offset + 1 }

// eventSize is what an Event weighs beside the bytes that it refers to.
const eventSize = 176

// add appends events that were committed; bytes is what their buffer weighs.
// Where they do not follow what is held, another instance wrote in between, and
// what was held goes: it can be read from the table.
func (r *ring) add(events []Event, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := segment{events: events, bytes: bytes + int64(cap(events))*eventSize}
	if n := len(r.segments); n > 0 {
		switch past := r.segments[n-1].past(); {
		case g.past() <= past:
			return // looked up again after a COMMIT in doubt, and already there
		case g.first() != past:
			r.drop(n)
		}
	}
	r.segments = append(r.segments, g)
	r.bytes += g.bytes
	n := 0
	for held := r.bytes; held > r.limit && n < len(r.segments); n++ {
		held -= r.segments[n].bytes
	}
	r.drop(n)
}

// drop removes the n oldest segments.
func (r *ring) drop(n int) {
	for i := range n {
		r.bytes -= r.segments[i].bytes
		r.segments[i] = segment{} // its memory is free, though the array still begins there
	}
	r.segments = r.segments[n:]
	if len(r.segments) == 0 {
		r.segments = nil
	}
}

// gather is the number of events below which read goes on to the next segment:
// a small slice per call costs more than copying it.
const gather = 64

// read returns events from the offset on, none where the ring does not hold it.
func (r *ring) read(from Offset, limit int, maxBytes int64) []Event {
	r.mu.RLock()
	defer r.mu.RUnlock()
	i := sort.Search(len(r.segments), func(i int) bool { return r.segments[i].past() > from })
	if i == len(r.segments) || r.segments[i].first() > from {
		return nil
	}
	g := r.segments[i]
	found := clip(g.events[from-g.first():], limit, &maxBytes)
	if len(found) >= min(gather, limit) || maxBytes <= 0 || i+1 == len(r.segments) {
		return found
	}
	more := make([]Event, len(found), min(limit, 4*gather))
	copy(more, found)
	for i++; i < len(r.segments) && len(more) < cap(more) && maxBytes > 0; i++ {
		next := r.segments[i].events
		if int64(len(next[0].Data)) > maxBytes {
			break
		}
		part := clip(next, cap(more)-len(more), &maxBytes)
		more = append(more, part...)
	}
	return more
}

// clip cuts events to limit of them and, but for the first, maxBytes of data,
// from which it takes what it returns; where it cuts, nothing is left of it.
func clip(events []Event, limit int, maxBytes *int64) []Event {
	for i := range events {
		if i == limit {
			*maxBytes = 0
			return slices.Clip(events[:i])
		}
		size := int64(len(events[i].Data))
		if i > 0 && size > *maxBytes {
			*maxBytes = 0
			return slices.Clip(events[:i])
		}
		*maxBytes -= size
	}
	return slices.Clip(events)
}

// get returns one event, nil where the ring does not hold it.
func (r *ring) get(at Offset) *Event {
	if found := r.read(at, 1, 0); len(found) == 1 {
		return &found[0]
	}
	return nil
}
