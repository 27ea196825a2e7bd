package main

import (
	"context"
	"strings"

	"github.com/rowcall/rowcall/api/client"
)

type previewSubscriptionCmd struct {
	clientFlags
	Events      []string `required:"" placeholder:"PATTERN" help:"Which events to look at, as in a subscription."`
	Filter      string   `placeholder:"CEL" help:"Which of them it would want."`
	Transform   string   `placeholder:"CEL" help:"What it would send of each."`
	OrderingKey string   `placeholder:"CEL" help:"What it would order them by."`
	Limit       int      `default:"20" help:"How many of the newest events, 1 to 100."`
}

// Help is shown below the summary.
func (previewSubscriptionCmd) Help() string {
	return clientHelp + `

Nothing is made or sent.

Examples:
  rowcall subscriptions preview --events 'public.orders.*' --filter 'data.row.total > 100.0'
  rowcall subscriptions preview --events 'public.orders.updated' --transform '{"id": data.row.id, "was": data.old}' -o json`
}

// Run tries expressions.
func (c *previewSubscriptionCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	found, err := api.PreviewSubscription(ctx, client.PreviewQuery{
		Events: c.Events, Filter: given(c.Filter), Transform: given(c.Transform), OrderingKey: given(c.OrderingKey), Limit: c.Limit,
	})
	if err != nil {
		return answered(err)
	}
	if c.Output == "json" {
		return printJSON(p.stdout, found)
	}
	rows := make([][]string, 0, len(found.Items)+len(found.Warnings))
	for _, item := range found.Items {
		matched := "fails"
		if item.Matched != nil {
			matched = map[bool]string{true: "yes", false: "no"}[*item.Matched]
		}
		text := string(item.Body)
		var faults []string
		for _, fault := range item.Errors {
			faults = append(faults, fault.Field+": "+fault.Message)
		}
		if len(faults) > 0 {
			text = strings.Join(faults, "; ")
		} else if text == "null" && (item.Matched == nil || !*item.Matched) {
			text = ""
		}
		rows = append(rows, []string{item.ID, item.Type, item.Subject, matched, optionalWord(item.Key), text})
	}
	for _, warning := range found.Warnings {
		rows = append(rows, []string{"warning: " + warning})
	}
	return table(p.stdout, []string{"EVENT", "TYPE", "SUBJECT", "WANTED", "KEY", "BODY"}, rows)
}

// given is nil for what was not written.
func given(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
