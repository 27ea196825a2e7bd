package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// maxGroups bounds an answer: reasons and statuses are few, subscriptions that
// fail at once may be many.
const maxGroups = 1000

// deliveryGroup is what went wrong alike.
type deliveryGroup struct {
	Subscription subscriptions.ID    `json:"subscription"`
	State        store.DeliveryState `json:"state" enum:"retrying,blocked,dead"`
	Reason       string              `json:"reason"`
	Status       int                 `json:"status" doc:"HTTP status of the last try; 0: there was no response."`
	Count        int64               `json:"count"`
	Keys         *int64              `json:"keys" doc:"How many keys they order; null where there are too many deliveries to count them."`
	FirstFailed  *time.Time          `json:"first_failed_at"`
	UpdatedAt    time.Time           `json:"updated_at" doc:"Of the one that changed last."`
	Error        string              `json:"error" doc:"Of the newest event's last try."`
}

type (
	groupsInput struct {
		Subscription string              `query:"subscription" doc:"Of this subscription (id)."`
		State        store.DeliveryState `query:"state" enum:"retrying,blocked,dead"`
		Reason       string              `query:"reason"`
		Status       int                 `query:"status" minimum:"100" maximum:"599" doc:"HTTP status of the last try."`
		Since        time.Time           `query:"since" doc:"Changed at or after this time."`
	}
	groupsOutput struct{ Body page[deliveryGroup] }
)

func (a *API) registerGroups() {
	handle(a, huma.Operation{
		OperationID: "group-deliveries", Method: http.MethodGet, Path: "/v1/deliveries/groups", Tags: []string{"deliveries"},
		Summary: "Group deliveries by subscription, state, reason and status",
		Description: "The dead first, then by number; the 1,000 largest, on one page. " +
			"The deliveries of a group are listed by GET /v1/deliveries with the same filters.",
	}, ScopeRead, a.groupDeliveries)
}

func (a *API) groupDeliveries(ctx context.Context, in *groupsInput) (*groupsOutput, error) {
	subscription, err := filterID(in.Subscription)
	if err != nil {
		return nil, err
	}
	filter := store.DeliveryFilter{Subscription: subscription, State: in.State, Reason: in.Reason, Status: in.Status, Since: in.Since}
	var among map[subscriptions.ID]bool
	if len(callersKey(ctx).Labels) > 0 {
		all, err := a.store.Summaries(ctx)
		if err != nil {
			return nil, err
		}
		among = map[subscriptions.ID]bool{}
		for _, s := range all {
			if sees(ctx, s.Labels) {
				among[s.ID] = true
			}
		}
	}
	found, err := a.store.DeliveryGroups(ctx, filter, among, maxGroups)
	if err != nil {
		return nil, err
	}
	out := &groupsOutput{Body: page[deliveryGroup]{Items: []deliveryGroup{}}}
	for _, g := range found {
		shown := deliveryGroup{
			Subscription: g.Subscription, State: g.State, Reason: g.Reason, Status: g.Status, Count: g.Count,
			FirstFailed: optionalTime(g.FirstFailedAt), UpdatedAt: g.UpdatedAt, Error: g.Error,
		}
		if g.Keys >= 0 {
			shown.Keys = &g.Keys
		}
		out.Body.Items = append(out.Body.Items, shown)
	}
	return out, nil
}
