package web

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/rowcall/rowcall/api/client"
)

const auditLimit = 50

// changeRow is a change in words.
type changeRow struct {
	client.Change
	Who    string // the key's name, or its id where the visitor may not know it
	What   string
	Name   string // the object's, or its id
	Link   string // the object's page; empty: it has none
	Fields []memberChange
}

type auditView struct {
	Rows       []changeRow
	Query      client.ChangeQuery
	Within     string
	Actors     map[string]string
	Actions    []string
	Filtered   bool
	First      bool
	Home, Next string
}

// auditActions are those that a list can be filtered by: operations that change
// something, and what is no operation.
func auditActions() []string {
	return []string{
		"accept-gap", "cancel-job", "cancel-replay", "create-api-key", "create-replay", "create-subscription", "declare-subscription", "delete-subscription",
		"discard-dead-range", "discard-deliveries", "discard-delivery", "failed-sign-ins", "patch-subscription", "pause-job", "pause-replay",
		"pause-subscription", "probe-subscription", "resume-job", "resume-replay", "resume-subscription", "retry-dead-range", "retry-deliveries",
		"retry-delivery", "revoke-api-key", "rotate-secret", "sign-in",
	}
}

func audit(v *visit) error {
	q := v.URL.Query()
	query := client.ChangeQuery{
		PageQuery: client.PageQuery{Limit: auditLimit, Cursor: q.Get("cursor")},
		Actor:     q.Get("actor"), Action: q.Get("action"), Object: strings.TrimSpace(q.Get("object")), Since: since(q.Get("within"), v.now),
	}
	found, err := v.api.Audit(v.Context(), query)
	if err != nil {
		return err
	}
	names, err := v.keyNames()
	if err != nil {
		return err
	}
	subscriptions, err := v.names()
	if err != nil {
		return err
	}
	return v.render("audit", "audit", "Audit", auditView{
		Rows: changeRows(found.Items, names, subscriptions), Query: query, Within: q.Get("within"), Actors: names, Actions: withChosen(auditActions(), query.Action),
		Filtered: query.Actor+query.Action+query.Object+q.Get("within") != "",
		First:    query.Cursor == "", Home: firstPage(v.URL), Next: nextPage(v.URL, found.NextCursor),
	})
}

// withChosen is a list of options that holds the one that is chosen.
func withChosen(options []string, chosen string) []string {
	if chosen != "" && !slices.Contains(options, chosen) {
		options = append(options, chosen)
	}
	return options
}

func changeRows(of []client.Change, keys, subscriptions map[string]string) []changeRow {
	rows := make([]changeRow, len(of))
	for i, c := range of {
		_, id, _ := strings.Cut(c.Object, "/")
		rows[i] = changeRow{Change: c, Who: cmp.Or(keys[c.Actor], c.Actor), Name: cmp.Or(subscriptions[id], keys[id], c.Object), What: strings.ReplaceAll(c.Action, "-", " "), Link: objectPage(c.Object), Fields: memberChanges(c.Before, c.After)}
	}
	return rows
}

// objectPage is where an object of the audit trail is shown; empty: nowhere.
func objectPage(object string) string {
	kind, id, _ := strings.Cut(object, "/")
	switch {
	case id == "" || strings.ContainsAny(id, "/?#"):
		return ""
	case strings.HasPrefix(id, "rpl_"):
		return "/replays/" + id
	}
	switch kind {
	case "subscription":
		return "/subscriptions/" + id
	case "job":
		return "/jobs/" + id
	case "delivery":
		return "/deliveries/" + id
	case "source":
		return "/sources/" + id
	}
	return ""
}

// memberChange is a member of an object as it was and as it is; empty: it was
// not there, or is not any more.
type memberChange struct{ Name, Before, After string }

// memberChanges lists the members that differ, by their paths.
func memberChanges(before, after json.RawMessage) []memberChange {
	old, now := flatten(before), flatten(after)
	var list []memberChange
	for _, name := range sortedKeys(old) {
		if old[name] != now[name] {
			list = append(list, memberChange{name, old[name], now[name]})
		}
	}
	for _, name := range sortedKeys(now) {
		if _, there := old[name]; !there {
			list = append(list, memberChange{name, "", now[name]})
		}
	}
	slices.SortStableFunc(list, func(a, b memberChange) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// flatten is an object's members that are no objects, by their paths.
func flatten(raw json.RawMessage) map[string]string {
	flat := map[string]string{}
	var walk func(path string, raw json.RawMessage)
	walk = func(path string, raw json.RawMessage) {
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) == nil && len(object) > 0 {
			for name, value := range object {
				walk(strings.TrimPrefix(path+"."+name, "."), value)
			}
			return
		}
		var text string
		if json.Unmarshal(raw, &text) != nil || bytes.Equal(raw, []byte("null")) {
			text = string(raw)
		}
		if path != "" {
			flat[path] = text
		}
	}
	walk("", raw)
	return flat
}
