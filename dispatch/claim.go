package dispatch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// claims keeps the lanes what the rows say: it claims those without an owner,
// takes up changed subscriptions, lets go of deleted ones, and applies intents.
func (s *session) claims(ctx context.Context) error {
	changes, stop := s.store.Changes()
	defer stop()
	tick := time.NewTicker(claimEvery)
	defer tick.Stop()
	failing := false
	for {
		err := errors.Join(s.claim(ctx), s.intents(ctx))
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrFenced):
			return err
		case err != nil && !failing:
			s.log.Warn().Err(err).Msg("cannot read subscriptions, trying again")
		case err == nil && failing:
			s.log.Info().Msg("reading subscriptions again")
		}
		failing = err != nil
		var retry <-chan time.Time
		if failing {
			retry = time.After(500 * time.Millisecond)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-retry:
		case <-s.reclaim:
		case topic := <-changes:
			if topic == store.TopicGaps {
				s.gaps.wake()
			}
		}
	}
}

// claim makes the lanes what the rows say.
func (s *session) claim(ctx context.Context) error {
	have := make(map[store.LaneID]int64, len(s.lanes))
	changed := false
	defer func() {
		if changed {
			s.reroute()
		}
	}()
	for id, l := range s.lanes {
		if l.isDone() {
			delete(s.lanes, id) // its last settlement stands: claimed anew below
			continue
		}
		if l.wantsReopen() {
			s.retire(l, false)
			changed = true
		}
		have[id] = l.sub.Version
	}
	claimed, owned, err := s.store.ClaimLanes(ctx, have)
	if err != nil {
		return err
	}
	s.claimed.Store(true)
	for _, c := range claimed {
		if l := s.lanes[c.ID]; l != nil {
			changed = true
			s.retire(l, true) // comes back as a new lane once it has settled
			continue
		}
		l, err := s.open(ctx, c)
		if err != nil {
			return err
		}
		s.lanes[c.ID] = l
		changed = true
	}
	if len(owned) < len(s.lanes) {
		slices.Sort(owned)
		for id, l := range s.lanes {
			if _, ok := slices.BinarySearch(owned, id); !ok {
				l.stop()
				delete(s.lanes, id)
				changed = true
			}
		}
	}
	return nil
}

// open makes a lane of its rows. One that is paused or disabled, or whose
// endpoint cannot be used, holds: its cursor stands.
func (s *session) open(ctx context.Context, c store.Lane) (*lane, error) {
	target, err := NewTarget(&c.Subscription)
	l := newLane(s, c, target, holdOf(&c.Subscription, err))
	if err != nil {
		s.log.Error().Err(err).Str("subscription", string(c.Subscription.ID)).Msg("the endpoint cannot be used; the lane holds")
	}
	if l.probe, err = subscriptions.ParseProbe(c.Subscription.Outage.Probe); err != nil {
		l.probe = subscriptions.Probe{Min: 5 * time.Second, Max: 15 * time.Minute} // of a row that an older version wrote
	}
	deliveries, err := s.store.LaneDeliveries(ctx, c.ID, c.Subscription.OnDead == subscriptions.Block)
	if err != nil {
		return nil, err
	}
	l.restore(deliveries)
	l.begin()
	return l, nil
}

// begin starts what can be started.
func (l *lane) begin() {
	l.mu.Lock()
	l.keepTime(time.Now())
	l.mu.Unlock()
	l.revive()
}

// retire stops a lane; when it has settled, claim opens it anew. Of one that was
// edited a parked endpoint is probed at once: the edit may have mended it.
func (s *session) retire(l *lane, edited bool) {
	l.mu.Lock()
	already := l.stopped
	if edited {
		l.probeNow()
		l.mark()
	}
	l.mu.Unlock()
	if already {
		return
	}
	// The head, and with it the floor, stands until the lane is marked: that it
	// follows no more is settled together with the floor that moves next.
	s.route.Lock()
	defer s.route.Unlock()
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mark()
}

// wantsReopen reports whether the lane is to go on without its window.
func (l *lane) wantsReopen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reopen && !l.stopped
}

// probeNow makes the next probe due, where the endpoint is parked. l.mu is held.
func (l *lane) probeNow() {
	if l.health.State == Parked {
		l.health.NextProbe, l.healthDirty = time.Now(), true
	}
}

// applyProbe applies a person's wish for a probe, once.
func (l *lane) applyProbe(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || slices.Contains(l.applied, id) {
		return
	}
	l.applied = append(l.applied, id)
	l.probeNow()
	l.mark()
	l.pump()
}

// drop lets go of a lane that another owner has taken, or that was deleted, when
// its attempts have ended.
func (s *session) drop(l *lane) {
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.abandoned = true
	l.finishAbandoned()
}

// reroute makes the table of which lanes want which events anew, and has the
// lanes that are not attached read by themselves.
func (s *session) reroute() {
	lanes := make([]*lane, 0, len(s.lanes))
	patterns := make([][]string, 0, len(s.lanes))
	for _, l := range s.lanes {
		if l.serving() {
			lanes = append(lanes, l)
			patterns = append(patterns, l.sub.Events)
		}
	}
	set := subscriptions.NewSet(patterns)
	s.route.Lock()
	s.table = table{set: set, lanes: lanes, page: make([][]*store.Event, len(lanes))}
	s.route.Unlock()
	for _, l := range lanes {
		s.follow(l)
	}
}

// intents applies what people asked for.
func (s *session) intents(ctx context.Context) error {
	wishes, err := s.store.Intents(ctx)
	if err != nil {
		return err
	}
	for _, w := range wishes {
		l := s.lanes[w.Lane]
		if l == nil {
			continue
		}
		if err := s.apply(ctx, l, w); err != nil {
			return err
		}
	}
	return nil
}

// apply applies one intent to a lane, once.
func (s *session) apply(ctx context.Context, l *lane, w store.Intent) error {
	if w.Action == "probe" {
		l.applyProbe(w.ID)
		return nil
	}
	row, err := s.store.Delivery(ctx, w.Lane, w.Offset)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	gone := err != nil
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || slices.Contains(l.applied, w.ID) {
		return nil
	}
	l.applied = append(l.applied, w.ID)
	l.mark()
	e := l.rows[w.Offset]
	switch {
	case w.Action == "retry" && e != nil:
		l.retry(e)
	case w.Action == "discard" && e != nil:
		l.discard(e)
	case gone:
		// It ended meanwhile: there is nothing left to ask for.
	case row.State != store.Dead:
		// A row that is not in memory and not dead is being written; the next look sees it.
		l.applied = l.applied[:len(l.applied)-1]
	case w.Action == "retry":
		l.revisit(l.entryOf(&row))
	default:
		l.gone = append(l.gone, w.Offset)
	}
	l.pump()
	return nil
}

// retry gives e a fresh budget and a try at once.
func (l *lane) retry(e *entry) {
	switch e.state {
	case sleeping:
		l.unsleep(e)
		fallthrough
	case lying:
		e.tries, e.charged, e.due, e.firstFailed = 0, 0, time.Time{}, time.Time{}
		if e.waits > 0 {
			e.state = waiting
		} else {
			l.makeReady(e)
		}
		l.toRow(e)
	case waiting, ready, flying, ended: // its turn comes, or is
	}
}

// discard ends e without sending it, or sending it again. One that still waits
// for others goes when its turn comes, so that what follows it still waits for
// those.
func (l *lane) discard(e *entry) {
	switch e.state {
	case sleeping, lying:
		l.unsleep(e)
		if e.waits == 0 {
			l.end(e)
			return
		}
		e.state = waiting
		fallthrough
	case waiting, ready:
		e.discarded = true
		if e.saved {
			l.gone = append(l.gone, e.offset)
			e.saved = false
		}
	case flying: // when its attempt ends, unless that delivers it
		e.discarded = true
		if e.saved {
			l.gone = append(l.gone, e.offset)
			e.saved = false
		}
	case ended: // too late
	}
}

// revisit takes up a dead letter again: before the unsent events of its key,
// after those that are being sent.
func (l *lane) revisit(e *entry) {
	e.tries, e.charged, e.due, e.firstFailed = 0, 0, time.Time{}, time.Time{}
	l.rows[e.offset] = e
	waits := l.order.addFirst(e, l.all())
	for _, n := range e.next {
		if n.mustRow() {
			l.toRow(n)
		}
	}
	if waits {
		e.state = waiting
	} else {
		l.makeReady(e)
	}
	l.toRow(e)
}
