package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// memory is a store in memory for simulations, where sockets cannot go: it keeps
// what a real one keeps across a crash, by the same rules, and nothing else. The
// real store is what the tests beside the lanes' own run on.
type memory struct {
	mu         sync.Mutex
	events     []store.Event
	tables     map[store.RelationVersion]*subscriptions.TableTypes
	grown      chan struct{}
	sub        subscriptions.Subscription
	wanted     func(*store.Event) bool // what sub's filter says of an event; nil: it has none, or the balance is not known
	floor      store.Offset
	health     store.EndpointHealth
	leaseEpoch int64
	laneMemory             // sub's own lane
	second     *laneMemory // a replay's; nil: there is none
	page       int         // most events of a read, which takes readTime; 0: as asked for, at once
	intents    []store.Intent
	wishes     int64 // so many intents were left
	moot       int   // so many of them found nothing left to do
	attempts   []store.Attempt
	changes    chan store.Topic
	down       error // what every call answers, while it is set
	unclaimed  error // what ClaimLanes answers, while it is set
	doubtful   int   // so many settlements from now on stand, though they answer that they failed
	refuses    error // what the store says to every row of a delivery, while it is set
	failing    int   // so many settlements from now on fail
	cut        bool  // the instance was killed: what it still settles is fenced
	settles    int
	moves      int // settlements of the lane
	rowsSaved  int
	held       heldMemory
}

// laneMemory is what a memory keeps of a lane.
type laneMemory struct {
	cursor     store.Offset
	ahead      []store.OffsetRange
	following  bool
	heldMS     int64
	counts     store.Counts
	epoch      int64
	owner      int64 // lease epoch of the owner
	deliveries map[store.Offset]store.Delivery
	overflows  map[string]store.Offset
	skips      map[string][]store.OffsetRange // of overflows
	replay     *store.Replay                  // nil: the subscription's own
}

func newLaneMemory(from store.Offset) laneMemory {
	return laneMemory{
		cursor: from, deliveries: make(map[store.Offset]store.Delivery), overflows: make(map[string]store.Offset),
		skips: make(map[string][]store.OffsetRange),
	}
}

func newMemory(sub subscriptions.Subscription) *memory {
	return &memory{
		sub: sub, leaseEpoch: 1, grown: make(chan struct{}), laneMemory: newLaneMemory(1), changes: make(chan store.Topic, 16),
	}
}

// lane is that of an id; any but a replay's is the subscription's own.
func (m *memory) lane(id store.LaneID) *laneMemory {
	if id == replayLane && m.second != nil {
		return m.second
	}
	return &m.laneMemory
}

// restart is what a crash and a new life do to the lease.
func (m *memory) restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaseEpoch++
	m.cut = false
}

func (m *memory) append(e store.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.Offset = store.Offset(len(m.events) + 1)
	m.events = append(m.events, e)
	close(m.grown)
	m.grown = make(chan struct{})
}

func (m *memory) Head() store.Offset {
	m.mu.Lock()
	defer m.mu.Unlock()
	return store.Offset(len(m.events) + 1)
}

// readTime is what a read takes where pages are small.
const readTime = 20 * time.Millisecond

func (m *memory) Read(_ context.Context, from store.Offset, limit int, _ int64) ([]store.Event, error) {
	if m.page > 0 {
		time.Sleep(readTime)
		limit = min(limit, m.page)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil || int(from) > len(m.events) {
		return nil, m.down
	}
	return m.events[from-1 : min(len(m.events), int(from)-1+limit)], nil
}

func (m *memory) ReadRange(ctx context.Context, from, past store.Offset, limit int, maxBytes int64) ([]store.Event, store.Offset, error) {
	events, err := m.Read(ctx, from, min(limit, int(past-from)), maxBytes)
	return events, from + store.Offset(len(events)), err
}

func (m *memory) Wait(ctx context.Context, past store.Offset) error {
	for {
		m.mu.Lock()
		grown, ok := m.grown, int(past) <= len(m.events)
		m.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grown:
		}
	}
}

func (m *memory) Event(_ context.Context, at store.Offset) (*store.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, m.down
	}
	return &m.events[at-1], nil
}

func (m *memory) TableTypes(_ context.Context, v store.RelationVersion) (*subscriptions.TableTypes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tables[v], m.down
}

func (m *memory) OpenGaps(context.Context) ([]store.Offset, error) { return nil, m.down }

func (m *memory) Settle(_ context.Context, set store.Settlement) ([]store.LaneID, map[store.LaneID]error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, nil, m.down
	}
	if m.cut || set.Lease != m.leaseEpoch {
		return nil, nil, store.ErrFenced
	}
	m.settles++
	if m.failing > 0 {
		m.failing--
		return nil, nil, errors.New("the connection was lost")
	}
	var doubt error
	if m.doubtful > 0 {
		m.doubtful--
		doubt = errors.New("the connection was lost while the answer was awaited")
	}
	if set.Floor != 0 {
		m.floor = set.Floor
	}
	var fenced []store.LaneID
	for i := range set.Lanes {
		l := &set.Lanes[i]
		switch {
		case l.Epoch != m.lane(l.Lane).epoch:
			fenced = append(fenced, l.Lane)
		case m.refuses != nil && len(l.Upsert) > 0:
			return nil, map[store.LaneID]error{l.Lane: m.refuses}, nil
		default:
			m.settleLane(m.lane(l.Lane), l)
		}
	}
	m.balance()
	return fenced, nil, doubt
}

// settleLane is Settle for one lane.
func (m *memory) settleLane(of *laneMemory, l *store.LaneSettlement) {
	m.moves++
	of.cursor, of.ahead, of.following, of.heldMS, of.counts = l.Cursor, slices.Clone(l.Ahead), l.Following, l.HeldMS, l.Counts
	if l.Health != nil {
		m.health = *l.Health
	}
	if l.Progress != nil {
		of.progressed(*l.Progress)
	}
	for _, o := range l.Overflows {
		if o.From == 0 {
			delete(of.overflows, o.Key)
			delete(of.skips, o.Key)
		} else {
			of.overflows[o.Key] = o.From
		}
	}
	for _, at := range l.Delete {
		delete(of.deliveries, at)
	}
	saved := make(map[store.Offset]bool)
	for _, d := range l.Upsert {
		if saved[d.Offset] {
			panic(fmt.Sprintf("delivery %d is saved twice in one settlement, which a database refuses", d.Offset))
		}
		saved[d.Offset] = true
		m.rowsSaved++
		of.deliveries[d.Offset] = d
	}
	m.moot += len(l.Moot)
	m.intents = slices.DeleteFunc(m.intents, func(in store.Intent) bool {
		return slices.Contains(l.Intents, in.ID) || slices.Contains(l.Moot, in.ID)
	})
}

func (m *memory) SaveAttempts(_ context.Context, as []store.Attempt) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempts = append(m.attempts, as...)
	return m.down
}

func (m *memory) ClaimLanes(_ context.Context, have map[store.LaneID]int64) ([]store.Lane, []store.LaneID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(m.down, m.unclaimed); err != nil {
		return nil, nil, err
	}
	lanes, owned := []store.Lane{}, []store.LaneID{1}
	if m.second != nil {
		owned = append(owned, replayLane)
	}
	for _, id := range owned {
		if version, ok := have[id]; !ok || version != m.sub.Version {
			lanes = append(lanes, m.claim(id))
		}
	}
	return lanes, owned, nil
}

// claim is ClaimLanes for one lane.
func (m *memory) claim(id store.LaneID) store.Lane {
	l := m.lane(id)
	if l.owner != m.leaseEpoch { // a new life takes over
		l.owner = m.leaseEpoch
		l.epoch++
		if l.following {
			l.cursor, l.following = max(l.cursor, m.floor), false
		}
	}
	lane := store.Lane{
		ID: id, Epoch: l.epoch, Cursor: l.cursor, Ahead: slices.Clone(l.ahead), Health: m.health, HeldMS: l.heldMS, Counts: l.counts,
		Subscription: m.sub, Version: m.sub.Version,
	}
	if l.replay != nil {
		lane.Replay, lane.Health = l.claimed(), store.EndpointHealth{}
	}
	for key, from := range l.overflows {
		lane.Overflows = append(lane.Overflows, store.Overflow{Key: key, From: from, Skip: l.skips[key]})
	}
	return lane
}

func (m *memory) LaneDeliveries(_ context.Context, id store.LaneID, withDead bool) ([]store.Delivery, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ds []store.Delivery
	for d := range maps.Values(m.lane(id).deliveries) {
		if d.State != store.Dead || withDead {
			ds = append(ds, d)
		}
	}
	slices.SortFunc(ds, func(a, b store.Delivery) int { return cmp.Compare(a.Offset, b.Offset) })
	return ds, m.down
}

func (m *memory) DeliveriesAt(_ context.Context, id store.LaneID, at []store.Offset) (map[store.Offset]store.Delivery, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make(map[store.Offset]store.Delivery)
	for _, offset := range at {
		if d, ok := m.lane(id).deliveries[offset]; ok {
			found[offset] = d
		}
	}
	return found, m.down
}

func (m *memory) Intents(_ context.Context, past int64, limit int) ([]store.Intent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	page := slices.DeleteFunc(slices.Clone(m.intents), func(in store.Intent) bool { return in.ID <= past })
	return page[:min(len(page), limit)], m.down
}

// wish leaves an intent, as the API does.
func (m *memory) wish(action string, at store.Offset) { m.wishFor("", action, at) }

// wishFor leaves the intents of a job.
func (m *memory) wishFor(job store.JobID, action string, offsets ...store.Offset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range offsets {
		m.wishes++
		m.intents = append(m.intents, store.Intent{ID: m.wishes, Lane: 1, Action: action, Offset: at, Job: job})
	}
	m.changes <- store.TopicIntents
}

func (m *memory) FailJob(context.Context, store.JobID, string) error { return m.down }

func (m *memory) ReturnDeadRange(context.Context, store.LaneID, int64) error { return m.down }

func (m *memory) Changes() (<-chan store.Topic, func()) { return m.changes, func() {} }

func (m *memory) Subscription(context.Context, subscriptions.ID) (subscriptions.Subscription, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sub, m.down
}

func (m *memory) UpdateSubscription(_ context.Context, sub *subscriptions.Subscription, version int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sub.Version != version {
		return store.ErrConflict
	}
	m.sub = *sub
	m.sub.Version++
	m.changes <- store.TopicSubscriptions
	return m.down
}

func (m *memory) Lease(context.Context) (store.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return store.Lease{Instance: "sim", Epoch: m.leaseEpoch}, nil
}

func (m *memory) LeaseDeadline() time.Time { return time.Now().Add(time.Hour) }
