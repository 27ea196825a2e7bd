package web

import (
	"cmp"
	"net/url"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

// bulkView asks whether an action on everything that a filter selects is meant.
type bulkView struct {
	Action  string
	Filter  failedFilter
	Name    string // of the subscription; empty: of all
	Count   client.Count
	Back    string
	Here    string
	Problem string
}

// Fate says which words tell what will become of them.
func (v bulkView) Fate() string { return fate(v.Action, v.Count.Total) }

func fate(action string, n int64) string {
	if n == 1 {
		return action + " one"
	}
	return action
}

// bulk is the filter as the API takes it for many at once.
func (f failedFilter) bulk() client.BulkFilter {
	q := f.deliveries("")
	return client.BulkFilter{Subscription: f.Subscription, State: f.State, Reason: f.Reason, Status: q.Status, Type: f.Type, Key: f.Key, Since: q.Since, Until: q.Until}
}

func confirmBulk(action string) func(*visit) error {
	return func(v *visit) error {
		view, err := readBulk(v, action)
		if err != nil {
			return err
		}
		verb := map[string]string{"retry": "Retry ", "discard": "Discard "}[action]
		title := verb + plural(view.Count.Total, "delivery", "deliveries") + "?"
		if view.Count.AtLeast {
			title = verb + "at least " + plural(view.Count.Total, "delivery", "deliveries") + "?"
		}
		return v.render("confirm-bulk", "failed", title, view)
	}
}

func readBulk(v *visit, action string) (bulkView, error) {
	f := readFilter(v.URL.Query())
	if at := since(f.Within, v.now); f.Since == "" && !at.IsZero() {
		f.Since = at.Format(time.RFC3339) // what is done is what was counted
	}
	view := bulkView{Action: action, Filter: f, Back: "/failed/deliveries" + f.query(), Here: "/failed/" + action + f.query()}
	var err error
	if view.Count, err = v.api.CountDeliveries(v.Context(), f.bulk()); err != nil {
		return view, err
	}
	if f.Subscription == "" {
		return view, nil
	}
	sub, err := v.api.Subscription(v.Context(), f.Subscription)
	view.Name = sub.Name
	return view, err
}

func actBulk(action string) func(*visit) error {
	return func(v *visit) error {
		f := readFilter(v.URL.Query())
		act := v.noting().RetryDeliveries
		if action == "discard" {
			act = v.noting().DiscardDeliveries
		}
		job, err := act(v.Context(), f.bulk())
		if err != nil {
			return err
		}
		return v.redirect("/jobs/"+job.ID, "started")
	}
}

// jobRow is a job with how far it is.
type jobRow struct {
	client.Job
	Name  string // of its subscription
	Maker string // the key's name, or its id
	Width float64
	Left  int64
	ETA   time.Duration // 0: not known
	Query string        // its filter, as the list of failures takes it
}

func jobRows(of []client.Job, names, makers map[string]string, now time.Time) []jobRow {
	rows := make([]jobRow, len(of))
	for i, j := range of {
		r := jobRow{Job: j, Name: names[j.Subscription], Maker: cmp.Or(makers[j.CreatedBy], j.CreatedBy), Left: max(0, j.Total-j.Done-j.Skipped-j.Failed)}
		if r.Name == "" {
			r.Name = j.Subscription
		}
		r.Width = width(j.Done+j.Skipped+j.Failed, j.Total, j.EndedAt != nil)
		if took := now.Sub(j.CreatedAt); j.State == "running" && j.Done > 0 && took > 0 {
			r.ETA = time.Duration(float64(took) * float64(r.Left) / float64(j.Done)).Round(time.Second)
		}
		of := groupFilter(&client.DeliveryGroup{Subscription: j.Subscription, State: j.Filter.State, Reason: j.Filter.Reason, Status: j.Filter.Status})
		of.Type, of.Key, of.Since, of.Until = j.Filter.Type, j.Filter.Key, stamp(j.Filter.Since), stamp(j.Filter.Until)
		r.Query = of.query()
		rows[i] = r
	}
	return rows
}

// stamp is a time as an address has it; empty: none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

type jobsView struct {
	Rows  []jobRow
	First bool
	Home  string
	Next  string
}

func jobs(v *visit) error {
	q := v.URL.Query()
	found, err := v.api.Jobs(v.Context(), client.JobQuery{PageQuery: client.PageQuery{Limit: 50, Cursor: q.Get("cursor")}})
	if err != nil {
		return err
	}
	names, err := v.names()
	if err != nil {
		return err
	}
	makers, err := v.keyNames()
	if err != nil {
		return err
	}
	return v.render("jobs", "jobs", "Jobs", jobsView{
		Rows: jobRows(found.Items, names, makers, v.now), First: q.Get("cursor") == "", Home: firstPage(v.URL), Next: nextPage(v.URL, found.NextCursor),
	})
}

type jobView struct {
	jobRow
	MayDeliver bool
}

func showJob(v *visit) error {
	view, err := readJob(v)
	if err != nil {
		return err
	}
	return v.render("job", "jobs", jobTitle(&view), view)
}

func readJob(v *visit) (jobView, error) {
	j, err := v.api.Job(v.Context(), v.param("id"))
	if err != nil {
		return jobView{}, err
	}
	names, err := v.names()
	if err != nil {
		return jobView{}, err
	}
	makers, err := v.keyNames()
	if err != nil {
		return jobView{}, err
	}
	return jobView{jobRows([]client.Job{j}, names, makers, v.now)[0], v.may("deliver")}, nil
}

// jobTitle says how far it is.
func jobTitle(view *jobView) string {
	what := map[string]string{"retry": "retry", "discard": "discard"}[view.Kind]
	if what == "" {
		what = view.Kind
	}
	done := number(view.Done) + " of " + number(view.Total)
	switch view.State {
	case "running":
		return "The " + what + " is running: " + done + "."
	case "paused":
		return "The " + what + " is paused at " + done + "."
	case "done":
		return "The " + what + " is done: " + plural(view.Done, "delivery", "deliveries") + "."
	case "cancelled":
		return "The " + what + " was cancelled at " + done + "."
	default:
		return "The " + what + " failed at " + done + "."
	}
}

func confirmJob(v *visit) error {
	view, err := readJob(v)
	if err != nil {
		return err
	}
	if v.param("action") != "cancel" {
		return notFound(v)
	}
	if view.EndedAt != nil { // meanwhile
		return v.redirect("/jobs/"+view.ID, "")
	}
	return v.render("confirm-job", "jobs", "Cancel this "+view.Kind+"?", view)
}

func actJob(v *visit) error {
	id, done := v.param("id"), ""
	var err error
	switch v.param("action") {
	case "pause":
		_, err = v.noting().PauseJob(v.Context(), id)
	case "resume":
		_, err = v.noting().ResumeJob(v.Context(), id)
	case "cancel":
		_, err = v.noting().CancelJob(v.Context(), id)
		done = "cancelled"
	default:
		return notFound(v)
	}
	if err != nil {
		return err
	}
	return v.redirect("/jobs/"+url.PathEscape(id), done)
}
