package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

type tailCmd struct {
	clientFlags
	Of           string `enum:"events,attempts,both" default:"both" placeholder:"WHAT" help:"events, attempts or both; by default ${default}."`
	Subscription string `placeholder:"SUBSCRIPTION" help:"Attempts of this subscription (id or name), and no events."`
	Outcome      string `placeholder:"OUTCOME" help:"Attempts that were delivered, failed, blocked or unknown, and no events."`
	Type         string `placeholder:"PATTERN" help:"Events of this type, and their attempts; * stands for one segment, ** for the rest."`
	Key          string `placeholder:"KEY" help:"Events of this key, as in public.orders/id=42, and their attempts."`
	Data         bool   `help:"Show the data of events."`
}

// Help is shown below the summary.
func (tailCmd) Help() string {
	return clientHelp + `

It begins with what comes next, connects again by itself, and ends with Ctrl-C.
Attempts come about a second after they ended.

Examples:
  rowcall tail
  rowcall tail --type 'public.orders.*' --data
  rowcall tail --subscription paid-orders --outcome failed
  rowcall tail -o json | jq .event.type`
}

// Run follows until it is interrupted.
func (c *tailCmd) Run(ctx context.Context, p *program) error {
	q := client.TailQuery{Of: c.Of, Outcome: c.Outcome, Type: c.Type, Key: c.Key}
	if c.Of == "both" {
		q.Of = ""
	}
	api, id, err := c.connectOf(ctx, p, c.Subscription)
	q.Subscription = id
	if err != nil {
		return err
	}
	called := &subscriptionNames{api: api}
	const shortest, longest = time.Second, 15 * time.Second
	wait := shortest
	for {
		err := c.follow(ctx, p, called, &q, func() { wait = shortest })
		if problem, ok := errors.AsType[*client.Problem](err); ok && problem.Status < http.StatusInternalServerError && problem.Type != client.RateLimited {
			return answered(err)
		}
		if output, ok := errors.AsType[errOutput](err); ok {
			return output
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintf(p.stderr, "%s; connecting again in %s\n", clean(err.Error()), wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
			wait = min(2*wait, longest)
		}
	}
}

// errOutput says that nobody reads what is printed any more.
type errOutput struct{ error }

// follow prints one connection's messages until it breaks, which is its error.
func (c *tailCmd) follow(ctx context.Context, p *program, called *subscriptionNames, q *client.TailQuery, works func()) error {
	for m, err := range called.api.Tail(ctx, *q) {
		if err != nil {
			return err
		}
		works()
		q.After = m.ID
		if err := c.print(ctx, p, called, m); err != nil {
			return err
		}
	}
	return errors.New("the stream has ended")
}

func (c *tailCmd) print(ctx context.Context, p *program, called *subscriptionNames, m client.TailMessage) error {
	var err error
	switch {
	case m.Start != nil:
		fmt.Fprintf(p.stderr, "following from offset %s\n", offsetText(m.Start.Sequence))
	case m.Missed != nil:
		fmt.Fprintf(p.stderr, "%d events and %d attempts came too fast to be shown\n", m.Missed.Events, m.Missed.Attempts)
	case c.Output == "json":
		e := json.NewEncoder(p.stdout)
		e.SetEscapeHTML(false)
		err = e.Encode(struct {
			Event   *client.Event         `json:"event,omitempty"`
			Attempt *client.TailedAttempt `json:"attempt,omitempty"`
		}{m.Event, m.Attempt})
	case m.Event != nil:
		e := m.Event
		_, err = fmt.Fprintf(p.stdout, "%s  event    %s  %s  %s\n", clock(e.Time), offsetText(e.Sequence), clean(e.Type), clean(cmp.Or(e.Subject, e.PartitionKey)))
		if err == nil && c.Data {
			_, err = fmt.Fprintf(p.stdout, "          %s\n", clean(cmp.Or(string(e.Data), "(more than 64 KiB: rowcall events get "+e.ID+")")))
		}
	case m.Attempt != nil:
		a := m.Attempt
		what := a.Outcome
		if a.Status != 0 {
			what += fmt.Sprintf(" %d", a.Status)
		}
		if a.Reason != "" {
			what += " " + a.Reason
		}
		made := "" // over a connection that was there there is no more to say
		if t := a.Timings; t.DNS != nil || t.Connect != nil || t.TLS != nil {
			made = " (" + stages(t) + ")"
		}
		_, err = fmt.Fprintf(p.stdout, "%s  attempt  %s  %s  %s  try %d, %s, %.0f ms%s, %s\n", clock(a.At), offsetText(a.Sequence), clean(a.Type), clean(a.Key),
			a.Attempt.Attempt, clean(what), a.DurationMS, made, clean(called.of(ctx, a.Subscription)))
	}
	if err != nil {
		return errOutput{err}
	}
	return nil
}

// clock is the time of day in UTC.
func clock(t time.Time) string { return t.UTC().Format("15:04:05") }
