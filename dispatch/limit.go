package dispatch

import (
	"sync"
	"sync/atomic"
	"syscall"
)

// budget bounds the attempts in flight of all lanes together. Every lane always
// gets one slot; more only while there are free ones, and a slot that comes free
// goes to the lane that has waited longest.
type budget struct {
	mu      sync.Mutex
	free    int // below zero where lanes took their first slot beyond the budget
	queue   []*lane
	waiting map[*lane]bool
	count   atomic.Int32 // of queue
}

func newBudget(slots int) *budget {
	return &budget{free: slots, waiting: make(map[*lane]bool)}
}

// take gives l a slot, or notes that it waits for one. l.mu is held.
func (b *budget) take(l *lane) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.inFlight == 0 || b.free > 0 && len(b.queue) == 0 {
		b.free--
		return true
	}
	if !b.waiting[l] {
		b.waiting[l] = true
		b.queue = append(b.queue, l)
		b.count.Add(1)
	}
	return false
}

// wanted reports whether some lane waits for a slot.
func (b *budget) wanted() bool { return b.count.Load() > 0 }

// release takes a slot back, or hands it to the lane that has waited longest.
func (b *budget) release(from *lane) {
	b.mu.Lock()
	var l *lane
	if b.free >= 0 && len(b.queue) > 0 {
		l = b.queue[0]
		b.queue = b.queue[1:]
		delete(b.waiting, l)
		b.count.Add(-1)
	} else {
		b.free++
	}
	b.mu.Unlock()
	if l != nil {
		from.s.flights.Go(func() { l.fly(l.startInSlot()) })
	}
}

// defaultInFlight leaves half of the files that this process may open to
// everything else, and asks for no more than 4,096 attempts at once.
func defaultInFlight() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 1024
	}
	return int(min(max(files.Cur/2, 8), 4096))
}
