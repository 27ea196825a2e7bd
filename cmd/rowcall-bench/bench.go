package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// round is one drain of a backlog, and its ceilings, measured one after the other.
type round struct {
	bareRate, bareCPU  float64 // POST loop: requests/s, µs each
	recvRate           float64 // pg_recvlogical: changes/s
	logRate            float64 // capture → log alone: events/s
	rate               float64 // events/s at the receiver
	gatewayCPU, pgCPU  float64 // µs an event
	walRatio, walBytes float64 // WAL by rowcall an event, as a share of the payload, and in bytes
	payload            float64 // bytes of a body
	rss                float64 // MiB
	lost, dup, order   int
}

func bench(ctx context.Context, o options) (err error) {
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	r := newReport(os.Stdout)
	r.title(o)
	if err := w.prepare(ctx); err != nil {
		return err
	}
	phases := []struct {
		name string
		run  func(context.Context, *world, options, *report) error
	}{{"drain", drainPhase}, {"batched", batchedPhase}, {"filtered", filteredPhase}, {"live", livePhase}, {"latency", latencyPhase}, {"idle", idlePhase}, {"fanout", fanoutPhase}, {"bulkhead", bulkheadPhase}, {"big", bigPhase}, {"pages", pagesPhase}}
	for _, p := range phases {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), p.name) {
			continue
		}
		if err := p.run(ctx, w, o, r); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	r.bars()
	return w.warnings(r.out)
}

// prepare has rowcall make its slot and its subscription, and makes a slot for
// pg_recvlogical at the same place.
func (w *world) prepare(ctx context.Context) error {
	if err := w.startRowcall(ctx); err != nil {
		return err
	}
	if _, err := w.subscribe(ctx, "bench", "public.orders.*", "/hook/bench"); err != nil {
		return err
	}
	err := until(ctx, 30*time.Second, "rowcall captures", func() (bool, error) {
		var sources struct {
			Items []struct{ State string } `json:"items"`
		}
		err := w.call(ctx, http.MethodGet, "/v1/sources", nil, &sources)
		return len(sources.Items) == 1 && sources.Items[0].State == "streaming", err
	})
	if err != nil {
		return err
	}
	if _, err := w.source.Exec(ctx, `SELECT pg_create_logical_replication_slot('bench', 'pgoutput')`); err != nil {
		return err
	}
	return w.stopRowcall()
}

func drainPhase(ctx context.Context, w *world, o options, r *report) error {
	for range o.rounds {
		m, err := w.drain(ctx, o.events)
		if err != nil {
			return err
		}
		r.drains = append(r.drains, m)
		r.showRound(m)
	}
	return nil
}

// drain writes a backlog while rowcall is down, measures the ceilings on it, and
// then rowcall: the WAL through the log to the receiver.
func (w *world) drain(ctx context.Context, n int) (m round, err error) {
	if m.recvRate, err = w.backlog(ctx, n); err != nil {
		return m, err
	}
	if m.bareRate, m.bareCPU, err = w.bare(ctx, min(n, 60_000)); err != nil {
		return m, err
	}
	if err := w.deliver(ctx, n, &m); err != nil {
		return m, err
	}
	m.logRate, err = w.logOnly(ctx, n)
	return m, err
}

// deliver starts rowcall on a backlog of n and waits until the receiver has all.
func (w *world) deliver(ctx context.Context, n int, m *round) error {
	if err := forget(ctx, w.hooks, "bench"); err != nil {
		return err
	}
	_, wal, err := w.lsn(ctx)
	if err != nil {
		return err
	}
	pg := usedTree(w.postman)
	if err := w.startRowcall(ctx); err != nil {
		return err
	}
	pid := w.rowcall.cmd.Process.Pid
	if _, err := w.await(ctx, "bench", n); err != nil {
		return err
	}
	m.gatewayCPU, m.pgCPU = used(pid)*1e6/float64(n), (usedTree(w.postman)-pg)*1e6/float64(n)
	m.rss = peakRSS(pid)
	if err := w.stopRowcall(); err != nil { // settles the last of it
		return err
	}
	_, after, err := w.lsn(ctx)
	if err != nil {
		return err
	}
	t, err := tallyOf(ctx, w.hooks, "bench")
	if err != nil {
		return err
	}
	m.rate = float64(n-1) / (float64(t.Last-t.First) / 1e6)
	m.lost, m.dup, m.order = n-t.Unique, t.Duplicates, t.OutOfOrder
	m.payload = float64(t.Bytes) / float64(t.Count)
	m.walBytes = float64(after-wal) / float64(n)
	m.walRatio = m.walBytes / m.payload
	return nil
}

// logOnly writes another backlog and measures capture → log with no lane active.
func (w *world) logOnly(ctx context.Context, n int) (float64, error) {
	if err := w.pause(ctx, true); err != nil {
		return 0, err
	}
	if err := w.write(ctx, n, 8, 0); err != nil {
		return 0, err
	}
	store, err := pgx.Connect(ctx, w.cluster.URL("gateway"))
	if err != nil {
		return 0, err
	}
	defer store.Close(context.WithoutCancel(ctx))
	head := func() (next int64, err error) {
		err = store.QueryRow(ctx, `SELECT next FROM rowcall.log_head`).Scan(&next)
		return next, err
	}
	start, err := head()
	if err != nil {
		return 0, err
	}
	if err := w.startRowcall(ctx); err != nil {
		return 0, err
	}
	// The rate is taken from the second sighting on, so that connecting is not in it.
	var first, last time.Time
	var from, to int64
	err = until(ctx, 5*time.Minute, "all is in the log", func() (bool, error) {
		next, err := head()
		if err != nil || next == start {
			return false, err
		}
		if first.IsZero() {
			first, from = time.Now(), next
		}
		if next != to {
			last, to = time.Now(), next
		}
		return next >= start+int64(n), nil
	})
	if err != nil {
		return 0, err
	}
	rate := float64(to-from) / last.Sub(first).Seconds()
	if err := w.pause(ctx, false); err != nil {
		return 0, err
	}
	if err := forget(ctx, w.hooks, "bench"); err != nil {
		return 0, err
	}
	// Let the lane catch up, so that the next round starts from nothing.
	_, err = w.await(ctx, "bench", n)
	return rate, errors.Join(err, w.stopRowcall())
}

// pause pauses or resumes the subscription, with rowcall running for it if need be.
func (w *world) pause(ctx context.Context, pause bool) error {
	running := w.rowcall != nil
	if !running {
		if err := w.startRowcall(ctx); err != nil {
			return err
		}
	}
	action := "resume"
	if pause {
		action = "pause"
	}
	id, err := w.subscription(ctx, "bench")
	if err != nil {
		return err
	}
	if err := w.call(ctx, http.MethodPost, "/v1/subscriptions/"+id+"/"+action, nil, nil); err != nil {
		return err
	}
	if !running {
		return w.stopRowcall()
	}
	return nil
}

// subscription is the id of the subscription with a name.
func (w *world) subscription(ctx context.Context, name string) (string, error) {
	var list struct {
		Items []struct{ ID, Name string } `json:"items"`
	}
	if err := w.call(ctx, http.MethodGet, "/v1/subscriptions?limit=1000", nil, &list); err != nil {
		return "", err
	}
	for _, s := range list.Items {
		if s.Name == name {
			return s.ID, nil
		}
	}
	return "", fmt.Errorf("there is no subscription %s", name)
}

// recvlogical runs pg_recvlogical over the WAL since it last ran, and says how
// long that took.
func (w *world) recvlogical(ctx context.Context) (time.Duration, error) {
	end, _, err := w.lsn(ctx)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, w.bin+"/pg_recvlogical", "-d", w.cluster.URL("shop"), "--slot", "bench", "--start", "--endpos", end,
		"--no-loop", "-f", os.DevNull, "-o", "proto_version=1", "-o", "publication_names=rowcall_main", "-o", "messages=true")
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("pg_recvlogical: %w\n%s", err, out)
	}
	return time.Since(start), nil
}

// backlog commits n orders while rowcall is down, and measures pg_recvlogical on
// just the WAL that rowcall will read: without its start, and without what the
// cluster wrote before.
func (w *world) backlog(ctx context.Context, n int) (rate float64, err error) {
	if _, err := w.recvlogical(ctx); err != nil {
		return 0, err
	}
	start, err := w.recvlogical(ctx)
	if err != nil {
		return 0, err
	}
	if err := w.write(ctx, n, 8, 0); err != nil {
		return 0, err
	}
	took, err := w.recvlogical(ctx)
	if err != nil {
		return 0, err
	}
	return float64(n) / max(took-start, time.Millisecond).Seconds(), nil
}

// bare measures the POST loop.
func (w *world) bare(ctx context.Context, n int) (rate, cpuMicros float64, err error) {
	if err := forget(ctx, w.hooks, "bare"); err != nil {
		return 0, 0, err
	}
	out, err := exec.CommandContext(ctx, w.self, "postloop", "-url", w.hooks+"/bare", "-count", strconv.Itoa(n)).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("post loop: %w", err)
	}
	var res loopResult
	err = json.Unmarshal(out, &res)
	return res.Rate, res.CPU, err
}
