package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// origins are where events come from: tables, captured or not, and what was ever
// seen of other types.
type origins struct {
	read    bool
	tables  []originTable
	columns []subscriptions.TableTypes // of captured tables
	types   []string                   // of captured tables, and those that were seen
	known   map[string]bool            // types
	endless bool                       // so many were seen that not all of them were noted
	said    map[string]string          // by pattern, what is to be said of it
}

// originTable is a table that capture knows; names are those of types.
type originTable struct {
	schema, name   string
	captured       bool
	reason, remedy string
}

// rowOperations are the last segments of row events' types.
var rowOperations = []string{"inserted", "updated", "deleted", "truncated"}

func (o *origins) get(ctx context.Context, s *store.Store) error {
	if o.read {
		return nil
	}
	sources, err := s.Sources(ctx)
	if err != nil {
		return err
	}
	seen, endless, err := s.SeenTypes(ctx)
	if err != nil {
		return err
	}
	*o = origins{read: true, columns: store.TablesOf(sources), known: map[string]bool{}, endless: endless, said: map[string]string{}}
	for i := range sources {
		for _, r := range sources[i].Relations {
			o.tables = append(o.tables, originTable{subscriptions.EncodeName(r.Schema), subscriptions.EncodeName(r.Name), r.Captured, r.Reason, r.Remedy})
		}
	}
	slices.SortStableFunc(o.tables, func(a, b originTable) int {
		if a.captured != b.captured {
			return map[bool]int{true: -1, false: 1}[a.captured]
		}
		return cmp.Or(cmp.Compare(a.schema, b.schema), cmp.Compare(a.name, b.name))
	})
	for _, t := range o.tables {
		for _, op := range rowOperations {
			if t.captured {
				seen = append(seen, t.schema+"."+t.name+"."+op)
			}
		}
	}
	for _, name := range seen {
		if !o.known[name] {
			o.known[name] = true
			o.types = append(o.types, name)
		}
	}
	return nil
}

// silent says of every pattern of which no event can be expected what is the matter
// with it. Before capture has named a table, nothing is known of any; of notices,
// nothing is said.
func (o *origins) silent(patterns []string) (warnings []string) {
	if len(o.tables) == 0 || o.endless {
		return nil
	}
	var open [][]string
	for _, pattern := range patterns {
		if _, said := o.said[pattern]; said || o.known[pattern] || isNotice(pattern) {
			continue
		}
		open = append(open, []string{pattern})
	}
	if len(open) > 0 {
		matched := make([]bool, len(open))
		left := len(open)
		set := subscriptions.NewSet(open)
		for _, name := range o.types {
			for _, i := range set.Match(name) {
				if !matched[i] {
					matched[i] = true
					left--
				}
			}
			if left == 0 {
				break
			}
		}
		for i, pattern := range open {
			o.said[pattern[0]] = ""
			if !matched[i] {
				o.said[pattern[0]] = o.warning(pattern[0])
			}
		}
	}
	for _, pattern := range patterns {
		if said := o.said[pattern]; said != "" {
			warnings = append(warnings, said)
		}
	}
	return warnings
}

// warning is what is said of a pattern that nothing matches.
func (o *origins) warning(pattern string) string {
	text := fmt.Sprintf("events, pattern %q: no captured table has events of these types, and none were seen", pattern)
	better, table := o.better(pattern)
	switch {
	case better == "":
		return text + "; they come once there is such a table, or somebody publishes them"
	case table.captured:
		return text + fmt.Sprintf("; did you mean %q?", better)
	}
	text += fmt.Sprintf("; table %s.%s is left out of capture: %s", table.schema, table.name, table.reason)
	if table.remedy != "" {
		text += "; what lets it in: " + table.remedy
	}
	if better != pattern {
		text += fmt.Sprintf("; its pattern is %q", better)
	}
	return text
}

// better is the pattern that was most likely meant, and the table that it is about.
func (o *origins) better(pattern string) (string, originTable) {
	var schema string
	var of originTable
	segments := strings.Split(pattern, ".")
	for _, t := range o.tables {
		if fits(segments[0], t.schema) && len(segments) > 1 && segments[1] != "**" && fits(segments[1], t.name) {
			return strings.Join([]string{kept(segments[0], t.schema), kept(segments[1], t.name), operation(segments[2:])}, "."), t
		}
	}
	for _, t := range o.tables {
		switch {
		case strings.EqualFold(segments[0], t.name):
			return strings.Join([]string{t.schema, t.name, operation(segments[1:])}, "."), t
		case schema == "" && fits(segments[0], t.schema) && (len(segments) == 1 || segments[1] == "**"):
			schema, of = kept(segments[0], t.schema)+".**", t
			if segments[0] == "*" {
				schema = "**"
			}
		}
	}
	if schema == pattern && of.captured {
		schema = ""
	}
	return schema, of
}

// fits reports whether a segment of a pattern means a name, but for its case.
func fits(segment, name string) bool { return segment == "*" || strings.EqualFold(segment, name) }

func kept(segment, name string) string {
	if segment == "*" {
		return segment
	}
	return name
}

// operation is what was meant by the segments behind a table; all where it is not clear.
func operation(segments []string) string {
	if len(segments) == 0 || segments[0] == "**" {
		return "*"
	}
	said := strings.ToLower(segments[0])
	for op, words := range map[string][]string{
		"inserted": {"insert", "create", "add"}, "updated": {"update", "change", "modif"}, "deleted": {"delete", "remove"}, "truncated": {"truncate"},
	} {
		if slices.ContainsFunc(words, func(word string) bool { return strings.HasPrefix(said, word) }) {
			return op
		}
	}
	return "*"
}
