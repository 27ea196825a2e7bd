package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Conditions of a subscription, worst first: why nothing is sent, else its
// endpoint's health, else whether events are retried or blocked.
const (
	conditionDisabled   = "disabled"
	conditionFaulty     = "faulty"
	conditionParked     = "parked"
	conditionProbing    = "probing"
	conditionGap        = "gap"
	conditionRecovering = "recovering"
	conditionFailing    = "failing"
	conditionPaused     = "paused"
	conditionClosed     = "closed"
	conditionHealthy    = "healthy"
)

func conditions() []string {
	return []string{
		conditionDisabled, conditionFaulty, conditionParked, conditionProbing, conditionGap, conditionRecovering, conditionFailing,
		conditionPaused, conditionClosed, conditionHealthy,
	}
}

// boardRow is a subscription with the health of its endpoint and what it owes.
type boardRow struct {
	Subscription  subscriptions.ID    `json:"subscription"`
	Name          string              `json:"name"`
	URL           string              `json:"url"`
	Events        []string            `json:"events"`
	Labels        map[string]string   `json:"labels"`
	State         subscriptions.State `json:"state" enum:"active,paused,disabled"`
	StateReason   string              `json:"state_reason"`
	Condition     string              `json:"condition" enum:"disabled,faulty,parked,probing,gap,recovering,failing,paused,closed,healthy" doc:"State and health in one word. faulty: its settings cannot be used, its filter or transform fails on most events, or the store refuses what would be saved; failing: some events are retried or blocked, others go through; closed: outside its window; gap: as hold says."`
	Since         *time.Time          `json:"since" doc:"When its health became what it is; null: not known."`
	Reason        string              `json:"reason" doc:"Why it is parked or not yet healthy."`
	HoldError     string              `json:"hold_error" doc:"What its filter or transform fails with, where it is held for that."`
	NextProbeAt   *time.Time          `json:"next_probe_at" doc:"While parked."`
	OpensAt       *time.Time          `json:"opens_at" doc:"When a window that is closed opens."`
	FailureRate   *float64            `json:"failure_rate" minimum:"0" maximum:"1" doc:"As in the subscription's health."`
	FailingSince  *time.Time          `json:"failing_since" doc:"First failure since the last success."`
	LastSuccessAt *time.Time          `json:"last_success_at"`
	Waiting       logCount            `json:"waiting" doc:"From the cursor on: an upper bound, for filters are not evaluated ahead."`
	Retrying      int64               `json:"retrying"`
	Blocked       int64               `json:"blocked"`
	Dead          int64               `json:"dead"`
	OldestAt      *time.Time          `json:"oldest_at" doc:"Commit time of the oldest event that waits, is retried or blocked."`
	Recent        *recentTries        `json:"recent" doc:"The last hour; null: not asked for."`
	Day           *dayTries           `json:"day" doc:"The last 24 hours; null: not asked for."`
}

// recentTries is how the last hour went, minute by minute.
type recentTries struct {
	From         time.Time `json:"from" doc:"When the first minute begins."`
	Delivered    *[]int64  `json:"delivered" doc:"Events that were accepted in each of 60 minutes, replays included; the newest has not ended. Some seconds behind. null: not known, with ROWCALL_ATTEMPTS=failures."`
	Failed       []int64   `json:"failed" doc:"Tries that failed."`
	DrainSeconds *float64  `json:"drain_seconds" doc:"Until what waits has gone, at the rate of the last five minutes: at most, as waiting is. null: nothing waits, something holds it, nothing went, or it is not known what did."`
}

// dayTries is how the last 24 hours went, quarter by quarter of an hour.
type dayTries struct {
	From      time.Time `json:"from" doc:"When the first quarter of an hour begins."`
	Delivered *[]int64  `json:"delivered" doc:"Events that were accepted in each of 96 quarters, as in recent."`
	Failed    []int64   `json:"failed" doc:"Tries that failed."`
}

type logCount struct {
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`
}

// boardTotals sums what the filters select.
type boardTotals struct {
	Conditions map[string]int `json:"conditions" doc:"Subscriptions by condition; all of them are there."`
	OnTheWay   int64          `json:"on_the_way" doc:"Events that wait where nothing holds them."`
	Held       int64          `json:"held" doc:"Events that wait for a person, an endpoint or a retried event of their key."`
	HeldBytes  int64          `json:"held_bytes"`
	Retrying   int64          `json:"retrying"`
	Dead       int64          `json:"dead"`
}

type board struct {
	Items      []boardRow  `json:"items"`
	NextCursor *string     `json:"next_cursor" doc:"Send it as cursor to get the next page; null on the last."`
	Totals     boardTotals `json:"totals"`
	Labels     []labelUse  `json:"labels" doc:"The 100 labels that most subscriptions have, whatever the filters, by name."`
}

// labelUse is a label and how many subscriptions have it.
type labelUse struct {
	Label string `json:"label" doc:"key=value"`
	Count int    `json:"count"`
}

type (
	boardInput struct {
		PageInput
		Subscription string `query:"subscription" doc:"This subscription (id)."`
		Condition    string `query:"condition" enum:"disabled,faulty,parked,probing,gap,recovering,failing,paused,closed,healthy"`
		Label        string `query:"label" doc:"With this label: key=value, or key."`
		Search       string `query:"q" doc:"With this text in name, URL, events or labels, whatever its case."`
		Recent       bool   `query:"recent" doc:"With how the last hour and the last 24 hours went."`
	}
	boardOutput struct{ Body board }
)

func (a *API) registerBoard() {
	handle(a, huma.Operation{
		OperationID: "list-endpoints", Method: http.MethodGet, Path: "/v1/endpoints", Tags: []string{"subscriptions"},
		Summary: "List subscriptions with the health of their endpoints and what they owe, worst first",
	}, ScopeRead, a.listBoard)
}

func (a *API) listBoard(ctx context.Context, in *boardInput) (*boardOutput, error) {
	only, err := filterID(in.Subscription)
	if err != nil {
		return nil, err
	}
	filters := joinFilters(in.Subscription, in.Condition, in.Label, in.Search)
	after, err := openCursor("endpoints", filters, in.Cursor)
	if err != nil {
		return nil, err
	}
	rows, err := a.boardRows(ctx, only)
	if err != nil {
		return nil, err
	}
	search := strings.ToLower(in.Search)
	rows = slices.DeleteFunc(rows, func(r boardRow) bool { return !sees(ctx, r.Labels) })
	labels := labelsOf(rows)
	rows = slices.DeleteFunc(rows, func(r boardRow) bool {
		return in.Condition != "" && r.Condition != in.Condition || !r.labelled(in.Label) || !r.mentions(search)
	})
	out := &boardOutput{Body: board{Items: []boardRow{}, Totals: totalsOf(rows), Labels: labels}}
	slices.SortFunc(rows, func(x, y boardRow) int { return cmp.Compare(x.place(), y.place()) })
	for _, r := range rows {
		if r.place() <= after {
			continue
		}
		if len(out.Body.Items) == in.Limit {
			out.Body.NextCursor = sealCursor("endpoints", filters, out.Body.Items[in.Limit-1].place())
			break
		}
		out.Body.Items = append(out.Body.Items, r)
	}
	if in.Recent {
		err = a.addRecent(ctx, out.Body.Items, time.Now())
	}
	return out, err
}

// boardRows are all there are; where only is not empty, that one.
func (a *API) boardRows(ctx context.Context, only subscriptions.ID) ([]boardRow, error) {
	var summaries []store.Summary
	var backlogs []store.Backlog
	var err error
	if only == "" {
		summaries, err = a.store.Summaries(ctx)
	} else {
		summaries, err = a.store.Summaries(ctx, only)
	}
	if err != nil || len(summaries) == 0 {
		return nil, err
	}
	if only == "" {
		backlogs, err = a.store.Backlogs(ctx)
	} else {
		var one store.Backlog
		if one, err = a.store.Backlog(ctx, only); errors.Is(err, store.ErrNotFound) {
			return nil, nil // deleted meanwhile
		}
		backlogs = []store.Backlog{one}
	}
	if err != nil {
		return nil, err
	}
	owed := make(map[subscriptions.ID]store.Backlog, len(backlogs))
	for _, b := range backlogs {
		owed[b.Subscription] = b
	}
	now := time.Now()
	rows := make([]boardRow, len(summaries))
	for i, s := range summaries {
		rows[i] = showBoardRow(s, owed[s.ID], now)
	}
	return rows, nil
}

func showBoardRow(s store.Summary, b store.Backlog, now time.Time) boardRow {
	r := boardRow{
		Subscription: s.ID, Name: s.Name, URL: s.URL, Events: s.Events, Labels: s.Labels, State: s.State, StateReason: s.StateReason,
		Since: optionalTime(b.Health.Since), Reason: b.Health.Reason, NextProbeAt: optionalTime(b.Health.NextProbe),
		FailingSince: optionalTime(b.Health.FailingSince), LastSuccessAt: optionalTime(b.Health.LastSuccess),
		Waiting: logCount{b.Waiting.Events, b.Waiting.Bytes}, Retrying: b.Retrying, Blocked: b.Blocked, Dead: b.Dead,
		Condition: healthShown(b.Health, now),
	}
	if b.Health != (store.EndpointHealth{}) {
		r.FailureRate = new(b.Health.FailureRate)
	}
	if b.OldestAt != 0 {
		r.OldestAt = new(time.UnixMicro(b.OldestAt).UTC())
	}
	sub := subscriptions.Subscription{State: s.State, Version: s.Version, Spec: subscriptions.Spec{Window: s.Window}}
	open, turns := windowShown(&sub, now)
	switch hold := holdShown(&sub, &b, open); {
	case s.State != subscriptions.Active:
		r.Condition = string(s.State)
	case hold == "endpoint" || hold == "store":
		r.Condition = conditionFaulty
	case hold == "filter_error":
		r.Condition, r.HoldError = conditionFaulty, b.Health.HoldError
	case hold == "window":
		r.Condition, r.OpensAt = conditionClosed, optionalTime(turns)
	case hold == conditionGap && r.Condition != conditionParked && r.Condition != conditionProbing:
		r.Condition, r.Since = conditionGap, optionalTime(b.GapSince)
	case r.Condition == conditionHealthy && b.Retrying+b.Blocked > 0:
		r.Condition = conditionFailing
	}
	return r
}

// place orders a row among others: what a person must decide first, then by
// condition, then by name.
func (r *boardRow) place() string {
	rank := 1 + slices.Index(conditions(), r.Condition)
	if r.Dead > 0 {
		rank = min(rank, 1)
	}
	return string(rune('a'+rank)) + r.Name + "\x00" + string(r.Subscription)
}

func (r *boardRow) labelled(want string) bool {
	if want == "" {
		return true
	}
	key, value, exact := strings.Cut(want, "=")
	got, ok := r.Labels[key]
	return ok && (!exact || got == value)
}

// mentions reports whether a lower-case text stands in the row.
func (r *boardRow) mentions(text string) bool {
	if text == "" {
		return true
	}
	in := func(s string) bool { return strings.Contains(strings.ToLower(s), text) }
	for key, value := range r.Labels {
		if in(key + "=" + value) {
			return true
		}
	}
	return in(r.Name) || in(r.URL) || in(string(r.Subscription)) || slices.ContainsFunc(r.Events, in)
}

// held reports whether something keeps what waits from going.
func (r *boardRow) held() bool {
	switch r.Condition {
	case conditionDisabled, conditionFaulty, conditionParked, conditionProbing, conditionGap, conditionPaused, conditionClosed:
		return true
	}
	return false
}

func totalsOf(rows []boardRow) boardTotals {
	t := boardTotals{Conditions: map[string]int{}}
	for _, condition := range conditions() {
		t.Conditions[condition] = 0
	}
	for i := range rows {
		r := &rows[i]
		t.Conditions[r.Condition]++
		t.Retrying += r.Retrying
		t.Dead += r.Dead
		t.Held += r.Blocked
		if r.held() {
			t.Held += r.Waiting.Events
			t.HeldBytes += r.Waiting.Bytes
		} else {
			t.OnTheWay += r.Waiting.Events
		}
	}
	return t
}
