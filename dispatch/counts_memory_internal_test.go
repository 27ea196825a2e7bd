package dispatch

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/rowcall/rowcall/store"
)

// balance panics where a lane's counts do not account for every event that its
// cursor has passed, once. It is asked after whatever writes, so each simulation
// asks it thousands of times. A filter's part is not counted, so what it wants has to
// be known; patterns that were edited, and the log that a fleet shares, are not.
func (m *memory) balance() {
	if len(m.events) == 0 || m.sub.Filter != nil && m.wanted == nil || len(m.sub.Events) != 1 || m.sub.Events[0] != "**" {
		return
	}
	gone := m.held.dropped
	for _, r := range m.held.ranges {
		gone += r.Events.Events
	}
	m.balanceOf(&m.laneMemory, 1, 1<<60, gone)
	if m.second != nil {
		m.balanceOf(m.second, m.second.replay.From, m.second.replay.Past, 0)
	}
}

// balanceOf is balance for a lane that is of the log's part from first to past, of
// which so many events were given up.
func (m *memory) balanceOf(l *laneMemory, first, past store.Offset, gone int64) {
	cursor := l.cursor
	if l.following {
		cursor = max(cursor, m.floor)
	}
	cursor = min(cursor, past)
	passed := m.matching(first, cursor).Events
	for _, r := range l.ahead {
		passed += m.matching(max(r.From, cursor), min(r.Past, past)).Events
	}
	rows := int64(0)
	for at := range l.deliveries { // without the rows, whose reading the race detector makes dear
		// The ranges are sorted: at is in the last that begins at or before it, or in none.
		n, _ := slices.BinarySearchFunc(l.ahead, at+1, func(r store.OffsetRange, at store.Offset) int { return cmp.Compare(r.From, at) })
		if at < cursor || n > 0 && at < l.ahead[n-1].Past {
			rows++
		}
	}
	c := l.counts
	if got := c.Delivered + c.Filtered + c.Discarded + c.Compacted + c.Overflowed + gone + rows; got != passed {
		panic(fmt.Sprintf("%d events were passed and %d are accounted for: %+v, %d deliveries, %d given up; cursor %d, ahead %v",
			passed, got, c, rows, gone, cursor, l.ahead))
	}
	if l.replay == nil {
		return
	}
	dead := int64(0)
	for _, d := range l.deliveries {
		if d.State == store.Dead {
			dead++
		}
	}
	if r := l.replay; r.Delivered != c.Delivered || r.Dead != dead {
		panic(fmt.Sprintf("a replay says %+v where its lane says %+v and has %d dead letters", r.Progress, c, dead))
	}
}
