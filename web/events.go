package web

import (
	"github.com/rowcall/rowcall/api/client"
)

const eventsLimit = 50

type eventsView struct {
	Rows     []client.Event
	Query    client.EventQuery
	Filtered bool
	First    bool
	Home     string
	Next     string
}

func events(v *visit) error {
	q := v.URL.Query()
	query := client.EventQuery{
		PageQuery: client.PageQuery{Limit: eventsLimit, Cursor: q.Get("cursor")}, Type: q.Get("type"), Key: q.Get("key"), Filter: q.Get("where"),
	}
	found, err := v.api.Events(v.Context(), query)
	if err != nil {
		return err
	}
	return v.render("events", "events", "Events", eventsView{
		Rows: found.Items, Query: query, Filtered: query.Type+query.Key+query.Filter != "",
		First: query.Cursor == "", Home: firstPage(v.URL), Next: nextPage(v.URL, found.NextCursor),
	})
}

type eventView struct {
	client.Event
	Attempts []attemptRow
	Names    map[string]string // of subscriptions, by id
	More     bool
}

func showEvent(v *visit) error {
	e, err := v.api.Event(v.Context(), v.param("id"))
	if err != nil {
		return err
	}
	tries, err := v.api.Attempts(v.Context(), client.AttemptQuery{PageQuery: client.PageQuery{Limit: 100}, Event: e.ID})
	if err != nil {
		return err
	}
	view := eventView{Event: e, Attempts: attemptRows(tries.Items), More: tries.NextCursor != nil}
	if view.Names, err = v.names(); err != nil {
		return err
	}
	return v.render("event", "events", e.Type, view)
}

// names are those of the subscriptions, by id; of more than a thousand, the
// first thousand: the rest show their ids.
func (v *visit) names() (map[string]string, error) {
	found, err := v.api.Endpoints(v.Context(), client.BoardQuery{PageQuery: client.PageQuery{Limit: 1000}})
	if err != nil {
		return nil, err
	}
	v.console.counts.keep(v, found.Totals)
	names := make(map[string]string, len(found.Items))
	for _, row := range found.Items {
		names[row.Subscription] = row.Name
	}
	return names, nil
}
