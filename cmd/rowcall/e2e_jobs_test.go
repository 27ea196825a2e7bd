package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch/hooktest"
)

// Twenty thousand dead letters are retried by one command, and rowcall is killed
// in between: each arrives, those of a key in order, and what comes twice is what
// was in flight.
func TestE2EABulkRetryGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	const keys, events = 500, 25_000
	w, db := streamingAsBuilt(t, `CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL)`)
	var healed atomic.Bool
	r := hooktest.Start(t, hooktest.Config{Reply: func(d hooktest.Delivery) hooktest.Reply {
		if healed.Load() || d.Sequence%5 == 0 { // a fifth gets through: nobody takes the endpoint to be down
			return hooktest.Reply{}
		}
		return hooktest.Reply{Status: 422}
	}})
	sub := w.subscribe(t, map[string]any{
		"name": "items", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()},
		"retry": map[string]any{"max_attempts": 1},
	})
	mustExec(t, db, `INSERT INTO items SELECT i, 0 FROM generate_series(1, $1) i`, keys)
	for n := 1; n < events/keys; n++ {
		mustExec(t, db, `UPDATE items SET n = $1`, n)
	}
	const dead = events - events/5
	filter := client.BulkFilter{Subscription: sub.ID, State: "dead", Reason: "rejected"}
	waitFor(t, 2*time.Minute, "all are dead letters", func() bool {
		n, err := w.api.CountDeliveries(t.Context(), filter)
		return err == nil && n.Total == dead
	}, w.gateway.tail)
	env := []string{"ROWCALL_URL=http://" + w.listen, "ROWCALL_API_KEY=" + worldKey}
	dry := call(t, env, "deliveries", "retry", "--subscription=items", "--reason=rejected", "--dry-run")
	if want := fmt.Sprintf("%d deliveries would be retried\n", dead); dry.code != exitOK || dry.stdout != want {
		t.Errorf("dry run: %+v", dry)
	}
	healed.Store(true)
	before := r.Counts().Received
	j, err := w.api.RetryDeliveries(t.Context(), filter)
	if err != nil || j.Total != dead {
		t.Fatalf("retry: %+v, %v", j, err)
	}
	waitFor(t, time.Minute, "some are retried", func() bool { return r.Counts().Received > before+dead/4 }, w.gateway.tail)
	w.gateway.kill()
	killed := time.Now()
	w.start(t)
	waitFor(t, 2*time.Minute, "the job is done", func() bool {
		got, err := w.api.Job(t.Context(), j.ID)
		if err == nil {
			j = got
		}
		return j.State == "done"
	}, w.gateway.tail)
	if j.Done+j.Skipped != dead || j.Total != dead {
		t.Errorf("job %+v, want %d", j, dead)
	}
	waitFor(t, 2*time.Minute, "no delivery is left", func() bool {
		page, err := w.api.Deliveries(t.Context(), client.DeliveryQuery{})
		return err == nil && len(page.Items) == 0
	}, w.gateway.tail)
	w.stop(t)

	first := map[int64]hooktest.Delivery{}
	again := 0
	for _, d := range r.Deliveries()[before:] {
		seen, twice := first[d.Sequence]
		switch {
		case !twice:
			first[d.Sequence] = d
		case seen.At.Before(killed.Add(-unsettled)) || seen.At.After(killed.Add(time.Second)):
			t.Errorf("event %d came again, and was not in flight at the kill", d.Sequence)
		default:
			again++
		}
	}
	if len(first) != dead {
		t.Errorf("%d events arrived, want %d", len(first), dead)
	}
	byKey := map[string][]hooktest.Delivery{}
	for _, d := range first {
		byKey[d.Key] = append(byKey[d.Key], d)
	}
	for key, ds := range byKey {
		slices.SortFunc(ds, func(a, b hooktest.Delivery) int { return cmp.Compare(a.Arrived, b.Arrived) })
		if !slices.IsSortedFunc(ds, func(a, b hooktest.Delivery) int { return cmp.Compare(a.Sequence, b.Sequence) }) {
			var seen []string
			for i := 1; i < len(ds); i++ {
				if ds[i].Sequence < ds[i-1].Sequence {
					seen = append(seen, fmt.Sprintf("%d at %v before %d at %v", ds[i-1].Sequence, ds[i-1].At.Sub(killed), ds[i].Sequence, ds[i].At.Sub(killed)))
				}
			}
			t.Errorf("key %s: retried out of order, times from the kill: %v", key, seen)
		}
	}
	t.Logf("%d dead letters, %d of them came twice", dead, again)
}

func TestBulkRetriesAndDiscardsAreAskedForFirstAndFollowed(t *testing.T) {
	t.Parallel()
	w, db := streaming(t, `CREATE TABLE items (id int PRIMARY KEY)`)
	var healed atomic.Bool
	r := hooktest.Start(t, hooktest.Config{Reply: func(hooktest.Delivery) hooktest.Reply {
		if healed.Load() {
			return hooktest.Reply{}
		}
		return hooktest.Reply{Status: 422}
	}})
	w.subscribe(t, map[string]any{
		"name": "items", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()}, "retry": map[string]any{"max_attempts": 1},
	})
	mustExec(t, db, `INSERT INTO items SELECT generate_series(1, 12)`)
	waitFor(t, time.Minute, "all are dead letters", func() bool {
		n, err := w.api.CountDeliveries(t.Context(), client.BulkFilter{State: "dead"})
		return err == nil && n.Total == 12
	}, w.gateway.tail)
	healed.Store(true)
	env := []string{"ROWCALL_URL=http://" + w.listen, "ROWCALL_API_KEY=" + worldKey}
	for name, c := range map[string]struct {
		args []string
		code int
		say  string
	}{
		"nothing selects":     {[]string{"retry"}, exitUsage, "name a delivery, or select some"},
		"both":                {[]string{"retry", "dlv_1_1", "--key=k"}, exitUsage, "name a delivery, or select some"},
		"nobody agrees":       {[]string{"discard", "--subscription=items"}, exitUsage, "12 deliveries will be discarded. Go on? [y/N]"},
		"a state of no sense": {[]string{"retry", "--state=alive", "--yes"}, exitUsage, "body.state must be one of"},
		"no such name":        {[]string{"retry", "--subscription=nobody"}, exitFailed, `none called "nobody"`},
	} {
		got := call(t, env, append([]string{"deliveries"}, c.args...)...)
		if got.code != c.code || !strings.Contains(got.stderr, c.say) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	got := call(t, env, "deliveries", "discard", "--key=public.items/id=7", "--yes", "-o", "json")
	var j client.Job
	if err := json.Unmarshal([]byte(got.stdout), &j); err != nil || j.State != "done" || j.Done != 1 {
		t.Fatalf("discard: %+v, %v", got, err)
	}
	// There is nothing left to agree to: no job that would take what comes meanwhile.
	if got := call(t, env, "deliveries", "discard", "--key=public.items/id=7"); got.code != exitOK || got.stderr != "there are none\n" || got.stdout != "" {
		t.Errorf("discard of none: %+v", got)
	}
	got = call(t, env, "deliveries", "retry", "--all", "--yes")
	if got.code != exitOK || !strings.Contains(got.stdout, ": done, 11 of 11 asked for again; what fails again is a dead letter again: rowcall deliveries list\n") {
		t.Errorf("retry: %+v", got)
	}
	waitFor(t, time.Minute, "all but one have arrived", func() bool { return r.Counts().Succeeded == 11 }, w.gateway.tail)
	list := call(t, env, "jobs", "list")
	if list.code != exitOK || strings.Count(list.stdout, "job_") != 2 || strings.Contains(list.stdout, "sub_") || !strings.Contains(list.stdout, "  all  ") || !strings.Contains(list.stdout, j.ID) {
		t.Errorf("list: %+v", list)
	}
	if got := call(t, env, "jobs", "get", j.ID); got.code != exitOK || !strings.Contains(got.stdout, "discard") {
		t.Errorf("get: %+v", got)
	}
	if got := call(t, env, "jobs", "cancel", j.ID); got.code != exitFailed || !strings.Contains(got.stderr, "has ended") {
		t.Errorf("cancel: %+v", got)
	}
	w.stop(t)
}
