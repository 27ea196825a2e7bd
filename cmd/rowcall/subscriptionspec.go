package main

import (
	"context"
	"errors"
	"strconv"
)

// specFlags are what is most often written of a subscription; everything else
// goes by file.
type specFlags struct {
	File        string            `short:"f" placeholder:"FILE" help:"YAML or JSON document of members as in the API; - for standard input. Flags beat it."`
	Description string            `placeholder:"TEXT" help:"What it is for."`
	Events      []string          `placeholder:"PATTERN" help:"Types of events: exact, * for one segment, ** for the rest; repeat it, or separate with commas."`
	Endpoint    string            `placeholder:"URL" help:"Where to send them."`
	Header      map[string]string `placeholder:"NAME=VALUE" help:"A header of every request; repeat it."`
	Timeout     string            `placeholder:"DURATION" help:"Of one attempt."`
	Format      string            `placeholder:"FORMAT" help:"cloudevents, cloudevents-binary or raw."`
	Ordering    string            `placeholder:"ORDERING" help:"key, or none for more at once."`
	MaxInFlight int               `placeholder:"N" help:"Requests at once."`
	MaxAttempts int               `placeholder:"N" help:"Tries before an event is a dead letter."`
}

// body is the document with the flags written over it.
func (f *specFlags) body(p *program, name string) (map[string]any, error) {
	body := make(map[string]any)
	if f.File != "" {
		var err error
		if body, err = p.document(f.File); err != nil {
			return nil, err
		}
	}
	write(body, name, "name")
	write(body, f.Description, "description")
	write(body, f.Endpoint, "endpoint", "url")
	write(body, f.Timeout, "endpoint", "timeout")
	write(body, f.Format, "format")
	write(body, f.Ordering, "ordering")
	write(body, f.MaxInFlight, "max_in_flight")
	write(body, f.MaxAttempts, "retry", "max_attempts")
	if len(f.Events) > 0 {
		body["events"] = f.Events
	}
	for name, value := range f.Header {
		write(body, value, "endpoint", "headers", name)
	}
	return body, nil
}

// write sets a member, where there is a value, making the objects around it.
func write[T comparable](body map[string]any, value T, path ...string) {
	var none T
	if value == none {
		return
	}
	for _, name := range path[:len(path)-1] {
		inner, ok := body[name].(map[string]any)
		if !ok {
			inner = make(map[string]any)
			body[name] = inner
		}
		body = inner
	}
	body[path[len(path)-1]] = value
}

type createSubscriptionCmd struct {
	clientFlags
	specFlags
	Name  string `placeholder:"NAME" help:"Unique name."`
	Start string `placeholder:"WHERE" help:"now (default), earliest, an offset, or a time as in 2026-11-20T12:00:00Z."`
}

// Help is shown below the summary.
func (createSubscriptionCmd) Help() string {
	return clientHelp + `

Examples:
  rowcall subscriptions create --name paid --events public.orders.updated --endpoint https://example.com/hook
  rowcall subscriptions create -f subscription.yaml
  rowcall subscriptions create --name all --events '**' --endpoint http://10.0.0.7/hook --start earliest -o json`
}

// Run makes a subscription.
func (c *createSubscriptionCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	body, err := c.body(p, c.Name)
	if err != nil {
		return err
	}
	if n, err := strconv.ParseInt(c.Start, 10, 64); err == nil {
		body["start"] = n
	} else {
		write(body, c.Start, "start")
	}
	sub, err := api.CreateSubscription(ctx, body)
	if err != nil {
		return answered(err)
	}
	return c.printSubscription(p, sub)
}

type updateSubscriptionCmd struct {
	oneSubscription
	specFlags
	Rename    string `placeholder:"NAME" help:"A new name."`
	IfVersion int64  `placeholder:"N" help:"Only if this is still its version."`
}

// Help is shown below the summary.
func (updateSubscriptionCmd) Help() string {
	return clientHelp + `

A document given with -f is a JSON merge patch: members that it leaves out stay, null sets the default.

Examples:
  rowcall subscriptions update paid --endpoint https://example.com/new
  echo '{"rate_limit":{"per_second":50}}' | rowcall subscriptions update paid -f -`
}

// Run changes a subscription.
func (c *updateSubscriptionCmd) Run(ctx context.Context, p *program) error {
	api, id, err := c.find(ctx, p)
	if err != nil {
		return err
	}
	patch, err := c.body(p, c.Rename)
	if err != nil {
		return err
	}
	if len(patch) == 0 {
		return usageError{errors.New("update subscription: nothing to change was given (rowcall subscriptions update --help explains)")}
	}
	sub, err := api.PatchSubscription(ctx, id, patch, c.IfVersion)
	if err != nil {
		return answered(err)
	}
	return c.printSubscription(p, sub)
}
