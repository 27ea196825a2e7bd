package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/rowcall/rowcall/api/client"
)

type subscriptionsCmd struct {
	List    listSubscriptionsCmd   `cmd:"" help:"List subscriptions."`
	Get     getSubscriptionCmd     `cmd:"" help:"Show one."`
	Create  createSubscriptionCmd  `cmd:"" help:"Make one; the answer holds its signing secret."`
	Update  updateSubscriptionCmd  `cmd:"" help:"Change one."`
	Delete  deleteSubscriptionCmd  `cmd:"" help:"End one: what it is owed goes with it."`
	Pause   pauseSubscriptionCmd   `cmd:"" help:"Hold its events until it is resumed."`
	Resume  resumeSubscriptionCmd  `cmd:"" help:"Deliver its events again."`
	Health  healthSubscriptionCmd  `cmd:"" help:"Show how its endpoint does, and what it is owed."`
	Preview previewSubscriptionCmd `cmd:"" help:"Try a filter, a transform and an ordering key on the newest events."`
	Probe   probeSubscriptionCmd   `cmd:"" help:"Ask its endpoint now, where that is parked."`
	Test    testSubscriptionCmd    `cmd:"" help:"Send its endpoint a test event and show what became of it."`

	RotateSecret rotateSecretCmd `cmd:"" name:"rotate-secret" help:"Make a new signing secret; the answer holds it."`
}

// oneSubscription names a subscription.
type oneSubscription struct {
	clientFlags
	Subscription string `arg:"" help:"Its id (sub_…) or its name."`
}

// find connects and returns the subscription's id: a name is looked up.
func (o *oneSubscription) find(ctx context.Context, p *program) (*client.Client, string, error) {
	c, err := o.connect(p)
	if err != nil || strings.HasPrefix(o.Subscription, "sub_") {
		return c, o.Subscription, err
	}
	page, err := c.Subscriptions(ctx, client.SubscriptionQuery{Name: o.Subscription})
	if err != nil {
		return nil, "", answered(err)
	}
	for _, sub := range page.Items {
		if sub.Name == o.Subscription {
			return c, sub.ID, nil
		}
	}
	return nil, "", fmt.Errorf("find subscription: there is none called %q (rowcall subscriptions list shows those there are)", o.Subscription)
}

// connectOf connects, and looks up the id of a subscription where one is named.
func (f *clientFlags) connectOf(ctx context.Context, p *program, subscription string) (*client.Client, string, error) {
	if subscription == "" {
		api, err := f.connect(p)
		return api, "", err
	}
	one := oneSubscription{*f, subscription}
	return one.find(ctx, p)
}

// printSubscription shows a subscription.
func (f *clientFlags) printSubscription(p *program, sub client.Subscription) error {
	if f.Output == "json" {
		return printJSON(p.stdout, sub)
	}
	state := sub.State
	if sub.StateReason != "" {
		state += " (" + sub.StateReason + ")"
	}
	pairs := [][2]string{
		{"id", sub.ID},
		{"name", sub.Name},
		{"state", state},
		{"health", sub.Health},
		{"events", strings.Join(sub.Events, ", ")},
		{"endpoint", sub.Endpoint.URL},
		{"format", sub.Format},
		{"ordering", sub.Ordering},
		{"in flight", strconv.Itoa(sub.MaxInFlight) + " at most"},
		{"retry", fmt.Sprintf("%s to %s, %d attempts, %s", sub.Retry.Initial, sub.Retry.Max, sub.Retry.MaxAttempts, sub.Retry.MaxAge)},
		{"created", moment(sub.CreatedAt)},
		{"updated", moment(sub.UpdatedAt)},
		{"version", strconv.FormatInt(sub.Version, 10)},
	}
	for _, warning := range sub.Warnings {
		pairs = append(pairs, [2]string{"warning", warning})
	}
	if sub.Secret != "" {
		pairs = append(pairs, [2]string{"secret", sub.Secret + "  (shown once: keep it)"})
	}
	if sub.PreviousSecretEndsAt != nil {
		pairs = append(pairs, [2]string{"secret before", "signs too, until " + moment(*sub.PreviousSecretEndsAt)})
	}
	for _, key := range sub.PublicKeys {
		pairs = append(pairs, [2]string{"public key", key})
	}
	return fields(p.stdout, pairs...)
}

type listSubscriptionsCmd struct {
	clientFlags
	listFlags
	State string `placeholder:"STATE" help:"Only those that are active, paused or disabled."`
}

// Help is shown below the summary.
func (listSubscriptionsCmd) Help() string {
	return example(`rowcall subscriptions list --state disabled`)
}

// Run lists subscriptions.
func (c *listSubscriptionsCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	subs, err := collect(ctx, c.Limit, func(ctx context.Context, page client.PageQuery) (client.Page[client.Subscription], error) {
		return api.Subscriptions(ctx, client.SubscriptionQuery{PageQuery: page, State: c.State})
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(p.stdout, subs)
	}
	rows := make([][]string, len(subs))
	for i, s := range subs {
		rows[i] = []string{s.ID, s.Name, s.State, s.Health, strings.Join(s.Events, ", "), s.Endpoint.URL}
	}
	return table(p.stdout, []string{"ID", "NAME", "STATE", "HEALTH", "EVENTS", "ENDPOINT"}, rows)
}

type getSubscriptionCmd struct{ oneSubscription }

// Help is shown below the summary.
func (getSubscriptionCmd) Help() string {
	return example(`rowcall subscriptions get paid-orders -o json`)
}

// Run shows one.
func (c *getSubscriptionCmd) Run(ctx context.Context, p *program) error {
	api, id, err := c.find(ctx, p)
	if err != nil {
		return err
	}
	sub, err := api.Subscription(ctx, id)
	if err != nil {
		return answered(err)
	}
	return c.printSubscription(p, sub)
}

type pauseSubscriptionCmd struct{ oneSubscription }

// Help is shown below the summary.
func (pauseSubscriptionCmd) Help() string {
	return example(`rowcall subscriptions pause paid-orders`)
}

// Run holds a subscription's events.
func (c *pauseSubscriptionCmd) Run(ctx context.Context, p *program) error {
	return c.change(ctx, p, (*client.Client).PauseSubscription)
}

type resumeSubscriptionCmd struct{ oneSubscription }

// Help is shown below the summary.
func (resumeSubscriptionCmd) Help() string {
	return example(`rowcall subscriptions resume paid-orders`)
}

// Run delivers a subscription's events again.
func (c *resumeSubscriptionCmd) Run(ctx context.Context, p *program) error {
	return c.change(ctx, p, (*client.Client).ResumeSubscription)
}

type rotateSecretCmd struct {
	oneSubscription
	Overlap   string `placeholder:"DURATION" help:"How long the secret before goes on signing beside the new one, 0s to 30d; default 24h."`
	IfVersion int64  `placeholder:"N" help:"Only if this is still its version."`
}

// Help is shown below the summary.
func (rotateSecretCmd) Help() string {
	return clientHelp + `

Receivers take the new secret within the overlap. While two are active, only --overlap 0s, which ends both, is accepted.

Examples:
  rowcall subscriptions rotate-secret paid
  rowcall subscriptions rotate-secret paid --overlap 7d
  rowcall subscriptions rotate-secret paid --overlap 0s   # the secret has leaked`
}

// Run makes a new secret and shows it.
func (c *rotateSecretCmd) Run(ctx context.Context, p *program) error {
	api, id, err := c.find(ctx, p)
	if err != nil {
		return err
	}
	sub, err := api.RotateSecret(ctx, id, c.Overlap, c.IfVersion)
	if err != nil {
		return answered(err)
	}
	return c.printSubscription(p, sub)
}

// change asks for a change of state and shows what came of it.
func (o *oneSubscription) change(ctx context.Context, p *program, ask func(*client.Client, context.Context, string) (client.Subscription, error)) error {
	api, id, err := o.find(ctx, p)
	if err != nil {
		return err
	}
	sub, err := ask(api, ctx, id)
	if err != nil {
		return answered(err)
	}
	return o.printSubscription(p, sub)
}
