package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/storetest"
)

// noticesOf are the data of the notices of a type that arrived.
func noticesOf(r *hooktest.Receiver, kind string) []map[string]any {
	var all []map[string]any
	for _, d := range r.Deliveries() {
		var data map[string]any
		if d.Type == kind && d.Succeeded() && json.Unmarshal(d.Data, &data) == nil {
			all = append(all, data)
		}
	}
	return all
}

func TestNoticesReachWhoNamesThemAndNobodyElse(t *testing.T) {
	t.Parallel()
	w, db := streaming(t, `CREATE TABLE items (id bigint PRIMARY KEY, n bigint)`)
	ops, all, one := hooktest.Start(t, hooktest.Config{}), hooktest.Start(t, hooktest.Config{}), hooktest.Start(t, hooktest.Config{})
	w.subscribe(t, map[string]any{"name": "ops", "events": []string{"rowcall.**"}, "endpoint": map[string]any{"url": ops.URL()}})
	w.subscribe(t, map[string]any{"name": "all", "events": []string{"**"}, "endpoint": map[string]any{"url": all.URL()}})
	sub := w.subscribe(t, map[string]any{
		"name": "one", "events": []string{"public.items.*", "rowcall.log.filling"}, "endpoint": map[string]any{"url": one.URL()},
		"outage": map[string]any{"probe": "1s..1s"}, "retry": map[string]any{"max_attempts": 1},
	})
	await := func(kind string, n int) map[string]any {
		t.Helper()
		waitFor(t, 30*time.Second, kind+" arrives", func() bool { return len(noticesOf(ops, kind)) >= n }, w.gateway.tail)
		data := noticesOf(ops, kind)[n-1]
		if of, ok := data["subscription"].(map[string]any); ok && of["id"] != sub.ID {
			t.Errorf("%s is about %v", kind, of)
		}
		if data["hint"] == "" || data["hint"] == nil {
			t.Errorf("%s says not what to do: %v", kind, data)
		}
		return data
	}
	var status atomic.Int64
	one.Script(func(hooktest.Delivery) hooktest.Reply { return hooktest.Reply{Status: int(status.Load())} })

	// Three events that are refused for their own sake: one notice of three.
	status.Store(422)
	mustExec(t, db, `INSERT INTO items SELECT i FROM generate_series(1, 3) i`)
	dead := await("rowcall.delivery.dead", 1)
	if dead["count"] != 3.0 || fmt.Sprint(dead["reasons"]) != "map[rejected:3]" || dead["since"] == nil {
		t.Errorf("dead: %v", dead)
	}
	// An endpoint that is down, and back.
	status.Store(503)
	mustExec(t, db, `INSERT INTO items SELECT i FROM generate_series(100, 160) i`)
	parked := await("rowcall.subscription.parked", 1)
	if parked["reason"] != "unavailable" || parked["next_probe"] == nil || parked["since"] == nil {
		t.Errorf("parked: %v", parked)
	}
	status.Store(200)
	if recovered := await("rowcall.subscription.recovered", 1); recovered["reason"] != "unavailable" {
		t.Errorf("recovered: %v", recovered)
	}
	// A process that is killed says nothing twice that it has saved.
	waitFor(t, 30*time.Second, "its health is saved", func() bool {
		return mustCount(t, db, `SELECT count(*) FROM rowcall.cursors WHERE subscription = $1 AND health->>'state' = 'healthy'`, sub.ID) == 1
	}, w.gateway.tail)
	w.gateway.kill()
	w.start(t)
	w.awaitState(t, "streaming")
	status.Store(410)
	mustExec(t, db, `INSERT INTO items VALUES (200)`)
	if disabled := await("rowcall.subscription.disabled", 1); !strings.Contains(fmt.Sprint(disabled["reason"]), "410") {
		t.Errorf("disabled: %v", disabled)
	}
	// A gap is announced before the marker at which deliveries wait.
	waitFor(t, 30*time.Second, "the slot is dropped", func() bool {
		_, err := db.Exec(t.Context(), `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active`)
		if err == nil {
			_, err = db.Exec(t.Context(), `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots`)
		}
		return err == nil
	})
	if gap := await("rowcall.source.gap", 1); gap["source"] != "main" || gap["from"] == nil || gap["to"] == nil || gap["reason"] == "" {
		t.Errorf("gap: %v", gap)
	}
	// They say so themselves, and go on once a person accepts it.
	env := []string{"ROWCALL_URL=http://" + w.listen, "ROWCALL_API_KEY=" + worldKey}
	mustExec(t, db, `INSERT INTO items VALUES (300)`)
	waitFor(t, 30*time.Second, "a subscription says that it waits at the gap", func() bool {
		return strings.Contains(call(t, env, "subscriptions", "health", "all").stdout, "held because   gap")
	}, func() string { return call(t, env, "subscriptions", "health", "all").stdout }, w.gateway.tail)
	if got := call(t, env, "sources", "accept-gap", "main"); got.code != exitUsage || !strings.Contains(got.stderr, "may be missing") || !strings.Contains(got.stderr, "--yes") {
		t.Errorf("%+v: it accepts without being asked", got)
	}
	before := len(all.Deliveries())
	if got := call(t, env, "sources", "accept-gap", "main", "--yes", "--note", "compared"); got.code != exitOK || !strings.Contains(got.stdout, "main: 1 accepted") {
		t.Errorf("%+v", got)
	}
	waitFor(t, 30*time.Second, "what waited at the gap arrives", func() bool { return len(all.Deliveries()) > before }, w.gateway.tail)
	if n := mustCount(t, db, `SELECT count(*) FROM rowcall.audit WHERE action = 'accept-gap' AND note = 'compared'`); n != 1 {
		t.Errorf("%d lines in the audit trail", n)
	}
	w.stop(t)
	count, seen := map[string]int{}, map[string]bool{}
	for _, d := range ops.Deliveries() {
		if d.Succeeded() && !seen[d.ID] { // what was in flight at the kill comes again, under its id
			seen[d.ID] = true
			count[d.Type]++
		}
		if !strings.HasPrefix(d.Type, "rowcall.") {
			t.Errorf("who names notices got %s", d.Type)
		}
	}
	for kind, n := range count {
		if n != 1 {
			t.Errorf("%d of %s, want 1", n, kind)
		}
	}
	for name, r := range map[string]*hooktest.Receiver{"all": all, "one": one} {
		for _, d := range r.Deliveries() {
			if strings.HasPrefix(d.Type, "rowcall.") {
				t.Errorf("%s got %s, which it did not name", name, d.Type)
			}
		}
	}
}

// At the bound of the log a subscription whose endpoint is dead loses the oldest
// of what it holds, counted and announced; another one gets all, and capture
// goes on.
func TestAFullLogTakesFromWhoHoldsItAndStopsNobody(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	w := newWorld(t, cluster, cluster)
	w.path = built(t)
	db := database(t, cluster)
	mustExec(t, db, `CREATE TABLE items (id bigint PRIMARY KEY, note text)`)
	w.start(t, "ROWCALL_LOG_MAX_BYTES=64MiB")
	w.awaitState(t, "streaming")
	ops, live := hooktest.Start(t, hooktest.Config{}), hooktest.Start(t, hooktest.Config{DropBodies: true})
	gone := hooktest.Start(t, hooktest.Config{Reply: func(hooktest.Delivery) hooktest.Reply { return hooktest.Reply{Status: 503} }, DropBodies: true})
	w.subscribe(t, map[string]any{"name": "ops", "events": []string{"rowcall.log.filling", "rowcall.delivery.dead"}, "endpoint": map[string]any{"url": ops.URL()}})
	w.subscribe(t, map[string]any{"name": "live", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": live.URL()}})
	dead := w.subscribe(t, map[string]any{"name": "dead", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": gone.URL()}})
	const total, step = 60_000, 2_000
	for n := 0; n < total; n += step {
		mustExec(t, db, `INSERT INTO items SELECT i, repeat('x', 1400) FROM generate_series($1::int, $2::int) i`, n+1, n+step)
	}
	waitFor(t, 2*time.Minute, "the live one has all", func() bool { return live.Counts().Succeeded >= total }, w.gateway.tail)
	waitFor(t, time.Minute, "the log is below its bound", func() bool {
		l, err := w.api.Log(t.Context())
		return err == nil && l.Bytes <= l.MaxBytes && mustCount(t, db, `SELECT dropped::int FROM rowcall.cursors WHERE subscription = $1`, dead.ID) > 0
	}, w.gateway.tail)
	l, err := w.api.Log(t.Context())
	if err != nil || len(l.Pins) == 0 || l.Pins[0].Name != "dead" || l.Pins[0].PinnedBytes == 0 || l.Pins[0].Events == 0 {
		t.Errorf("the log's worst: %+v, error %v", l, err)
	}
	if got := call(t, []string{"ROWCALL_URL=http://" + w.listen, "ROWCALL_API_KEY=" + worldKey}, "log"); !strings.Contains(got.stdout, "dead") || !strings.Contains(got.stdout, "64.0 MiB") {
		t.Errorf("rowcall log: %+v", got)
	}
	for _, kind := range []string{"rowcall.log.filling", "rowcall.delivery.dead"} {
		waitFor(t, 30*time.Second, kind+" arrives", func() bool { return len(noticesOf(ops, kind)) > 0 }, w.gateway.tail)
	}
	// Every event is accounted for: dropped, still owed as a delivery, or waiting.
	waitFor(t, 30*time.Second, "the counts agree", func() bool {
		return mustCount(t, db, `
SELECT (SELECT dropped FROM rowcall.cursors c WHERE c.subscription = $1)
  + (SELECT count(*) FROM rowcall.deliveries d JOIN rowcall.cursors c USING (lane) WHERE c.subscription = $1)
  + (SELECT count(*) FROM rowcall.events e, rowcall.cursors c WHERE c.subscription = $1 AND e.type LIKE 'public.items.%' AND e."offset" >= c."offset"
     AND NOT EXISTS (SELECT FROM rowcall.deliveries d WHERE d.lane = c.lane AND d."offset" = e."offset"))`, dead.ID) == total
	}, w.gateway.tail)
	if n := len(noticesOf(ops, "rowcall.delivery.dead")); n > 5 {
		t.Errorf("%d notices of dead letters in a minute or two", n)
	}
	w.stop(t)
}
