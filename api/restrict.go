package api

import (
	"context"
	"errors"
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
		"tail", "test-subscription", "get-stats", "get-subscription-stats", "preview-subscription",
		"retry-deliveries", "discard-deliveries", "list-jobs", "get-job", "pause-job", "resume-job", "cancel-job",
		"create-replay", "list-replays", "get-replay", "pause-replay", "resume-replay", "cancel-replay",
		"list-dead-ranges", "get-dead-range", "discard-dead-range", "retry-dead-range",
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

// restricted reports whether the caller's key has labels.
func restricted(ctx context.Context) bool { return len(callersKey(ctx).Labels) > 0 }

// checkNamed refuses a restricted key what is not about one subscription that it
// sees; the error of one that it does not see is the one of none.
func (a *API) checkNamed(ctx context.Context, id subscriptions.ID) error {
	if !restricted(ctx) {
		return nil
	}
	if id == "" {
		return newProblem(problemForbidden, "the key is restricted to some subscriptions by its labels: name one of them as subscription")
	}
	err := a.checkSeen(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return noSubscription()
	}
	return err
}

func noSubscription() error {
	return subscriptions.FieldErrors{{Field: "subscription", Message: "there is no such subscription"}}
}

// checkNotices refuses a restricted key patterns of notices: those speak of all
// subscriptions.
func checkNotices(ctx context.Context, patterns []string) error {
	if !restricted(ctx) || !slices.ContainsFunc(patterns, isNotice) {
		return nil
	}
	return subscriptions.FieldErrors{{Field: "events", Message: "must not have patterns of notices (rowcall.…): the key is restricted to some subscriptions by its labels, " +
		"and notices speak of all of them; leave them out, or use a key without labels"}}
}

func isNotice(pattern string) bool { return strings.HasPrefix(pattern, "rowcall.") }

// hides reports whether what an event says is kept from the caller: a notice is of
// any subscription, and one that a restricted key sees may have been given notices.
func hides(ctx context.Context, e *store.Event) bool {
	return e != nil && e.Kind == store.KindNotice && restricted(ctx)
}

// hideNotice takes out of a delivery what its event says of other subscriptions.
func hideNotice(ctx context.Context, d *store.Delivery) {
	if !hides(ctx, d.Event) {
		return
	}
	bare := *d.Event
	bare.Subject, bare.Key, bare.Data = "", "", nil
	d.Event, d.Keys = &bare, nil
}

// seenJob returns a job that the caller sees: where it is restricted, one of a
// subscription that it sees.
func (a *API) seenJob(ctx context.Context, id store.JobID) (store.Job, error) {
	j, err := a.store.Job(ctx, id)
	if err == nil {
		err = a.checkSeen(ctx, j.Subscription)
	}
	if err != nil {
		return store.Job{}, err
	}
	return j, nil
}

// checkSeen is nil where the caller sees the subscription, else an error as if
// there were none.
func (a *API) checkSeen(ctx context.Context, id subscriptions.ID) error {
	if !restricted(ctx) {
		return nil
	}
	_, err := a.subscription(ctx, string(id))
	return err
}

// checkSeenDelivery is checkSeen of a delivery's subscription.
func (a *API) checkSeenDelivery(ctx context.Context, id deliveryID) error {
	if !restricted(ctx) {
		return nil
	}
	d, err := a.store.Delivery(ctx, id.lane, id.offset)
	if err != nil {
		return err
	}
	return a.checkSeen(ctx, d.Subscription)
}
