package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// deadRange is what a subscription held for too long.
type deadRange struct {
	ID           string           `json:"id"`
	Subscription subscriptions.ID `json:"subscription"`
	From         string           `json:"from" pattern:"^[0-9]{20}$" doc:"Offset of the first."`
	Past         string           `json:"past" pattern:"^[0-9]{20}$" doc:"Offset behind the last."`
	Patterns     []string         `json:"events" doc:"The subscription's patterns when the range was given up."`
	Count        int64            `json:"count" doc:"Events that the patterns match; what the filter leaves out counts."`
	Bytes        int64            `json:"bytes" doc:"Of their data."`
	Reason       string           `json:"reason" enum:"hold_limit_age,hold_limit_bytes"`
	CreatedAt    time.Time        `json:"created_at"`
	UpdatedAt    time.Time        `json:"updated_at" doc:"When it last grew; it is kept for ROWCALL_DEAD_RETENTION from then on."`
	Retry        *string          `json:"retry" doc:"The replay that retries it (rpl_…), whose progress says what is left; null: nobody asked for one."`
}

func showDeadRange(r store.DeadRange) deadRange {
	return deadRange{
		ID: deadRangeID(r.ID), Subscription: r.Subscription, From: r.Range.From.String(), Past: r.Range.Past.String(),
		Patterns: r.Patterns, Count: r.Events.Events, Bytes: r.Events.Bytes, Reason: r.Reason, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		Retry: optionalText(string(r.Job)),
	}
}

func deadRangeID(id int64) string { return "drg_" + strconv.FormatInt(id, 10) }

// parseDeadRangeID reads exactly what deadRangeID prints.
func parseDeadRangeID(text string) (int64, error) {
	rest, ok := strings.CutPrefix(text, "drg_")
	id, err := strconv.ParseInt(rest, 10, 64)
	if !ok || err != nil || id < 1 || deadRangeID(id) != text {
		return 0, store.ErrNotFound
	}
	return id, nil
}

type (
	deadRangesInput struct {
		PageInput
		Subscription string `query:"subscription" doc:"Of this subscription (id)."`
	}
	deadRangesOutput struct{ Body page[deadRange] }
	deadRangePath    struct {
		ID string `path:"id" doc:"drg_…"`
	}
	deadRangeOutput struct{ Body deadRange }
	replayCreated   struct {
		Location string `header:"Location"`
		Body     replay
	}
)

func (a *API) registerDeadRanges() {
	tags := []string{"deliveries"}
	handle(a, huma.Operation{
		OperationID: "list-dead-ranges", Method: http.MethodGet, Path: "/v1/dead-ranges", Tags: tags,
		Summary:     "List what was held for too long, newest first",
		Description: "A range stands for all events of the log that a subscription gave up at its outage.hold_limit.",
	}, ScopeRead, a.listDeadRanges)
	handle(a, huma.Operation{
		OperationID: "get-dead-range", Method: http.MethodGet, Path: "/v1/dead-ranges/{id}", Tags: tags,
		Summary: "Get a dead range",
	}, ScopeRead, a.getDeadRange)
	handle(a, huma.Operation{
		OperationID: "discard-dead-range", Method: http.MethodPost, Path: "/v1/dead-ranges/{id}/discard", Tags: tags,
		Summary:       "Give a dead range up for good",
		Description:   "One that is being retried answers 409.",
		DefaultStatus: http.StatusNoContent, Errors: []int{http.StatusConflict},
	}, ScopeDeliver, a.discardDeadRange)
	handle(a, huma.Operation{
		OperationID: "retry-dead-range", Method: http.MethodPost, Path: "/v1/dead-ranges/{id}/retry", Tags: tags,
		Summary: "Deliver a dead range",
		Description: "Answers with the replay that does it: of the events that the subscription's patterns and filter wanted when the " +
			"range was given up, also those that the log has dropped since, in order per key among themselves, beside what is " +
			"delivered now (receivers compare sequence). Each has a fresh budget; what fails is a dead letter. The range goes " +
			"when the replay is done. Where that is cancelled, or fails, what was tried and not delivered is dead letters, and the range " +
			"is what the replay had not come to. It can be paused and resumed.",
		DefaultStatus: http.StatusAccepted,
		Errors:        []int{http.StatusConflict},
	}, ScopeDeliver, a.retryDeadRange)
}

func (a *API) listDeadRanges(ctx context.Context, in *deadRangesInput) (*deadRangesOutput, error) {
	subscription, err := filterID(in.Subscription)
	if err != nil {
		return nil, err
	}
	position, err := openCursor("dead-ranges", in.Subscription, in.Cursor)
	if err != nil {
		return nil, err
	}
	at, err := splitNumbers(position, 1)
	if err != nil {
		return nil, err
	}
	found, err := a.store.DeadRanges(ctx, store.DeadRangeFilter{Subscription: subscription, Labels: restriction(ctx), Below: at[0]}, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &deadRangesOutput{Body: page[deadRange]{Items: []deadRange{}}}
	for i, r := range found {
		if i == in.Limit {
			out.Body.NextCursor = sealCursor("dead-ranges", in.Subscription, joinNumbers(found[i-1].ID))
			break
		}
		out.Body.Items = append(out.Body.Items, showDeadRange(r))
	}
	return out, nil
}

func (a *API) getDeadRange(ctx context.Context, in *deadRangePath) (*deadRangeOutput, error) {
	r, err := a.seenRange(ctx, in)
	if err != nil {
		return nil, err
	}
	return &deadRangeOutput{Body: showDeadRange(r)}, nil
}

// seenRange returns a dead range of a subscription that the caller sees.
func (a *API) seenRange(ctx context.Context, in *deadRangePath) (store.DeadRange, error) {
	id, err := parseDeadRangeID(in.ID)
	if err != nil {
		return store.DeadRange{}, err
	}
	r, err := a.store.DeadRange(ctx, id)
	if err == nil {
		err = a.checkSeen(ctx, r.Subscription)
	}
	if err != nil {
		return store.DeadRange{}, err
	}
	return r, nil
}

func (a *API) discardDeadRange(ctx context.Context, in *deadRangePath) (*struct{}, error) {
	r, err := a.seenRange(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := a.store.DiscardDeadRange(ctx, r.ID); err != nil {
		return nil, rangeConflict(err)
	}
	a.log.Info().Str("range", in.ID).Str("actor", caller(ctx)).Msg("dead range discarded")
	return nil, nil
}

func (a *API) retryDeadRange(ctx context.Context, in *deadRangePath) (*replayCreated, error) {
	r, err := a.seenRange(ctx, in)
	if err != nil {
		return nil, err
	}
	j := store.Job{CreatedBy: caller(ctx)}
	if err := a.store.RetryDeadRange(ctx, r.ID, &j); err != nil {
		return nil, rangeConflict(err)
	}
	a.log.Info().Str("range", in.ID).Str("replay", string(j.ID)).Str("actor", caller(ctx)).Msg("dead range is retried")
	return &replayCreated{Location: "/v1/replays/" + string(j.ID), Body: showReplay(j, time.Now())}, nil
}

// rangeConflict says in words why a dead range cannot be retried, or discarded.
func rangeConflict(err error) error {
	if errors.Is(err, store.ErrConflict) {
		return newProblem(problemConflict, "the range is being retried: its member retry names the replay; cancel that first, or let it end")
	}
	return jobConflict(err)
}
