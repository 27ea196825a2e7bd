package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// A key with labels is restricted to the subscriptions that have them all; those
// of others are not there for it. Routes that are not about subscriptions alone
// refuse it, unless they are named here: one that is added is safe before
// somebody thinks of keys.

// obeysLabels reports whether a route may be used by a key that is restricted:
// what it shows and changes is of subscriptions that the key sees, or of the key.
func obeysLabels(operation string) bool {
	return slices.Contains([]string{
		"list-subscriptions", "create-subscription", "get-subscription", "patch-subscription", "delete-subscription",
		"pause-subscription", "resume-subscription", "rotate-secret", "get-subscription-health", "probe-subscription",
		"list-deliveries", "get-delivery", "get-delivery-request", "retry-delivery", "discard-delivery", "list-attempts", "get-attempt",
		"publish-events", "list-endpoints", "group-deliveries", "get-identity", "create-session", "delete-session",
		"tail", "test-subscription", "get-stats", "get-subscription-stats",
	}, operation)
}

// restriction is what the caller's key is restricted to.
func restriction(ctx context.Context) store.Labels { return store.LabelsOf(callersKey(ctx).Labels) }

// sees reports whether the caller sees a subscription with these labels.
func sees(ctx context.Context, labels map[string]string) bool {
	for name, value := range callersKey(ctx).Labels {
		if has, ok := labels[name]; !ok || has != value {
			return false
		}
	}
	return true
}

// staysSeen refuses labels under which the caller would not see the subscription
// any more.
func staysSeen(ctx context.Context, labels map[string]string) error {
	if sees(ctx, labels) {
		return nil
	}
	var want []string
	own := callersKey(ctx).Labels
	for _, name := range slices.Sorted(maps.Keys(own)) {
		want = append(want, fmt.Sprintf("%s=%s", name, own[name]))
	}
	return invalid("body.labels", "must hold those of the key: "+strings.Join(want, ", "))
}

// checkSeen is nil where the caller sees the subscription, else an error as if
// there were none.
func (a *API) checkSeen(ctx context.Context, id subscriptions.ID) error {
	if len(callersKey(ctx).Labels) == 0 {
		return nil
	}
	_, err := a.subscription(ctx, string(id))
	return err
}

// checkSeenDelivery is checkSeen of a delivery's subscription.
func (a *API) checkSeenDelivery(ctx context.Context, id deliveryID) error {
	if len(callersKey(ctx).Labels) == 0 {
		return nil
	}
	d, err := a.store.Delivery(ctx, id.lane, id.offset)
	if err != nil {
		return err
	}
	return a.checkSeen(ctx, d.Subscription)
}
