package main

import (
	"context"
	"fmt"
	"strconv"
)

type logCmd struct{ clientFlags }

// Help is shown below the summary.
func (logCmd) Help() string {
	return clientHelp + `

At ROWCALL_LOG_MAX_BYTES the oldest goes: delivered events, then dead ranges, then what the subscription furthest
behind holds. Capture goes on. While a gap waits for a person to accept it, nothing behind it can go:
see rowcall sources.

Example:
  rowcall log`
}

// Run shows what the log weighs, and who keeps it.
func (c *logCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	l, err := api.Log(ctx)
	if err != nil {
		return answered(err)
	}
	if c.Output == "json" {
		return printJSON(p.stdout, l)
	}
	if err := fields(p.stdout,
		[2]string{"bytes", fmt.Sprintf("%s of %s, %d %%", bytesText(l.Bytes), bytesText(l.MaxBytes), l.Percent)},
		[2]string{"oldest", optionalMoment(l.OldestAt)},
		[2]string{"offsets", offsetText(l.Oldest) + " to " + offsetText(l.Head)},
		[2]string{"retention", l.Retention},
	); err != nil || len(l.Pins) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(p.stdout); err != nil {
		return err
	}
	rows := make([][]string, len(l.Pins))
	for i, s := range l.Pins {
		health := s.Health
		if s.AtGap {
			health = "at a gap"
		}
		rows[i] = []string{s.Name, s.State, health, bytesText(s.PinnedBytes), strconv.FormatInt(s.Events, 10), bytesText(s.Bytes), optionalMoment(s.OldestAt)}
	}
	return table(p.stdout, []string{"BEHIND", "STATE", "HEALTH", "PINS", "EVENTS", "BYTES", "OLDEST"}, rows)
}
