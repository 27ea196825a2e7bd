package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/rowcall/rowcall/api/client"
)

type deleteSubscriptionCmd struct {
	oneSubscription
	IfVersion int64 `placeholder:"N" help:"Only if this is still its version."`
	Yes       bool  `short:"y" help:"Do not ask."`
}

// Help is shown below the summary.
func (deleteSubscriptionCmd) Help() string {
	return clientHelp + `

What it is owed goes with it: that is counted and shown, and asked about. Without a terminal, say --yes.

Examples:
  rowcall subscriptions delete paid-orders
  rowcall subscriptions delete paid-orders --yes`
}

// Run ends a subscription, after it was shown what goes with it.
func (c *deleteSubscriptionCmd) Run(ctx context.Context, p *program) error {
	api, id, err := c.find(ctx, p)
	if err != nil {
		return err
	}
	if !c.Yes {
		if err := c.askFirst(ctx, p, api, id); err != nil {
			return err
		}
	}
	if err := api.DeleteSubscription(ctx, id, c.IfVersion); err != nil {
		return answered(err)
	}
	if c.Output == "json" {
		return printJSON(p.stdout, map[string]string{"id": id, "state": "deleted"})
	}
	_, err = fmt.Fprintln(p.stdout, id+" is deleted")
	return err
}

// askFirst shows what ends with a subscription, and asks. Of one that a configuration
// declares nothing is asked: it is refused.
func (c *deleteSubscriptionCmd) askFirst(ctx context.Context, p *program, api *client.Client, id string) error {
	sub, err := api.Subscription(ctx, id)
	if err != nil {
		return answered(err)
	}
	if sub.ManagedBy != "" {
		return nil
	}
	h, err := api.SubscriptionHealth(ctx, id)
	if err != nil {
		return answered(err)
	}
	return p.agree(fmt.Sprintf("%s (%s) will be deleted, with all that it is owed: %s. Go on?", clean(sub.Name), id, owedText(h.Balance)))
}

// owedText is what a subscription is owed, and ends with it.
func owedText(b client.Balance) string {
	var parts []string
	count := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	count(b.Waiting, "waiting in the log")
	count(b.Retrying, "retrying")
	count(b.Blocked, "blocked")
	count(b.Dead, "dead letters")
	count(b.DeadRanges, "in dead ranges")
	if len(parts) == 0 {
		return "no events"
	}
	return fmt.Sprintf("%s (%s)", plural(int(b.Waiting+b.Retrying+b.Blocked+b.Dead+b.DeadRanges), "event"), strings.Join(parts, ", "))
}
