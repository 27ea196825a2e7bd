package dispatch

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/store"
)

// An entry may go exactly when no related entry before it is left: the property
// that order keeps with one pointer a key, checked against looking at all pairs.
func TestOrderLetsAnEntryGoWhenNothingRelatedIsBeforeIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := newOrder()
		var left []*entry // in the order in which they must go
		check := func() {
			for i, e := range left {
				blocked := slices.ContainsFunc(left[:i], func(before *entry) bool { return related(e, before) })
				if blocked != (e.waits > 0) {
					t.Fatalf("entry %d (%s,%s,%s): waits for %d, but something related before it: %v", e.offset, e.key, e.key2, e.barrier, e.waits, blocked)
				}
			}
		}
		key := rapid.Custom(func(t *rapid.T) string {
			return fmt.Sprintf("t%d/%d", rapid.IntRange(0, 1).Draw(t, "table"), rapid.IntRange(0, 3).Draw(t, "key"))
		})
		offset := store.Offset(0)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				offset++
				e := &entry{offset: offset, key: key.Draw(t, "key"), heapIndex: -1}
				switch rapid.IntRange(0, 9).Draw(t, "kind") {
				case 0:
					e.key = tableOf(e.key)
					e.barrier = e.key
				case 1, 2:
					if other := key.Draw(t, "other"); other != e.key {
						e.key2 = other
					}
				}
				o.add(e)
				left = append(left, e)
			},
			"end": func(t *rapid.T) {
				free := slices.Collect(func(yield func(int) bool) {
					for i, e := range left {
						if e.waits == 0 && !yield(i) {
							return
						}
					}
				})
				if len(free) == 0 {
					t.Skip("nothing may go")
				}
				i := rapid.SampledFrom(free).Draw(t, "which")
				e := left[i]
				left = slices.Delete(left, i, i+1)
				e.state = ended
				for _, n := range o.end(e) {
					if n.waits != 0 {
						t.Fatalf("freed entry %d waits for %d", n.offset, n.waits)
					}
				}
			},
			"": func(*rapid.T) { check() },
		})
		if len(left) == 0 && len(o.tails)+len(o.barriers) != 0 {
			t.Fatalf("nothing is left, but order remembers %v %v", o.tails, o.barriers)
		}
	})
}

func TestADequeKeepsItsOrderWhileItGrowsAndWraps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var d deque
		var want []*entry
		t.Repeat(map[string]func(*rapid.T){
			"push":  func(*rapid.T) { e := &entry{}; d.push(e); want = append(want, e) },
			"front": func(*rapid.T) { e := &entry{}; d.pushFront(e); want = slices.Insert(want, 0, e) },
			"pop": func(t *rapid.T) {
				var first *entry
				if len(want) > 0 {
					first, want = want[0], want[1:]
				}
				if got := d.pop(); got != first {
					t.Fatalf("popped %p, want %p", got, first)
				}
			},
			"": func(t *rapid.T) {
				if d.len() != len(want) {
					t.Fatalf("len %d, want %d", d.len(), len(want))
				}
				for i, e := range want {
					if d.at(i) != e {
						t.Fatalf("entry %d is %p, want %p", i, d.at(i), e)
					}
				}
			},
		})
	})
}
