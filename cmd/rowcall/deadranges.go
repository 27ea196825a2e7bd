package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/rowcall/rowcall/api/client"
)

type deadRangesCmd struct {
	List    listDeadRangesCmd   `cmd:"" help:"List what subscriptions gave up at their hold_limit."`
	Retry   retryDeadRangeCmd   `cmd:"" help:"Deliver one."`
	Discard discardDeadRangeCmd `cmd:"" help:"Give one up for good."`
}

type listDeadRangesCmd struct {
	clientFlags
	listFlags
	Subscription string `placeholder:"SUBSCRIPTION" help:"Of this subscription (id or name)."`
}

// Help is shown below the summary.
func (listDeadRangesCmd) Help() string {
	return clientHelp + `

Example:
  rowcall dead-ranges list`
}

// Run lists dead ranges.
func (c *listDeadRangesCmd) Run(ctx context.Context, p *program) error {
	api, id, err := c.connectOf(ctx, p, c.Subscription)
	if err != nil {
		return err
	}
	query := client.DeadRangeQuery{Subscription: id}
	ranges, err := collect(ctx, c.Limit, func(ctx context.Context, page client.PageQuery) (client.Page[client.DeadRange], error) {
		query.PageQuery = page
		return api.DeadRanges(ctx, query)
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(p.stdout, ranges)
	}
	called := &subscriptionNames{api: api}
	rows := make([][]string, len(ranges))
	for i, r := range ranges {
		retry := ""
		if r.Retry != nil {
			retry = *r.Retry
		}
		rows[i] = []string{
			r.ID, short(called.of(ctx, r.Subscription)), offsetText(r.From), offsetText(r.Past), strconv.FormatInt(r.Count, 10), bytesText(r.Bytes), r.Reason, moment(r.UpdatedAt), retry,
		}
	}
	return table(p.stdout, []string{"ID", "SUBSCRIPTION", "FROM", "PAST", "EVENTS", "SIZE", "REASON", "CHANGED", "RETRY"}, rows)
}

// oneDeadRange names a dead range.
type oneDeadRange struct {
	clientFlags
	Range string `arg:"" help:"Its id (drg_…)."`
}

type retryDeadRangeCmd struct {
	oneDeadRange
	Detach bool `help:"Do not wait for its end."`
}

// Help is shown below the summary.
func (retryDeadRangeCmd) Help() string {
	return clientHelp + `

A replay delivers its events, in order per key among themselves, beside what is
delivered now. It goes on when this command is interrupted: see rowcall jobs.

Example:
  rowcall dead-ranges retry drg_7`
}

// Run has one delivered and shows the progress.
func (c *retryDeadRangeCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	made, err := api.RetryDeadRange(context.WithoutCancel(ctx), c.Range)
	if err != nil {
		return answeredOf(err, "dead range", c.Range, "rowcall dead-ranges list")
	}
	return p.showReplay(ctx, api, made, c.Detach, c.Output)
}

type discardDeadRangeCmd struct {
	oneDeadRange
	Yes bool `short:"y" help:"Do not ask."`
}

// Help is shown below the summary.
func (discardDeadRangeCmd) Help() string {
	return example(`rowcall dead-ranges discard drg_7`)
}

// Run gives one up, after it was shown what that is.
func (c *discardDeadRangeCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	if !c.Yes {
		r, err := api.DeadRange(ctx, c.Range)
		if err != nil {
			return answeredOf(err, "dead range", c.Range, "rowcall dead-ranges list")
		}
		if err := p.agree(fmt.Sprintf("%s at most (%s), offsets %s to %s, will be discarded for good. Go on?",
			plural(int(r.Count), "event"), bytesText(r.Bytes), offsetText(r.From), offsetText(r.Past))); err != nil {
			return err
		}
	}
	if err := api.DiscardDeadRange(ctx, c.Range); err != nil {
		return answeredOf(err, "dead range", c.Range, "rowcall dead-ranges list")
	}
	if c.Output == "json" {
		return printJSON(p.stdout, map[string]string{"id": c.Range, "state": "discarded"})
	}
	_, err = fmt.Fprintf(p.stdout, "%s is discarded\n", clean(c.Range))
	return err
}
