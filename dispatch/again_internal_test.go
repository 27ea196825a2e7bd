package dispatch

import (
	"testing"

	"github.com/rowcall/rowcall/store"
)

// A lane that reads by itself may come to the end of the log before the head reader
// does. What that gives it then, from further down, it has taken: it does not go back
// there where it has no room.
func TestALaneThatWasAheadOfTheHeadDoesNotGoBack(t *testing.T) {
	t.Parallel()
	m := newMemory(simulated(nil))
	s := sessionOver(t, m)
	give := map[string]func(*lane, []*store.Event){
		"feed": func(l *lane, events []*store.Event) { l.feed(events) },
		"offer": func(l *lane, events []*store.Event) {
			var all []*candidate
			for _, e := range events {
				all = append(all, &candidate{event: e})
			}
			l.offer(all)
		},
	}
	for name, give := range give {
		l := newLane(s, store.Lane{ID: 1, Cursor: 10, Subscription: m.sub}, nil, HoldNone)
		l.attached, l.filled = true, true
		var events []*store.Event
		for n := range 8 {
			e := rowEvent(n, n)
			e.Offset = store.Offset(n + 1)
			events = append(events, &e)
		}
		give(l, events)
		if l.pos != 10 || !l.attached {
			t.Errorf("%s: the lane stands at %d, attached: %v; want 10, for nothing new came", name, l.pos, l.attached)
		}
		for n := 8; n < 12; n++ {
			e := rowEvent(n, n)
			e.Offset = store.Offset(n + 1)
			events = append(events, &e)
		}
		give(l, events)
		if l.pos != 10 || l.attached {
			t.Errorf("%s: the lane stands at %d, attached: %v; want 10, where it leaves the head", name, l.pos, l.attached)
		}
	}
}

// A key change that was in the window when one of its keys overflowed, further up, is
// left in the log with what follows it where its other key has begun to overflow below it.
func TestAKeyChangeDoesNotGoPastAKeyThatOverflowsSinceACrash(t *testing.T) {
	t.Parallel()
	m := newMemory(simulated(nil))
	s := sessionOver(t, m)
	l := newLane(s, store.Lane{ID: 1, Cursor: 10, Ahead: []store.OffsetRange{{From: 20, Past: 31}}, Subscription: m.sub}, nil, HoldNone)
	l.restoreOverflows([]store.Overflow{{Key: "t/a", From: 20}})
	if l.holdBack(&entry{offset: 11, key: "t/a"}) {
		t.Error("an event below the overflow of its key was held back")
	}
	l.overflow("t/b", 12)
	if !l.holdBack(&entry{offset: 15, key: "t/a", key2: "t/b"}) || !l.holdBack(&entry{offset: 17, key: "t/a"}) {
		t.Error("a key change, or what follows it, went past a key that overflows")
	}
	if a := l.overflows["t/a"]; a.walk != 15 || a.last != 30 {
		t.Errorf("the walk of the other key begins at %d and goes to %d, want 15 and 30", a.walk, a.last)
	}
}
