package subscriptions

import (
	"fmt"
	"slices"
	"testing"
	"unsafe"
)

// held is what a cache holds, counted anew.
func held(c *matchCache) (types, weight int) {
	for _, g := range []generation{c.newer, c.older} {
		types += len(g.types)
		arrays := map[*int]int{} // what keeps memory is the array behind a list
		for name, list := range g.types {
			weight += len(name) + entryWeight
			arrays[unsafe.SliceData(list)] = 8*cap(list) + entryWeight
		}
		for _, list := range g.lists {
			arrays[unsafe.SliceData(list)] = 8*cap(list) + entryWeight
		}
		for _, size := range arrays {
			weight += size
		}
	}
	return types, weight
}

func TestCacheStaysWithinItsBoundUnderEndlessTypes(t *testing.T) {
	t.Parallel()
	const limit = 16 << 10
	c := newMatchCache(limit)
	most := 0
	for i := range 20_000 {
		name := fmt.Sprintf("published.%d", i)
		list := []int{i, i + 1, i + 2}
		if got := c.put(name, list); !slices.Equal(got, list) {
			t.Fatalf("put(%q) = %v", name, got)
		}
		if i%100 == 0 {
			_, weight := held(&c)
			most = max(most, weight)
		}
	}
	// One entry may overshoot each generation.
	if bound := 2*limit + 2*(maxCachedType+2*entryWeight+24); most > bound {
		t.Errorf("held %d bytes, bound %d", most, bound)
	}
	if types, _ := held(&c); types < 50 {
		t.Errorf("only %d types are held: it remembers nothing", types)
	}
}

func TestCacheKeepsWhatIsAskedForAgain(t *testing.T) {
	t.Parallel()
	c := newMatchCache(4 << 10)
	c.put("hot", []int{7})
	for i := range 10_000 {
		c.put(fmt.Sprintf("published.%d", i), nil)
		if got, ok := c.get("hot"); !ok || !slices.Equal(got, []int{7}) {
			t.Fatalf("after %d types: get = %v, %v", i, got, ok)
		}
	}
	if _, ok := c.get("published.0"); ok {
		t.Error("a type that came once is held for ever")
	}
}

func TestCacheSharesEqualLists(t *testing.T) {
	t.Parallel()
	c := newMatchCache(1 << 20)
	for i := range 1000 {
		c.put(fmt.Sprintf("published.%d", i), slices.Repeat([]int{3}, 1000))
	}
	if _, weight := held(&c); weight > 200_000 {
		t.Errorf("1000 types of one list of 8000 bytes hold %d bytes", weight)
	}
}

func TestListsOfOneHashAreNotMixedUp(t *testing.T) {
	t.Parallel()
	g := newGeneration()
	list, other := []int{1, 2}, []int{3}
	g.share(list)
	for hash := range g.lists {
		g.lists[hash] = other // as if both had the hash
	}
	if got, _ := g.share(list); !slices.Equal(got, list) {
		t.Errorf("share(%v) = %v", list, got)
	}
}

func TestCacheRemembersNoHugeTypes(t *testing.T) {
	t.Parallel()
	s := NewSet([][]string{{"**"}})
	huge := string(make([]byte, maxCachedType+1))
	for range 2 {
		if got := s.Match(huge); !slices.Equal(got, []int{0}) {
			t.Fatalf("Match = %v", got)
		}
	}
	if types, _ := held(&s.cache); types != 0 {
		t.Errorf("%d types are held", types)
	}
}
