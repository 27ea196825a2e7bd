package web

import "slices"

// navItem is a page of the navigation. Key goes there, after g.
type navItem struct {
	Name, Path, Text, Key string
	Apart                 bool // a line stands above it
}

// nav are the pages that the visitor's key opens: a page that would answer 403
// is not offered.
func (v *visit) nav() []navItem {
	items := []navItem{
		{Name: "overview", Path: "/", Text: "Overview", Key: "o"},
		{Name: "subscriptions", Path: "/subscriptions", Text: "Subscriptions", Key: "s"},
		{Name: "failed", Path: "/failed", Text: "Failed", Key: "f"},
		{Name: "events", Path: "/events", Text: "Events", Key: "e"},
		{Name: "attempts", Path: "/attempts", Text: "Attempts", Key: "t"},
		{Name: "replays", Path: "/replays", Text: "Replays", Key: "r"},
		{Name: "jobs", Path: "/jobs", Text: "Jobs", Key: "b"},
		{Name: "sources", Path: "/sources", Text: "Sources", Key: "u", Apart: true},
		{Name: "keys", Path: "/keys", Text: "Keys", Key: "y"},
		{Name: "audit", Path: "/audit", Text: "Audit", Key: "a"},
	}
	return slices.DeleteFunc(items, func(item navItem) bool {
		switch item.Name {
		case "keys", "audit":
			return !v.may("admin")
		case "events", "replays", "jobs", "sources":
			return v.restricted()
		}
		return false
	})
}

// restricted reports whether the visitor's key sees some subscriptions alone, and
// so nothing that is not of one of them.
func (v *visit) restricted() bool { return len(v.user.Labels) > 0 }
