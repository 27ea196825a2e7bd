package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/subscriptions"
)

// ownerLabel marks subscriptions that apply has made, with the owner of the file.
const ownerLabel = "rowcall/owner"

type applyCmd struct {
	clientFlags
	File    string `short:"f" required:"" placeholder:"FILE" help:"YAML or JSON document that declares subscriptions; - for standard input."`
	DryRun  bool   `help:"Only show what would change."`
	Check   bool   `help:"Like --dry-run; exit code 1 where anything would change."`
	Prune   bool   `help:"Delete the owner's subscriptions that the document does not declare any more."`
	Secrets bool   `help:"Send credentials again: they are never shown, so one that has changed is not seen."`
	Yes     bool   `short:"y" help:"Do not ask before deleting."`
}

// Help is shown below the summary.
func (applyCmd) Help() string {
	return clientHelp + `

A document declares subscriptions by name, with members as in the API; what it
leaves out gets its default. ${NAME} in a text is the environment variable; $${
stands for itself. Those that apply makes are labelled rowcall/owner=<owner>,
and --prune deletes none but these. To apply a document again changes nothing.

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

// declared is a document.
type declared struct {
	owner string
	subs  []declaredSub
}

type declaredSub struct {
	name string
	body map[string]any // as sent: with secrets
	want map[string]any // as compared: with defaults, and without secrets
}

// step is one thing that apply does.
type step struct {
	Action  string   `json:"action"` // create, update, delete
	Name    string   `json:"name"`
	Changes []change `json:"changes,omitempty"`
	id      string
	version int64
	body    any
}

// change is a member that differs.
type change struct {
	Path string `json:"path"`
	Old  any    `json:"old"`
	New  any    `json:"new"`
}

// Run makes what runs what the document declares.
func (c *applyCmd) Run(ctx context.Context, p *program) error {
	doc, err := p.declared(c.File)
	if err != nil {
		return err
	}
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
	if c.Check && len(steps) > 0 {
		return exitError{}
	}
	if c.DryRun || c.Check {
		return nil
	}
	if deletes := countDeletes(steps); deletes > 0 && !c.Yes {
		if err := p.agree(fmt.Sprintf("%s will be deleted, with all that they are owed. Go on?", plural(deletes, "subscription"))); err != nil {
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

func countDeletes(steps []step) (n int) {
	for _, s := range steps {
		if s.Action == "delete" {
			n++
		}
	}
	return n
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
			steps = append(steps, step{Action: "create", Name: d.name, body: d.body, Changes: differences("", map[string]any{}, d.want)})
			continue
		}
		owner := sub.Labels[ownerLabel]
		if owner != "" && owner != doc.owner {
			return nil, fmt.Errorf("apply: subscription %q belongs to owner %q: declare it there alone", d.name, owner)
		}
		if owner == "" {
			disown(d.want, d.body) // it was made by somebody else, and is never pruned
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
			steps = append(steps, step{Action: "update", Name: d.name, Changes: changes, id: sub.ID, version: sub.Version, body: patch})
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
			fmt.Fprintf(p.stderr, "%s is made, with signing secret %s (shown once: keep it)\n", clean(s.Name), made.Secret)
		}
		return err
	case "update":
		_, err := api.PatchSubscription(ctx, s.id, s.body, s.version)
		return err
	default:
		return api.DeleteSubscription(ctx, s.id, s.version)
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

func valueText(v any) string {
	if v == nil {
		return "(default)"
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return clean(string(text))
}

// declared reads a document, with what its variables stand for, and judges all
// that it declares.
func (p *program) declared(path string) (declared, error) {
	raw, err := p.document(path)
	if err != nil {
		return declared{}, err
	}
	var missing []string
	expanded, _ := expand(raw, p.settings.env, &missing).(map[string]any)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(missing))) {
		p.settings.add(fault{"${" + name + "}", "is not set", "set the environment variable, or write $${ for the characters themselves"})
	}
	doc := declared{}
	list, isList := expanded["subscriptions"].([]any)
	owner, isText := expanded["owner"].(string)
	if !isList {
		p.settings.add(fault{"subscriptions", "is no list", "declare subscriptions: a list of objects with name, events and endpoint"})
	}
	if _, given := expanded["owner"]; given && (!isText || owner == "") {
		p.settings.add(fault{"owner", "is no text", "name who declares these subscriptions, as in owner: billing"})
	}
	for key := range expanded {
		if key != "subscriptions" && key != "owner" {
			p.settings.add(fault{key, "is not known here", "a document has owner and subscriptions"})
		}
	}
	doc.owner = owner
	seen := map[string]bool{}
	for i, item := range list {
		at := fmt.Sprintf("subscriptions[%d]", i)
		body, ok := item.(map[string]any)
		if !ok {
			p.settings.add(fault{at, "is no object", "give it name, events and endpoint"})
			continue
		}
		if owner != "" {
			write(body, owner, "labels", ownerLabel)
		}
		d, faults := readDeclared(at, body)
		for _, f := range faults {
			p.settings.add(f)
		}
		if seen[d.name] && d.name != "" {
			p.settings.add(fault{at + ".name", "stands twice", "names are unique"})
		}
		seen[d.name] = true
		doc.subs = append(doc.subs, d)
	}
	return doc, p.settings.err()
}

func readDeclared(at string, body map[string]any) (declaredSub, []fault) {
	name, _ := body["name"].(string)
	d := declaredSub{name: name, body: body}
	text, err := json.Marshal(body)
	if err != nil {
		return d, []fault{{at, "cannot be written as JSON", "use texts as keys"}}
	}
	spec, err := subscriptions.ParseSpec(text, "start")
	if fields, ok := errors.AsType[subscriptions.FieldErrors](err); ok {
		var faults []fault
		for _, f := range fields {
			faults = append(faults, fault{strings.TrimSuffix(at+"."+f.Field, "."), f.Message, "see subscriptions in the API's document"})
		}
		return d, faults
	}
	if err != nil {
		return d, []fault{{at, err.Error(), "see subscriptions in the API's document"}}
	}
	if d.want, err = shape(spec); err != nil {
		return d, []fault{{at, err.Error(), "see subscriptions in the API's document"}}
	}
	return d, nil
}

// shape is a spec as it is compared: what the API shows of it.
func shape(spec any) (map[string]any, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("compare subscription: %w", err)
	}
	var seen client.Spec
	if err := json.Unmarshal(text, &seen); err != nil {
		return nil, fmt.Errorf("compare subscription: %w", err)
	}
	if auth := seen.Endpoint.Auth; auth != nil {
		auth.Password, auth.Token, auth.ClientSecret = "", "", ""
	}
	if tls := seen.Endpoint.TLS; tls != nil {
		tls.ClientKey = ""
	}
	if text, err = json.Marshal(seen); err != nil {
		return nil, fmt.Errorf("compare subscription: %w", err)
	}
	members := map[string]any{}
	return members, json.Unmarshal(text, &members)
}

// differences are the members that differ, by their paths.
func differences(at string, old, want map[string]any) []change {
	var found []change
	for _, name := range slices.Sorted(maps.Keys(union(old, want))) {
		o, w := old[name], want[name]
		before, isObject := o.(map[string]any)
		after, isToo := w.(map[string]any)
		switch {
		case reflect.DeepEqual(o, w):
		case isObject && isToo, isToo && o == nil:
			found = append(found, differences(at+name+".", before, after)...)
		default:
			found = append(found, change{at + name, o, w})
		}
	}
	return found
}

// mergePatch makes of old what is wanted (RFC 7396).
func mergePatch(old, want map[string]any) map[string]any {
	patch := map[string]any{}
	for name := range union(old, want) {
		o, w := old[name], want[name]
		before, isObject := o.(map[string]any)
		after, isToo := w.(map[string]any)
		switch {
		case reflect.DeepEqual(o, w):
		case isObject && isToo:
			patch[name] = mergePatch(before, after)
		default:
			patch[name] = w // nil where it is not wanted: its default
		}
	}
	return patch
}

func union(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, b)
	return all
}

// secrets reports whether a declaration holds credentials.
func secrets(body map[string]any) bool { return len(withSecrets(nil, body)) > 0 }

// withSecrets is a patch of endpoint with the credentials of the declaration.
func withSecrets(patch, body map[string]any) map[string]any {
	out := maps.Clone(patch)
	if out == nil {
		out = map[string]any{}
	}
	endpoint, _ := body["endpoint"].(map[string]any)
	for _, name := range []string{"auth", "tls"} {
		if given, ok := endpoint[name].(map[string]any); ok {
			merged, _ := out[name].(map[string]any)
			out[name] = union(given, merged)
		}
	}
	return out
}

// disown takes the mark away again.
func disown(objects ...map[string]any) {
	for _, o := range objects {
		if labels, ok := o["labels"].(map[string]any); ok {
			delete(labels, ownerLabel)
			if len(labels) == 0 {
				delete(o, "labels")
			}
		}
	}
}

// expand puts environment variables in the place of ${NAME}, in every text of a
// document; those that are missing are gathered.
func expand(v any, env func(string) (string, bool), missing *[]string) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = expand(member, env, missing)
		}
	case []any:
		for i := range v {
			v[i] = expand(v[i], env, missing)
		}
	case string:
		return expandText(v, env, missing)
	}
	return v
}

func expandText(text string, env func(string) (string, bool), missing *[]string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "${")
		if !found {
			return b.String() + text
		}
		if strings.HasSuffix(before, "$") {
			b.WriteString(before + "{")
			text = after
			continue
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed {
			return b.String() + text
		}
		value, ok := env(name)
		if !ok || value == "" {
			*missing = append(*missing, name)
		}
		b.WriteString(before + value)
		text = cmp.Or(rest, "")
	}
}
