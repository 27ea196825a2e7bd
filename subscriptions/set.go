package subscriptions

import (
	"slices"
	"strings"
)

// Set is a compiled table from event type to subscriptions. It is immutable
// once built and safe for concurrent use; its speed does not depend on how many
// subscriptions do not match.
//
// Patterns are a tree of segments, and what a type matched is remembered in a
// cache of bounded size: types of tables are few, published ones may be endless.
type Set struct {
	root  segment
	cache matchCache
}

// segment is a node of the tree: all patterns that begin alike share it.
type segment struct {
	names map[string]*segment // next segment, by name
	any   *segment            // next segment "*"
	here  []int               // subscriptions of patterns that end here, rising
	rest  []int               // subscriptions of patterns that go on with "**", rising
}

// NewSet compiles the patterns of subscriptions; patterns[i] are those of
// number i. Patterns must be valid (Spec.Validate has seen them); one that is
// not matches nothing, so that a single bad row stops nobody else's deliveries.
func NewSet(patterns [][]string) *Set {
	s := &Set{cache: newMatchCache(matchCacheWeight)}
	for i, list := range patterns {
		for _, pattern := range list {
			if CheckPattern(pattern) == nil {
				s.root.add(pattern, i)
			}
		}
	}
	return s
}

func (n *segment) add(pattern string, number int) {
	for rest, more := pattern, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, ".")
		switch name {
		case theRest:
			n.rest = appendNew(n.rest, number)
			return
		case oneSegment:
			if n.any == nil {
				n.any = &segment{}
			}
			n = n.any
		default:
			next := n.names[name]
			if next == nil {
				if n.names == nil {
					n.names = map[string]*segment{}
				}
				next = &segment{}
				n.names[strings.Clone(name)] = next
			}
			n = next
		}
	}
	n.here = appendNew(n.here, number)
}

// appendNew keeps a list rising; numbers come in rising order.
func appendNew(list []int, number int) []int {
	if len(list) > 0 && list[len(list)-1] == number {
		return list
	}
	return append(list, number)
}

// Match returns the numbers of the subscriptions that want events of the type,
// in rising order. The slice is shared: callers must not change it.
func (s *Set) Match(eventType string) []int {
	if matched, ok := s.cache.get(eventType); ok {
		return matched
	}
	return s.cache.put(eventType, s.find(eventType))
}

func (s *Set) find(eventType string) []int {
	if !strings.HasPrefix(eventType, noticePrefix) {
		return merge(s.root.collect(nil, eventType))
	}
	own := s.root.names[strings.TrimSuffix(noticePrefix, ".")]
	if own == nil {
		return nil
	}
	return merge(own.collect(nil, eventType[len(noticePrefix):]))
}

// collect appends the lists of every pattern that takes the segments of rest.
func (n *segment) collect(lists [][]int, rest string) [][]int {
	if len(n.rest) > 0 {
		lists = append(lists, n.rest)
	}
	name, rest, more := strings.Cut(rest, ".")
	for _, next := range [...]*segment{n.names[name], n.any} {
		switch {
		case next == nil:
		case more:
			lists = next.collect(lists, rest)
		case len(next.here) > 0:
			lists = append(lists, next.here)
		}
	}
	return lists
}

func merge(lists [][]int) []int {
	switch len(lists) {
	case 0:
		return nil
	case 1:
		return slices.Clip(lists[0])
	}
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Clip(slices.Compact(all))
}
