package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch/hooktest"
)

func TestAReceiverThatFailsAtRandomGetsEverythingInOrderAndOnce(t *testing.T) {
	t.Parallel()
	w, db := streaming(t, `CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL)`, `INSERT INTO items SELECT i, 0 FROM generate_series(1, 200) i`)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(7, 7))
	r := hooktest.Start(t, hooktest.Config{Reply: func(hooktest.Delivery) hooktest.Reply {
		mu.Lock()
		defer mu.Unlock()
		if random.IntN(10) >= 3 {
			return hooktest.Reply{}
		}
		return []hooktest.Reply{{Status: 500}, {Status: 503}, {Status: 409}, {Close: true}}[random.IntN(4)]
	}})
	w.subscribe(t, map[string]any{
		"name": "items", "events": []string{"public.items.updated"}, "endpoint": map[string]any{"url": r.URL()},
		"retry": map[string]any{"initial": "100ms", "max": "1s", "max_attempts": 1000},
	})
	const rounds = 15
	for range rounds {
		mustExec(t, db, `UPDATE items SET n = n + 1`)
	}
	const total = rounds * 200
	waitFor(t, 3*time.Minute, "everything has arrived", func() bool { return r.Counts().Succeeded >= total }, func() string {
		return fmt.Sprintf("%+v of %d", r.Counts(), total)
	})
	w.stop(t)
	for _, fault := range r.Check() {
		t.Error(fault)
	}
	if twice := r.Duplicates(); len(twice) > 0 {
		t.Errorf("%d events came twice", len(twice))
	}
	if n := len(arrived(r)); n != total {
		t.Errorf("%d different events arrived, want %d", n, total)
	}
	if n := mustCount(t, db, `SELECT count(*) FROM rowcall.deliveries`); n != 0 {
		t.Errorf("%d deliveries are left", n)
	}
	failed := r.Counts().Received - r.Counts().Succeeded
	waited := mustCount(t, db, `SELECT count(*) FROM rowcall.attempts WHERE outcome = 1`)
	if waited != failed {
		t.Errorf("the history knows %d failed attempts, the receiver %d", waited, failed)
	}
}

func TestLatencyBesideAnEndpointThatHangs(t *testing.T) {
	w, db := streamingAsBuilt(t, `CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n bigint NOT NULL)`)
	r := hooktest.Start(t, hooktest.Config{})
	w.subscribe(t, map[string]any{"name": "well", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()}})
	const n = 500
	phase := func() time.Duration {
		before := r.Counts().Succeeded
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := range n {
			<-tick.C
			mustExec(t, db, `INSERT INTO items (n) VALUES ($1)`, i)
		}
		waitFor(t, time.Minute, "everything has arrived", func() bool { return r.Counts().Succeeded >= before+n })
		return p99(t, r.Deliveries()[before:])
	}
	phase() // warm up
	alone := phase()
	hung := hooktest.Start(t, hooktest.Config{Reply: func(hooktest.Delivery) hooktest.Reply { return hooktest.Reply{Hang: true} }})
	w.subscribe(t, map[string]any{"name": "hangs", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": hung.URL(), "timeout": "1s"}})
	beside := phase()
	t.Logf("p99 alone %v, beside an endpoint that hangs %v", alone, beside)
	if hung.Counts().Received == 0 {
		t.Error("the endpoint that hangs was never called")
	}
	// The floor keeps a scheduler's hiccup on a busy machine from failing the run.
	if bound := max(2*alone, 50*time.Millisecond); beside > bound {
		t.Errorf("p99 beside an endpoint that hangs is %v, want at most %v", beside, bound)
	}
	w.stop(t)
}

// p99 is of the time from commit to arrival.
func p99(t *testing.T, ds []hooktest.Delivery) time.Duration {
	t.Helper()
	var all []time.Duration
	for _, d := range ds {
		var event struct{ Time time.Time }
		decode(t, d.Body, &event)
		all = append(all, d.At.Sub(event.Time))
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

// TestATransactionOfAMillionRowsPassesInBoundedMemory runs the program as it is
// built for users: the race detector multiplies memory.
func TestATransactionOfAMillionRowsPassesInBoundedMemory(t *testing.T) {
	w, db := streamingAsBuilt(t, `CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL, note text NOT NULL)`)
	r := hooktest.Start(t, hooktest.Config{DropBodies: true})
	w.subscribe(t, map[string]any{
		"name": "some", "events": []string{"public.items.updated"}, "endpoint": map[string]any{"url": r.URL()},
	})
	const rows = 1_000_000
	mustExec(t, db, `INSERT INTO items SELECT i, i, repeat('x', 200) FROM generate_series(1, $1) i`, rows)
	mustExec(t, db, `UPDATE items SET n = -n WHERE id % 100 = 0`)
	waitFor(t, 4*time.Minute, "everything is in the log", func() bool {
		return mustCount(t, db, `SELECT (next - 1)::int FROM rowcall.log_head`) == rows+rows/100
	}, func() string { return w.gateway.tail() })
	waitFor(t, 2*time.Minute, "what matches has arrived", func() bool { return r.Counts().Succeeded == rows/100 })
	if rss := peakMiB(t, w.gateway.cmd.Process.Pid); rss > 256 {
		t.Errorf("peak RSS %d MiB, want at most 256", rss)
	} else {
		t.Logf("peak RSS %d MiB", rss)
	}
	w.stop(t)
}

// peakMiB is the most memory that a process has held.
func peakMiB(t *testing.T, pid int) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil { // not Linux: there, what it holds now has to do
		out, err := exec.CommandContext(t.Context(), "ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
		if err != nil {
			t.Fatal(err)
		}
		kb, err := strconv.Atoi(strings.TrimSpace(string(out)))
		if err != nil {
			t.Fatal(err)
		}
		return kb / 1024
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb / 1024
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
