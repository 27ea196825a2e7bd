package dispatch

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/rowcall/rowcall/store"
)

const (
	// intentPage is how many intents are read, and applied to a lane, together.
	intentPage = 1000
	// maxRevisited bounds the dead letters that a lane has taken up again for jobs
	// and not ended: a hundred thousand that are retried at once come by and by.
	maxRevisited = 5000
)

// intents applies what people asked for, page by page.
func (s *session) intents(ctx context.Context) error {
	s.unclear, s.yields = false, false
	known := make(map[int64]*lane)
	crowded := make(map[*lane]bool) // they take up no more dead letters for jobs in this look
	defer func() { s.applied = known }()
	for past := int64(0); ; {
		page, err := s.store.Intents(ctx, past, intentPage)
		if err != nil {
			known = s.applied
			return err
		}
		byLane := make(map[*lane][]store.Intent)
		for _, w := range page {
			past = w.ID
			switch l := s.lanes[w.Lane]; {
			case l == nil:
			case s.applied[w.ID] == l:
				known[w.ID] = l // and its settlement is under way
			default:
				byLane[l] = append(byLane[l], w)
			}
		}
		for l, wishes := range byLane {
			applied, full, err := s.apply(ctx, l, wishes, crowded[l])
			crowded[l] = full
			for _, id := range applied {
				known[id] = l
			}
			if err != nil {
				for id, l := range s.applied {
					known[id] = l
				}
				return err
			}
		}
		if len(page) < intentPage {
			return nil
		}
	}
}

// apply applies intents to a lane, in the order of their offsets. It returns
// those that it applied; the others wait for the next look. Once a lane is crowded,
// or yields to live events, it stays so for the look, whatever ends meanwhile: a dead
// letter must not be taken up before one of its key that was left.
func (s *session) apply(ctx context.Context, l *lane, wishes []store.Intent, crowded bool) (applied []int64, full bool, err error) {
	slices.SortStableFunc(wishes, func(a, b store.Intent) int { return cmp.Compare(a.Offset, b.Offset) })
	now, bulk := time.Now(), 0
	if room := s.yielding.room(now); l.replay == nil && room < math.MaxInt { // a replay's attempts yield themselves
		if crowded {
			room = 0
		}
		var left bool
		if wishes, left = within(wishes, room); left {
			s.yields = true
			defer func() { full = true }()
		}
	}
	absent := l.absent(wishes)
	var rows map[store.Offset]store.Delivery
	if len(absent) > 0 {
		if rows, err = s.store.DeliveriesAt(ctx, l.id, absent); err != nil {
			return nil, crowded, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil, crowded, nil
	}
	revisited := false
	for _, w := range wishes {
		var e *entry
		moot := w.Void
		if !moot && w.Action != "probe" {
			if e = cmp.Or(l.rows[w.Offset], l.dying[w.Offset]); e == nil {
				row, there := rows[w.Offset]
				switch _, looked := slices.BinarySearch(absent, w.Offset); {
				case !looked || there && row.State != store.Dead:
					s.unclear = true // it is being written, or ended just now: the next look sees
					continue
				case there:
					e = l.entryOf(&row)
					e.state = lying
				}
			}
			moot = e == nil // it ended meanwhile: there is nothing left to ask for
		}
		switch {
		case moot:
		case w.Action == "probe":
			l.probeNow()
		case w.Action == "discard":
			moot = !l.discard(e)
		case e.state == lying && l.rows[w.Offset] == nil:
			if crowded = crowded || l.revisited >= maxRevisited; crowded && w.Job != "" {
				l.crowded = true
				continue
			}
			l.revisit(e)
			revisited = true
		default:
			l.retry(e)
		}
		if !moot && inBulk(&w) {
			bulk++
		}
		if moot {
			l.moot = append(l.moot, w.ID)
		} else {
			l.applied = append(l.applied, w.ID)
		}
		applied = append(applied, w.ID)
	}
	if revisited {
		l.reorder()
	}
	if l.replay == nil {
		s.yielding.tookUp(now, bulk)
	}
	l.uncrowd()
	if len(applied) > 0 {
		l.mark()
	}
	l.pump()
	return applied, crowded, nil
}

// inBulk reports whether a wish is a bulk retry's, which is what yields: a person who
// retries one delivery waits for it.
func inBulk(w *store.Intent) bool { return w.Job != "" && w.Action == "retry" && !w.Void }

// within are wishes without those of bulk retries beyond the first so many.
func within(wishes []store.Intent, room int) (now []store.Intent, left bool) {
	for i := range wishes {
		if inBulk(&wishes[i]) {
			if room == 0 {
				left = true
				continue
			}
			room--
		}
		now = append(now, wishes[i])
	}
	return now, left
}

// absent are the offsets of intents whose deliveries are not in memory, in
// rising order: dead letters, or what has ended.
func (l *lane) absent(wishes []store.Intent) []store.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	var at []store.Offset
	for _, w := range wishes {
		if !w.Void && w.Action != "probe" && l.rows[w.Offset] == nil && l.dying[w.Offset] == nil {
			at = append(at, w.Offset)
		}
	}
	return slices.Compact(at)
}

// retry gives e a fresh budget and a try at once.
func (l *lane) retry(e *entry) {
	l.leaveBatch(e)
	switch e.state {
	case sleeping:
		l.unsleep(e)
		fallthrough
	case lying, faulty:
		if e.state == lying {
			l.count(0, -1)
		}
		e.renew()
		if e.waits > 0 {
			e.state = waiting
		} else {
			l.makeReady(e)
		}
		l.toRow(e)
	case waiting, ready, flying, grouped, ended: // its turn comes, or is
	}
}

// renew gives an entry a fresh budget.
func (e *entry) renew() {
	e.tries, e.shared, e.charged, e.due, e.firstFailed = 0, 0, 0, time.Time{}, time.Time{}
}

// discard ends e without sending it, or sending it again. One that still waits
// for others goes when its turn comes, so that what follows it still waits for
// those; one in flight when its attempt ends, unless that delivers it. It is
// false where it is too late.
func (l *lane) discard(e *entry) bool {
	l.leaveBatch(e)
	switch e.state {
	case lying:
		if l.rows[e.offset] == nil { // a dead letter that holds nothing
			delete(l.dying, e.offset)
			e.state = ended
			l.gone = append(l.gone, e.offset)
			l.counts.Discarded++
			return true
		}
		fallthrough
	case sleeping, faulty:
		l.unsleep(e)
		if e.waits == 0 {
			l.countDiscarded(e)
			l.end(e)
			return true
		}
		e.state = waiting
		fallthrough
	case waiting, ready, flying:
		l.countDiscarded(e)
		e.discarded = true
		if e.saved {
			l.gone = append(l.gone, e.offset)
			e.saved = false
		}
		return true
	case grouped, ended:
	}
	return false
}

// revisit takes up a dead letter that the lane has forgotten; reorder gives it
// its place: before the unsent events of its key, after those that are being sent.
func (l *lane) revisit(e *entry) {
	delete(l.dying, e.offset)
	e.renew()
	e.revisited = true
	l.revisited++
	l.count(0, -1)
	e.state, e.queued, e.row = waiting, false, true
	l.rows[e.offset] = e
	if !e.dirty {
		e.dirty = true
		l.dirty = append(l.dirty, e)
	}
}

// unrow takes e out of what rows hold in memory.
func (l *lane) unrow(e *entry) {
	delete(l.rows, e.offset)
	if !e.revisited {
		return
	}
	e.revisited = false
	l.revisited--
	l.uncrowd()
}

// uncrowd has what a crowded lane left looked at again, once there is room.
func (l *lane) uncrowd() {
	if l.crowded && l.revisited <= maxRevisited/2 {
		l.crowded = false
		poke(l.s.reclaim)
	}
}

// reorder makes anew who waits for whom: what is being sent comes first, then all
// the rest by offset.
func (l *lane) reorder() {
	entries := slices.Collect(l.all())
	slices.SortFunc(entries, func(a, b *entry) int {
		if flies := a.state == flying; flies != (b.state == flying) {
			if flies {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.offset, b.offset)
	})
	l.order = newOrder()
	for _, e := range entries {
		e.waits, e.loose, e.depth, e.next = 0, 0, 0, nil
	}
	l.order.addAll(entries)
	for _, e := range entries {
		if e.mustRow() {
			l.toRow(e)
		}
		if e.state == waiting && e.waits == 0 {
			l.makeReady(e)
		}
	}
}
