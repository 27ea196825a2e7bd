package dispatch

import (
	"fmt"
	"slices"

	"github.com/rowcall/rowcall/store"
)

// balance panics where a lane's counts do not account for every event that its
// cursor has passed, once. It is asked after whatever writes, so each simulation
// asks it thousands of times. A filter's part is not counted, and patterns that
// were edited, and the log that a fleet shares, are not known.
func (m *memory) balance() {
	if len(m.events) == 0 || m.sub.Filter != nil || len(m.sub.Events) != 1 || m.sub.Events[0] != "**" {
		return
	}
	cursor := m.cursor
	if m.following {
		cursor = max(cursor, m.floor)
	}
	passed := m.matching(1, cursor).Events
	for _, r := range m.ahead {
		passed += m.matching(max(r.From, cursor), r.Past).Events
	}
	rows := int64(0)
	for at := range m.deliveries {
		in := func(r store.OffsetRange) bool { return r.From <= at && at < r.Past }
		if at < cursor || slices.ContainsFunc(m.ahead, in) {
			rows++
		}
	}
	ranges := int64(0)
	for _, r := range m.held.ranges {
		ranges += r.Events.Events
	}
	c := m.counts
	if got := c.Delivered + c.Filtered + c.Discarded + c.Compacted + c.Overflowed + m.held.dropped + rows + ranges; got != passed {
		panic(fmt.Sprintf("%d events were passed and %d are accounted for: %+v, %d deliveries, %d in dead ranges, %d dropped; cursor %d, ahead %v",
			passed, got, c, rows, ranges, m.held.dropped, cursor, m.ahead))
	}
}
