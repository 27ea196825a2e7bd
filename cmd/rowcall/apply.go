package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rowcall/rowcall/api/client"
)

type applyCmd struct {
	clientFlags
	File    string `short:"f" required:"" placeholder:"FILE" help:"YAML or JSON document that declares subscriptions; - for standard input."`
	DryRun  bool   `help:"Only show what would change."`
	Check   bool   `help:"Like --dry-run; exit code 1 where anything would change."`
	Prune   bool   `help:"Delete the owner's subscriptions that the document does not declare any more."`
	Secrets bool   `help:"Send credentials again: they are never shown, so one that has changed is not seen."`
	Yes     bool   `short:"y" help:"Do not ask before deleting, and before taking over what was made by hand."`
}

// Help is shown below the summary.
func (applyCmd) Help() string {
	return clientHelp + `

A document declares subscriptions by name, with members as in the API; what it
leaves out gets its default. ${NAME} in a text is the environment variable,
${file:/path} the content of a file; $${ stands for itself. To apply a document
again changes nothing.

Those that apply makes, or takes over, are labelled rowcall/owner=<owner>, and
--prune deletes none but these. To delete, and to take over what nobody declared,
it asks, or wants --yes.

A secret (the signing secret) counts for what is made; of what exists it is neither
compared nor sent: rowcall subs rotate-secret makes another.

  owner: billing
  subscriptions:
    - name: paid-orders
      events: [public.orders.updated]
      filter: data.row.status == "paid"
      endpoint:
        url: https://billing.example.com/hook
        auth: {type: bearer, token: "${BILLING_TOKEN}"}

Examples:
  rowcall apply -f subscriptions.yaml --dry-run
  rowcall apply -f subscriptions.yaml --prune
  rowcall apply -f subscriptions.yaml --check   # in CI: does what runs differ?`
}

// step is one thing that apply does.
type step struct {
	Action  string   `json:"action"` // create, update, delete
	Name    string   `json:"name"`
	Changes []change `json:"changes,omitempty"`
	Takes   string   `json:"takes_over_for,omitempty"` // the owner that it gets, who was nobody's
	id      string
	version int64
	body    any
	given   bool // the signing secret stands in the document
}

// Run makes what runs what the document declares.
func (c *applyCmd) Run(ctx context.Context, p *program) error {
	doc, err := p.declared(c.File)
	if err != nil {
		return err
	}
	c.Prune = c.Prune || doc.prune
	if c.Prune && doc.owner == "" {
		return usageError{errors.New("apply: --prune deletes what the owner of the document has made: give it a member owner")}
	}
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	there, err := collect(ctx, 0, func(ctx context.Context, page client.PageQuery) (client.Page[client.Subscription], error) {
		return api.Subscriptions(ctx, client.SubscriptionQuery{PageQuery: page})
	})
	if err != nil {
		return err
	}
	steps, err := c.plan(doc, there)
	if err != nil {
		return err
	}
	if err := c.show(p, steps, len(doc.subs)); err != nil {
		return err
	}
	for _, d := range doc.subs {
		if !d.given.Secret.IsZero() && !slices.ContainsFunc(steps, func(s step) bool { return s.Action == "create" && s.Name == d.name }) {
			fmt.Fprintf(p.stderr, "%s: its secret counts when it is made, and was neither compared nor sent: the one that signs stays\n", clean(d.name))
		}
	}
	if c.Check && len(steps) > 0 {
		return exitError{}
	}
	if c.DryRun || c.Check {
		return nil
	}
	if question := grave(steps); question != "" && !c.Yes {
		if err := p.agree(question + " Go on?"); err != nil {
			return err
		}
	}
	for i, s := range steps {
		if err := s.do(ctx, p, api); err != nil {
			return fmt.Errorf("%s %s (%d of %d were done; to apply again does the rest): %w", s.Action, s.Name, i, len(steps), answered(err))
		}
	}
	return nil
}

// grave says what of the steps is to be agreed to; empty: nothing.
func grave(steps []step) (text string) {
	takes, deletes := 0, 0
	for _, s := range steps {
		if s.Takes != "" {
			takes++
		}
		if s.Action == "delete" {
			deletes++
		}
	}
	if takes > 0 {
		text = plural(takes, "subscription") + " that nobody declared will be taken over."
	}
	if deletes > 0 {
		text += " " + plural(deletes, "subscription") + " will be deleted, with all that they are owed."
	}
	return strings.TrimSpace(text)
}

// plan is what is to be done, deletes last: a name is never free for a moment that
// somebody else might take.
func (c *applyCmd) plan(doc declared, there []client.Subscription) ([]step, error) {
	byName := map[string]client.Subscription{}
	for _, sub := range there {
		byName[sub.Name] = sub
	}
	var steps []step
	for _, d := range doc.subs {
		sub, exists := byName[d.name]
		delete(byName, d.name)
		if !exists {
			steps = append(steps, step{Action: "create", Name: d.name, body: d.body, given: !d.given.Secret.IsZero(), Changes: differences("", map[string]any{}, d.want)})
			continue
		}
		if sub.ManagedBy != "" {
			return nil, fmt.Errorf("apply: subscription %q is declared in the configuration of rowcall (owner %q): declare it there alone", d.name, sub.ManagedBy)
		}
		owner := sub.Labels[ownerLabel]
		if owner != "" && owner != doc.owner {
			return nil, fmt.Errorf("apply: subscription %q belongs to owner %q: declare it there alone", d.name, owner)
		}
		has, err := shape(sub.Spec)
		if err != nil {
			return nil, err
		}
		changes := differences("", has, d.want)
		patch := mergePatch(has, d.want)
		if endpoint, differs := patch["endpoint"].(map[string]any); differs || c.Secrets && secrets(d.body) {
			// A URL that leads elsewhere takes its credentials with it.
			patch["endpoint"] = withSecrets(endpoint, d.body)
			if !differs {
				changes = append(changes, change{Path: "endpoint credentials", Old: "(not shown)", New: "(sent again)"})
			}
		}
		if len(changes) > 0 {
			next := step{Action: "update", Name: d.name, Changes: changes, id: sub.ID, version: sub.Version, body: patch}
			if owner == "" {
				next.Takes = doc.owner
			}
			steps = append(steps, next)
		}
	}
	if c.Prune {
		for _, name := range slices.Sorted(maps.Keys(byName)) {
			if sub := byName[name]; sub.Labels[ownerLabel] == doc.owner {
				steps = append(steps, step{Action: "delete", Name: name, id: sub.ID, version: sub.Version})
			}
		}
	}
	return steps, nil
}

// do takes the step. What has changed since it was planned is not written over.
func (s *step) do(ctx context.Context, p *program, api *client.Client) error {
	switch s.Action {
	case "create":
		made, err := api.CreateSubscription(ctx, s.body)
		if err == nil {
			s.warn(p, made.Warnings)
		}
		if err == nil && s.given {
			fmt.Fprintf(p.stderr, "%s is made, with the signing secret of the document\n", clean(s.Name))
		} else if err == nil {
			fmt.Fprintf(p.stderr, "%s is made, with signing secret %s (shown once: keep it)\n", clean(s.Name), made.Secret)
		}
		return err
	case "update":
		edited, err := api.PatchSubscription(ctx, s.id, s.body, s.version)
		if err == nil {
			s.warn(p, edited.Warnings)
		}
		return err
	default:
		return api.DeleteSubscription(ctx, s.id, s.version)
	}
}

// warn says what the API warns of.
func (s *step) warn(p *program, warnings []string) {
	for _, warning := range warnings {
		fmt.Fprintf(p.stderr, "%s, warning: %s\n", clean(s.Name), clean(warning))
	}
}

func (c *applyCmd) show(p *program, steps []step, declared int) error {
	if c.Output == "json" {
		return printJSON(p.stdout, append([]step{}, steps...))
	}
	signs := map[string]string{"create": "+", "update": "~", "delete": "-"}
	same := declared
	for _, s := range steps {
		if s.Action != "delete" {
			same--
		}
		fmt.Fprintf(p.stdout, "%s %s %s\n", signs[s.Action], s.Action, clean(s.Name))
		if s.Takes != "" {
			fmt.Fprintf(p.stdout, "    ! nobody declared it: it will be managed by %s, and --prune will delete it once the document drops it\n", clean(s.Takes))
		}
		for _, ch := range s.Changes {
			if s.Action == "create" {
				fmt.Fprintf(p.stdout, "    %s: %s\n", clean(ch.Path), valueText(ch.New))
			} else {
				fmt.Fprintf(p.stdout, "    %s: %s -> %s\n", clean(ch.Path), valueText(ch.Old), valueText(ch.New))
			}
		}
	}
	_, err := fmt.Fprintf(p.stdout, "= %d unchanged\n", same)
	return err
}
