package main

import (
	"context"
	"time"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/subscriptions"
)

type eventsCmd struct {
	List listEventsCmd `cmd:"" help:"List events of the log, newest first."`
	Get  getEventCmd   `cmd:"" help:"Show one with its data."`

	Publish publishEventCmd `cmd:"" help:"Publish one: rowcall delivers it as it does row events."`
}

type listEventsCmd struct {
	clientFlags
	listFlags
	Type string `placeholder:"TYPE" help:"Of this type, as in public.orders.updated."`
	Key  string `placeholder:"KEY" help:"Of this key, as in public.orders/id=42."`
}

// Help is shown below the summary.
func (listEventsCmd) Help() string {
	return clientHelp + `

Example:
  rowcall events list --type public.orders.updated --limit 10`
}

// Run lists events.
func (c *listEventsCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	events, err := collect(ctx, c.Limit, func(ctx context.Context, page client.PageQuery) (client.Page[client.Event], error) {
		return api.Events(ctx, client.EventQuery{PageQuery: page, Type: c.Type, Key: c.Key})
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(p.stdout, events)
	}
	rows := make([][]string, len(events))
	for i, e := range events {
		rows[i] = []string{offsetText(e.Sequence), moment(e.Time), e.Type, e.Subject, e.ID}
	}
	return table(p.stdout, []string{"OFFSET", "TIME", "TYPE", "SUBJECT", "ID"}, rows)
}

type getEventCmd struct {
	clientFlags
	Event string `arg:"" help:"Its id, as in 01-0000000003F2A8C0-0."`
}

// Help is shown below the summary.
func (getEventCmd) Help() string {
	return example(`rowcall events get 01-0000000003F2A8C0-0 -o json`)
}

// Run shows one.
func (c *getEventCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	e, err := api.Event(ctx, c.Event)
	if err != nil {
		return answeredOf(err, "event", c.Event, "rowcall events list")
	}
	if c.Output == "json" {
		return printJSON(p.stdout, e)
	}
	return fields(p.stdout, [][2]string{
		{"id", e.ID},
		{"type", e.Type},
		{"source", e.Source},
		{"subject", e.Subject},
		{"key", e.PartitionKey},
		{"time", moment(e.Time)},
		{"offset", offsetText(e.Sequence)},
		{"data", string(e.Data)},
	}...)
}

// parseAgo reads how long ago something was.
func parseAgo(text string) (time.Duration, error) {
	d, err := subscriptions.ParseDuration(text)
	return d.D(), err
}
