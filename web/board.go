package web

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

const boardLimit = 50

type boardView struct {
	Rows       []boardRow
	Query      client.BoardQuery
	Labels     []client.LabelUse
	Filtered   bool
	Total      int
	Next       string
	First      bool
	Home       string
	Back       string // this page, to come back to
	MayWrite   bool
	MayDeliver bool
}

// boardRow is a subscription on the board.
type boardRow struct {
	client.BoardRow
	Spark  spark
	Ribbon ribbon
	Drain  time.Duration // at most; 0: not known
}

// Stopped reports whether its endpoint is asked again by probes.
func (r *boardRow) Stopped() bool { return r.Condition == "parked" || r.Condition == "probing" }

// board is the health board: the list of subscriptions, worst first.
func board(v *visit) error {
	q := v.URL.Query()
	query := client.BoardQuery{
		PageQuery: client.PageQuery{Limit: boardLimit, Cursor: q.Get("cursor")},
		Condition: q.Get("condition"), Label: q.Get("label"), Search: q.Get("q"), Recent: true,
	}
	found, err := v.api.Endpoints(v.Context(), query)
	if err != nil {
		return err
	}
	view := boardView{
		Query: query, Labels: found.Labels, Filtered: query.Condition != "" || query.Label != "" || query.Search != "",
		First: query.Cursor == "", MayWrite: v.may("write"), MayDeliver: v.may("deliver"),
		Home: firstPage(v.URL), Next: nextPage(v.URL, found.NextCursor), Back: thisPage(v.URL),
	}
	for _, row := range found.Items {
		view.Rows = append(view.Rows, boardRow{row, sparkOf(row.Recent), ribbonOf(&row, v.now), drainOf(row.Recent)})
	}
	if query.Label != "" && !slices.ContainsFunc(view.Labels, func(l client.LabelUse) bool { return l.Label == query.Label }) {
		view.Labels = append(view.Labels, client.LabelUse{Label: query.Label})
	}
	title, total := boardTitle(found.Totals, view.Filtered)
	view.Total = total
	return v.render("board", "subscriptions", title, view)
}

// boardTitle counts the subscriptions by what is the matter with them.
func boardTitle(t client.BoardTotals, filtered bool) (title string, total int) {
	for _, n := range t.Conditions {
		total += n
	}
	title = plural(int64(total), "subscription", "subscriptions")
	switch {
	case total == 0 && filtered:
		return "No subscription fits.", 0
	case total == 0:
		return "No subscription yet.", 0
	case t.Conditions["healthy"] == total && total > 1:
		return "All " + title + " are healthy.", total
	}
	var parts []string
	for _, condition := range conditions() {
		if n := t.Conditions[condition]; n > 0 {
			parts = append(parts, number(n)+" "+conditionState(condition).Word)
		}
	}
	return title + ": " + strings.Join(parts, ", ") + ".", total
}

// drainOf is how long what waits takes to go, at most; 0 where that is not known.
func drainOf(r *client.RecentTries) time.Duration {
	if r == nil || r.DrainSeconds == nil {
		return 0
	}
	const most = 365 * 24 * time.Hour
	return max(time.Second, time.Duration(min(*r.DrainSeconds, most.Seconds())*float64(time.Second)).Round(time.Second))
}

// thisPage is the address of a list as it is, without what was done before.
func thisPage(u *url.URL) string {
	q := u.Query()
	q.Del("done")
	return withQuery(u.Path, q)
}

func withQuery(path string, q url.Values) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// nextPage is the address of the page after this one, with the same filters;
// empty on the last.
func nextPage(u *url.URL, cursor *string) string {
	if cursor == nil {
		return ""
	}
	q := u.Query()
	q.Del("done")
	q.Set("cursor", *cursor)
	return withQuery(u.Path, q)
}

// firstPage is the address of the first page of a list, with the same filters.
func firstPage(u *url.URL) string {
	q := u.Query()
	q.Del("done")
	q.Del("cursor")
	return withQuery(u.Path, q)
}
