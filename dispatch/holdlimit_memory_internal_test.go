package dispatch

import (
	"context"
	"errors"
	"slices"
	"sort"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// heldMemory is what a memory keeps of ends of holds.
type heldMemory struct {
	mustPass store.Offset
	ranges   []store.DeadRange
	dropped  int64
	refuse   error          // of EndHold
	notices  []store.Notice // as they were announced, again and again
	set      *subscriptions.Set
	before   []store.LogCount // what is matched before each offset
}

// givenUp are the events that are in dead ranges.
func (h *heldMemory) givenUp() map[store.Offset]bool {
	gone := map[store.Offset]bool{}
	for _, r := range h.ranges {
		for at := r.Range.From; at < r.Range.Past; at++ {
			gone[at] = true
		}
		for _, settled := range r.Settled {
			for at := settled.From; at < settled.Past; at++ {
				delete(gone, at)
			}
		}
	}
	return gone
}

// matching counts the events of a range that the subscription's patterns match,
// which are the same for all of a test.
func (m *memory) matching(from, past store.Offset) store.LogCount {
	if len(m.held.before) == 0 {
		m.held.set, m.held.before = subscriptions.NewSet([][]string{m.sub.Events}), make([]store.LogCount, 1)
	}
	for n := len(m.held.before); n <= len(m.events); n++ {
		c, e := m.held.before[n-1], &m.events[n-1]
		if len(m.held.set.Match(e.Type)) > 0 && (m.wanted == nil || m.wanted(e)) {
			c.Events++
			c.Bytes += int64(len(e.Data))
		}
		m.held.before = append(m.held.before, c)
	}
	end := min(int(past), len(m.events)+1)
	if int(from) >= end {
		return store.LogCount{}
	}
	below, above := m.held.before[from-1], m.held.before[end-1]
	return store.LogCount{Events: above.Events - below.Events, Bytes: above.Bytes - below.Bytes}
}

func (m *memory) Holdings(context.Context) ([]store.Holding, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil || m.following {
		return nil, m.down
	}
	return []store.Holding{{Lane: 1, Cursor: m.cursor, MustPass: m.held.mustPass, Waiting: m.matching(m.cursor, 1<<60)}}, nil
}

func (m *memory) LoggedBefore(_ context.Context, age time.Duration) (store.Offset, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	past := 1 + store.Offset(sort.Search(len(m.events), func(i int) bool { return time.Since(time.UnixMicro(m.events[i].Time)) < age }))
	return past, m.down
}

func (m *memory) CountHeld(_ context.Context, _ []string, from, past store.Offset) (store.LogCount, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.matching(from, past), m.down
}

func (m *memory) LastBytes(_ context.Context, _ []string, from store.Offset, bytes int64) (store.Offset, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.matching(from, 1<<60).Bytes > bytes {
		from++
	}
	return from, m.down
}

func (m *memory) EndHold(_ context.Context, h store.HoldEnd) (store.HoldEnded, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.held.refuse != nil:
		return store.HoldEnded{}, m.held.refuse
	case m.down != nil:
		return store.HoldEnded{}, m.down
	case m.cut || h.Epoch != m.epoch:
		return store.HoldEnded{}, store.ErrFenced
	}
	var ended store.HoldEnded
	past := min(h.Past, store.Offset(len(m.events)+1))
	for at, d := range m.deliveries {
		if !h.Rows || at >= past || d.State == store.Dead {
			continue
		}
		ended.Deliveries++
		if d.State, d.Reason = store.Dead, h.Reason; h.Drop {
			delete(m.deliveries, at)
			m.held.dropped++
			continue
		}
		m.deliveries[at] = d
	}
	defer m.balance()
	if past <= m.cursor {
		return ended, nil
	}
	ended.Range = store.OffsetRange{From: m.cursor, Past: past}
	ended.Events = m.matching(m.cursor, past)
	r := store.DeadRange{Range: ended.Range}
	var ahead []store.OffsetRange
	for _, o := range m.ahead {
		if o.From < past {
			below := store.OffsetRange{From: o.From, Past: min(o.Past, past)}
			r.Settled = append(r.Settled, below)
			ended.Events.Events -= m.matching(below.From, below.Past).Events
		}
		if o.Past > past {
			ahead = append(ahead, store.OffsetRange{From: max(o.From, past), Past: o.Past})
		}
	}
	m.ahead = ahead
	if h.Drop {
		m.held.dropped += ended.Events.Events
	} else {
		r.Events = ended.Events
		m.held.ranges = append(m.held.ranges, r)
	}
	for key := range m.overflows {
		at := m.cursor
		for _, settled := range append(slices.Clone(r.Settled), store.OffsetRange{From: past, Past: past}) {
			m.skips[key] = append(m.skips[key], store.OffsetRange{From: at, Past: settled.From})
			at = settled.Past
		}
	}
	m.cursor = past
	return ended, nil
}

func (m *memory) Announce(_ context.Context, notices []store.Notice) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil || m.cut {
		return errors.Join(m.down, errors.New("killed"))
	}
	m.held.notices = append(m.held.notices, notices...)
	return nil
}
