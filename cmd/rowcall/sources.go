package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/rowcall/rowcall/api/client"
)

type sourcesCmd struct {
	Show      showSourcesCmd `cmd:"" default:"withargs" help:"List sources, or show one with its tables: the same without \"show\"."`
	AcceptGap acceptGapCmd   `cmd:"" help:"Accept that changes of one may be lost: deliveries go on."`
}

type showSourcesCmd struct {
	clientFlags
	Name string `arg:"" optional:"" help:"One of them, with its tables."`
}

// Help is shown below the summary.
func (showSourcesCmd) Help() string {
	return clientHelp + `

Examples:
  rowcall sources
  rowcall sources main`
}

// Run lists sources, or shows one with its tables.
func (c *showSourcesCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	if c.Name != "" {
		source, err := api.Source(ctx, c.Name)
		if err != nil {
			return answered(err)
		}
		return c.printSource(p, source)
	}
	page, err := api.Sources(ctx)
	if err != nil {
		return answered(err)
	}
	if c.Output == "json" {
		return printJSON(p.stdout, page.Items)
	}
	rows := make([][]string, len(page.Items))
	for i, s := range page.Items {
		rows[i] = []string{s.Name, s.State, bytesText(s.LagBytes), optionalMoment(s.HeartbeatAt), s.Reason, s.Hint}
	}
	return table(p.stdout, []string{"NAME", "STATE", "LAG", "HEARTBEAT", "REASON", "WHAT TO DO"}, rows)
}

func (c *showSourcesCmd) printSource(p *program, s client.Source) error {
	if c.Output == "json" {
		return printJSON(p.stdout, s)
	}
	pairs := [][2]string{
		{"name", s.Name},
		{"state", s.State},
		{"reason", s.Reason},
		{"what to do", s.Hint},
		{"slot", s.Slot},
		{"publication", s.Publication},
		{"checkpoint", s.Checkpoint.LSN},
		{"committed", optionalMoment(s.Checkpoint.CommittedAt)},
		{"lag", bytesText(s.LagBytes)},
		{"heartbeat", optionalMoment(s.HeartbeatAt)},
		{"generation", strconv.Itoa(int(s.Generation))},
	}
	for _, g := range s.Gaps {
		pairs = append(pairs, [2]string{"gap", g.From + " to " + g.To + ": " + g.Reason})
	}
	if err := fields(p.stdout, pairs...); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.stdout); err != nil {
		return err
	}
	rows := make([][]string, len(s.Relations))
	for i, r := range s.Relations {
		captured := "captured"
		if !r.Captured {
			captured = "left out"
		}
		rows[i] = []string{r.Schema + "." + r.Name, captured, r.Identity, r.Reason, r.Remedy}
	}
	return table(p.stdout, []string{"TABLE", "STATE", "IDENTITY", "REASON", "REMEDY"}, rows)
}

type acceptGapCmd struct {
	clientFlags
	Name string `arg:"" help:"The source."`
	Note string `placeholder:"TEXT" help:"Why; it stands in the audit trail."`
	Yes  bool   `short:"y" help:"Do not ask."`
}

// Help is shown below the summary.
func (acceptGapCmd) Help() string {
	return clientHelp + `

All deliveries wait at a gap, since changes of the source that were committed
before it may be missing, and rowcall cannot tell which. Compare the receivers
with the source where that matters; then accept it. The key needs the scope admin.

Example:
  rowcall sources accept-gap main --note 'slot was dropped by hand; orders compared'`
}

// Run shows the open gaps of a source, asks, and accepts them.
func (c *acceptGapCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	s, err := api.Source(ctx, c.Name)
	if err != nil {
		return answered(err)
	}
	for _, g := range s.Gaps {
		fmt.Fprintf(p.stderr, "changes from %s to %s may be missing: %s\n", g.From, g.To, g.Reason)
	}
	if !c.Yes && len(s.Gaps) > 0 {
		if err := p.agree("Accept that, and have deliveries go on?"); err != nil {
			return err
		}
	}
	n, err := api.Noting(c.Note).AcceptGap(ctx, c.Name)
	if err != nil {
		return answered(err)
	}
	if c.Output == "json" {
		return printJSON(p.stdout, map[string]int{"accepted": n})
	}
	text := fmt.Sprintf("%s has no gap that is not accepted", c.Name)
	if n > 0 {
		text = fmt.Sprintf("%s: %d accepted, deliveries go on", c.Name, n)
	}
	_, err = fmt.Fprintln(p.stdout, text)
	return err
}
