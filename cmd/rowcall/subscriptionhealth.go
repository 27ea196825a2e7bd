package main

import (
	"context"
	"fmt"
	"strconv"
)

type healthSubscriptionCmd struct{ oneSubscription }

// Help is shown below the summary.
func (healthSubscriptionCmd) Help() string {
	return example(`rowcall subscriptions health paid-orders`)
}

// Run shows how an endpoint does.
func (c *healthSubscriptionCmd) Run(ctx context.Context, p *program) error {
	api, id, err := c.find(ctx, p)
	if err != nil {
		return err
	}
	h, err := api.SubscriptionHealth(ctx, id)
	if err != nil {
		return answered(err)
	}
	if c.Output == "json" {
		return printJSON(p.stdout, h)
	}
	rate := ""
	if h.FailureRate != nil {
		rate = fmt.Sprintf("%.0f %%", *h.FailureRate*100)
	}
	return fields(p.stdout, [][2]string{
		{"health", h.Health},
		{"since", optionalMoment(h.Since)},
		{"reason", optionalWord(h.Reason)},
		{"next probe", optionalMoment(h.NextProbeAt)},
		{"failure rate", rate},
		{"last success", optionalMoment(h.LastSuccessAt)},
		{"delivered", fmt.Sprintf("%d of %s", h.Balance.Delivered, plural(int(h.Balance.Matched), "event"))},
		{"owed", owedText(h.Balance)},
		{"held because", optionalWord(h.Hold)},
		{"it fails with", optionalWord(h.HoldError)},
		{"held since", optionalMoment(h.HeldSince)},
		{"opens at", optionalMoment(h.OpensAt)},
		{"backlog", strconv.FormatInt(h.Backlog, 10) + " events at most, " + bytesText(h.HeldBytes)},
		{"oldest", optionalMoment(h.Oldest)},
	}...)
}

type probeSubscriptionCmd struct{ oneSubscription }

// Help is shown below the summary.
func (probeSubscriptionCmd) Help() string {
	return clientHelp + `

The oldest event is sent as soon as it may; where that is accepted, the endpoint recovers and gets the rest.

Example:
  rowcall subscriptions probe paid && rowcall subscriptions health paid`
}

// Run asks for a probe.
func (c *probeSubscriptionCmd) Run(ctx context.Context, p *program) error {
	api, id, err := c.find(ctx, p)
	if err != nil {
		return err
	}
	if err := api.ProbeSubscription(ctx, id); err != nil {
		return answered(err)
	}
	if c.Output == "json" {
		return printJSON(p.stdout, map[string]string{"id": id, "action": "probe"})
	}
	_, err = fmt.Fprintln(p.stdout, "a probe of "+id+" is asked for")
	return err
}
