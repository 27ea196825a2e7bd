package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// latencies is what a phase at a given rate showed.
type latencies struct {
	name string
	tally
	written int
}

// livePhase writes as fast as eight clients can while rowcall delivers.
func livePhase(ctx context.Context, w *world, o options, r *report) error {
	if err := w.startRowcall(ctx); err != nil {
		return err
	}
	if err := forget(ctx, w.hooks, "bench"); err != nil {
		return err
	}
	n := o.events
	start := time.Now()
	if err := w.write(ctx, n, 8, 0); err != nil {
		return err
	}
	wrote := time.Since(start).Seconds()
	meanwhile, err := tallyOf(ctx, w.hooks, "bench")
	if err != nil {
		return err
	}
	t, err := w.await(ctx, "bench", n)
	if err != nil {
		return err
	}
	r.live = liveResult{
		writeRate: float64(n) / wrote, rate: float64(meanwhile.Unique) / wrote, rss: peakRSS(w.rowcall.cmd.Process.Pid), tally: t, written: n,
	}
	r.showLive()
	return w.stopRowcall()
}

// batchSize is how many events a POST of the phase with batches has.
const batchSize = 100

// batchedPhase drains backlogs with many events a POST, each beside pg_recvlogical
// on the same WAL.
func batchedPhase(ctx context.Context, w *world, o options, r *report) error {
	if err := w.batch(ctx, batchSize); err != nil {
		return err
	}
	for range o.rounds {
		var m round
		var err error
		if m.recvRate, err = w.backlog(ctx, o.events); err != nil {
			return err
		}
		if err := w.deliver(ctx, o.events, &m); err != nil {
			return err
		}
		r.batched = append(r.batched, m)
		r.showBatched(m)
	}
	return w.batch(ctx, 1)
}

// batch has the subscription put so many events into a POST.
func (w *world) batch(ctx context.Context, events int) error {
	return w.patch(ctx, map[string]any{"batch": map[string]any{"max_events": events}})
}

// patch changes the subscription.
func (w *world) patch(ctx context.Context, patch map[string]any) error {
	if err := w.startRowcall(ctx); err != nil {
		return err
	}
	id, err := w.subscription(ctx, "bench")
	if err != nil {
		return err
	}
	if err := w.call(ctx, http.MethodPatch, "/v1/subscriptions/"+id, patch, nil); err != nil {
		return err
	}
	return w.stopRowcall()
}

// filteredPhase drains two backlogs, the second with a filter that wants all of it,
// so that what differs is the filter alone.
func filteredPhase(ctx context.Context, w *world, o options, r *report) error {
	for range o.rounds {
		var without, with round
		for _, m := range []*round{&without, &with} {
			var filter any
			if m == &with {
				filter = "data.row.total >= 0.0 && data.row.status == 'new'"
			}
			if err := w.patch(ctx, map[string]any{"filter": filter}); err != nil {
				return err
			}
			if _, err := w.backlog(ctx, o.events); err != nil {
				return err
			}
			if err := w.deliver(ctx, o.events, m); err != nil {
				return err
			}
		}
		r.filtered = append(r.filtered, with)
		fmt.Fprintf(r.out, "with a filter: %.0f events/s, %.2f of without (%.0f); gateway CPU %.0f µs an event, without %.0f; lost %d, duplicates %d, out of order %d\n",
			with.rate, with.rate/without.rate, without.rate, with.gatewayCPU, without.gatewayCPU, with.lost, with.dup, with.order)
	}
	return w.patch(ctx, map[string]any{"filter": nil})
}

// await waits until a lane of the receiver has n different events, and returns
// what it saw.
func (w *world) await(ctx context.Context, lane string, n int) (tally, error) {
	got := 0
	if err := until(ctx, 5*time.Minute, "all is delivered", func() (done bool, err error) {
		got, err = uniqueOf(ctx, w.hooks, lane)
		return got >= n, err
	}); err != nil {
		return tally{}, fmt.Errorf("%w (%d of %d)", err, got, n)
	}
	return tallyOf(ctx, w.hooks, lane)
}

// latencyPhase measures commit → receipt at fixed rates, alone and beside an
// endpoint that hangs.
func latencyPhase(ctx context.Context, w *world, o options, r *report) error {
	if err := w.startRowcall(ctx); err != nil {
		return err
	}
	for _, rate := range []int{100, 2000} {
		if err := w.latency(ctx, o, r, fmt.Sprintf("%d/s", rate), rate); err != nil {
			return err
		}
	}
	id, err := w.subscribe(ctx, "hangs", "public.orders.*", "/hook/hangs")
	if err == nil {
		err = behave(ctx, w.hooks, "hangs", mode{Hang: true})
	}
	if err != nil {
		return err
	}
	for _, rate := range []int{100, 2000} {
		if err := w.latency(ctx, o, r, fmt.Sprintf("%d/s, beside an endpoint that hangs", rate), rate); err != nil {
			return err
		}
	}
	err = w.call(ctx, http.MethodDelete, "/v1/subscriptions/"+id, nil, nil)
	return errors.Join(err, w.stopRowcall())
}

func (w *world) latency(ctx context.Context, o options, r *report, name string, rate int) error {
	// A second of warm-up, then the measurement.
	for _, n := range []int{rate, rate * o.seconds} {
		if err := forget(ctx, w.hooks, "bench"); err != nil {
			return err
		}
		if err := w.write(ctx, n, 4, float64(rate)); err != nil {
			return err
		}
		t, err := w.await(ctx, "bench", n)
		if err != nil {
			return err
		}
		if n == rate*o.seconds {
			l := latencies{name: name, tally: t, written: n}
			r.latencies = append(r.latencies, l)
			r.showLatency(l)
		}
	}
	return nil
}

// idlePhase drains with a thousand subscriptions that match nothing.
func idlePhase(ctx context.Context, w *world, o options, r *report) error {
	base, err := w.medianRate(ctx, o, "bench")
	if err != nil {
		return err
	}
	if err := w.startRowcall(ctx); err != nil {
		return err
	}
	for i := range 1000 {
		if _, err := w.subscribe(ctx, "idle-"+strconv.Itoa(i), "idle.t"+strconv.Itoa(i)+".*", "/hook/idle"); err != nil {
			return err
		}
	}
	if err := w.stopRowcall(); err != nil {
		return err
	}
	idle, err := w.medianRate(ctx, o, "bench")
	if err != nil {
		return err
	}
	r.idleRatio = idle / base
	r.line("with 1,000 idle subscriptions", "%8.0f events/s  (%.2f of the rate with one)", idle, r.idleRatio)
	return w.unsubscribe(ctx, "idle-")
}

// fanoutPhase drains with ten subscriptions that all match.
func fanoutPhase(ctx context.Context, w *world, o options, r *report) error {
	base, err := w.medianRate(ctx, o, "bench")
	if err != nil {
		return err
	}
	if err := w.startRowcall(ctx); err != nil {
		return err
	}
	for i := range 9 {
		if _, err := w.subscribe(ctx, "fan-"+strconv.Itoa(i), "public.orders.*", "/hook/fan"+strconv.Itoa(i)); err != nil {
			return err
		}
	}
	if err := w.stopRowcall(); err != nil {
		return err
	}
	lanes := []string{"bench"}
	for i := range 9 {
		lanes = append(lanes, "fan"+strconv.Itoa(i))
	}
	short := o
	short.events, short.rounds = o.events/4, max(1, o.rounds/2)
	rate, err := w.medianRate(ctx, short, lanes...)
	if err != nil {
		return err
	}
	r.fanRatio = rate / base
	r.line("with 10 matching subscriptions", "%8.0f deliveries/s  (%.2f of the rate with one)", rate, r.fanRatio)
	return w.unsubscribe(ctx, "fan-")
}

// medianRate drains some backlogs and returns the median rate of deliveries, of
// all the lanes together.
func (w *world) medianRate(ctx context.Context, o options, lanes ...string) (float64, error) {
	var rates []float64
	for range max(3, o.rounds/2) {
		if err := w.write(ctx, o.events, 8, 0); err != nil {
			return 0, err
		}
		if err := forget(ctx, w.hooks, lanes...); err != nil {
			return 0, err
		}
		if err := w.startRowcall(ctx); err != nil {
			return 0, err
		}
		var first, last int64
		for _, lane := range lanes {
			t, err := w.await(ctx, lane, o.events)
			if err != nil {
				return 0, err
			}
			if first == 0 || t.First < first {
				first = t.First
			}
			last = max(last, t.Last)
		}
		rates = append(rates, float64(o.events*len(lanes))/(float64(last-first)/1e6))
		if err := w.stopRowcall(); err != nil {
			return 0, err
		}
	}
	return median(rates), nil
}

// unsubscribe deletes the subscriptions whose names begin so.
func (w *world) unsubscribe(ctx context.Context, prefix string) error {
	if err := w.startRowcall(ctx); err != nil {
		return err
	}
	for {
		var list struct {
			Items []struct{ ID, Name string } `json:"items"`
		}
		if err := w.call(ctx, http.MethodGet, "/v1/subscriptions?limit=1000", nil, &list); err != nil {
			return err
		}
		deleted := 0
		for _, s := range list.Items {
			if len(s.Name) > len(prefix) && s.Name[:len(prefix)] == prefix {
				if err := w.call(ctx, http.MethodDelete, "/v1/subscriptions/"+s.ID, nil, nil); err != nil {
					return err
				}
				deleted++
			}
		}
		if deleted == 0 {
			return w.stopRowcall()
		}
	}
}

// bigPhase drains one large backlog, for what it weighs in memory.
func bigPhase(ctx context.Context, w *world, o options, r *report) error {
	if o.big == 0 {
		return nil
	}
	if err := w.write(ctx, o.big, 8, 0); err != nil {
		return err
	}
	var m round
	if err := w.deliver(ctx, o.big, &m); err != nil {
		return err
	}
	r.big, r.bigRSS = o.big, m.rss
	r.lost += m.lost
	r.line(fmt.Sprintf("backlog of %d", o.big), "%8.0f events/s, peak RSS %.0f MiB", m.rate, m.rss)
	return nil
}
