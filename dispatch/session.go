package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const (
	// claimEvery is how often lanes without an owner are looked for, when no
	// notification asks for it sooner.
	claimEvery = 5 * time.Second
	// stallEvery is how often lanes that wait for something other than a reply
	// or a timer are looked at again.
	stallEvery = 250 * time.Millisecond
	// leaseEvery is how often it is looked whether the lease is still ours. What
	// is settled is fenced in any case.
	leaseEvery = time.Second
	// localBackoff is how long a lane waits when this machine is short of
	// sockets, files or memory.
	localBackoff = 500 * time.Millisecond
	// settleLast bounds the last settlement of a session.
	settleLast = 5 * time.Second
)

// session is the life of the lanes under one lease.
type session struct {
	store   keeper
	config  Config
	sender  *Sender
	metrics *metrics
	rates   *rates
	lease   store.Lease
	log     zerolog.Logger

	settler  *settler
	history  *history
	notices  *notices
	budget   *budget
	yielding *yielding
	kept     commons       // of payloads that lanes keep
	flying   commons       // of attempts in flight
	fetches  chan struct{} // payloads being looked up
	pages    chan struct{} // of lanes that are behind
	limits   limits

	slow     chan struct{} // pages of lanes that are behind, where their expressions are slow
	programs *subscriptions.Programs

	flights   sync.WaitGroup // attempts
	flightCtx context.Context
	readers   sync.WaitGroup  // of lanes that are behind
	readCtx   context.Context // ends when reading must

	// route guards table and the head's position together: a lane is attached
	// exactly where the head reader stands.
	route  sync.Mutex
	table  table
	sifted *siftTable // of lanes with expressions; nil: there are none
	pos    atomic.Int64

	lanes   map[store.LaneID]*lane // touched by claim alone
	applied map[int64]*lane        // intents that are not settled yet, by the lane that applied them; likewise
	unclear bool                   // some could not be applied at the last look; likewise
	yields  bool                   // some were left to live events at the last look; likewise
	linked  bool                   // there were replays at the last look; likewise
	claimed atomic.Bool            // lanes were claimed: no earlier life of this instance owns any
	reclaim chan struct{}          // something of the lanes changed
	gaps    broadcast              // a gap was recorded or accepted
	holds   holdLimits             // touched by claim alone

	stalls stalls
}

// table is which lanes want which events.
type table struct {
	set   *subscriptions.Set
	lanes []*lane
	page  [][]*store.Event // of each lane, while a page is being matched
}

func newSession(d *Dispatcher, lease store.Lease) *session {
	s := &session{
		store: d.store, config: d.config, sender: d.sender, metrics: d.metrics, rates: d.rates, lease: lease,
		log:      d.config.Logger,
		budget:   newBudget(d.config.MaxInFlight),
		lanes:    make(map[store.LaneID]*lane),
		holds:    holdLimits{begun: time.Now(), ends: make(map[store.LaneID]time.Time)},
		reclaim:  make(chan struct{}, 1),
		fetches:  make(chan struct{}, fetches),
		pages:    make(chan struct{}, lagPages),
		slow:     make(chan struct{}, slowPermits()),
		programs: d.programs,
		yielding: newYielding(),
		stalls:   stalls{some: make(chan struct{}, 1), lanes: make(map[*lane]struct{})},
		table:    table{set: subscriptions.NewSet(nil)},
	}
	small := d.config.limits
	s.limits = limits{blocked: cmp.Or(small.blocked, maxBlocked), walk: cmp.Or(small.walk, walkEvents), rows: cmp.Or(small.rows, maxRows)}
	s.settler = newSettler(s)
	s.notices = newNotices(d.store.Announce, s.log)
	s.history = newHistory(d.store.SaveAttempts, func(n int) { d.metrics.lost.Add(float64(n)) }, s.log)
	s.kept.init(keptBytes)
	s.flying.init(flyingBytes)
	s.gaps.init()
	return s
}

// run serves lanes until ctx ends or the lease is lost (store.ErrFenced). What
// cannot be settled at its end is no error: the next life sends it again.
func (s *session) run(ctx context.Context) error {
	// Attempts outlive ctx by the drain.
	flightCtx, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s.flightCtx = flightCtx
	s.pos.Store(int64(s.store.Head()))

	var background sync.WaitGroup
	defer background.Wait()
	lasting, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	background.Go(func() { s.history.run(lasting) })
	background.Go(func() { s.notices.run(lasting) })

	// Outcomes are settled until the last attempt has landed: a drain may be cut
	// short by a kill.
	settling, settled := make(chan error, 1), make(chan struct{})
	settleCtx, endSettling := context.WithCancel(context.WithoutCancel(ctx))
	defer endSettling()
	go func() {
		defer close(settled)
		settling <- s.settler.run(settleCtx)
	}()

	group, running := errgroup.WithContext(ctx)
	s.readCtx = running
	group.Go(func() error { return s.claims(running) })
	group.Go(func() error { return s.head(running) })
	group.Go(func() error { return s.watch(running) })
	group.Go(func() error {
		select {
		case err := <-settling:
			return err
		case <-running.Done():
			return nil
		}
	})
	err := group.Wait()

	for _, l := range s.lanes {
		l.stop()
	}
	s.readers.Wait()
	s.drain(cut)
	endSettling()
	<-settled
	why := err
	if !errors.Is(err, store.ErrFenced) {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLast)
		defer cancel()
		why = s.settler.last(last)
	}
	if n := s.unsettled(); why != nil && n > 0 {
		s.log.Warn().Err(why).Int("events", n).Msg("the last outcomes cannot be saved: their events are sent again, under the same ids")
	}
	return err
}

// unsettled is how many outcomes are not saved.
func (s *session) unsettled() int {
	n := 0
	for _, l := range s.lanes {
		l.mu.Lock()
		n += l.unsettled
		l.mu.Unlock()
	}
	return n
}

// drain waits for the attempts in flight, and cuts them off when the bound has
// passed: they are sent again by the next life.
func (s *session) drain(cut context.CancelFunc) {
	bound := time.AfterFunc(s.config.Drain, cut)
	defer bound.Stop()
	s.flights.Wait()
}

// position is the head reader's: it has given every lane what is below.
func (s *session) position() store.Offset { return store.Offset(s.pos.Load()) }

// live reports whether this instance may start an attempt now.
func (s *session) live(now time.Time) bool { return now.Before(s.store.LeaseDeadline()) }

// stall has l looked at again soon. l.mu is held.
func (s *session) stall(l *lane) { s.stalls.add(l) }

// stalls are the lanes that are to be looked at again, each once.
type stalls struct {
	some chan struct{}

	mu    sync.Mutex
	lanes map[*lane]struct{}
}

func (s *stalls) add(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes[l] = struct{}{}
	poke(s.some)
}

func (s *stalls) take() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	lanes := slices.Collect(maps.Keys(s.lanes))
	clear(s.lanes)
	return lanes
}

// watch looks again at the lanes that stall, and at the lease.
func (s *session) watch(ctx context.Context) error {
	lease := time.NewTicker(leaseEvery)
	defer lease.Stop()
	var due <-chan time.Time // while lanes stall
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-lease.C:
			if lease, ok := s.currentLease(ctx); ok && lease != s.lease {
				return fmt.Errorf("lease of %s, epoch %d: %w", s.lease.Instance, s.lease.Epoch, store.ErrFenced)
			}
		case <-s.stalls.some:
			if due == nil {
				due = time.After(stallEvery)
			}
		case <-due:
			due = nil
			for _, l := range s.stalls.take() {
				l.revive()
			}
		}
	}
}

// currentLease is the lease that the store holds now, if it holds one.
func (s *session) currentLease(ctx context.Context) (store.Lease, bool) {
	if s.store.LeaseDeadline().IsZero() {
		return store.Lease{}, false
	}
	short, cancel := context.WithTimeout(ctx, stallEvery)
	defer cancel()
	lease, err := s.store.Lease(short)
	return lease, err == nil
}

// revive has a stalled lane settled and starts what can be started.
func (l *lane) revive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mark()
	l.pump()
}

// observe counts an attempt and says it in the log.
func (s *session) observe(l *lane, ev *store.Event, reply Reply, v Verdict) {
	s.metrics.observe(ev, reply, v)
	if e := s.log.Debug(); e.Enabled() {
		e.Str("subscription", string(l.sub.ID)).Int64("offset", int64(ev.Offset)).Int("status", reply.Status).
			Str("reason", string(v.Reason)).Dur("dur", reply.Duration).Msg("attempt")
	}
}

// observeBatch is observe for an attempt with several events.
func (s *session) observeBatch(l *lane, events []*store.Event, reply Reply, v Verdict) {
	s.metrics.observeBatch(events, reply, v)
	if e := s.log.Debug(); e.Enabled() {
		e.Str("subscription", string(l.sub.ID)).Int64("offset", int64(events[0].Offset)).Int("events", len(events)).Int("status", reply.Status).
			Str("reason", string(v.Reason)).Dur("dur", reply.Duration).Msg("attempt")
	}
}

// died says that an event became a dead letter. l.mu is held.
func (s *session) died(l *lane, e *entry) {
	s.log.Warn().Str("subscription", string(l.sub.ID)).Int64("offset", int64(e.offset)).Int("attempt", e.tries).
		Int("status", e.status).Str("reason", string(e.reason)).Msg("dead letter")
	s.metrics.dead.WithLabelValues(string(e.reason)).Inc()
	s.announceDead(l, e)
}

// blocked says in the log why the guard refused a target, which nobody else is told.
func (s *session) blocked(l *lane, err error) {
	if b, ok := errors.AsType[*BlockedError](err); ok {
		s.log.Warn().Str("subscription", string(l.sub.ID)).Str("why", b.Why()).Msg("the endpoint's target is not allowed")
	}
}

// healthChanged says in the log what became of an endpoint. l.mu is held.
func (s *session) healthChanged(l *lane, before, after health) {
	say := func(e *zerolog.Event, what string) {
		e.Str("subscription", string(l.sub.ID)).Str("reason", string(after.Reason)).Time("next_probe", after.NextProbe).Msg(what)
	}
	switch {
	case after.State == Parked && before.State == Healthy:
		s.announceHealth(&l.sub, after, after.Reason)
		say(s.log.Warn(), "endpoint parked: its events are held until a probe succeeds")
	case after.State == Recovering:
		say(s.log.Info(), "endpoint is up again, recovering")
	case after.State == Healthy:
		s.announceHealth(&l.sub, after, before.Reason)
		say(s.log.Info(), "endpoint healthy")
	default:
		say(s.log.Debug(), "endpoint "+string(after.State))
	}
}

// guestsTold lets the replays of a lane see what became of the endpoint. l.mu is held.
func (s *session) guestsTold(l *lane) {
	for _, guest := range l.guests.lanes {
		s.stall(guest)
	}
}

// faulted lets go of a lane whose rows the store refuses, once its attempts have
// ended and the subscription is disabled: else it would send the same again.
func (s *session) faulted(l *lane, err error) {
	s.log.Error().Err(err).Str("subscription", string(l.sub.ID)).Msg("the store refuses what this lane settles; it is held")
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold, l.abandoned, l.disabling = HoldStore, true, true
	s.flights.Go(func() {
		s.surely(l, func() error {
			reason := "its outcomes cannot be saved: " + errorText(err)
			if l.replay != nil {
				return s.failReplay(l, reason)
			}
			return s.disable(l, reason)
		})
		l.mu.Lock()
		defer l.mu.Unlock()
		l.disabling = false
		l.finishAbandoned()
	})
}

// failReplay ends a replay that cannot go on; its subscription does.
func (s *session) failReplay(l *lane, reason string) error {
	ctx, cancel := context.WithTimeout(s.flightCtx, 10*time.Second)
	defer cancel()
	return s.store.FailJob(ctx, l.replay.Job, reason)
}

// surely tries until a lane is disabled, or the session ends.
func (s *session) surely(l *lane, disable func() error) {
	wait := time.Second
	for s.readCtx.Err() == nil {
		err := disable()
		if err == nil {
			return
		}
		if wait == time.Second {
			s.log.Warn().Err(err).Str("subscription", string(l.sub.ID)).Msg("cannot disable what the store refuses, trying again")
		}
		select {
		case <-s.readCtx.Done():
		case <-time.After(wait):
			wait = min(2*wait, 30*time.Second)
		}
	}
}

// disable has the subscription held until a person resumes it, unless it has
// been changed or held already.
func (s *session) disable(l *lane, reason string) error {
	ctx, cancel := context.WithTimeout(s.flightCtx, 10*time.Second)
	defer cancel()
	sub, err := s.store.Subscription(ctx, l.sub.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if sub.State != subscriptions.Active || sub.Version != l.sub.Version {
		return nil
	}
	sub.State, sub.StateReason = subscriptions.Disabled, reason
	err = s.store.UpdateSubscription(ctx, &sub, sub.Version)
	if errors.Is(err, store.ErrConflict) {
		return nil // it has been changed now, or held by another reply that said the same
	}
	if err != nil {
		return err
	}
	s.log.Warn().Str("subscription", string(l.sub.ID)).Str("reason", reason).Msg("subscription disabled")
	s.announceDisabled(&sub)
	return nil
}

// broadcast wakes everyone who waits, however often they were woken before.
type broadcast struct {
	mu sync.Mutex
	c  chan struct{}
}

func (b *broadcast) init() { b.c = make(chan struct{}) }

// next is closed at the next call of wake.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c
}

func (b *broadcast) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.c)
	b.c = make(chan struct{})
}
