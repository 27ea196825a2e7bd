package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

type keysCmd struct {
	List   listKeysCmd  `cmd:"" help:"List API keys."`
	Create createKeyCmd `cmd:"" help:"Make one; the answer holds it."`
	Revoke revokeKeyCmd `cmd:"" help:"End one, and its sessions."`
}

type listKeysCmd struct {
	clientFlags
	listFlags
}

// Help is shown below the summary.
func (listKeysCmd) Help() string {
	return example(`rowcall keys list`)
}

// Run lists keys.
func (c *listKeysCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	keys, err := collect(ctx, c.Limit, api.APIKeys)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(p.stdout, keys)
	}
	rows := make([][]string, len(keys))
	for i, k := range keys {
		rows[i] = []string{k.ID, k.Name, strings.Join(k.Scopes, ","), labelsText(k.Labels), optionalMoment(k.ExpiresAt), optionalMoment(k.LastUsedAt)}
	}
	return table(p.stdout, []string{"ID", "NAME", "SCOPES", "LABELS", "EXPIRES", "LAST USED"}, rows)
}

func labelsText(labels map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, name+"="+labels[name])
	}
	return strings.Join(parts, ",")
}

type createKeyCmd struct {
	clientFlags
	Name    string            `arg:"" help:"Whose it is, or what for."`
	Scopes  []string          `required:"" placeholder:"SCOPE" help:"read, publish, deliver, write or admin; repeat it, or separate with commas."`
	Labels  map[string]string `placeholder:"NAME=VALUE" help:"Restrict it to subscriptions that have this label; repeat it."`
	Expires string            `placeholder:"DURATION" help:"When it ends from now, as in 90d; by default never."`
}

// Help is shown below the summary.
func (createKeyCmd) Help() string {
	return clientHelp + `

Examples:
  rowcall keys create billing-service --scopes publish
  rowcall keys create growth-team --scopes read,deliver --labels team=growth --expires 90d`
}

// Run makes a key.
func (c *createKeyCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	body := client.NewAPIKey{Name: c.Name, Scopes: c.Scopes, Labels: c.Labels}
	if c.Expires != "" {
		after, err := parseAgo(c.Expires)
		if err != nil {
			return usageError{fmt.Errorf("--expires: %w", err)}
		}
		body.ExpiresAt = new(time.Now().Add(after).UTC().Truncate(time.Second))
	}
	key, err := api.CreateAPIKey(ctx, body)
	if err != nil {
		return answered(err)
	}
	if c.Output == "json" {
		return printJSON(p.stdout, key)
	}
	return fields(p.stdout, [][2]string{
		{"id", key.ID},
		{"name", key.Name},
		{"scopes", strings.Join(key.Scopes, ", ")},
		{"labels", labelsText(key.Labels)},
		{"expires", optionalMoment(key.ExpiresAt)},
		{"key", key.Key + "  (shown once: keep it)"},
	}...)
}

type revokeKeyCmd struct {
	clientFlags
	Key string `arg:"" help:"Its id (key_…)."`
}

// Help is shown below the summary.
func (revokeKeyCmd) Help() string {
	return example(`rowcall keys revoke key_4hcp2k`)
}

// Run revokes a key.
func (c *revokeKeyCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	if err := api.RevokeAPIKey(ctx, c.Key); err != nil {
		return answeredOf(err, "key", c.Key, "rowcall keys list")
	}
	if c.Output == "json" {
		return printJSON(p.stdout, map[string]string{"revoked": c.Key})
	}
	fmt.Fprintln(p.stdout, "revoked "+clean(c.Key))
	return nil
}
