package postgres

import (
	"sync"
	"time"

	"github.com/rowcall/rowcall/store"
)

const (
	// maxBatchEvents and maxBatchBytes bound a batch. Two exist at most, so they
	// bound the memory that a transaction of any size takes.
	maxBatchEvents = 4096
	maxBatchBytes  = 2 << 20
	// partAfter is when an open transaction is appended in parts, however small.
	partAfter = 200 * time.Millisecond
	// idleSave is how often a position is saved that no event came with: a save
	// is WAL, too, and where store and source are one cluster it moves the position.
	idleSave = 10 * time.Second
	// forcedSave is the same where the source waits for it.
	forcedSave = 50 * time.Millisecond
)

// intake is the batch that is being filled, between the receiver, which fills
// it, and the appender, which takes it. It is natural batching: whatever has
// come while the last append was under way goes with the next; nothing lingers.
type intake struct {
	ready chan struct{} // there may be something to take
	taken chan struct{} // there may be room

	mu        sync.Mutex
	batch     *store.Batch
	inside    bool      // a transaction is open
	since     time.Time // when it began to come
	moved     bool      // the checkpoint is past the one that was taken last
	forced    bool      // the source waits for it
	broken    bool      // the stream made no sense: nothing more is taken
	saved     time.Time // when a batch was taken last
	appending time.Time // since when one is being appended; zero: none
	failing   bool      // that has failed, and is tried again

	tracing bool
	traces  []tracedTransaction // of batch
	leaving []tracedTransaction // of what is being appended
}

func (in *intake) init(have store.Checkpoint) {
	in.ready = make(chan struct{}, 1)
	in.taken = make(chan struct{}, 1)
	in.batch = &store.Batch{Checkpoint: have}
	in.saved = time.Now()
}

// decode adds one message of the stream. It says whether the batch has become
// full; then nothing may be added before it was taken.
func (in *intake) decode(d *decoder, message []byte) (b boundary, full bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	b, err = d.decode(message, in.batch)
	if err != nil {
		in.broken = true
		return b, false, err
	}
	if in.tracing {
		in.noteTrace(d, message)
	}
	switch b.kind {
	case beginning:
		in.inside, in.since = true, time.Now()
	case committed:
		in.inside = false
		in.moved = true
		in.batch.Checkpoint.End = max(in.batch.Checkpoint.End, b.end)
	}
	full = in.full()
	// Where only time decides, nudge sees to it.
	if in.appending.IsZero() && in.batch.Len() > 0 && (full || !in.inside) {
		signal(in.ready)
	}
	return b, full, nil
}

// reach notes that the source's WAL has been read up to end for us. Within a
// transaction it says nothing: that one's changes are still coming.
func (in *intake) reach(end store.LSN, forced bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.inside {
		return
	}
	if end > in.batch.Checkpoint.End {
		in.batch.Checkpoint.End = end
		in.moved = true
	}
	in.forced = in.forced || forced && in.moved
	if in.appending.IsZero() && in.takeable(time.Now()) {
		signal(in.ready)
	}
}

// nudge lets the appender know of what became due with time.
func (in *intake) nudge(now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.appending.IsZero() && in.takeable(now) {
		signal(in.ready)
	}
}

// take gives the batch to the appender; nil where nothing is due. Whatever it
// took before is appended now.
func (in *intake) take(now time.Time) *store.Batch {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.appending, in.failing = time.Time{}, false
	if !in.takeable(now) {
		return nil
	}
	b := in.batch
	in.batch = b.Next()
	in.traces, in.leaving = nil, in.traces
	in.moved, in.forced = false, false
	in.saved, in.appending = now, now
	signal(in.taken)
	return b
}

func (in *intake) takeable(now time.Time) bool {
	switch {
	case in.broken:
		return false
	case in.batch.Len() > 0:
		return !in.inside || in.full() || now.Sub(in.since) >= partAfter
	case in.inside || !in.moved:
		return false
	case in.forced:
		return now.Sub(in.saved) >= forcedSave
	}
	return now.Sub(in.saved) >= idleSave
}

func (in *intake) full() bool {
	return in.batch.Len() >= maxBatchEvents || in.batch.Size() >= maxBatchBytes
}

func (in *intake) isFull() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.full()
}

// idle reports whether no event waits to become durable.
func (in *intake) idle() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.batch.Len() == 0 && !in.inside
}

func (in *intake) setFailing() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.failing = true
}

// appendingSince says since when a batch is being appended, and whether that
// has failed already.
func (in *intake) appendingSince() (time.Time, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.appending, in.failing
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
