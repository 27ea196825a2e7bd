package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

// replayRow is a replay with how far it is.
type replayRow struct {
	client.Replay
	Name  string // of its subscription
	Done  int64  // events that have ended
	Left  int64
	Width float64
}

func replayRows(of []client.Replay, names map[string]string) []replayRow {
	rows := make([]replayRow, len(of))
	for i, r := range of {
		done := r.Delivered + r.Failed
		rows[i] = replayRow{Replay: r, Name: cmp.Or(names[r.Subscription], r.Subscription), Done: done, Left: max(0, r.Total-done), Width: width(done, r.Total, r.EndedAt != nil)}
	}
	return rows
}

// width is how much of a bar of 1,000 units is done.
func width(done, total int64, ended bool) float64 {
	switch {
	case total > 0:
		return min(1000, 1000*float64(done)/float64(total))
	case ended:
		return 1000
	default:
		return 0
	}
}

type replaysView struct {
	Rows       []replayRow
	State      string
	MayDeliver bool
	First      bool
	Home, Next string
}

func replays(v *visit) error {
	q := v.URL.Query()
	found, err := v.api.Replays(v.Context(), client.ReplayQuery{
		PageQuery: client.PageQuery{Limit: 50, Cursor: q.Get("cursor")}, State: q.Get("state"), Subscription: q.Get("subscription"),
	})
	if err != nil {
		return err
	}
	names, err := v.names()
	if err != nil {
		return err
	}
	return v.render("replays", "replays", "Replays", replaysView{
		Rows: replayRows(found.Items, names), State: q.Get("state"), MayDeliver: v.may("deliver"),
		First: q.Get("cursor") == "", Home: firstPage(v.URL), Next: nextPage(v.URL, found.NextCursor),
	})
}

// replayFields is the form of a replay.
func replayFields(names map[string]string) []section {
	ids := append([]string{""}, sortedByValue(names)...)
	texts := map[string]string{"": "choose one"}
	for id, name := range names {
		texts[id] = name
	}
	return []section{{Open: true, Fields: []field{
		{Name: "subscription", Label: "To", Kind: "select", Required: true, Options: ids, Texts: texts},
		{Name: "from", Label: "From", Kind: "text", Required: true, Example: "2h", Help: "How long ago, such as 2h or 3d; a time such as 2026-11-20T12:00:00Z; or an offset."},
		{Name: "to", Label: "Up to", Kind: "text", Example: "now", Help: "The same; what is there is not sent any more. Left empty: all there is now."},
		{Name: "types", Label: "Only types", Kind: "lines", Rows: 2, Example: "what the subscription wants", Help: "A pattern a line, as in a subscription's events."},
		{Name: "filter", Label: "Only where", Kind: "area", Rows: 2, Example: `data.row.total > 100.0`, Help: "CEL, beside the subscription's own filter."},
		{Name: "rate", Label: "Requests a second", Kind: "number", Example: "100", Help: "It shares the endpoint with live events, which go first. 0: as fast as the subscription lets it."},
	}}}
}

type replayFormView struct {
	formView
	Count *client.ReplayCount // nil: not counted
	Name  string              // of the subscription
	Hours time.Duration       // about how long it takes; 0: not known
	Start url.Values          // what starts what was counted
}

// newReplay is a wizard: it asks, counts what was asked for, and offers to start
// just that. It changes nothing.
func newReplay(v *visit) error {
	names, err := v.names()
	if err != nil {
		return err
	}
	q := v.URL.Query()
	view := replayFormView{formView: formView{Sections: replayFields(names)}}
	each(view.Sections, func(f *field) { f.Value = q.Get(f.Name) })
	if q.Get("count") == "" {
		return v.render("replay-form", "replays", "New replay", view)
	}
	ask, err := readReplay(q, v.now)
	if err == nil {
		var n client.ReplayCount
		if n, err = v.api.CountReplay(v.Context(), ask); err == nil {
			view.Count, view.Name = &n, names[ask.Subscription]
			if n.Seconds != nil {
				view.Hours = max(time.Second, time.Duration(*n.Seconds*float64(time.Second)).Round(time.Second))
			}
			// What is started is what was counted, also where time goes by.
			view.Start = url.Values{"from": {strconv.FormatInt(n.From.Offset, 10)}, "to": {strconv.FormatInt(n.To.Offset, 10)}}
			for _, name := range []string{"subscription", "types", "filter", "rate"} {
				if q.Get(name) != "" {
					view.Start.Set(name, q.Get(name))
				}
			}
			return v.render("replay-form", "replays", "Replay "+plural(n.Total, "event", "events")+" to "+view.Name+"?", view)
		}
	}
	return v.replayAgain(view, q, err)
}

func (v *visit) replayAgain(view replayFormView, form url.Values, err error) error {
	if !view.refill(form, err) {
		return err
	}
	view.Problem = "Nothing was counted: see below what to change."
	return v.write(http.StatusUnprocessableEntity, "replay-form", frame{Title: "New replay", Section: "replays", View: view})
}

// readReplay reads the form of a replay; its error is a problem of a field.
func readReplay(form url.Values, now time.Time) (client.NewReplay, error) {
	ask := client.NewReplay{Subscription: form.Get("subscription"), Filter: strings.TrimSpace(form.Get("filter")), Rate: &client.RateLimit{PerSecond: 100}}
	if ask.Subscription == "" {
		return ask, faulty("subscription", "choose the one to deliver to")
	}
	place := func(name string) (*client.ReplayPlace, error) {
		text := strings.TrimSpace(form.Get(name))
		if text == "" {
			return nil, nil //nolint:nilnil // it is not required
		}
		if offset, err := strconv.ParseInt(text, 10, 64); err == nil {
			return &client.ReplayPlace{Offset: offset}, nil
		}
		at, problem := readTime(text, now, -1)
		if problem != "" {
			return nil, faulty(name, problem+", nor an offset")
		}
		return &client.ReplayPlace{Time: at}, nil
	}
	from, err := place("from")
	if err != nil {
		return ask, err
	}
	if from == nil {
		return ask, faulty("from", "say where it begins")
	}
	ask.From = *from
	if ask.To, err = place("to"); err != nil {
		return ask, err
	}
	ask.Types = lines(form.Get("types"))
	if text := strings.TrimSpace(form.Get("rate")); text != "" {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return ask, faulty("rate", "is no number")
		}
		ask.Rate = &client.RateLimit{PerSecond: rate}
		if rate == 0 {
			ask.Rate = nil
		}
	}
	return ask, nil
}

func createReplay(v *visit) error {
	form, err := v.form()
	if err != nil {
		return err
	}
	ask, err := readReplay(form, v.now)
	if err == nil {
		var made client.Replay
		if made, err = v.api.CreateReplay(v.Context(), ask); err == nil {
			return v.redirect("/replays/"+url.PathEscape(made.ID), "started")
		}
	}
	names, listed := v.names()
	if listed != nil {
		return listed
	}
	return v.replayAgain(replayFormView{formView: formView{Sections: replayFields(names)}}, form, err)
}

type replayView struct {
	replayRow
	Maker      string
	MayDeliver bool
}

func showReplay(v *visit) error {
	view, err := readReplayPage(v)
	if err != nil {
		return err
	}
	return v.render("replay", "replays", replayTitle(&view), view)
}

func readReplayPage(v *visit) (replayView, error) {
	r, err := v.api.Replay(v.Context(), v.param("id"))
	if err != nil {
		return replayView{}, err
	}
	found, err := v.api.Endpoints(v.Context(), client.BoardQuery{Subscription: r.Subscription})
	if err != nil {
		return replayView{}, err
	}
	names := map[string]string{}
	for _, row := range found.Items {
		names[row.Subscription] = row.Name
	}
	makers, err := v.keyNames()
	if err != nil {
		return replayView{}, err
	}
	return replayView{replayRows([]client.Replay{r}, names)[0], cmp.Or(makers[r.CreatedBy], r.CreatedBy), v.may("deliver")}, nil
}

// replayTitle says how far it is.
func replayTitle(view *replayView) string {
	done := number(view.Done) + " of " + number(view.Total)
	switch view.State {
	case "running":
		return "The replay to " + view.Name + " is running: " + done + "."
	case "paused":
		return "The replay to " + view.Name + " is paused at " + done + "."
	case "done":
		if view.Failed > 0 {
			return "The replay to " + view.Name + " is done; " + plural(view.Failed, "event", "events") + " ended undelivered."
		}
		return "The replay to " + view.Name + " is done: " + plural(view.Delivered, "event", "events") + "."
	case "cancelled":
		return "The replay to " + view.Name + " was cancelled at " + done + "."
	default:
		return "The replay to " + view.Name + " failed at " + done + "."
	}
}

func confirmReplay(v *visit) error {
	view, err := readReplayPage(v)
	if err != nil {
		return err
	}
	if v.param("action") != "cancel" {
		return notFound(v)
	}
	if view.EndedAt != nil { // meanwhile
		return v.redirect("/replays/"+view.ID, "")
	}
	return v.render("confirm-replay", "replays", "Cancel this replay?", view)
}

func actReplay(v *visit) error {
	id, done := v.param("id"), ""
	var err error
	switch v.param("action") {
	case "pause":
		_, err = v.noting().PauseReplay(v.Context(), id)
	case "resume":
		_, err = v.noting().ResumeReplay(v.Context(), id)
	case "cancel":
		_, err = v.noting().CancelReplay(v.Context(), id)
		done = "cancelled"
	default:
		return notFound(v)
	}
	if err != nil {
		return err
	}
	return v.redirect("/replays/"+url.PathEscape(id), done)
}

// sortedByValue are the keys of a map, by what it holds.
func sortedByValue(m map[string]string) []string {
	keys := sortedKeys(m)
	slices.SortStableFunc(keys, func(a, b string) int { return strings.Compare(m[a], m[b]) })
	return keys
}
