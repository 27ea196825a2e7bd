package main

import (
	"context"
	"errors"
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
