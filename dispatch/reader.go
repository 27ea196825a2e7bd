package dispatch

import (
	"context"
	"slices"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const (
	pageEvents = 1000    // most events of one read
	pageBytes  = 1 << 20 // most payload bytes of one read
	// lagPages bounds the pages of lanes that are behind. Where all are in use,
	// smaller ones are read: their lanes wait for each other less.
	lagPages  = 8
	smallPage = pageBytes / 4
)

// head is the one reader at the log's head: it reads every event once, matches
// it once, and gives it to the lanes that follow.
func (s *session) head(ctx context.Context) error {
	for ctx.Err() == nil {
		events := s.read(ctx, s.position(), nil)
		if len(events) == 0 {
			continue
		}
		s.yielding.saw(time.Now(), events)
		s.route.Lock()
		s.hand(ctx, events)
		if s.sifted != nil {
			s.handSifted(ctx, events)
		}
		s.pos.Store(int64(events[len(events)-1].Offset + 1))
		s.route.Unlock()
		poke(s.settler.moved)
	}
	return nil
}

// hand gives a page to the attached lanes. A lane that does not take all of it
// leaves, and reads by itself from there.
func (s *session) hand(ctx context.Context, events []store.Event) {
	t := &s.table
	var touched []int
	for i := range events {
		if events[i].Kind == store.KindGap {
			continue
		}
		for _, n := range t.set.Match(events[i].Type) {
			if len(t.page[n]) == 0 {
				touched = append(touched, n)
			}
			t.page[n] = append(t.page[n], &events[i])
		}
	}
	for _, n := range touched {
		if l := t.lanes[n]; l.feed(t.page[n]) {
			s.startReader(ctx, l)
		}
		clear(t.page[n])
		t.page[n] = t.page[n][:0]
	}
}

// feed gives events to a lane that is attached. It reports whether the lane has
// left the head because it is full.
func (l *lane) feed(events []*store.Event) (left bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.attached || l.stopped {
		return false
	}
	for len(events) > 0 && events[0].Offset < l.pos {
		events = events[1:] // it was ahead of the head when it was attached
	}
	n := l.takeAll(events)
	if n == len(events) {
		return false
	}
	l.attached = false
	l.pos = events[n].Offset
	l.mark()
	if l.reading {
		return false
	}
	l.reading = true
	return true
}

// takeAll takes events until the lane is full, and starts what can be started.
func (l *lane) takeAll(events []*store.Event) int {
	taken := 0
	for i, ev := range events {
		if l.full() || len(l.overflows) > 0 && l.bars(ev) {
			break
		}
		taken++
		if ev.Offset >= l.pos {
			l.take(events[i:], nil)
		}
	}
	l.slab = slab{}
	if taken > 0 {
		l.fed = max(l.fed, events[taken-1].Offset+1)
		l.mark()
		l.pump()
	}
	return taken
}

// follow has a lane that is not attached read by itself until it is.
func (s *session) follow(l *lane) {
	l.mu.Lock()
	start := !l.attached && !l.reading && !l.stopped && l.hold == HoldNone
	if start {
		l.reading = true
	}
	l.mu.Unlock()
	if start {
		s.startReader(s.readCtx, l)
	}
}

func (s *session) startReader(ctx context.Context, l *lane) {
	s.readers.Go(func() { s.lag(ctx, l) })
}

// lag reads for one lane that is behind, until it has caught up with the head
// and follows it.
func (s *session) lag(ctx context.Context, l *lane) {
	wants := l.wants()
	var page []*store.Event
	l.mu.Lock()
	l.readAhead()
	l.mu.Unlock()
	for ctx.Err() == nil {
		if s.attach(l) || !l.awaitRoom(ctx) {
			return
		}
		permits := s.pages
		if l.cost.slow() {
			permits = s.slow
		}
		events, next, ok := s.readFor(ctx, l, permits)
		if !ok {
			return
		}
		page = page[:0]
		for i := range events {
			if events[i].Kind != store.KindGap && wants(&events[i]) {
				page = append(page, &events[i])
			}
		}
		var stopped bool
		if l.rules.judges() {
			stopped = l.advanceSifted(ctx, page, next)
		} else {
			stopped = l.advance(page, next)
		}
		clear(page)
		<-permits
		if stopped {
			return
		}
	}
}

// wants says which events a lane that reads by itself takes.
func (l *lane) wants() func(*store.Event) bool {
	if r := l.replay; r != nil {
		return func(ev *store.Event) bool { return ev.Offset < r.Past && r.wants(ev.Type) }
	}
	set := subscriptions.NewSet([][]string{l.sub.Events})
	return func(ev *store.Event) bool { return len(set.Match(ev.Type)) > 0 }
}

// attach lets a lane follow the head, if it has come up to it; a replay never
// does. It reports whether the lane needs no reader any more.
func (s *session) attach(l *lane) bool {
	s.route.Lock()
	defer s.route.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		l.reading = false
		return true
	}
	if l.replay != nil {
		l.reading = !l.readAll()
		return !l.reading
	}
	if l.pos < s.position() || l.cost.slow() {
		return false
	}
	l.attached, l.reading = true, false
	l.mark()
	if !l.aheadUntil.IsZero() {
		l.pump()
	}
	return true
}

// advance gives a lane the matching events of a page that ends before next, and
// moves its position past what it took: what it did not take is read again when
// there is room. It reports whether the lane has ended.
func (l *lane) advance(page []*store.Event, next store.Offset) (stopped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		l.reading = false
		return true
	}
	if n := l.takeAll(page); n < len(page) {
		l.pos = page[n].Offset
	} else {
		l.pos = max(l.pos, next)
	}
	l.mark()
	return false
}

func (l *lane) position() store.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pos
}

// awaitRoom waits until the lane takes events again. It is false when the lane or
// ctx has ended.
func (l *lane) awaitRoom(ctx context.Context) bool {
	for {
		l.mu.Lock()
		stopped, full := l.stopped, l.full()
		l.mu.Unlock()
		switch {
		case stopped || ctx.Err() != nil:
			return false
		case !full:
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-l.room:
		}
	}
}

// read returns events from an offset on, waiting until there are some; none when
// ctx has ended. It ends before the marker of a gap that nobody has accepted, and
// waits there. Where permits are given, it returns events together with one, which
// it does not hold while it waits for anything else.
func (s *session) read(ctx context.Context, from store.Offset, permits chan struct{}) []store.Event {
	wait := 100 * time.Millisecond
	failing := false
	for ctx.Err() == nil {
		err := s.store.Wait(ctx, from)
		if err == nil {
			var events []store.Event
			var gap <-chan struct{}
			if events, gap, err = s.page(ctx, from, permits); len(events) > 0 {
				if failing {
					s.log.Info().Msg("reading the log again")
				}
				return events
			}
			if gap != nil {
				select {
				case <-ctx.Done():
				case <-gap:
				case <-time.After(claimEvery):
				}
			}
		}
		if err == nil {
			continue
		}
		if !failing && ctx.Err() == nil {
			failing = true
			s.log.Warn().Err(err).Msg("cannot read the log, trying again")
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, 2*time.Second)
		}
	}
	return nil
}

// page reads one page, with a permit; it keeps none where it returns no events.
func (s *session) page(ctx context.Context, from store.Offset, permits chan struct{}) (events []store.Event, gap <-chan struct{}, err error) {
	bytes := int64(pageBytes)
	if permits != nil {
		if len(permits) == cap(permits) {
			bytes = smallPage
		}
		select {
		case permits <- struct{}{}:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		defer func() {
			if len(events) == 0 {
				<-permits
			}
		}()
	}
	if events, err = s.store.Read(ctx, from, pageEvents, bytes); err == nil {
		events, gap, err = s.beforeGap(ctx, events)
	}
	return events, gap, err
}

// beforeGap is the part of a page before the first gap that nobody has accepted.
// Where that is its first event, there are none, but a channel that is closed at
// the next change.
func (s *session) beforeGap(ctx context.Context, events []store.Event) ([]store.Event, <-chan struct{}, error) {
	for i := range events {
		if events[i].Kind != store.KindGap {
			continue
		}
		changed := s.gaps.next()
		open, err := s.store.OpenGaps(ctx)
		switch {
		case err != nil:
			return nil, nil, err
		case !slices.Contains(open, events[i].Offset):
		case i > 0:
			return events[:i], nil, nil
		default:
			return nil, changed, nil
		}
	}
	return events, nil, nil
}
