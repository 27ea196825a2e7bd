package api

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Bounds of the time in which it is counted what a job has to do: for somebody who
// only asks, and for the progress of one that is made.
const (
	askWithin   = store.ListTime
	countWithin = 5 * time.Second
)

// job is long work that goes on by itself.
type job struct {
	ID           string           `json:"id" doc:"job_…, or rpl_… of a replay."`
	Kind         store.JobKind    `json:"kind" enum:"retry,discard,replay"`
	State        store.JobState   `json:"state" enum:"running,paused,done,cancelled,failed" doc:"done: every delivery was handed to its lane, which tries it by the subscription's policy; of a replay: every event has ended."`
	Reason       string           `json:"reason" doc:"Why it failed."`
	Subscription subscriptions.ID `json:"subscription" doc:"Empty: of all."`
	Filter       jobFilter        `json:"filter" doc:"Which deliveries; empty of a replay."`
	Total        int64            `json:"total" doc:"How many there were when it was made."`
	AtLeast      bool             `json:"at_least" doc:"total is what was counted in time: there may be more."`
	Done         int64            `json:"done" doc:"Those that their lanes took up; of a replay, events delivered."`
	Failed       int64            `json:"failed" doc:"Of a replay, events that are dead letters; else 0: what fails again is a dead letter again."`
	Skipped      int64            `json:"skipped" doc:"Those that had ended, or had changed, in the meantime."`
	CreatedBy    string           `json:"created_by" doc:"Id of the API key."`
	CreatedAt    time.Time        `json:"created_at"`
	UpdatedAt    time.Time        `json:"updated_at"`
	EndedAt      *time.Time       `json:"ended_at"`
}

// jobFilter is what a bulk job selects by; what is absent selects all.
type jobFilter struct {
	State  store.DeliveryState `json:"state,omitempty" enum:"retrying,blocked,dead"`
	Reason string              `json:"reason,omitempty"`
	Status int                 `json:"status,omitempty"`
	Type   string              `json:"type,omitempty"`
	Key    string              `json:"key,omitempty"`
	Since  *time.Time          `json:"since,omitempty"`
	Until  *time.Time          `json:"until,omitempty"`
}

func showJob(j store.Job) job {
	f := j.Filter
	return job{
		ID: string(j.ID), Kind: j.Kind, State: j.State, Reason: j.Reason, Subscription: j.Subscription,
		Filter: jobFilter{f.State, f.Reason, f.Status, f.Type, f.Key, optionalTime(f.Since), optionalTime(f.Until)},
		Total:  j.Total, AtLeast: j.AtLeast, Done: j.Done, Failed: j.Failed, Skipped: j.Skipped,
		CreatedBy: j.CreatedBy, CreatedAt: j.CreatedAt, UpdatedAt: j.UpdatedAt, EndedAt: optionalTime(j.EndedAt),
	}
}

// bulkInput is the body of a bulk retry or discard, as the document describes it.
type bulkInput struct {
	Subscription subscriptions.ID    `json:"subscription" doc:"Of this subscription (id)."`
	State        store.DeliveryState `json:"state" enum:"retrying,blocked,dead"`
	Reason       string              `json:"reason" doc:"Whose last try failed for exactly this reason."`
	Status       int                 `json:"status" minimum:"100" maximum:"599" doc:"Whose last try got exactly this HTTP status."`
	Type         string              `json:"type" doc:"Of events of exactly this type."`
	Key          string              `json:"key" doc:"Ordered by exactly this key."`
	Since        time.Time           `json:"since" doc:"Changed at or after this time."`
	Until        time.Time           `json:"until" doc:"Changed before this time."`
	DryRun       bool                `json:"dry_run" doc:"Only count."`
}

// dryRun is the answer to a bulk request that is only to be counted.
type dryRun struct {
	DryRun  bool  `json:"dry_run" doc:"true: nothing was done."`
	Total   int64 `json:"total" doc:"How many deliveries it would be."`
	AtLeast bool  `json:"at_least" doc:"total is what was counted in time: there may be more."`
}

type (
	rawInput struct {
		RawBody []byte `contentType:"application/json"`
	}
	bulkOutput struct {
		Status   int
		Location string `header:"Location"`
		Body     any
	}
	jobsInput struct {
		PageInput
		Kind         store.JobKind  `query:"kind" enum:"retry,discard,replay"`
		State        store.JobState `query:"state" enum:"running,paused,done,cancelled,failed"`
		Subscription string         `query:"subscription" doc:"Of this subscription (id)."`
	}
	jobsOutput struct{ Body page[job] }
	jobPath    struct {
		ID string `path:"id" doc:"job_… or rpl_…"`
	}
	jobOutput struct{ Body job }
)

func (a *API) registerJobs() {
	tags := []string{"jobs"}
	const base, one = "/v1/jobs", "/v1/jobs/{id}"
	handle(a, huma.Operation{
		OperationID: "list-jobs", Method: http.MethodGet, Path: base, Tags: tags,
		Summary: "List bulk retries and discards, and replays, newest first",
	}, ScopeRead, a.listJobs)
	handle(a, huma.Operation{
		OperationID: "get-job", Method: http.MethodGet, Path: one, Tags: tags,
		Summary: "Get a job with its progress",
	}, ScopeRead, a.getJob)
	handle(a, huma.Operation{
		OperationID: "pause-job", Method: http.MethodPost, Path: one + "/pause", Tags: tags,
		Summary:     "Let a job wait",
		Description: "What lanes have taken up goes on. Pausing a paused job changes nothing.", Responses: conflicts(),
	}, ScopeDeliver, a.setJobState(store.JobPaused))
	handle(a, huma.Operation{
		OperationID: "resume-job", Method: http.MethodPost, Path: one + "/resume", Tags: tags,
		Summary: "Let a paused job go on", Responses: conflicts(),
	}, ScopeDeliver, a.setJobState(store.JobRunning))
	handle(a, huma.Operation{
		OperationID: "cancel-job", Method: http.MethodPost, Path: one + "/cancel", Tags: tags,
		Summary:     "End a job",
		Description: "What lanes have taken up goes on; nothing else is touched.", Responses: conflicts(),
	}, ScopeDeliver, a.setJobState(store.JobCancelled))
	for _, bulk := range []struct {
		kind    store.JobKind
		summary string
		more    string
	}{
		{store.RetryJob, "Try all deliveries again that a filter selects, each with a new budget", "Those of one key go in the order of their events."},
		{store.DiscardJob, "Give all deliveries up that a filter selects", "Events of their keys that waited for them go on."},
	} {
		handle(a, huma.Operation{
			OperationID: string(bulk.kind) + "-deliveries", Method: http.MethodPost, Path: "/v1/deliveries/" + string(bulk.kind), Tags: []string{"deliveries"},
			Summary: bulk.summary,
			Description: "The filters are those of GET /v1/deliveries, but for filter and event, at least one; a restricted key names a subscription. Answered with a job (202) that asks the owners of " +
				"the lanes, and survives restarts. What changes after it was made is left alone, and counts as skipped. " +
				bulk.more + " A dry run (200) only counts.",
			DefaultStatus: http.StatusAccepted,
			RequestBody:   a.body(typeOf[bulkInput](), "", nil, "application/json"),
			Responses:     a.answers(map[int]any{http.StatusOK: dryRun{}, http.StatusAccepted: job{}}),
		}, ScopeDeliver, a.bulk(bulk.kind))
	}
}

// conflicts describes that a route may find things in another state.
func conflicts() map[string]*huma.Response {
	return map[string]*huma.Response{"409": {Ref: "#/components/responses/" + problemName(http.StatusConflict)}}
}

// answers describes a route that answers with one thing or another.
func (a *API) answers(of map[int]any) map[string]*huma.Response {
	out := map[string]*huma.Response{}
	for status, body := range of {
		schema := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(body), true, "")
		out[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
		}
	}
	return out
}

func (a *API) bulk(kind store.JobKind) func(context.Context, *rawInput) (*bulkOutput, error) {
	return func(ctx context.Context, in *rawInput) (*bulkOutput, error) {
		filter, dry, err := parseBulk(in.RawBody)
		if err != nil {
			return nil, err
		}
		if err := a.checkNamed(ctx, filter.Subscription); err != nil {
			return nil, err
		}
		j := store.Job{Kind: kind, Filter: filter, CreatedBy: caller(ctx)}
		within := countWithin
		if dry {
			within = askWithin
		}
		if j.Total, j.AtLeast, err = a.store.CountDeliveries(ctx, filter, within); err != nil {
			return nil, err
		}
		if dry {
			return &bulkOutput{Status: http.StatusOK, Body: dryRun{true, j.Total, j.AtLeast}}, nil
		}
		if err := a.store.CreateJob(ctx, &j); err != nil {
			return nil, jobConflict(err)
		}
		return &bulkOutput{Status: http.StatusAccepted, Location: "/v1/jobs/" + string(j.ID), Body: showJob(j)}, nil
	}
}

// parseBulk reads the body of a bulk request.
func parseBulk(raw []byte) (f store.DeliveryFilter, dry bool, err error) {
	r, err := readBody(raw, "subscription", "state", "reason", "status", "type", "key", "since", "until", "dry_run", "filter", "event")
	if err != nil {
		return f, false, err
	}
	f = store.DeliveryFilter{
		Subscription: r.subscription("subscription"), State: store.DeliveryState(r.enum("state", "retrying", "blocked", "dead")),
		Reason: r.text("reason"), Type: r.text("type"), Key: r.text("key"), Since: r.time("since"), Until: r.time("until"),
	}
	if r.read("status", "a number", &f.Status) && (f.Status < 100 || f.Status > 599) {
		r.fault("status", "must be an HTTP status, 100 to 599")
	}
	dry = r.bool("dry_run")
	for _, field := range []string{"filter", "event"} {
		if r.members[field] != nil {
			r.fault(field, "is not taken here: it would be asked of every delivery when its turn comes; list them by GET /v1/deliveries?%s=…, and retry or discard each by its id", field)
		}
	}
	if len(r.faults) == 0 && f == (store.DeliveryFilter{}) {
		r.fault("", "must have a filter, such as subscription or state: without one it would be every delivery there is")
	}
	return f, dry, r.err()
}

// jobConflict says in words why a job cannot be made, or not be moved.
func jobConflict(err error) error {
	if errors.Is(err, store.ErrTooMany) {
		return newProblem(problemConflict, "a hundred jobs have not ended: wait for some, or cancel them (GET /v1/jobs)")
	}
	if errors.Is(err, store.ErrConflict) {
		return newProblem(problemConflict, "the job has ended, or is not in the state that this needs")
	}
	return err
}

func (a *API) listJobs(ctx context.Context, in *jobsInput) (*jobsOutput, error) {
	subscription, err := filterID(in.Subscription)
	if err != nil {
		return nil, err
	}
	filters := joinFilters(string(in.Kind), string(in.State), in.Subscription)
	position, err := openCursor("jobs", filters, in.Cursor)
	if err != nil {
		return nil, err
	}
	at, err := splitNumbers(position, 1)
	if err != nil {
		return nil, err
	}
	found, err := a.store.Jobs(ctx, store.JobFilter{
		Kind: in.Kind, State: in.State, Subscription: subscription, Labels: restriction(ctx), Past: at[0],
	}, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &jobsOutput{Body: page[job]{Items: []job{}}}
	for i, j := range found {
		if i == in.Limit {
			out.Body.NextCursor = sealCursor("jobs", filters, joinNumbers(found[i-1].N))
			break
		}
		out.Body.Items = append(out.Body.Items, showJob(j))
	}
	return out, nil
}

func (a *API) getJob(ctx context.Context, in *jobPath) (*jobOutput, error) {
	j, err := a.seenJob(ctx, store.JobID(in.ID))
	if err != nil {
		return nil, err
	}
	return &jobOutput{Body: showJob(j)}, nil
}

func (a *API) setJobState(state store.JobState) func(context.Context, *jobPath) (*jobOutput, error) {
	return func(ctx context.Context, in *jobPath) (*jobOutput, error) {
		if _, err := a.seenJob(ctx, store.JobID(in.ID)); err != nil {
			return nil, err
		}
		j, err := a.store.SetJobState(ctx, store.JobID(in.ID), state)
		if err != nil {
			return nil, jobConflict(err)
		}
		return &jobOutput{Body: showJob(j)}, nil
	}
}
