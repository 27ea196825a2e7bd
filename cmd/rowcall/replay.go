package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

type replayCmd struct {
	oneSubscription
	From   string   `required:"" placeholder:"PLACE" help:"Where to begin: an offset, a time as in 2026-11-20T12:00:00Z, or a duration such as 2h ago."`
	To     string   `placeholder:"PLACE" help:"Events before this place; by default those that are there now."`
	Type   []string `placeholder:"PATTERN" help:"Only these types of events, of those that the subscription wants; repeat it, or separate with commas."`
	Filter string   `placeholder:"CEL" help:"Only events that it is true for, of those that the subscription wants."`
	Rate   float64  `default:"100" placeholder:"N" help:"Requests a second; 0 for as fast as the subscription lets it; by default ${default}."`
	DryRun bool     `help:"Only count."`
	Detach bool     `help:"Do not wait for its end."`
}

// Help is shown below the summary.
func (replayCmd) Help() string {
	return clientHelp + `

It goes on when this command is interrupted: see rowcall jobs. Live events go
first, and requests of a replay carry the header rowcall-replay.

Example:
  rowcall replay paid-orders --from 2h --type 'public.orders.*' --dry-run`
}

// Run begins a replay and shows its progress.
func (c *replayCmd) Run(ctx context.Context, p *program) error {
	now := time.Now()
	r := client.NewReplay{Types: c.Type, Filter: c.Filter}
	from := p.settings.place("from", c.From, now)
	if from != nil {
		r.From = *from
	}
	r.To = p.settings.place("to", c.To, now)
	if c.Rate < 0 {
		p.settings.add(fault{"--rate", "is below zero", "write requests a second, or 0 for no limit of its own"})
	} else if c.Rate > 0 {
		r.Rate = &client.RateLimit{PerSecond: c.Rate}
	}
	api, id, err := c.find(ctx, p)
	if err != nil {
		return err
	}
	r.Subscription = id
	if c.DryRun {
		n, err := api.CountReplay(ctx, r)
		if err != nil {
			return answered(err)
		}
		if c.Output == "json" {
			return printJSON(p.stdout, n)
		}
		text := fmt.Sprintf("%d events (%s) of offsets %d to %d would be delivered again", n.Total, bytesText(n.Bytes), n.From.Offset, n.To.Offset-1)
		if n.Seconds != nil {
			text += fmt.Sprintf(", in %s at least", time.Duration(*n.Seconds*float64(time.Second)).Round(time.Second))
		}
		_, err = fmt.Fprintln(p.stdout, text)
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	made, err := api.CreateReplay(context.WithoutCancel(ctx), r)
	if err != nil {
		return answered(err)
	}
	return p.showReplay(ctx, api, made, c.Detach, c.Output)
}

// showReplay says what became of a replay, unless detached once it has ended.
func (p *program) showReplay(ctx context.Context, api *client.Client, made client.Replay, detached bool, output string) (err error) {
	if !detached {
		if made, err = p.followReplay(ctx, api, made); err != nil {
			return err
		}
	}
	if output == "json" {
		return printJSON(p.stdout, made)
	}
	_, err = fmt.Fprintf(p.stdout, "%s: %s\n", made.ID, replayText(made))
	return err
}

// place reads an offset, a time, or a duration before now; nil: nothing.
func (s *settings) place(key, text string, now time.Time) *client.ReplayPlace {
	if text == "" {
		return nil
	}
	if offset, err := strconv.ParseInt(text, 10, 64); err == nil {
		if offset < 1 {
			s.add(fault{"--" + key, "is no offset", "the first event has offset 1"})
		}
		return &client.ReplayPlace{Offset: offset}
	}
	return &client.ReplayPlace{Time: s.moment(key, text, now)}
}

// followReplay shows a replay's progress until it ends or waits.
func (p *program) followReplay(ctx context.Context, api *client.Client, r client.Replay) (client.Replay, error) {
	line := progress{out: p.stderr}
	defer line.end()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		line.show(replayText(r), r.Delivered+r.Failed, r.Total)
		if r.State != "running" {
			if r.State == "failed" {
				return r, errors.New(r.ID + " failed: " + r.Reason)
			}
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, goesOn(ctx, r.ID, nil)
		case <-tick.C:
		}
		next, err := api.Replay(ctx, r.ID)
		if err != nil {
			return r, goesOn(ctx, r.ID, err)
		}
		r = next
	}
}

func replayText(r client.Replay) string {
	text := fmt.Sprintf("%s, %d of %d events delivered", r.State, r.Delivered, r.Total)
	if r.Failed > 0 {
		text += fmt.Sprintf(", %d dead letters", r.Failed)
	}
	if r.ETA != nil {
		text += ", done about " + moment(*r.ETA)
	}
	return text
}
