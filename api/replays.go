package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const (
	defaultReplayRate = 100 // requests a second
	maxReplayTypes    = 100
)

// replay is a range of the log that is delivered to a subscription again.
type replay struct {
	ID           string                   `json:"id" doc:"rpl_…; also the header rowcall-replay of its requests."`
	State        store.JobState           `json:"state" enum:"running,paused,done,cancelled,failed" doc:"A running one is held while its subscription is."`
	Reason       string                   `json:"reason" doc:"Why it failed."`
	Subscription subscriptions.ID         `json:"subscription"`
	From         replayPlace              `json:"from" doc:"The first event."`
	To           replayPlace              `json:"to" doc:"The first event that it does not reach."`
	Types        []string                 `json:"types" doc:"Patterns; empty: what the subscription wants."`
	Filter       *string                  `json:"filter" doc:"CEL, beside the subscription's own filter, which holds too; null: none."`
	DeadRange    *string                  `json:"dead_range" doc:"That it retries (drg_…): types and filter are the range's, and hold alone; null: none."`
	Rate         *subscriptions.RateLimit `json:"rate" doc:"Requests a second; null: as fast as the subscription lets it."`
	Total        int64                    `json:"total" doc:"Events in the range that match. Those that a filter leaves out count, and those that newer ones of their keys take the place of, where the subscription compacts: it is done with fewer delivered."`
	Delivered    int64                    `json:"delivered"`
	Failed       int64                    `json:"failed" doc:"Events that are dead letters: GET /v1/deliveries shows them, with this id."`
	Bytes        int64                    `json:"bytes" doc:"Of the data of total."`
	ETA          *time.Time               `json:"eta" doc:"When it may be done, as fast as it went up to now; null: not known."`
	CreatedBy    string                   `json:"created_by" doc:"Id of the API key."`
	CreatedAt    time.Time                `json:"created_at"`
	UpdatedAt    time.Time                `json:"updated_at"`
	EndedAt      *time.Time               `json:"ended_at"`
}

// replayPlace is where a replay begins or ends, as it is shown.
type replayPlace struct {
	Offset store.Offset `json:"offset"`
}

func showReplay(j store.Job, now time.Time) replay {
	out := replay{
		ID: string(j.ID), State: j.State, Reason: j.Reason, Subscription: j.Subscription,
		From: replayPlace{j.Replay.From}, To: replayPlace{j.Replay.Past}, Types: j.Replay.Types,
		Filter: j.Replay.Filter,
		Total:  j.Total, Delivered: j.Done, Failed: j.Failed, Bytes: j.Bytes,
		CreatedBy: j.CreatedBy, CreatedAt: j.CreatedAt, UpdatedAt: j.UpdatedAt, EndedAt: optionalTime(j.EndedAt),
	}
	if out.Types == nil {
		out.Types = []string{}
	}
	if j.Replay.PerSecond > 0 {
		out.Rate = &subscriptions.RateLimit{PerSecond: j.Replay.PerSecond}
	}
	if j.Replay.DeadRange != 0 {
		out.DeadRange = new(deadRangeID(j.Replay.DeadRange))
	}
	if j.State == store.JobRunning {
		out.ETA = eta(j, now)
	}
	return out
}

// eta is when a replay may be done.
func eta(j store.Job, now time.Time) *time.Time {
	perSecond := j.Replay.PerSecond
	if ended, took := j.Done+j.Failed, now.Sub(j.CreatedAt).Seconds(); ended > 0 && took > 1 {
		perSecond = float64(ended) / took
	}
	if perSecond <= 0 {
		return nil
	}
	left := float64(max(0, j.Total-j.Done-j.Failed)) / perSecond
	if left > (100 * 365 * 24 * time.Hour).Seconds() {
		return nil
	}
	return new(now.Add(time.Duration(left * float64(time.Second))).UTC().Truncate(time.Second))
}

// replayInput is the body of a replay, as the document describes it.
type replayInput struct {
	Subscription subscriptions.ID         `json:"subscription"`
	From         placeInput               `json:"from" doc:"Where it begins. What the log no longer has is refused."`
	To           *placeInput              `json:"to" doc:"Events before it; null: those that are there now."`
	Types        []string                 `json:"types" doc:"Patterns of event types, of those that the subscription wants; empty: all of them."`
	Filter       *string                  `json:"filter" doc:"CEL, as a subscription's, which holds too; null: none."`
	Rate         *subscriptions.RateLimit `json:"rate" doc:"Requests a second; null: as fast as the subscription lets it. Left out: 100."`
	DryRun       bool                     `json:"dry_run" doc:"Only count."`
}

type placeInput struct {
	Time   time.Time    `json:"time" doc:"The first event committed at or after it. Either this or offset."`
	Offset store.Offset `json:"offset"`
}

// replayDryRun is the answer to a replay that is only to be counted.
type replayDryRun struct {
	DryRun  bool        `json:"dry_run" doc:"true: nothing was done."`
	From    replayPlace `json:"from"`
	To      replayPlace `json:"to"`
	Total   int64       `json:"total" doc:"Events in the range that match. Those that a filter leaves out count, and those that newer ones of their keys take the place of, where the subscription compacts: it is done with fewer delivered."`
	Bytes   int64       `json:"bytes" doc:"Of their data."`
	Seconds *float64    `json:"seconds" doc:"How long it would take at its rate, if nothing else slows it down; null: not known."`
}

type (
	replaysInput struct {
		PageInput
		State        store.JobState `query:"state" enum:"running,paused,done,cancelled,failed"`
		Subscription string         `query:"subscription" doc:"To this subscription (id)."`
	}
	replaysOutput struct{ Body page[replay] }
	replayPath    struct {
		ID string `path:"id" doc:"rpl_…"`
	}
	replayOutput struct{ Body replay }
)

func (a *API) registerReplays() {
	tags := []string{"replays"}
	const base, one = "/v1/replays", "/v1/replays/{id}"
	handle(a, huma.Operation{
		OperationID: "create-replay", Method: http.MethodPost, Path: base, Tags: tags,
		Summary: "Deliver a part of the log to a subscription again",
		Description: "A replay has a lane of its own: it keeps the order of keys within itself, none against live events, which go " +
			"first. It shares the endpoint's health and the subscription's limits, survives restarts, and fails events by the " +
			"subscription's policy. Requests carry the header rowcall-replay, and the same webhook-id as before. A dry run (200) " +
			"only counts.",
		DefaultStatus: http.StatusAccepted,
		RequestBody:   a.body(typeOf[replayInput](), "", map[string][]string{"ReplayInput": {"subscription", "from"}}, "application/json"),
		Responses:     a.answers(map[int]any{http.StatusOK: replayDryRun{}, http.StatusAccepted: replay{}}),
	}, ScopeDeliver, a.createReplay)
	handle(a, huma.Operation{
		OperationID: "list-replays", Method: http.MethodGet, Path: base, Tags: tags,
		Summary: "List replays, newest first",
	}, ScopeRead, a.listReplays)
	handle(a, huma.Operation{
		OperationID: "get-replay", Method: http.MethodGet, Path: one, Tags: tags,
		Summary: "Get a replay with its progress",
	}, ScopeRead, a.getReplay)
	for _, move := range []struct {
		action, summary, more string
		state                 store.JobState
	}{
		{"pause", "Let a replay wait", "What is in flight ends. Pausing a paused replay changes nothing.", store.JobPaused},
		{"resume", "Let a paused replay go on", "", store.JobRunning},
		{"cancel", "End a replay", "What is in flight ends, what waits is dropped, dead letters stay. What the retry of a dead range had not come to is the range's again.", store.JobCancelled},
	} {
		handle(a, huma.Operation{
			OperationID: move.action + "-replay", Method: http.MethodPost, Path: one + "/" + move.action, Tags: tags,
			Summary: move.summary, Description: move.more, Responses: conflicts(),
		}, ScopeDeliver, a.setReplayState(move.state))
	}
}

func (a *API) createReplay(ctx context.Context, in *rawInput) (*bulkOutput, error) {
	r, err := readBody(in.RawBody, "subscription", "from", "to", "types", "filter", "rate", "dry_run")
	if err != nil {
		return nil, err
	}
	j := store.Job{Subscription: r.subscription("subscription"), CreatedBy: caller(ctx)}
	if _, there := r.members["subscription"]; !there {
		r.fault("subscription", "is required")
	}
	j.Replay.Types, j.Replay.PerSecond = r.types("types"), r.rate("rate", defaultReplayRate)
	var filter string
	if r.read("filter", "a string", &filter) {
		j.Replay.Filter = &filter
	}
	from, to := r.place("from"), r.place("to")
	if from == nil {
		r.fault("from", "is required: a time or an offset, where it begins")
	}
	dry := r.bool("dry_run")
	if err := r.err(); err != nil {
		return nil, joinFields(err, a.checkAlone(ctx, j.Replay.Filter))
	}
	sub, err := a.store.Subscription(ctx, j.Subscription)
	if errors.Is(err, store.ErrNotFound) || err == nil && !sees(ctx, sub.Labels) {
		return nil, joinFields(noSubscription(), a.checkAlone(ctx, j.Replay.Filter))
	}
	if err != nil {
		return nil, err
	}
	if j.Replay.Filter != nil {
		// By itself first: only a whole expression can stand beside another.
		alone := subscriptions.Spec{Events: sub.Events, Filter: j.Replay.Filter}
		together := sub.WithFilter(*j.Replay.Filter)
		for _, spec := range []*subscriptions.Spec{&alone, {Events: sub.Events, Filter: together.Filter}} {
			if _, err := a.checkExpressions(ctx, spec); err != nil {
				return nil, err
			}
		}
	}
	if j.Replay.From, j.Replay.Past, err = a.replayRange(ctx, from, to); err != nil {
		return nil, err
	}
	count, err := a.store.CountEvents(ctx, j.Replay.From, j.Replay.Past, j.Replay.Matches(sub.Events))
	if err != nil {
		return nil, err
	}
	j.Total, j.Bytes = count.Events, count.Bytes
	if dry {
		out := replayDryRun{DryRun: true, From: replayPlace{j.Replay.From}, To: replayPlace{j.Replay.Past}, Total: j.Total, Bytes: j.Bytes}
		if j.Replay.PerSecond > 0 {
			out.Seconds = new(float64(j.Total) / j.Replay.PerSecond)
		}
		return &bulkOutput{Status: http.StatusOK, Body: out}, nil
	}
	err = a.store.CreateReplay(ctx, &j)
	if errors.Is(err, store.ErrGone) { // since it was looked at above
		return nil, invalid("body.from", "the log has just dropped what was there; ask from a later place")
	}
	if err != nil {
		return nil, jobConflict(err)
	}
	return &bulkOutput{Status: http.StatusAccepted, Location: "/v1/replays/" + string(j.ID), Body: showReplay(j, time.Now())}, nil
}

// checkAlone judges a filter beside which more is at fault, for no table: the
// subscription is not known.
func (a *API) checkAlone(ctx context.Context, filter *string) error {
	if filter == nil {
		return nil
	}
	_, err := a.checkExpressions(ctx, &subscriptions.Spec{Filter: filter})
	return err
}

// replayRange is the offsets that a replay goes through. The log must have them
// all: what is gone is not passed over in silence.
func (a *API) replayRange(ctx context.Context, from, to *placeInput) (first, past store.Offset, err error) {
	oldest, err := a.store.Oldest(ctx)
	if err != nil {
		return 0, 0, err
	}
	head := a.store.Head()
	find := func(at *placeInput) (store.Offset, error) {
		if at.Time.IsZero() {
			return at.Offset, nil
		}
		return a.store.OffsetAt(ctx, at.Time)
	}
	if first, err = find(from); err != nil {
		return 0, 0, err
	}
	gone := first < oldest
	begins := "with offset " + oldest.String()
	if oldest > 1 && first <= oldest && oldest < head {
		e, err := a.store.Event(ctx, oldest)
		if err != nil {
			return 0, 0, err
		}
		gone = gone || !from.Time.IsZero() && from.Time.Before(e.CommittedAt())
		begins += ", committed at " + e.CommittedAt().Format(time.RFC3339Nano)
	}
	if gone {
		return 0, 0, invalid("body.from", "the log begins "+begins+": what was before is gone; ask from there")
	}
	past = head
	if to != nil {
		at, err := find(to)
		if err != nil {
			return 0, 0, err
		}
		if past = min(at, head); at <= first {
			return 0, 0, invalid("body.to", "is not after from")
		}
	}
	return min(first, past), past, nil
}

// place reads a time or an offset; nil: there is none, or it is at fault.
func (r *bodyReader) place(field string) *placeInput {
	raw, there := r.members[field]
	if !there {
		return nil
	}
	faults := len(r.faults)
	at := &placeInput{}
	if !r.object(raw, field+".", "time", "offset") {
		r.fault(field, `must be {"time":"…"} or {"offset":…}`)
		return at
	}
	at.Time = r.time(field + ".time")
	if r.read(field+".offset", "a whole number", &at.Offset) && at.Offset < 1 {
		r.fault(field+".offset", "must be 1 or more")
	}
	if len(r.faults) == faults && at.Time.IsZero() == (at.Offset == 0) {
		r.fault(field, "must have either time or offset")
	}
	return at
}

// types reads patterns of event types.
func (r *bodyReader) types(field string) (types []string) {
	if !r.read(field, "an array of strings", &types) {
		return nil
	}
	if len(types) > maxReplayTypes {
		r.fault(field, "must have %d patterns at most", maxReplayTypes)
		return nil
	}
	for _, pattern := range types {
		if err := subscriptions.CheckPattern(pattern); err != nil {
			r.fault(field, "has a pattern that matches nothing: %v", err)
			break
		}
	}
	return types
}

// rate reads requests a second: null is none (0), and what is missing is standard.
func (r *bodyReader) rate(field string, standard float64) float64 {
	raw, there := r.members[field]
	switch {
	case there && !r.object(raw, field+".", "per_second"):
		r.fault(field, `must be {"per_second":…} or null`)
	case !there && !r.null[field]:
		return standard
	case !there:
		return 0
	}
	var perSecond float64
	if !r.read(field+".per_second", "a number", &perSecond) {
		if len(r.faults) == 0 {
			r.fault(field+".per_second", "is required")
		}
	} else if perSecond < 0.001 || perSecond > 100_000 {
		r.fault(field+".per_second", "must be from 0.001 to 100000")
	}
	return perSecond
}

func (a *API) listReplays(ctx context.Context, in *replaysInput) (*replaysOutput, error) {
	subscription, err := filterID(in.Subscription)
	if err != nil {
		return nil, err
	}
	filters := joinFilters(string(in.State), in.Subscription)
	position, err := openCursor("replays", filters, in.Cursor)
	if err != nil {
		return nil, err
	}
	at, err := splitNumbers(position, 1)
	if err != nil {
		return nil, err
	}
	found, err := a.store.Jobs(ctx, store.JobFilter{
		Kind: store.ReplayJob, State: in.State, Subscription: subscription, Labels: restriction(ctx), Past: at[0],
	}, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &replaysOutput{Body: page[replay]{Items: []replay{}}}
	for i, j := range found {
		if i == in.Limit {
			out.Body.NextCursor = sealCursor("replays", filters, joinNumbers(found[i-1].N))
			break
		}
		out.Body.Items = append(out.Body.Items, showReplay(j, time.Now()))
	}
	return out, nil
}

func (a *API) getReplay(ctx context.Context, in *replayPath) (*replayOutput, error) {
	j, err := a.seenJob(ctx, store.JobID(in.ID))
	if err == nil && j.Kind != store.ReplayJob {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &replayOutput{Body: showReplay(j, time.Now())}, nil
}

func (a *API) setReplayState(state store.JobState) func(context.Context, *replayPath) (*replayOutput, error) {
	return func(ctx context.Context, in *replayPath) (*replayOutput, error) {
		if _, err := a.getReplay(ctx, in); err != nil {
			return nil, err
		}
		j, err := a.store.SetJobState(ctx, store.JobID(in.ID), state)
		if err != nil {
			return nil, jobConflict(err)
		}
		return &replayOutput{Body: showReplay(j, time.Now())}, nil
	}
}
