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
	failing, wishes := false, false // wishes: to be looked at alone
	for {
		var err error
		if !wishes {
			err = s.claim(ctx)
		}
		err = errors.Join(err, s.intents(ctx))
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
		switch {
		case failing:
			retry = time.After(500 * time.Millisecond)
		case s.unclear:
			retry = time.After(stallEvery)
		}
		var look <-chan time.Time
		if s.yields && !failing {
			look = time.After(yieldLook)
		}
		wishes = false
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.limitHolds(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn().Err(err).Msg("cannot look at what lanes hold, trying again")
			}
		case <-retry:
		case <-look:
			wishes = true
		case <-s.reclaim:
		case topic := <-changes:
			if topic == store.TopicGaps {
				s.gaps.wake()
				s.holds.begun = time.Now() // at a gap, too, events were held by nobody's endpoint
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
			s.link()
			s.reroute()
		}
	}()
	for id, l := range s.lanes {
		if l.isDone() {
			if err := s.endHold(ctx, l); err != nil {
				if ctx.Err() != nil {
					return err
				}
				// It is opened anew as it stands, and decided on again: no lane waits for another.
				s.log.Warn().Err(err).Str("subscription", string(l.sub.ID)).Msg("cannot give up what was held for too long, trying again")
			}
			delete(s.lanes, id) // its last settlement stands: claimed anew below
			continue
		}
		if l.wantsReopen() {
			s.retire(l, false)
			changed = true
		}
		have[id] = l.version
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
				if l.replay == nil {
					s.rates.forget(l.sub.ID)
				}
				changed = true
			}
		}
	}
	return nil
}

// open makes a lane of its rows. One that is paused or disabled, or whose
// endpoint cannot be used, holds: its cursor stands.
func (s *session) open(ctx context.Context, c store.Lane) (*lane, error) {
	if c.Replay != nil {
		if err := s.prepareReplay(ctx, &c); err != nil {
			return nil, err
		}
	}
	target, err := NewTarget(&c.Subscription)
	openings, faulty := openingsOf(&c.Subscription)
	err = errors.Join(err, faulty)
	l := newLane(s, c, target, holdOf(&c.Subscription, openings, time.Now(), err))
	l.openings = openings
	l.rate = s.rates.of(l.sub.ID, l.sub.RateLimit)
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
	if c.Replay != nil {
		target.forReplay(c.Replay.Job)
	}
	if l.replay != nil && l.replay.givenUp() {
		l.abandon(deliveries, c.Overflows)
	} else {
		l.restore(deliveries)
		l.restoreOverflows(c.Overflows)
	}
	if l.replay == nil {
		s.announceAgain(l)
	}
	l.begin()
	return l, nil
}

// begin starts what can be started.
func (l *lane) begin() {
	l.mu.Lock()
	l.keepTime(time.Now())
	l.mu.Unlock()
	l.watchClock()
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
	var sifted []*lane
	var siftedPatterns [][]string
	for _, l := range s.lanes {
		switch {
		case !l.serving():
		case l.replay != nil:
			s.follow(l) // by itself, to its end
		case l.rules.judges():
			sifted, siftedPatterns = append(sifted, l), append(siftedPatterns, l.sub.Events)
		default:
			lanes, patterns = append(lanes, l), append(patterns, l.sub.Events)
		}
	}
	set := subscriptions.NewSet(patterns)
	var sift *siftTable
	if len(sifted) > 0 {
		sift = &siftTable{set: subscriptions.NewSet(siftedPatterns), lanes: sifted, page: make([][]*candidate, len(sifted))}
	}
	s.route.Lock()
	s.table = table{set: set, lanes: lanes, page: make([][]*store.Event, len(lanes))}
	s.sifted = sift
	s.route.Unlock()
	for _, l := range lanes {
		s.follow(l)
	}
	for _, l := range sifted {
		s.follow(l)
	}
}
