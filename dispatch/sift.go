package dispatch

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const (
	// siftEvents is how many events are looked at before the lane takes them.
	siftEvents = 64
	// siftTime is for how long a lane that is behind looks at one page: it holds
	// memory that others wait for. What it did not look at is read again.
	siftTime = 50 * time.Millisecond
	// slowEvent is the time an event beyond which a lane's expressions are slow.
	// Such a lane reads by itself, and shares with others of its kind the half of
	// the processors that they may keep busy.
	slowEvent = 200 * time.Microsecond
)

// cost is what a lane's expressions took for an event, lately.
type cost struct{ nanos atomic.Int64 }

func (c *cost) add(took time.Duration, events int) {
	if events == 0 {
		return
	}
	now, was := int64(took)/int64(events), c.nanos.Load()
	weight := int64(max(1, 16/events)) // many events say more than one
	c.nanos.Store((was*(weight-1) + now) / weight)
}

func (c *cost) slow() bool { return c.nanos.Load() > int64(slowEvent) }

// slowPermits is how many lanes with slow expressions may look at events at once.
func slowPermits() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// siftTable is which lanes with expressions want which events.
type siftTable struct {
	set   *subscriptions.Set
	lanes []*lane
	page  [][]*candidate // of each lane, while a page is being matched
}

// handSifted gives a page to the attached lanes with expressions. They look at it
// by themselves: the head waits for none of them.
func (s *session) handSifted(ctx context.Context, events []store.Event) {
	t := s.sifted
	var touched []int
	var all []candidate
	for i := range events {
		if events[i].Kind == store.KindGap {
			continue
		}
		matched := t.set.Match(events[i].Type)
		if len(matched) == 0 {
			continue
		}
		if all == nil {
			all = make([]candidate, len(events))
		}
		all[i].event = &events[i]
		for _, n := range matched {
			if len(t.page[n]) == 0 {
				touched = append(touched, n)
			}
			t.page[n] = append(t.page[n], &all[i])
		}
	}
	for _, n := range touched {
		l := t.lanes[n]
		if l.offer(t.page[n]) {
			s.readers.Go(func() {
				if !s.sift(ctx, l) {
					s.lag(ctx, l)
				}
			})
		}
		clear(t.page[n])
		t.page[n] = t.page[n][:0]
	}
}

// offer leaves events for an attached lane to look at. It reports whether somebody
// has to begin with that.
func (l *lane) offer(events []*candidate) (begin bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(events) > 0 && events[0].event.Offset < l.pos {
		events = events[1:] // it was ahead of the head when it was attached
	}
	if !l.attached || l.stopped || len(events) == 0 {
		return false
	}
	l.mark() // the floor is about to pass what nobody has looked at
	if len(l.inbox)+len(events) > pageEvents || l.full() {
		l.leave(events)
	} else {
		l.inbox = append(l.inbox, events...)
	}
	begin = !l.reading
	l.reading = true
	return begin
}

// leave has an attached lane read by itself from the first event that it has not
// taken: of its inbox, or else of those that come next.
func (l *lane) leave(next []*candidate) {
	l.attached = false
	if len(l.inbox) > 0 {
		next = l.inbox
	}
	l.pos = next[0].event.Offset
	l.inbox = nil
}

// sift looks at what the head reader offered to a lane, until there is nothing
// more. It reports whether the lane needs no reader: it still follows, or has ended.
func (s *session) sift(ctx context.Context, l *lane) bool {
	for {
		l.mu.Lock()
		if l.stopped || l.attached && len(l.inbox) == 0 {
			l.reading = false
			l.mu.Unlock()
			return true
		}
		if !l.attached {
			l.mu.Unlock()
			return false
		}
		batch := l.inbox[:min(len(l.inbox), siftEvents)]
		l.mu.Unlock()

		verdicts, err := l.look(ctx, batch)
		l.mu.Lock()
		if l.attached && !l.stopped {
			n := l.takeSifted(batch, verdicts)
			if n == len(l.inbox) {
				l.inbox = nil
			} else {
				l.inbox = l.inbox[n:]
			}
			last := batch[len(batch)-1].event.Offset
			switch {
			case len(l.inbox) > 0 && (n < len(batch) || l.cost.slow()):
				l.leave(nil)
			case l.cost.slow():
				l.attached, l.pos = false, last+1
			}
			l.mark()
		}
		l.mu.Unlock()
		if err != nil && ctx.Err() != nil {
			return true // the session ends, and with it the lane
		}
	}
}

// look has a lane's expressions look at events; it may return fewer verdicts than
// there are events, with the reason.
func (l *lane) look(ctx context.Context, events []*candidate) ([]verdict, error) {
	verdicts := make([]verdict, 0, len(events))
	begun := time.Now()
	defer func() { l.cost.add(time.Since(begun), len(verdicts)) }()
	for _, c := range events {
		v, err := l.rules.judge(ctx, c, l.s.store)
		if err != nil {
			return verdicts, err
		}
		verdicts = append(verdicts, v)
		if time.Since(begun) > siftTime {
			break
		}
	}
	return verdicts, nil
}

// takeSifted takes the events that are wanted, until the lane is full. It returns
// of how many events it needs to hear no more.
func (l *lane) takeSifted(events []*candidate, verdicts []verdict) int {
	wanted := make([]*store.Event, 0, len(verdicts))
	at := make([]int, 0, len(verdicts))
	for i := range verdicts {
		if verdicts[i].wanted && events[i].event.Offset >= l.pos {
			wanted, at = append(wanted, events[i].event), append(at, i)
		}
	}
	defer func() {
		l.slab = slab{}
		l.pump()
	}()
	n := 0
	defer func() {
		if n > 0 {
			l.fed = max(l.fed, events[n-1].event.Offset+1)
		}
	}()
	for i := range wanted {
		for ; n < at[i]; n++ {
			l.filterSample.add(false)
		}
		if l.full() || len(l.overflows) > 0 && l.bars(wanted[i]) {
			return n
		}
		v := &verdicts[n]
		n++
		if l.take(wanted[i:], v) {
			l.feelFault(&l.filterSample, v.fault)
		}
	}
	for ; n < len(verdicts); n++ {
		l.filterSample.add(false)
	}
	return n
}

// advanceSifted is advance for a lane with expressions.
func (l *lane) advanceSifted(ctx context.Context, page []*store.Event, past store.Offset) (stopped bool) {
	until := time.Now().Add(siftTime)
	all := make([]candidate, len(page))
	batch := make([]*candidate, 0, siftEvents)
	for next := 0; ; {
		batch = batch[:0]
		for i := next; i < len(page) && len(batch) < siftEvents; i++ {
			all[i].event = page[i]
			batch = append(batch, &all[i])
		}
		verdicts, err := l.look(ctx, batch)
		l.mu.Lock()
		if l.stopped {
			l.reading = false
			l.mu.Unlock()
			return true
		}
		n := l.takeSifted(batch, verdicts)
		next += n
		if next < len(page) {
			l.pos = page[next].Offset
		} else {
			l.pos = max(l.pos, past)
		}
		l.mark()
		ends := next == len(page) || n < len(verdicts) || l.hold != HoldNone || err != nil || time.Now().After(until)
		l.mu.Unlock()
		if ends {
			if err != nil {
				l.s.waitForStore(ctx, err)
			}
			return false
		}
	}
}

// waitForStore waits a moment where the versions of tables cannot be read.
func (s *session) waitForStore(ctx context.Context, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	s.log.Debug().Err(err).Msg("cannot read what a table looks like, trying again")
	select {
	case <-ctx.Done():
	case <-time.After(stallEvery):
	}
}
