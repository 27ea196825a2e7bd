package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

type deliveriesCmd struct {
	List    listDeliveriesCmd    `cmd:"" help:"List what could not be delivered at first pass."`
	Get     getDeliveryCmd       `cmd:"" help:"Show one with its event."`
	Retry   retryDeliveriesCmd   `cmd:"" help:"Try one, or many, now, with a new budget."`
	Discard discardDeliveriesCmd `cmd:"" help:"Give one, or many, up."`
}

type listDeliveriesCmd struct {
	clientFlags
	listFlags
	Subscription string `placeholder:"SUBSCRIPTION" help:"Of this subscription (id or name)."`
	State        string `placeholder:"STATE" help:"Only retrying, blocked or dead ones."`
	Reason       string `placeholder:"REASON" help:"Whose last try failed for this reason."`
	Type         string `placeholder:"TYPE" help:"Of events of this type."`
	Key          string `placeholder:"KEY" help:"Of this key, as in public.orders/id=42."`
	Since        string `placeholder:"TIME" help:"Changed at or after it: 2026-11-20T12:00:00Z, or a duration such as 2h ago."`
	Until        string `placeholder:"TIME" help:"Changed before it."`
}

// Help is shown below the summary.
func (listDeliveriesCmd) Help() string {
	return clientHelp + `

Example:
  rowcall deliveries list --subscription paid-orders --state dead --since 2h`
}

// Run lists deliveries.
func (c *listDeliveriesCmd) Run(ctx context.Context, p *program) error {
	now := time.Now()
	query := client.DeliveryQuery{
		State: c.State, Reason: c.Reason, Type: c.Type, Key: c.Key,
		Since: p.settings.moment("since", c.Since, now), Until: p.settings.moment("until", c.Until, now),
	}
	api, id, err := c.connectOf(ctx, p, c.Subscription)
	if err != nil {
		return err
	}
	query.Subscription = id
	ds, err := collect(ctx, c.Limit, func(ctx context.Context, page client.PageQuery) (client.Page[client.Delivery], error) {
		query.PageQuery = page
		return api.Deliveries(ctx, query)
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(p.stdout, ds)
	}
	called := &subscriptionNames{api: api}
	rows := make([][]string, len(ds))
	for i, d := range ds {
		kind := ""
		if d.Event != nil {
			kind = d.Event.Type
		}
		rows[i] = []string{d.ID, d.State, short(called.of(ctx, d.Subscription)), kind, strings.Join(d.Keys, ", "), strconv.Itoa(d.Attempts), d.Reason, optionalMoment(d.DueAt), moment(d.UpdatedAt)}
	}
	return table(p.stdout, []string{"ID", "STATE", "SUBSCRIPTION", "EVENT", "KEY", "ATTEMPTS", "REASON", "DUE", "CHANGED"}, rows)
}

// moment reads a time, or a duration before now; nothing is the zero time.
func (s *settings) moment(key, text string, now time.Time) time.Time {
	if text == "" {
		return time.Time{}
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t
	}
	if d, err := parseAgo(text); err == nil {
		return now.Add(-d)
	}
	s.add(fault{"--" + key, fmt.Sprintf("is %q, which is not a time", text), "write it as 2026-11-20T12:00:00Z, or as 2h for two hours ago"})
	return time.Time{}
}

// oneDelivery names a delivery.
type oneDelivery struct {
	clientFlags
	Delivery string `arg:"" help:"Its id (dlv_…)."`
}

type getDeliveryCmd struct{ oneDelivery }

// Help is shown below the summary.
func (getDeliveryCmd) Help() string {
	return example(`rowcall deliveries get dlv_7_4211`)
}

// Run shows one.
func (c *getDeliveryCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	d, err := api.Delivery(ctx, c.Delivery)
	if err != nil {
		return answeredOf(err, "delivery", c.Delivery, "rowcall deliveries list")
	}
	if c.Output == "json" {
		return printJSON(p.stdout, d)
	}
	called := &subscriptionNames{api: api}
	last := d.Reason
	if d.Status != 0 {
		last = strings.TrimSpace(last + " " + strconv.Itoa(d.Status))
	}
	if d.Error != "" {
		last = strings.TrimSpace(last + ": " + d.Error)
	}
	pairs := [][2]string{
		{"id", d.ID},
		{"state", d.State},
		{"subscription", called.both(ctx, d.Subscription)},
		{"keys", strings.Join(d.Keys, ", ")},
		{"attempts", strconv.Itoa(d.Attempts)},
		{"last try", last},
		{"due", optionalMoment(d.DueAt)},
		{"first failed", optionalMoment(d.FirstFailedAt)},
		{"changed", moment(d.UpdatedAt)},
		{"offset", offsetText(d.Sequence)},
	}
	if d.Event != nil {
		pairs = append(pairs, [2]string{"event", d.Event.Type + " " + d.Event.ID}, [2]string{"data", string(d.Event.Data)})
	}
	return fields(p.stdout, pairs...)
}
