package dispatch

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Types of the notices that dispatch publishes.
const (
	noticeParked    = "rowcall.subscription.parked"
	noticeRecovered = "rowcall.subscription.recovered"
	noticeDisabled  = "rowcall.subscription.disabled"
	noticeDead      = "rowcall.delivery.dead"
)

const (
	// noticeEvery is how often a subscription's dead letters are announced: the
	// first at once, those that follow together.
	noticeEvery = time.Minute
	// noticeGather is how long the first dead letter waits for those with it.
	noticeGather = time.Second
	// noticeAgain is how old a change may be that a start announces again, should
	// the process have died before it did: within the time in which the log knows
	// what was published.
	noticeAgain = 6 * 24 * time.Hour
	// maxNotices bounds what waits while the store is down; the oldest go.
	maxNotices = 10_000
)

// noticeData is the data of every notice about a subscription.
type noticeData struct {
	Subscription struct {
		ID   subscriptions.ID `json:"id"`
		Name string           `json:"name"`
	} `json:"subscription"`
	Reason    string           `json:"reason,omitempty"`
	Since     time.Time        `json:"since"`
	NextProbe *time.Time       `json:"next_probe,omitempty"`
	Count     int64            `json:"count,omitempty"`    // of dead letters
	Reasons   map[string]int64 `json:"reasons,omitempty"`  // of them
	First     string           `json:"sequence,omitempty"` // of the first of them
	Dropped   bool             `json:"dropped,omitempty"`  // they are not kept
	Hint      string           `json:"hint"`
}

func noticeOf(sub *subscriptions.Subscription, since time.Time, reason, hint string) noticeData {
	d := noticeData{Reason: reason, Since: since.UTC(), Hint: hint}
	d.Subscription.ID, d.Subscription.Name = sub.ID, sub.Name
	return d
}

// deadOf names what is counted together: of a subscription, what is kept as dead
// letters, or what is dropped.
type deadOf struct {
	subscription subscriptions.ID
	dropped      bool
}

// notice is the id of the notice of what was counted until now.
func (d deadOf) notice(now time.Time) string {
	kind := "dead-"
	if d.dropped {
		kind = "dropped-"
	}
	return kind + string(d.subscription) + "-" + strconv.FormatInt(now.UnixMicro(), 10)
}

// deadCount is the dead letters of a subscription that were not announced yet.
type deadCount struct {
	noticeData
	due time.Time
}

// notices publishes what rowcall has to say of subscriptions, off the path of
// delivery. What happened twice has one id, so that it may be said again after a
// restart; what is counted may lose its last minute when the process is killed.
type notices struct {
	announce func(ctx context.Context, ns []store.Notice) error
	log      zerolog.Logger
	known    map[store.LaneID]bool // lanes that were opened in this session; touched by claim alone

	mu    sync.Mutex
	queue []store.Notice
	dead  map[deadOf]*deadCount
	some  chan struct{}
}

func newNotices(announce func(context.Context, []store.Notice) error, log zerolog.Logger) *notices {
	return &notices{
		announce: announce, log: log, known: map[store.LaneID]bool{},
		dead: map[deadOf]*deadCount{}, some: make(chan struct{}, 1),
	}
}

func (n *notices) add(kind, id string, d noticeData) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.put(kind, id, d)
}

// put is add with mu held.
func (n *notices) put(kind, id string, d noticeData) {
	if len(n.queue) == maxNotices {
		n.queue = n.queue[1:]
	}
	n.queue = append(n.queue, store.Notice{ID: id, Type: kind, Subject: string(d.Subscription.ID), Data: d})
	poke(n.some)
}

// died counts dead letters.
func (n *notices) died(sub *subscriptions.Subscription, reason string, at store.Offset, count int64, dropped bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	of := deadOf{sub.ID, dropped}
	c := n.dead[of]
	now := time.Now()
	if c == nil {
		c = &deadCount{due: now.Add(noticeGather)}
		n.dead[of] = c
	}
	if c.Count == 0 {
		hint := "rowcall deliveries list --state dead --subscription " + string(sub.ID) + ", and GET /v1/dead-ranges, show them"
		if dropped {
			hint = "its hold_limit drops them; dead-letter would keep them"
		}
		c.noticeData = noticeOf(sub, now, "", hint)
		c.Reasons, c.First, c.Dropped = map[string]int64{}, at.String(), dropped
	}
	c.Count += count
	c.Reasons[reason] += count
	poke(n.some)
}

// gather makes notices of the dead letters that are due, and says when the next
// are; zero: there are none.
func (n *notices) gather(now time.Time, all bool) (next time.Time) {
	for of, c := range n.dead {
		switch {
		case c.Count > 0 && (all || !c.due.After(now)):
			n.put(noticeDead, of.notice(now), c.noticeData)
			c.due, c.noticeData = now.Add(noticeEvery), noticeData{}
		case c.Count == 0 && !c.due.After(now):
			delete(n.dead, of)
			continue
		}
		if next.IsZero() || c.due.Before(next) {
			next = c.due
		}
	}
	return next
}

// run publishes until ctx ends, and then what is left.
func (n *notices) run(ctx context.Context) {
	wait := time.Second
	for {
		next, err := n.flush(ctx, false)
		var again <-chan time.Time
		switch {
		case ctx.Err() != nil:
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if _, err := n.flush(last, true); err != nil {
				n.log.Warn().Err(err).Msg("notices not published: changes of health are announced by the next start")
			}
			return
		case err != nil:
			if wait == time.Second {
				n.log.Warn().Err(err).Msg("cannot publish notices, trying again")
			}
			again = time.After(wait)
			wait = min(2*wait, 30*time.Second)
		default:
			wait = time.Second
			if !next.IsZero() {
				again = time.After(time.Until(next))
			}
		}
		some := n.some
		if err != nil {
			some = nil
		}
		select {
		case <-ctx.Done():
		case <-some:
		case <-again:
		}
	}
}

func (n *notices) flush(ctx context.Context, all bool) (next time.Time, err error) {
	n.mu.Lock()
	next = n.gather(time.Now(), all)
	queue := n.queue
	n.mu.Unlock()
	for len(queue) > 0 {
		part := queue[:min(len(queue), 100)]
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := n.announce(short, part)
		cancel()
		if err != nil {
			return next, err
		}
		queue = queue[len(part):]
		n.mu.Lock()
		n.queue = n.queue[len(part):]
		n.mu.Unlock()
	}
	return next, nil
}

// takesNotices reports whether a subscription names notices, and whether it
// names nothing else: nothing is announced about the delivery of a notice.
func takesNotices(sub *subscriptions.Subscription) (some, only bool) {
	only = true
	for _, p := range sub.Events {
		if strings.HasPrefix(p, "rowcall.") {
			some = true
		} else {
			only = false
		}
	}
	return some, only
}

// announceHealth announces a change of health. Its id is made of what the
// lane's row keeps, so that the next life may say it again.
func (s *session) announceHealth(sub *subscriptions.Subscription, h health, reason Reason) {
	if _, only := takesNotices(sub); only {
		return
	}
	id := "-" + string(sub.ID) + "-" + strconv.FormatInt(h.Since.UnixMicro(), 10)
	switch h.State {
	case Parked:
		d := noticeOf(sub, h.Since, string(reason), "its events are held until a probe succeeds; rowcall subscriptions health "+string(sub.ID)+" says more")
		d.NextProbe = new(h.NextProbe.UTC())
		s.notices.add(noticeParked, "parked"+id, d)
	case Healthy:
		s.notices.add(noticeRecovered, "recovered"+id, noticeOf(sub, h.Since, string(reason), "nothing is to be done"))
	case Probing, Recovering:
	}
}

func (s *session) announceDisabled(sub *subscriptions.Subscription) {
	if _, only := takesNotices(sub); only {
		return
	}
	s.notices.add(noticeDisabled, "disabled-"+string(sub.ID)+"-"+strconv.FormatInt(sub.Version, 10),
		noticeOf(sub, sub.UpdatedAt, sub.StateReason, "its events are held; rowcall subscriptions resume "+string(sub.ID)+" when it takes them again"))
}

// announceAgain announces, at a lane's first opening, what its former owner may
// have died before it did.
func (s *session) announceAgain(l *lane) {
	if s.notices.known[l.id] {
		return
	}
	s.notices.known[l.id] = true
	recent := func(at time.Time) bool { return !at.IsZero() && time.Since(at) < noticeAgain }
	if l.sub.State == subscriptions.Disabled && recent(l.sub.UpdatedAt) {
		s.announceDisabled(&l.sub)
	}
	if h := l.health; recent(h.Since) && (h.State == Healthy || h.State == Parked && h.Reason != "") {
		s.announceHealth(&l.sub, h, h.Reason)
	}
}

// announceDead announces a dead letter, unless it is a notice itself.
func (s *session) announceDead(l *lane, e *entry) {
	some, only := takesNotices(&l.sub)
	if only || some && (e.key == "" || strings.HasPrefix(e.key, store.NoticePrefix)) {
		return
	}
	s.notices.died(&l.sub, string(e.reason), e.offset, 1, false)
}
