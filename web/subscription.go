package web

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

type subscriptionView struct {
	client.Subscription
	Row      client.BoardRow
	Groups   []groupRow
	Attempts []attemptRow
	Earlier  string // where the attempts go on
	Settings []settingGroup
	Changes  []changeRow // newest first; of an admin alone
	Owed     int64
	Terms    []term
	Window   string
	Windows  []windowOption
	Charts   []chart
	Ribbon   ribbon
	Drain    time.Duration // until what waits has gone, at most; 0: not known
	Lead     string
	Lost     int64 // events that a limit dropped or that expired; what nobody accounts for
	Held     bool
	May      map[string]bool
}

// readSubscription reads one with its endpoint's health.
func readSubscription(v *visit) (subscriptionView, error) {
	sub, err := v.api.Subscription(v.Context(), v.param("id"))
	if err != nil {
		return subscriptionView{}, err
	}
	view := subscriptionView{Subscription: sub, May: map[string]bool{"deliver": v.may("deliver"), "write": v.may("write"), "replay": v.may("deliver") && !v.restricted()}}
	found, err := v.api.Endpoints(v.Context(), client.BoardQuery{Subscription: sub.ID, Recent: true})
	if err != nil {
		return subscriptionView{}, err
	}
	if len(found.Items) > 0 {
		view.Row = found.Items[0]
	}
	view.Held = view.Row.Condition == "parked" || view.Row.Condition == "probing" || sub.State != "active"
	return view, nil
}

func showSubscription(v *visit) error {
	view, err := readSubscription(v)
	if err != nil {
		return err
	}
	groups, err := v.api.DeliveryGroups(v.Context(), client.DeliveryQuery{Subscription: view.ID})
	if err != nil {
		return err
	}
	for _, g := range groups {
		view.Groups = append(view.Groups, newGroup(g, view.Name, groupFilter(&g).query()))
	}
	view.Window, view.Windows = windowOf(v.URL.Query().Get("window")), windows()
	stats, err := v.api.SubscriptionStats(v.Context(), view.ID, view.Window)
	if err != nil {
		return err
	}
	view.Lost = stats.Balance.Dropped + stats.Balance.Expired + max(stats.Balance.Unaccounted, -stats.Balance.Unaccounted)
	view.Owed, view.Terms = balance(&stats.Balance, &stats.Totals)
	view.Charts, view.Ribbon, view.Drain = charts(&stats, v.now), ribbonOf(&view.Row, v.now), drainOf(view.Row.Recent)
	if err := view.readAttempts(v); err != nil {
		return err
	}
	if view.Settings, err = settingsOf(view.Subscription); err != nil {
		return err
	}
	if v.may("admin") {
		made, err := v.api.Audit(v.Context(), client.ChangeQuery{PageQuery: client.PageQuery{Limit: 5}, Object: "subscription/" + view.ID})
		if err != nil {
			return err
		}
		names, err := v.keyNames()
		if err != nil {
			return err
		}
		view.Changes = changeRows(made.Items, names, map[string]string{view.ID: view.Name})
	}
	view.Lead = subscriptionLead(&view)
	return v.render("subscription", "subscriptions", subscriptionTitle(&view), view)
}

// idleTime is how long the last attempts are looked for where the last hour had none:
// the page loads itself again and again.
const idleTime = 300 * time.Millisecond

// readAttempts reads the last ones, and where they go on.
func (view *subscriptionView) readAttempts(v *visit) error {
	ctx, cancel := v.Context(), context.CancelFunc(func() {})
	if line := sparkOf(view.Row.Recent); line.Delivered+line.Failed == "" {
		ctx, cancel = context.WithTimeout(ctx, idleTime)
	}
	defer cancel()
	all := &url.URL{Path: "/attempts", RawQuery: url.Values{"subscription": {view.ID}}.Encode()}
	tries, err := v.api.Attempts(ctx, client.AttemptQuery{PageQuery: client.PageQuery{Limit: 10}, Subscription: view.ID})
	if err != nil && ctx.Err() != nil && v.Context().Err() == nil {
		view.Earlier = all.String()
		return nil
	}
	view.Attempts, view.Earlier = attemptRows(tries.Items), nextPage(all, tries.NextCursor)
	return err
}

// action is what may be done to a subscription, with what it will do.
type action struct {
	Name, Title, Text, Button string
	Danger                    bool
	Scope                     string
	Asks                      bool   // a page asks first, wherever it is pressed
	done                      string // a notice
	do                        func(v *visit, id string, version int64) error
}

// findAction returns the action of a name.
func findAction(name string, view *subscriptionView) (action, bool) {
	waiting := plural(view.Row.Waiting.Events, "event", "events")
	switch name {
	case "pause":
		return action{
			Name: name, Title: "Pause " + view.Name + "?", Button: "Pause", Scope: "deliver", Asks: true, done: "paused",
			Text: "What is in flight finishes. From then on its events are held, in order, and nothing is lost until the hold limit.",
			do: func(v *visit, id string, _ int64) error {
				_, err := v.noting().PauseSubscription(v.Context(), id)
				return err
			},
		}, true
	case "resume":
		return action{
			Name: name, Title: "Resume " + view.Name + "?", Button: "Resume", Scope: "deliver", done: "resumed",
			Text: "At most " + waiting + " that are held go out first, in order per key, at a rate that grows with how well the endpoint takes them.",
			do: func(v *visit, id string, _ int64) error {
				_, err := v.noting().ResumeSubscription(v.Context(), id)
				return err
			},
		}, true
	case "probe":
		return action{
			Name: name, Title: "Probe " + view.Name + " now?", Button: "Probe now", Scope: "deliver", done: "probed",
			Text: "The oldest event that is held is sent once, now. Where it is accepted, the rest follows with growing concurrency; where it is not, the next probe comes as planned.",
			do:   func(v *visit, id string, _ int64) error { return v.noting().ProbeSubscription(v.Context(), id) },
		}, true
	case "test":
		return action{
			Name: name, Title: "Send a test event to " + view.Name + "?", Button: "Send it", Scope: "deliver",
			Text: "An event of type rowcall.test is sent to it once, now, signed like any other. It waits for nothing, is not tried again, and changes nothing of its health.",
		}, true
	case "delete":
		return action{
			Name: name, Title: "Delete " + view.Name + "?", Button: "Delete " + view.Name, Danger: true, Scope: "write", Asks: true,
			Text: "Its cursor, its dead letters and what it has not been sent (at most " + waiting + ", " + plural(view.Row.Dead, "dead letter", "dead letters") +
				") go with it and cannot be brought back. Pause it to keep them.",
			do: func(v *visit, id string, version int64) error {
				return v.noting().DeleteSubscription(v.Context(), id, version)
			},
		}, true
	case "rotate":
		return action{
			Name: name, Title: "Make a new signing secret for " + view.Name + "?", Button: "Make a new secret", Scope: "write", Asks: true,
			Text: "The new secret is shown once. Deliveries are signed with both for the time of the overlap, so the receiver can change over without refusing anything.",
		}, true
	}
	return action{}, false
}

type confirmView struct {
	subscriptionView
	Action  action
	Back    string // where it came from
	Problem string
}

// askFirst shows what an action will do; problem says why it was not done.
func (v *visit) askFirst(status int, view subscriptionView, act action, problem string) error {
	return v.write(status, "confirm-subscription",
		frame{Title: act.Title, Section: "subscriptions", View: confirmView{view, act, cmp.Or(v.back(), "/subscriptions/"+view.ID), problem}})
}

// back is the page of the board that a request came from, with its filters; empty
// where it came from elsewhere.
func (v *visit) back() string {
	u, err := url.Parse(v.FormValue("back"))
	if err != nil || u.Path != "/subscriptions" || u.IsAbs() || u.Host != "" {
		return ""
	}
	return thisPage(u)
}

func confirmSubscription(v *visit) error {
	view, err := readSubscription(v)
	if err != nil {
		return err
	}
	act, ok := findAction(v.param("action"), &view)
	if !ok {
		return notFound(v)
	}
	if !v.may(act.Scope) {
		return lacks(act.Scope)
	}
	return v.askFirst(http.StatusOK, view, act, "")
}

// actSubscription does what a page has asked about, or what a list offers in place:
// that has no version.
func actSubscription(v *visit) error {
	form, err := v.form()
	if err != nil {
		return err
	}
	view, err := readSubscription(v)
	if err != nil {
		return err
	}
	act, ok := findAction(v.param("action"), &view)
	if !ok {
		return notFound(v)
	}
	version, err := strconv.ParseInt(form.Get("version"), 10, 64)
	if act.Asks && (err != nil || version < 1) {
		return v.askFirst(http.StatusOK, view, act, "")
	}
	switch act.Name {
	case "rotate":
		return rotateSecret(v, view, act, form.Get("overlap"), version)
	case "test":
		return testSubscription(v, view, act)
	}
	err = act.do(v, view.ID, version)
	if p := fieldProblem(err); p != "" {
		return v.askFirst(http.StatusConflict, view, act, p)
	}
	if err != nil {
		return err
	}
	if act.Name == "delete" {
		return v.redirect("/subscriptions", "deleted")
	}
	return v.redirect(cmp.Or(v.back(), "/subscriptions/"+view.ID), act.done)
}

// testedView is what became of a test event.
type testedView struct {
	client.TestedAttempt
	ID, Name string
	Row      attemptRow
}

func testSubscription(v *visit, view subscriptionView, act action) error {
	tried, err := v.noting().TestSubscription(v.Context(), view.ID)
	if p := fieldProblem(err); p != "" {
		return v.askFirst(http.StatusConflict, view, act, p)
	}
	if err != nil {
		return err
	}
	title := view.Name + " took the test event."
	if tried.Outcome != "delivered" {
		title = view.Name + " " + reasonText(tried.Reason) + "."
	}
	row := attemptRows([]client.Attempt{{Detail: tried.Detail, Timings: tried.Timings, DurationMS: tried.DurationMS}})[0]
	return v.render("tested", "subscriptions", title, testedView{tried, view.ID, view.Name, row})
}

// rotateSecret answers with the secret itself: it is shown this once.
func rotateSecret(v *visit, view subscriptionView, act action, overlap string, version int64) error {
	sub, err := v.noting().RotateSecret(v.Context(), view.ID, overlap, version)
	if p := fieldProblem(err); p != "" {
		return v.askFirst(http.StatusUnprocessableEntity, view, act, p)
	}
	if err != nil {
		return err
	}
	return v.render("secret", "subscriptions", "The new secret of "+sub.Name, sub)
}
