package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	bulkLanes = 1000 // subscriptions, each with events of its own
	bulkHang  = 10   // of them: how many come to hang
	bulkFail  = 10   // and to fail
	bulkRate  = 500  // events/s of all of them together
)

// bulkheadPhase measures commit → receipt with a thousand subscriptions: while all
// are well, and then at the others while some hang and some fail.
func bulkheadPhase(ctx context.Context, w *world, o options, r *report) error {
	if err := w.startRowcall(ctx); err != nil {
		return err
	}
	for i := range bulkLanes {
		if _, err := w.subscribe(ctx, "bulk-"+strconv.Itoa(i), "bulk.s"+strconv.Itoa(i), "/hook/"+bulkPath(i)); err != nil {
			return err
		}
	}
	before, err := w.bulk(ctx, o)
	if err != nil {
		return err
	}
	r.showLatency(latencies{name: fmt.Sprintf("%d/s, of 1,000 endpoints that are well", bulkRate), tally: before})
	if err := behave(ctx, w.hooks, "bulk-hang", mode{Hang: true}); err != nil {
		return err
	}
	if err := behave(ctx, w.hooks, "bulk-fail", mode{Fail: true}); err != nil {
		return err
	}
	beside, err := w.bulk(ctx, o)
	if err != nil {
		return err
	}
	r.bulkRatio = beside.P99 / before.P99
	r.showLatency(latencies{name: "the same, beside 10 that hang and 10 that fail", tally: beside})
	for _, lane := range []string{"bulk-hang", "bulk-fail"} {
		if err := behave(ctx, w.hooks, lane, mode{}); err != nil {
			return err
		}
	}
	if err := w.stopRowcall(); err != nil {
		return err
	}
	return w.unsubscribe(ctx, "bulk-")
}

// bulkPath is where a subscription's events go.
func bulkPath(lane int) string {
	switch {
	case lane < bulkHang:
		return "bulk-hang"
	case lane < bulkHang+bulkFail:
		return "bulk-fail"
	default:
		return "bulk"
	}
}

// bulk writes events of all lanes in turn, a second or two of warm-up first, and
// returns what the healthy endpoints saw: of three stretches the one with the median
// p99, since a stall of the machine should not decide.
func (w *world) bulk(ctx context.Context, o options) (tally, error) {
	var seen []tally
	for _, seconds := range []int{2, o.seconds / 2, o.seconds / 2, o.seconds / 2} {
		if err := forget(ctx, w.hooks, "bulk"); err != nil {
			return tally{}, err
		}
		n := bulkRate * max(seconds, 1)
		if err := w.emit(ctx, n); err != nil {
			return tally{}, err
		}
		well := 0
		for i := range n {
			if bulkPath(i%bulkLanes) == "bulk" {
				well++
			}
		}
		t, err := w.await(ctx, "bulk", well)
		if err != nil {
			return t, err
		}
		seen = append(seen, t)
	}
	seen = seen[1:]
	slices.SortFunc(seen, func(a, b tally) int { return cmp.Compare(a.P99, b.P99) })
	return seen[len(seen)/2], nil
}

// emit commits n logical messages, one a transaction, for the lanes in turn.
func (w *world) emit(ctx context.Context, n int) error {
	const clients = 4
	var group sync.WaitGroup
	errs := make([]error, clients)
	start := time.Now()
	for c := range clients {
		group.Go(func() { errs[c] = w.emitSome(ctx, c, clients, n, start) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *world) emitSome(ctx context.Context, first, step, n int, start time.Time) error {
	conn, err := pgx.Connect(ctx, w.cluster.URL("shop"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	filler := strings.Repeat("x", 400)
	for i := first; i < n; i += step {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(start.Add(time.Duration(i) * time.Second / bulkRate))):
		}
		lane := strconv.Itoa(i % bulkLanes)
		message := `{"type":"bulk.s` + lane + `","key":"` + lane + `","data":{"text":"` + filler + `"}}`
		if _, err := conn.Exec(ctx, `SELECT pg_logical_emit_message(true, 'rowcall', $1)`, message); err != nil {
			return err
		}
	}
	return nil
}
