package dispatch

import (
	"container/heap"
	"time"
)

// sleep lets e wait until it is due.
func (l *lane) sleep(e *entry) {
	e.state = sleeping
	heap.Push(&l.sleepers, e)
	l.setTimer()
}

// setTimer has the lane woken when its first sleeper is due, or its rate lets the
// next request go, or, while its endpoint is parked, at the next probe. An idle lane
// has no timer.
func (l *lane) setTimer() {
	var due time.Time
	switch {
	case l.stopped || l.hold != HoldNone:
		return
	case l.health.State == Parked:
		if due = later(l.health.NextProbe, l.paceAt); !due.After(time.Now()) {
			return // whatever can be sent is
		}
	case l.health.State == Probing:
		return
	default:
		due = l.batches.ripe
		if len(l.sleepers) > 0 && (due.IsZero() || l.sleepers[0].due.Before(due)) {
			due = l.sleepers[0].due
		}
		if l.ready.len()+l.again.len() > 0 && l.paceAt.After(time.Now()) && (due.IsZero() || l.paceAt.Before(due)) {
			due = l.paceAt
		}
		if due.IsZero() {
			return
		}
	}
	if l.timer != nil {
		if l.alarm.Equal(due) && l.alarm.After(time.Now()) {
			return
		}
		l.timer.Stop()
	}
	l.alarm = due
	l.timer = time.AfterFunc(time.Until(due), l.wake)
}

// wake moves the sleepers that are due to the ready ones and starts what can be
// started.
func (l *lane) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for !l.holds() && len(l.sleepers) > 0 && !l.sleepers[0].due.After(now) {
		e := heap.Pop(&l.sleepers).(*entry)
		if e.waits > 0 && e.batch == nil {
			e.state = waiting
		} else {
			l.makeReady(e)
		}
	}
	if !l.batches.ripe.After(now) {
		l.batches.ripe = time.Time{} // pump looks at it
	}
	l.setTimer()
	l.pump()
}

// unsleep takes e out of the sleepers.
func (l *lane) unsleep(e *entry) {
	if e.heapIndex >= 0 {
		heap.Remove(&l.sleepers, e.heapIndex)
	}
}

// timers is a heap of sleeping entries, soonest first (container/heap).
type timers []*entry

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].heapIndex, t[j].heapIndex = i, j
}

func (t *timers) Push(x any) {
	e := x.(*entry)
	e.heapIndex = len(*t)
	*t = append(*t, e)
}

func (t *timers) Pop() any {
	last := len(*t) - 1
	e := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	e.heapIndex = -1
	return e
}
