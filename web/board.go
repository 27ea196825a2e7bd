package web

import (
	"net/url"

	"github.com/rowcall/rowcall/api/client"
)

const boardLimit = 50

type boardView struct {
	Summary  string
	Rows     []client.BoardRow
	Query    client.BoardQuery
	Filtered bool
	Total    int
	Next     string
	First    bool
	Home     string
	MayWrite bool
}

// board is the health board: the list of subscriptions, worst first.
func board(v *visit) error {
	q := v.URL.Query()
	query := client.BoardQuery{
		PageQuery: client.PageQuery{Limit: boardLimit, Cursor: q.Get("cursor")},
		Condition: q.Get("condition"), Label: q.Get("label"), Search: q.Get("q"),
	}
	found, err := v.api.Endpoints(v.Context(), query)
	if err != nil {
		return err
	}
	view := boardView{
		Rows: found.Items, Query: query, Filtered: query.Condition != "" || query.Label != "" || query.Search != "",
		First: query.Cursor == "", MayWrite: v.may("write"), Home: firstPage(v.URL), Next: nextPage(v.URL, found.NextCursor),
	}
	view.Summary, view.Total = boardSummary(found.Totals)
	return v.render("board", "subscriptions", "Subscriptions", view)
}

// boardSummary counts the subscriptions by what is the matter with them.
func boardSummary(t client.BoardTotals) (text string, total int) {
	for _, n := range t.Conditions {
		total += n
	}
	text = plural(int64(total), "subscription", "subscriptions")
	for _, condition := range conditions()[:len(conditions())-1] {
		if n := t.Conditions[condition]; n > 0 {
			text += ", " + number(n) + " " + conditionState(condition).Word
		}
	}
	if total > 0 && t.Conditions["healthy"] == total {
		text += ", all healthy"
	}
	return text + ".", total
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
	return u.Path + "?" + q.Encode()
}

// firstPage is the address of the first page of a list, with the same filters.
func firstPage(u *url.URL) string {
	q := u.Query()
	q.Del("done")
	q.Del("cursor")
	if len(q) == 0 {
		return u.Path
	}
	return u.Path + "?" + q.Encode()
}
