package web

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

const failedLimit = 50

// failedFilter is what the pages of failures are filtered by; it stands in the
// address, so that a page can be shared.
type failedFilter struct {
	Subscription, State, Reason, Status, Type, Key string

	Where string // CEL on the event

	Within string // of the last change: 1h, 24h, 168h; empty: any time
	Since  string // the same as a time, which further pages of a list keep to
	Until  string // a time too: of jobs that have one
}

func readFilter(q url.Values) failedFilter {
	return failedFilter{
		Subscription: q.Get("subscription"), State: q.Get("state"), Reason: q.Get("reason"), Status: q.Get("status"), Type: q.Get("type"), Key: q.Get("key"),
		Where: q.Get("where"), Within: q.Get("within"), Since: q.Get("since"), Until: q.Get("until"),
	}
}

// Any reports whether anything is filtered.
func (f failedFilter) Any() bool { return f != failedFilter{} }

// Address is the filter as an address ends with it.
func (f failedFilter) Address() string { return f.query() }

// With is Address with one more member.
func (f failedFilter) With(name, value string) string { return f.query(name, value) }

// query is the filter as an address has it; more are further members of it.
func (f failedFilter) query(more ...string) string {
	q := url.Values{}
	pairs := append([]string{
		"subscription", f.Subscription, "state", f.State, "reason", f.Reason, "status", f.Status, "type", f.Type, "key", f.Key, "where", f.Where, "within", f.Within,
		"since", f.Since, "until", f.Until,
	}, more...)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

func (f failedFilter) deliveries(cursor string) client.DeliveryQuery {
	query := client.DeliveryQuery{
		PageQuery: client.PageQuery{Limit: failedLimit, Cursor: cursor}, Subscription: f.Subscription, State: f.State, Reason: f.Reason,
		Type: f.Type, Key: f.Key, Filter: f.Where,
	}
	// What is no time and no number selects nothing, rather than all.
	var err error
	never := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	if query.Since = since(f.Within, time.Now()); f.Within != "" && query.Since.IsZero() {
		query.Since = never
	}
	if f.Since != "" {
		if query.Since, err = time.Parse(time.RFC3339, f.Since); err != nil {
			query.Since = never
		}
	}
	if f.Until != "" {
		if query.Until, err = time.Parse(time.RFC3339, f.Until); err != nil {
			query.Since, query.Until = never, time.Time{}
		}
	}
	if query.Status, _ = strconv.Atoi(f.Status); query.Status == 0 && f.Status != "" {
		query.Status = -1
	}
	return query
}

// since is when a time span such as 24h began; zero: there is none. It is to the
// minute, so that what a page says and does agree on it.
func since(within string, now time.Time) time.Time {
	if d, err := time.ParseDuration(within); err == nil && d > 0 {
		return now.Add(-d).Truncate(time.Minute).UTC()
	}
	return time.Time{}
}

// groupRow is a group of failures with where it leads.
type groupRow struct {
	client.DeliveryGroup
	Name, Link string
	Retry      string // the page that asks; empty: nothing of it can be retried
}

// newGroup is a group with its pages. query selects its deliveries.
func newGroup(g client.DeliveryGroup, name, query string) groupRow {
	row := groupRow{DeliveryGroup: g, Name: name, Link: "/failed/deliveries" + query}
	if g.State != "blocked" {
		row.Retry = "/failed/retry" + query
	}
	return row
}

// Fails reports whether an expression of the subscription fails on the events:
// they wait for an edit, not for others.
func (g *groupRow) Fails() bool { return g.Reason == "filter_error" || g.Reason == "transform_error" }

// groupFilter selects the deliveries of a group.
func groupFilter(g *client.DeliveryGroup) failedFilter {
	f := failedFilter{Subscription: g.Subscription, State: g.State, Reason: g.Reason}
	if g.Status != 0 {
		f.Status = strconv.Itoa(g.Status)
	}
	return f
}

type failedView struct {
	Summary string
	Filter  failedFilter
	Groups  []groupRow
	Held    []client.BoardRow
	Ranges  []client.DeadRange // what a hold limit gave up
	More    bool               // of Ranges
	Names   map[string]string
	Reasons []string

	MayDeliver bool
}

// failed groups what did not go at first pass by what went wrong.
func failed(v *visit) error {
	if text := strings.TrimSpace(v.URL.Query().Get("q")); text != "" {
		return searchFor(v, text)
	}
	f := readFilter(v.URL.Query())
	groups, err := v.api.DeliveryGroups(v.Context(), f.deliveries(""))
	if err != nil {
		return err
	}
	found, err := v.api.Endpoints(v.Context(), client.BoardQuery{PageQuery: client.PageQuery{Limit: 1000}, Subscription: f.Subscription})
	if err != nil {
		return err
	}
	if f.Subscription == "" {
		v.console.counts.keep(v, found.Totals) // the page and the navigation agree
	}
	view := failedView{Filter: f, Names: map[string]string{}, Reasons: reasonsOf(groups, f.Reason)}
	for _, row := range found.Items {
		view.Names[row.Subscription] = row.Name
		parked := row.Condition == "parked" || row.Condition == "probing"
		if parked && f.State == "" && (f.Reason == "" || f.Reason == row.Reason) && row.Waiting.Events > 0 {
			view.Held = append(view.Held, row)
		}
	}
	var dead, retrying, blocked int64
	for _, g := range groups {
		of := groupFilter(&g)
		of.Within = f.Within
		name := view.Names[g.Subscription]
		if name == "" {
			name = g.Subscription
		}
		view.Groups = append(view.Groups, newGroup(g, name, of.query()))
		switch g.State {
		case "dead":
			dead += g.Count
		case "retrying":
			retrying += g.Count
		case "blocked":
			blocked += g.Count
		}
	}
	if f.State == "" || f.State == "dead" {
		given, err := v.api.DeadRanges(v.Context(), client.DeadRangeQuery{PageQuery: client.PageQuery{Limit: 50}, Subscription: f.Subscription})
		if p, ok := errors.AsType[*client.Problem](err); err != nil && (!ok || p.Type != client.Forbidden) {
			return err
		}
		view.Ranges, view.More = given.Items, given.NextCursor != nil
	}
	view.MayDeliver = v.may("deliver") && !v.restricted()
	if len(groups) > 0 {
		view.Summary = number(dead) + " dead, " + number(retrying) + " retrying, " + number(blocked) + " blocked, grouped by what went wrong."
	}
	return v.render("failed", "failed", "Failed deliveries", view)
}

// searchFor leads to what a text that somebody pasted means: an id, a key, an
// expression over the payload, else a type.
func searchFor(v *visit, text string) error {
	f := readFilter(v.URL.Query())
	switch {
	case strings.HasPrefix(text, "dlv_"):
		return v.redirect("/deliveries/"+url.PathEscape(text), "")
	case strings.HasPrefix(text, "sub_"):
		f.Subscription = text
	case eventID.MatchString(text):
		return v.redirect("/events/"+url.PathEscape(text), "")
	case strings.Contains(text, "data."):
		f.Where = text
	case strings.Contains(text, "/"):
		f.Key = text
	default:
		f.Type = text
	}
	return v.redirect("/failed/deliveries"+f.query(), "")
}

// eventID is what the ids of events that were captured look like.
var eventID = regexp.MustCompile(`^[0-9]{2,}-[0-9A-F]{16}-[0-9]+$`)

// reasonsOf are the reasons to choose from: those that there are, and the one
// that is chosen.
func reasonsOf(groups []client.DeliveryGroup, chosen string) []string {
	var reasons []string
	if chosen != "" {
		reasons = append(reasons, chosen)
	}
	for _, g := range groups {
		if g.Reason != "" && !slices.Contains(reasons, g.Reason) {
			reasons = append(reasons, g.Reason)
		}
	}
	slices.Sort(reasons)
	return reasons
}

type deliveriesView struct {
	Filter     failedFilter
	Back       string
	Name       string
	Rows       []client.Delivery
	Names      map[string]string
	First      bool
	Home       string
	Next       string
	Here       string // this page's query
	MayDeliver bool
	MayBulk    bool // what is not a restricted key's
	Problem    string
}

// failedDeliveries lists single deliveries.
func failedDeliveries(v *visit) error { return v.listDeliveries("") }

func (v *visit) listDeliveries(problem string) error {
	q := v.URL.Query()
	f := readFilter(q)
	found, err := v.api.Deliveries(v.Context(), f.deliveries(q.Get("cursor")))
	if p, ok := errors.AsType[*client.Problem](err); ok && p.Type == client.Validation && f.Where != "" && problem == "" {
		problem = "Nothing was looked for." + fieldText(p.Errors)
		found, err = client.Page[client.Delivery]{}, nil
	}
	if err != nil {
		return err
	}
	view := deliveriesView{
		Filter: f, Back: "/failed" + failedFilter{Within: f.Within}.query(), Rows: found.Items, First: q.Get("cursor") == "",
		Home: firstPage(v.URL), Next: f.nextPage(found.NextCursor, v.now), Here: f.query("cursor", q.Get("cursor")), MayDeliver: v.may("deliver"),
		MayBulk: v.may("deliver") && !v.restricted() && f.Where == "", Problem: problem,
	}
	if view.Names, err = v.names(); err != nil {
		return err
	}
	view.Name = view.Names[f.Subscription]
	return v.render("deliveries", "failed", deliveriesTitle(f, view.Name), view)
}

// nextPage is the address of the page after this one. It says since when, not
// within which time: the pages of a list agree on it.
func (f failedFilter) nextPage(cursor *string, now time.Time) string {
	if cursor == nil {
		return ""
	}
	if at := since(f.Within, now); f.Since == "" && !at.IsZero() {
		f.Since = at.Format(time.RFC3339)
	}
	return "/failed/deliveries" + f.query("cursor", *cursor)
}

func deliveriesTitle(f failedFilter, name string) string {
	title := "Deliveries"
	if f.State != "" {
		title = map[string]string{"dead": "Dead letters", "retrying": "Retrying deliveries", "blocked": "Blocked deliveries"}[f.State]
	}
	if name != "" {
		title += " of " + name
	}
	return title
}

// selectedView asks whether an action on some deliveries is meant.
type selectedView struct {
	Action string
	IDs    []string
	Back   string
	Here   string
}

// Fate says which words tell what will become of them.
func (v selectedView) Fate() string { return fate(v.Action, int64(len(v.IDs))) }

// actOnSelected retries or discards the deliveries that were ticked, after a
// page that asks.
func actOnSelected(v *visit) error {
	form, err := v.form()
	if err != nil {
		return err
	}
	action, ids := form.Get("action"), form["id"]
	if action != "retry" && action != "discard" {
		return v.listDeliveries("Choose what to do with what is selected.")
	}
	if len(ids) == 0 {
		return v.listDeliveries("Nothing is selected.")
	}
	if len(ids) > failedLimit {
		return v.listDeliveries("Select at most " + strconv.Itoa(failedLimit) + " at once.")
	}
	f := readFilter(v.URL.Query())
	if form.Get("sure") == "" {
		title := plural(int64(len(ids)), "delivery", "deliveries") + "?"
		verb := map[string]string{"retry": "Retry ", "discard": "Discard "}[action]
		return v.render("selected", "failed", verb+title, selectedView{
			Action: action, IDs: ids, Here: v.URL.RequestURI(), Back: "/failed/deliveries" + f.query(),
		})
	}
	for _, id := range ids {
		if err := v.request(id, action); err != nil {
			return err
		}
	}
	http.Redirect(v.w, v.Request, "/failed/deliveries"+f.query("done", action), http.StatusSeeOther)
	return nil
}
