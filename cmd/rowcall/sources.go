package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/rowcall/rowcall/api/client"
)

type sourcesCmd struct {
	clientFlags
	Name string `arg:"" optional:"" help:"One of them, with its tables."`
}

// Help is shown below the summary.
func (sourcesCmd) Help() string {
	return clientHelp + `

Examples:
  rowcall sources
  rowcall sources main`
}

// Run lists sources, or shows one with its tables.
func (c *sourcesCmd) Run(ctx context.Context, p *program) error {
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

func (c *sourcesCmd) printSource(p *program, s client.Source) error {
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
