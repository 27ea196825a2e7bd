package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/storetest"
)

// A receiver is down while 200,000 events are written and rowcall is killed twice.
// All arrive when it is back, in order of their keys and at the rate of live ones;
// another subscription notices nothing, memory stays small, and the outage costs no
// storage but what the log weighs. The program runs as it is built for users: the
// race detector multiplies memory.
func TestLatencyBesideAnEndpointThatIsDownForLongAndGetsAllInOrder(t *testing.T) {
	cluster := storetest.Cluster(t, map[string]string{"max_wal_size": "4GB"})
	w := newWorld(t, cluster, cluster)
	w.path = built(t)
	db := database(t, cluster)
	mustExec(t, db, `CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL)`)
	mustExec(t, db, `CREATE TABLE pings (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)`)
	const keys = 1000
	mustExec(t, db, `INSERT INTO items SELECT i, 0 FROM generate_series(1, $1) i`, keys)
	w.start(t)
	w.awaitState(t, "streaming")
	var down atomic.Bool
	r := hooktest.Start(t, hooktest.Config{DropBodies: true, Reply: func(hooktest.Delivery) hooktest.Reply {
		return hooktest.Reply{Close: down.Load()}
	}})
	other := hooktest.Start(t, hooktest.Config{})
	sub := w.subscribe(t, map[string]any{
		"name": "items", "events": []string{"public.items.updated"}, "endpoint": map[string]any{"url": r.URL()},
		"outage": map[string]any{"probe": "1s..1s"},
	})
	w.subscribe(t, map[string]any{"name": "pings", "events": []string{"public.pings.*"}, "endpoint": map[string]any{"url": other.URL()}})

	// Live, with the other subscription beside it.
	const live, total = 60 * keys, 200 * keys
	before := other.Counts().Succeeded
	writeRounds(t, db, live/keys)
	waitFor(t, time.Minute, "what came live has arrived", func() bool { return r.Counts().Succeeded >= live }, w.gateway.tail)
	waitFor(t, time.Minute, "the pings too", func() bool { return other.Counts().Succeeded >= before+live/keys*pings })
	liveRate := rateOf(r.Deliveries())
	liveP99 := p99(t, other.Deliveries()[before:])

	down.Store(true)
	for n := range 2 {
		writeRounds(t, db, 20)
		rssBelow(t, w, 256)
		w.gateway.kill()
		w.start(t)
		w.awaitState(t, "streaming")
		mustExec(t, db, `INSERT INTO pings DEFAULT VALUES`) // Until it arrives, what is written waits for a start, not for an outage.
		waitFor(t, time.Minute, fmt.Sprintf("life %d serves the other subscription", n+2), func() bool {
			return other.Counts().Succeeded >= mustCount(t, db, `SELECT count(*) FROM pings`)
		}, w.gateway.tail)
	}
	before = len(other.Deliveries())
	writeRounds(t, db, total/keys-40)
	waitFor(t, time.Minute, "the pings of the outage have arrived", func() bool {
		return other.Counts().Succeeded >= mustCount(t, db, `SELECT count(*) FROM pings`)
	}, w.gateway.tail)
	outageP99 := p99(t, other.Deliveries()[before:])
	waitFor(t, 2*time.Minute, "the endpoint is parked", func() bool { return w.health(t, sub.ID).Health != "healthy" }, w.gateway.tail)

	// However often it is tried, nothing grows but the history, by what was tried.
	waitFor(t, time.Minute, "the lane is back from parking", func() bool { return w.health(t, sub.ID).Backlog >= total })
	rows := mustCount(t, db, `SELECT count(*) FROM rowcall.deliveries`)
	tried := r.Counts().Received
	waitFor(t, time.Minute, "some more probes have failed", func() bool { return r.Counts().Received >= tried+3 }, w.gateway.tail)
	if now := mustCount(t, db, `SELECT count(*) FROM rowcall.deliveries`); now > rows+3 || rows > 4*keys {
		t.Errorf("%d deliveries, after some more probes %d", rows, now)
	}
	if n := mustCount(t, db, `SELECT count(*) FROM rowcall.attempts WHERE outcome <> 0`); n > r.Counts().Received {
		t.Errorf("%d failed attempts in the history of %d", n, r.Counts().Received)
	}

	already := len(r.Deliveries())
	begun := time.Now()
	down.Store(false)
	waitFor(t, 3*time.Minute, "all has arrived", func() bool { return r.Counts().Succeeded >= live+total }, func() string {
		return fmt.Sprintf("%+v\n%s", r.Counts(), w.gateway.tail())
	})
	drainRate := rateOf(r.Deliveries()[already:])
	rssBelow(t, w, 256)
	w.stop(t)
	t.Logf("live %.0f/s, drained at %.0f/s in %v; the other's p99 %v live, %v in the outage", liveRate, drainRate,
		time.Since(begun).Round(time.Millisecond), liveP99, outageP99)
	if drainRate < 0.7*liveRate {
		t.Errorf("drained at %.0f/s, live it was %.0f/s", drainRate, liveRate)
	}
	// The floor keeps a scheduler's hiccup on a busy machine from failing the run.
	if bound := max(2*liveP99, 100*time.Millisecond); outageP99 > bound {
		t.Errorf("the other subscription's p99 was %v in the outage, want at most %v", outageP99, bound)
	}
	for _, fault := range r.Check() {
		t.Error(fault)
	}
	seen := map[string]int{}
	for _, d := range arrived(r) {
		seen[d.Key]++
	}
	for id := 1; id <= keys; id++ {
		if n := seen[fmt.Sprintf("public.items/id=%d", id)]; n != (live+total)/keys {
			t.Errorf("of row %d arrived %d events, want %d", id, n, (live+total)/keys)
		}
	}
}

// pings is how many of them are written beside each round of items.
const pings = 5

// writeRounds changes every item so many times, at a steady rate, and beside each
// writes some pings.
func writeRounds(t *testing.T, db *pgxpool.Pool, rounds int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range rounds {
		if _, err := db.Exec(ctx, `UPDATE items SET n = n + 1`); err != nil {
			t.Fatal(err)
		}
		for range pings {
			if _, err := db.Exec(ctx, `INSERT INTO pings DEFAULT VALUES`); err != nil {
				t.Fatal(err)
			}
		}
		<-tick.C
	}
}

// rateOf is how many events a second succeeded, from the first to the last.
func rateOf(ds []hooktest.Delivery) float64 {
	var first, last time.Time
	n := 0
	for _, d := range ds {
		if !d.Succeeded() {
			continue
		}
		n++
		if first.IsZero() || d.At.Before(first) {
			first = d.At
		}
		if d.At.After(last) {
			last = d.At
		}
	}
	return float64(n) / max(last.Sub(first), time.Millisecond).Seconds()
}

// rssBelow demands that the running program never held more memory.
func rssBelow(t *testing.T, w *world, mib int) {
	t.Helper()
	if rss := peakMiB(t, w.gateway.cmd.Process.Pid); rss > mib {
		t.Errorf("peak RSS %d MiB, want at most %d", rss, mib)
	} else {
		t.Logf("peak RSS %d MiB", rss)
	}
}
