package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

// progressEvery is how often a job is asked for its progress.
const progressEvery = 500 * time.Millisecond

// bulkFlags name one delivery, or select many.
type bulkFlags struct {
	clientFlags
	Delivery     string `arg:"" optional:"" help:"Its id (dlv_…); without one, flags say which."`
	Subscription string `placeholder:"SUBSCRIPTION" help:"Of this subscription (id or name)."`
	State        string `placeholder:"STATE" help:"Only retrying, blocked or dead ones; by default dead."`
	Reason       string `placeholder:"REASON" help:"Whose last try failed for this reason."`
	Type         string `placeholder:"TYPE" help:"Of events of this type."`
	Key          string `placeholder:"KEY" help:"Of this key, as in public.orders/id=42."`
	Since        string `placeholder:"TIME" help:"Changed at or after it: 2026-11-20T12:00:00Z, or a duration such as 2h ago."`
	Until        string `placeholder:"TIME" help:"Changed before it."`
	All          bool   `help:"Of every subscription, where no other flag selects."`
	DryRun       bool   `help:"Only count."`
	Yes          bool   `short:"y" help:"Do not ask."`
}

const bulkHelp = clientHelp + `

With flags in place of an id, a job does it: it goes on when this command is
interrupted (rowcall jobs).

Example:
  rowcall deliveries %[1]s dlv_7_4211
  rowcall deliveries %[1]s --subscription paid-orders --reason rejected --dry-run`

// filter is what the flags select.
func (b *bulkFlags) filter(ctx context.Context, p *program) (*client.Client, client.BulkFilter, error) {
	now := time.Now()
	f := client.BulkFilter{
		State: b.State, Reason: b.Reason, Type: b.Type, Key: b.Key,
		Since: p.settings.moment("since", b.Since, now), Until: p.settings.moment("until", b.Until, now),
	}
	some := b.Subscription != "" || f != (client.BulkFilter{})
	if b.Delivery != "" && (some || b.All) || b.Delivery == "" && !some && !b.All {
		return nil, f, usageError{errors.New("name a delivery, or select some by flags such as --subscription; --all takes those of every subscription")}
	}
	if f.State == "" {
		f.State = "dead"
	}
	api, id, err := b.connectOf(ctx, p, b.Subscription)
	f.Subscription = id
	return api, f, err
}

// run does it for one, or for many after the count was shown and agreed to.
func (b *bulkFlags) run(ctx context.Context, p *program, action string,
	single func(*client.Client, context.Context, string) error, many func(*client.Client, context.Context, client.BulkFilter) (client.Job, error),
) error {
	api, filter, err := b.filter(ctx, p)
	if err != nil {
		return err
	}
	if b.Delivery != "" {
		if err := single(api, ctx, b.Delivery); err != nil {
			return answeredOf(err, "delivery", b.Delivery, "rowcall deliveries list")
		}
		if b.Output == "json" {
			return printJSON(p.stdout, map[string]string{"id": b.Delivery, "action": action})
		}
		_, err = fmt.Fprintf(p.stdout, "%s: %s is requested\n", b.Delivery, action)
		return err
	}
	count, err := api.CountDeliveries(ctx, filter)
	if err != nil {
		return answered(err)
	}
	if b.DryRun {
		if b.Output == "json" {
			return printJSON(p.stdout, count)
		}
		_, err = fmt.Fprintf(p.stdout, "%s would be %s\n", deliveriesText(count), past(action))
		return err
	}
	if !b.Yes {
		if count.Total == 0 && !count.AtLeast {
			// A job would take what comes meanwhile, which nobody has agreed to.
			fmt.Fprintln(p.stderr, "there are none")
			return nil
		}
		if err := p.agree(fmt.Sprintf("%s will be %s. Go on?", deliveriesText(count), past(action))); err != nil {
			return err
		}
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	j, err := many(api, context.WithoutCancel(ctx), filter)
	if err != nil {
		return answered(err)
	}
	if j, err = p.follow(ctx, api, j); err != nil {
		return err
	}
	if b.Output == "json" {
		return printJSON(p.stdout, j)
	}
	text := jobText(j)
	if action == "retry" {
		text += "; what fails again is a dead letter again: rowcall deliveries list"
		if b.Subscription != "" {
			text += " --subscription " + shellWord(b.Subscription)
		}
	}
	_, err = fmt.Fprintf(p.stdout, "%s: %s\n", j.ID, clean(text))
	return err
}

// interruptible ends the context at Ctrl-C or SIGTERM, so that a command which waits
// for a job can say what becomes of it. The request that makes the job is not broken
// off: nobody would know its id.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// goesOn says of a job that is followed no more that it does not end by that.
func goesOn(ctx context.Context, id string, err error) error {
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	} else {
		err = answered(err)
	}
	return fmt.Errorf("%w; %s goes on by itself: rowcall jobs get %s shows it, rowcall jobs cancel %s ends it", err, id, id, id)
}

// shellWord is a text as one word of a shell.
func shellWord(text string) string {
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@", r))
	}) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func deliveriesText(n client.Count) string {
	switch {
	case n.AtLeast:
		return fmt.Sprintf("at least %d deliveries", n.Total)
	case n.Total == 1:
		return "1 delivery"
	}
	return fmt.Sprintf("%d deliveries", n.Total)
}

func past(action string) string {
	if action == "retry" {
		return "retried"
	}
	return action + "ed"
}

// agree asks a person; what is not a yes ends the command. Where there is nobody to
// answer, as in a script, the command was called wrongly.
func (p *program) agree(question string) error {
	fmt.Fprintf(p.stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(io.LimitReader(p.stdin, 1024)).ReadString('\n')
	if errors.Is(err, io.EOF) {
		fmt.Fprintln(p.stderr)
		if answer == "" {
			return usageError{errors.New("nothing was done, for nobody answered; --yes does it without asking")}
		}
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done; --yes does it without asking")
}

// follow shows a job's progress until it ends or waits.
func (p *program) follow(ctx context.Context, api *client.Client, j client.Job) (client.Job, error) {
	line := progress{out: p.stderr}
	defer line.end()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		line.show(jobText(j), j.Done+j.Failed+j.Skipped, j.Total)
		if j.State != "running" {
			return j, nil
		}
		select {
		case <-ctx.Done():
			return j, goesOn(ctx, j.ID, nil)
		case <-tick.C:
		}
		next, err := api.Job(ctx, j.ID)
		if err != nil {
			return j, goesOn(ctx, j.ID, err)
		}
		j = next
	}
}

// jobText is how far a job is. Of a retry, what counts is asked for: how it went is
// known later.
func jobText(j client.Job) string {
	text := fmt.Sprintf("%s, %d of %d", j.State, j.Done+j.Failed+j.Skipped, j.Total)
	if j.Kind == "retry" {
		text += " asked for again"
	}
	if j.Skipped > 0 {
		text += fmt.Sprintf(", %d of them had changed and were left alone", j.Skipped)
	}
	return text
}

// progress is a line that is written over, on a terminal; elsewhere there is none.
type progress struct {
	out   *os.File
	shown bool
}

func (l *progress) show(text string, done, total int64) {
	if isTerminal(l.out) {
		fmt.Fprintf(l.out, "\r\x1b[K%s %s", bar(done, total), clean(text))
		l.shown = true
	}
}

// bar draws how much of something is done; what is found beyond total is done too.
func bar(done, total int64) string {
	const width = 20
	share := 1.0
	if total > 0 {
		share = min(float64(max(done, 0))/float64(total), 1)
	}
	filled := int(share * width)
	return fmt.Sprintf("[%s%s] %3d %%", strings.Repeat("#", filled), strings.Repeat(".", width-filled), int(share*100))
}

func (l *progress) end() {
	if l.shown {
		fmt.Fprint(l.out, "\r\x1b[K")
	}
}

type retryDeliveriesCmd struct{ bulkFlags }

// Help is shown below the summary.
func (retryDeliveriesCmd) Help() string { return fmt.Sprintf(bulkHelp, "retry") }

// Run asks for a try now.
func (c *retryDeliveriesCmd) Run(ctx context.Context, p *program) error {
	return c.run(ctx, p, "retry", (*client.Client).RetryDelivery, (*client.Client).RetryDeliveries)
}

type discardDeliveriesCmd struct{ bulkFlags }

// Help is shown below the summary.
func (discardDeliveriesCmd) Help() string { return fmt.Sprintf(bulkHelp, "discard") }

// Run gives deliveries up.
func (c *discardDeliveriesCmd) Run(ctx context.Context, p *program) error {
	return c.run(ctx, p, "discard", (*client.Client).DiscardDelivery, (*client.Client).DiscardDeliveries)
}
