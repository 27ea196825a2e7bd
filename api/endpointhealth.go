package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// endpointHealth is what is known of a subscription's endpoint, and of what it
// is owed. It is read from rows that the lane's owner writes when they change.
type endpointHealth struct {
	Health      string     `json:"health" enum:"healthy,parked,probing,recovering" doc:"As in the subscription."`
	Since       *time.Time `json:"since" doc:"When it became so; null: it has never been otherwise."`
	Reason      *string    `json:"reason" doc:"Why it is not healthy: the reason of the attempt that decided it; null: it is, or its URL has just come to name another origin."`
	NextProbeAt *time.Time `json:"next_probe_at" doc:"While it is parked, when it is tried next; in the past: as soon as there is an event to try it with."`
	FailureRate *float64   `json:"failure_rate" minimum:"0" maximum:"1" doc:"Share of tries of the last minute or so that failed, because of the endpoint or of the event, keys weighing alike, as of the last attempts before it was parked; up to a minute old. null: nothing was sent yet."`
	LastSuccess *time.Time `json:"last_success_at" doc:"The last 2xx; up to a minute old. null: there was none."`
	Hold        *string    `json:"hold" enum:"paused,disabled,endpoint,store,filter_error,gap,window,parked" doc:"Why nothing is sent. paused: by a person; disabled: by rowcall, and state_reason says why; endpoint: its settings cannot be used; window: it is closed; store: the store refuses what would be saved; filter_error: its filter or transform fails on most events, and hold_error says how: until it is edited; gap: changes of a source may be missing, and a person must accept that before anything behind it is sent; parked: it is down. null: events are sent. Held events are kept, and do not age."`
	HoldError   *string    `json:"hold_error" doc:"With hold filter_error, what the expression fails with, last."`
	HeldSince   *time.Time `json:"held_since" doc:"Since when nothing could be sent, whatever reasons followed each other; null: events are sent."`
	OpensAt     *time.Time `json:"opens_at" doc:"When a window that is closed opens."`
	Backlog     int64      `json:"backlog" doc:"Events that it is owed: those in the log that it has not had, and those that are retried or wait behind them. At most: what its filter leaves out is counted."`
	Oldest      *time.Time `json:"oldest" doc:"Commit time of the oldest of them; null: there is none."`
	HeldBytes   int64      `json:"held_bytes" doc:"Bytes of data that the log keeps for it, of the backlog."`
	Balance     balance    `json:"balance" doc:"What became of every event that it wants."`
}

type (
	endpointHealthOutput struct{ Body endpointHealth }
	probeOutput          struct{ Body probeRequested }
	probeRequested       struct {
		ID     subscriptions.ID `json:"id"`
		Action string           `json:"action" enum:"probe"`
	}
)

func (a *API) registerEndpointHealth(tags []string, one string) {
	handle(a, huma.Operation{
		OperationID: "get-subscription-health", Method: http.MethodGet, Path: one + "/health", Tags: tags,
		Summary: "Say how a subscription's endpoint does, and what it is owed",
	}, ScopeRead, a.getEndpointHealth)
	handle(a, huma.Operation{
		OperationID: "probe-subscription", Method: http.MethodPost, Path: one + "/probe", Tags: tags,
		Summary: "Probe a parked endpoint now",
		Description: "Answered when the wish is recorded; the lane's owner sends the oldest event as soon as it may. Where that is " +
			"accepted, the endpoint recovers. An endpoint that is not parked, and a subscription that is held, answer 409.",
		DefaultStatus: http.StatusAccepted, Errors: []int{http.StatusConflict},
	}, ScopeDeliver, a.probeEndpoint)
	a.registerTest(tags, one)
	a.registerStats(tags, one)
}

func (a *API) getEndpointHealth(ctx context.Context, in *getInput) (*endpointHealthOutput, error) {
	sub, err := a.subscription(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	backlog, err := a.store.Backlog(ctx, sub.ID)
	if err != nil {
		return nil, err
	}
	accounts, err := a.store.Balance(ctx, sub.ID)
	if err != nil {
		return nil, err
	}
	out := &endpointHealthOutput{Body: showEndpointHealth(&sub, &backlog, time.Now())}
	out.Body.Balance = showBalance(accounts)
	return out, nil
}

func showEndpointHealth(sub *subscriptions.Subscription, backlog *store.Backlog, now time.Time) endpointHealth {
	h := backlog.Health
	out := endpointHealth{
		Health: healthShown(h, now), Since: optionalTime(h.Since), Reason: optionalText(h.Reason),
		LastSuccess: optionalTime(h.LastSuccess),
		Backlog:     backlog.Waiting.Events + backlog.Retrying + backlog.Blocked, HeldBytes: backlog.Waiting.Bytes,
	}
	if h.State == "parked" {
		out.NextProbeAt = optionalTime(h.NextProbe)
	}
	if h != (store.EndpointHealth{}) {
		out.FailureRate = new(h.FailureRate)
	}
	open, turns := windowShown(sub, now)
	if !open {
		out.OpensAt = optionalTime(turns)
	}
	if hold := holdShown(sub, backlog, open); hold != "" {
		out.Hold, out.HeldSince, out.HoldError = new(hold), optionalTime(h.HeldSince), optionalText(h.HoldError)
		if hold == conditionGap && h.HeldSince.IsZero() {
			out.HeldSince = optionalTime(backlog.GapSince)
		}
	}
	if backlog.OldestAt != 0 {
		out.Oldest = optionalTime(time.UnixMicro(backlog.OldestAt))
	}
	return out
}

// healthShown is the state of an endpoint as people see it: one whose probe is due
// is being probed, or will be with the next event.
func healthShown(h store.EndpointHealth, now time.Time) string {
	if h.State == "parked" && !h.NextProbe.After(now) {
		return "probing"
	}
	return cmp.Or(h.State, "healthy")
}

// windowShown reports whether a subscription is delivered to at a time, and when
// that may change.
func windowShown(sub *subscriptions.Subscription, now time.Time) (open bool, turns time.Time) {
	if sub.Window == nil {
		return true, time.Time{}
	}
	openings, err := subscriptions.ParseWindow(*sub.Window)
	if err != nil {
		return true, time.Time{} // settings that cannot be used: the lane says so
	}
	return openings.At(now)
}

// holdShown is why nothing is sent. What the row of the subscription says, and the
// clock, come first: its lane may not have heard of it yet.
func holdShown(sub *subscriptions.Subscription, b *store.Backlog, open bool) string {
	switch h := &b.Health; {
	case sub.State != subscriptions.Active:
		return string(sub.State)
	case h.Hold == "endpoint" || h.Hold == "store" || h.Hold == "filter_error" && h.HoldVersion == sub.Version:
		return h.Hold
	case !b.GapSince.IsZero():
		return "gap"
	case !open:
		return "window"
	case h.State == "parked":
		return h.State
	}
	return ""
}

func (a *API) probeEndpoint(ctx context.Context, in *getInput) (*probeOutput, error) {
	sub, err := a.subscription(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	healths, err := a.healths(ctx, sub)
	if err != nil {
		return nil, err
	}
	h := healths[sub.ID]
	open, turns := windowShown(&sub, time.Now())
	switch hold := holdShown(&sub, &store.Backlog{Health: h}, open); {
	case sub.State != subscriptions.Active:
		return nil, newProblem(problemConflict, "the subscription is "+string(sub.State)+": resume it, and its endpoint is tried")
	case hold == "endpoint":
		return nil, newProblem(problemConflict, "the endpoint's settings cannot be used: mend them")
	case hold == "window":
		return nil, newProblem(problemConflict, "the window is closed until "+turns.Format(time.RFC3339))
	case h.State != "parked":
		return nil, newProblem(problemConflict, "the endpoint is "+healthShown(h, time.Now())+": only a parked one is probed")
	}
	if err := a.store.RequestProbe(ctx, sub.ID, caller(ctx)); err != nil {
		return nil, err
	}
	return &probeOutput{Body: probeRequested{ID: sub.ID, Action: "probe"}}, nil
}

// healths is what is known of the endpoints of subscriptions.
func (a *API) healths(ctx context.Context, subs ...subscriptions.Subscription) (map[subscriptions.ID]store.EndpointHealth, error) {
	ids := make([]subscriptions.ID, len(subs))
	for i := range subs {
		ids[i] = subs[i].ID
	}
	return a.store.Healths(ctx, ids)
}

func optionalText(text string) *string {
	if text == "" {
		return nil
	}
	return new(text)
}
