package subscriptions

import (
	"slices"
	"strings"
	"sync"
)

const (
	// matchCacheWeight bounds each of the two generations, in bytes.
	matchCacheWeight = 4 << 20
	// maxCachedType bounds the types that are remembered, in bytes. Longer ones
	// are looked up each time.
	maxCachedType = 1024
	// entryWeight stands for what a map entry takes beyond its key, in bytes.
	entryWeight = 64
)

// matchCache remembers which subscriptions a type matched, within a bound of
// about twice its limit. It is safe for concurrent use.
//
// There are two generations: when the newer is full, the older is dropped, and
// what is asked for again moves over from it. So hot types stay for ever and a
// flood of types that come once passes through, without a list to keep in order
// on each hit. Types that match the same subscriptions share one slice.
type matchCache struct {
	limit int

	mu    sync.RWMutex
	newer generation
	older generation
}

type generation struct {
	types  map[string][]int
	lists  map[uint64][]int // by hash: slices to share
	weight int
}

func newGeneration() generation {
	return generation{types: map[string][]int{}, lists: map[uint64][]int{}}
}

func newMatchCache(limit int) matchCache {
	return matchCache{limit: limit, newer: newGeneration(), older: newGeneration()}
}

func (c *matchCache) get(eventType string) ([]int, bool) {
	c.mu.RLock()
	matched, hit := c.newer.types[eventType]
	aged := false
	if !hit {
		matched, aged = c.older.types[eventType]
	}
	c.mu.RUnlock()
	if aged {
		return c.put(eventType, matched), true
	}
	return matched, hit
}

// put remembers what a type matched and returns the slice to hand out.
func (c *matchCache) put(eventType string, matched []int) []int {
	if len(eventType) > maxCachedType {
		return matched
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.newer.types[eventType]; ok {
		return known
	}
	matched, added := c.newer.share(matched)
	// The caller's string may be a small part of a large buffer.
	c.newer.types[strings.Clone(eventType)] = matched
	c.newer.weight += added + len(eventType) + entryWeight
	if c.newer.weight > c.limit {
		c.older, c.newer = c.newer, newGeneration()
	}
	return matched
}

// share returns a slice equal to list that the generation holds already, or
// list and the bytes that holding it adds.
func (g *generation) share(list []int) ([]int, int) {
	if len(list) == 0 {
		return nil, 0
	}
	hash := uint64(14695981039346656037) // FNV-1a over words: speed matters, not strength
	for _, n := range list {
		hash = (hash ^ uint64(n)) * 1099511628211
	}
	known, ok := g.lists[hash]
	switch {
	case ok && slices.Equal(known, list):
		return known, 0
	case !ok:
		g.lists[hash] = list
	}
	return list, 8*len(list) + entryWeight
}
