// Command rowcall-bench measures rowcall against what it stands on, in one run:
// the ceiling of a bare signed POST loop against the same receiver,
// pg_recvlogical on the same WAL, and rowcall itself, live and from a backlog.
//
// It starts all that it needs: a private PostgreSQL, a receiver, the POST loop
// and rowcall, each a process of its own so that its CPU time can be told from
// the others'. Figures of one run are to be compared with each other; between
// runs and machines they are not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rowcall-bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "receiver":
			return receive(ctx)
		case "postloop":
			return postLoop(ctx, args[1:])
		}
	}
	var o options
	flags := flag.NewFlagSet("rowcall-bench", flag.ContinueOnError)
	flags.IntVar(&o.events, "events", 60_000, "events of a backlog")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds of each drain; medians are compared")
	flags.IntVar(&o.seconds, "seconds", 8, "seconds of each phase at a given rate")
	flags.IntVar(&o.big, "big", 0, "events of one large backlog, for its RSS; 0: none (the bar is set at 1,000,000)")
	flags.StringVar(&o.only, "only", "", "comma-separated phases: drain, batched, filtered, live, latency, idle, fanout, bulkhead, big, pages; default all")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	return bench(ctx, o)
}

// options say how much to measure.
type options struct {
	events, rounds, seconds, big int
	only                         string
}
