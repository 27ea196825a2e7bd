package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch/hooktest"
)

// liveFrom is the first id of the rows that are written while a replay runs.
const liveFrom = 10_000_000

// liveWriter writes rows and remembers when each was committed.
type liveWriter struct {
	mu sync.Mutex
	at map[string]time.Time // by subject
}

func (w *liveWriter) write(ctx context.Context, db *pgxpool.Pool, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for id := liveFrom; ; id++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := db.Exec(ctx, `INSERT INTO items VALUES ($1)`, id); err == nil {
			w.mu.Lock()
			w.at[fmt.Sprintf("id=%d", id)] = time.Now()
			w.mu.Unlock()
		}
	}
}

// p99 is the latency of live rows that were committed in [from, until).
func (w *liveWriter) p99(r *hooktest.Receiver, from, until time.Time) (time.Duration, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var took []time.Duration
	for _, d := range r.Deliveries() {
		if at, live := w.at[d.Subject]; live && !at.Before(from) && at.Before(until) {
			took = append(took, d.At.Sub(at))
		}
	}
	slices.Sort(took)
	if len(took) == 0 {
		return 0, 0
	}
	return took[len(took)*99/100], len(took)
}

// A hundred thousand events are replayed while live ones go on, and rowcall is
// killed in between: the book-keeping has each once, what came twice was in flight
// at the kill, and live events came as fast as while the replay was paused. When
// nothing is live any more, the replay goes as fast as it may.
func TestLatencyBesideAReplayThatGoesOnAfterAKill(t *testing.T) {
	const events = 100_000
	w, db := streamingAsBuilt(t, `CREATE TABLE items (id int PRIMARY KEY)`)
	mustExec(t, db, `INSERT INTO items SELECT generate_series(1, $1::int)`, events)
	waitFor(t, time.Minute, "all is in the log", func() bool {
		page, err := w.api.Events(t.Context(), client.EventQuery{PageQuery: client.PageQuery{Limit: 1}})
		return err == nil && len(page.Items) == 1 && offsetText(page.Items[0].Sequence) == fmt.Sprint(events)
	}, w.gateway.tail)
	r := hooktest.Start(t, hooktest.Config{DropBodies: true})
	sub := w.subscribe(t, map[string]any{"name": "items", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()}})

	ctx, stop := context.WithCancel(t.Context())
	live := &liveWriter{at: map[string]time.Time{}}
	var writing sync.WaitGroup
	writing.Go(func() { live.write(ctx, db, 10*time.Millisecond) })
	defer writing.Wait()
	defer stop()
	waitFor(t, time.Minute, "live events flow", func() bool { return r.Counts().Succeeded >= 300 }, w.gateway.tail)

	count, err := w.api.CountReplay(t.Context(), client.NewReplay{Subscription: sub.ID, From: client.ReplayPlace{Offset: 1}, To: &client.ReplayPlace{Offset: events + 1}})
	if err != nil || count.Total != events || count.Bytes == 0 || count.Seconds != nil {
		t.Fatalf("dry run: %+v, %v", count, err)
	}
	made, err := w.api.CreateReplay(t.Context(), client.NewReplay{
		Subscription: sub.ID, From: client.ReplayPlace{Offset: 1}, To: &client.ReplayPlace{Offset: events + 1},
		Rate: &client.RateLimit{PerSecond: 4000}, // one machine does all of this: some of it is left
	})
	if err != nil || made.Total != events {
		t.Fatalf("replay: %+v, %v", made, err)
	}
	delivered := func() int64 {
		got, err := w.api.Replay(t.Context(), made.ID)
		if err != nil {
			return 0 // while rowcall starts
		}
		return got.Delivered
	}
	since := func(span time.Duration) (p99 time.Duration, samples int) {
		from := time.Now()
		waitFor(t, time.Minute, "live events have come for a while", func() bool { return time.Since(from) > span }, w.gateway.tail)
		return live.p99(r, from, time.Now().Add(-100*time.Millisecond))
	}
	var killed time.Time
	var alone, beside []time.Duration
	median := func(ps []time.Duration) time.Duration {
		slices.Sort(ps)
		return ps[len(ps)/2]
	}
	for round := range 3 {
		before := delivered()
		waitFor(t, time.Minute, "events are replayed", func() bool { return delivered() > before }, w.gateway.tail)
		before = delivered()
		with, samples := since(3 * time.Second)
		if done := delivered() - before; done < 3*50 {
			t.Errorf("%d events were replayed in three seconds: it starves", done)
		}
		if round == 1 {
			killed = time.Now()
			w.gateway.kill()
			w.start(t)
			waitFor(t, time.Minute, "the replay goes on", func() bool { return delivered() > before }, w.gateway.tail)
		}
		if _, err := w.api.PauseReplay(t.Context(), made.ID); err != nil {
			t.Fatal(err)
		}
		var still int64
		waitFor(t, time.Minute, "it stands still", func() bool {
			was := still
			since(300 * time.Millisecond)
			still = delivered()
			return was == still
		})
		without, more := since(2 * time.Second)
		t.Logf("live p99 %v over %d events beside the replay, %v over %d while it is paused at %d", with, samples, without, more, still)
		beside, alone = append(beside, with), append(alone, without)
		if _, err := w.api.ResumeReplay(t.Context(), made.ID); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	writing.Wait()
	var got client.Replay
	waitFor(t, 3*time.Minute, "the replay is done", func() bool {
		now, err := w.api.Replay(t.Context(), made.ID)
		if err == nil {
			got = now
		}
		return got.State == "done"
	}, w.gateway.tail, func() string { return fmt.Sprintf("%+v", got) })
	if got.Total != events || got.Delivered != events || got.Failed != 0 || got.EndedAt == nil || got.ETA != nil {
		t.Errorf("the replay says %+v", got)
	}
	waitFor(t, time.Minute, "all live events have arrived", func() bool {
		n := 0
		for _, d := range arrived(r) {
			if d.Sequence > events {
				n++
			}
		}
		live.mu.Lock()
		defer live.mu.Unlock()
		return n >= len(live.at)
	}, w.gateway.tail)
	first := map[int64]time.Time{}
	again := 0
	for _, d := range r.Deliveries() {
		at, twice := first[d.Sequence]
		switch {
		case !twice:
			first[d.Sequence] = d.At
		case at.Before(killed.Add(-unsettled)) || at.After(killed.Add(time.Second)):
			t.Errorf("event %d came again, and was not in flight at the kill", d.Sequence)
		default:
			again++
		}
	}
	for n := int64(1); n <= events; n++ {
		if _, came := first[n]; !came {
			t.Fatalf("event %d did not come", n)
		}
	}
	t.Logf("live p99 %v, beside the replay %v; %d events came twice", median(alone), median(beside), again)
	// The floor is a machine's own unrest.
	if median(beside) > max(2*median(alone), 10*time.Millisecond) {
		t.Errorf("live p99 went from %v to %v", median(alone), median(beside))
	}
}

func TestAReplaySharesTheEndpointWithItsSubscription(t *testing.T) {
	t.Parallel()
	const rows = 60
	w, db := streaming(t, `CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL DEFAULT 0)`)
	mustExec(t, db, `INSERT INTO items SELECT generate_series(1, $1::int)`, rows)
	mustExec(t, db, `UPDATE items SET n = 1`)
	waitFor(t, time.Minute, "all is in the log", func() bool {
		page, err := w.api.Events(t.Context(), client.EventQuery{})
		return err == nil && len(page.Items) == 100
	}, w.gateway.tail)
	var healed, down atomic.Bool
	var flying, most atomic.Int32
	r := hooktest.Start(t, hooktest.Config{Reply: func(d hooktest.Delivery) hooktest.Reply {
		n := flying.Add(1)
		defer flying.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		switch {
		case down.Load():
			return hooktest.Reply{Status: 500}
		case d.Subject == "id=7" && strings.HasSuffix(d.Type, "inserted") && !healed.Load():
			return hooktest.Reply{Status: 422}
		}
		return hooktest.Reply{}
	}})
	sub := w.subscribe(t, map[string]any{
		"name": "items", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()}, "max_in_flight": 1,
		"retry": map[string]any{"max_attempts": 1}, "outage": map[string]any{"probe": "1s..1s"},
	})
	env := []string{"ROWCALL_URL=http://" + w.listen, "ROWCALL_API_KEY=" + worldKey}
	all := client.ReplayPlace{Offset: 1}
	state := func(id string) client.Replay {
		got, err := w.api.Replay(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}

	// Of one type, with an event that fails for its own sake.
	got := call(t, env, "replay", "items", "--from=1", "--type=public.items.inserted", "--dry-run")
	if got.code != exitOK || !strings.HasPrefix(got.stdout, "60 events (") {
		t.Errorf("dry run: %+v", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	live := &liveWriter{at: map[string]time.Time{}}
	var writing sync.WaitGroup
	writing.Go(func() { live.write(ctx, db, 5*time.Millisecond) })
	got = call(t, env, "replay", "items", "--from=1", "--to=61", "--type=public.items.inserted", "--rate=0")
	stop()
	writing.Wait()
	if got.code != exitOK || !strings.Contains(got.stdout, ": done, 59 of 60 events delivered, 1 dead letters") {
		t.Fatalf("replay: %+v", got)
	}
	id, _, _ := strings.Cut(got.stdout, ":")
	var order []int64
	for _, d := range r.Deliveries() {
		switch replay := d.Header.Get("Rowcall-Replay"); {
		case replay == "" && d.Sequence <= 2*rows, replay != "" && (replay != id || d.Sequence > rows || d.WebhookID != d.ID):
			t.Errorf("event %d came with rowcall-replay %q, webhook-id %q", d.Sequence, replay, d.WebhookID)
		case replay != "":
			order = append(order, d.Sequence)
		}
	}
	if len(order) != rows {
		t.Errorf("%d requests of the replay", len(order))
	}
	if n := most.Load(); n > 1 {
		t.Errorf("%d requests at once, max_in_flight is 1", n)
	}
	dead, err := w.api.Deliveries(t.Context(), client.DeliveryQuery{Subscription: sub.ID})
	if err != nil || len(dead.Items) != 1 || dead.Items[0].State != "dead" || dead.Items[0].Replay == nil || *dead.Items[0].Replay != id {
		t.Fatalf("deliveries %+v, %v", dead, err)
	}
	healed.Store(true)
	if err := w.api.RetryDelivery(t.Context(), dead.Items[0].ID); err != nil {
		t.Fatal(err)
	}
	waitFor(t, time.Minute, "the dead letter is delivered", func() bool { s := state(id); return s.Delivered == rows && s.Failed == 0 }, w.gateway.tail)

	// By a filter.
	before := len(r.Deliveries())
	got = call(t, env, "replay", "items", "--from=1", "--to=121", "--filter=data.row.id < 4 && type.endsWith('.updated')", "--rate=0")
	if got.code != exitOK || !strings.Contains(got.stdout, ": done, 3 of 120 events delivered") {
		t.Errorf("replay by a filter: %+v", got)
	}
	for _, d := range r.Deliveries()[before:] {
		if d.Header.Get("Rowcall-Replay") == "" {
			continue // what was written during the one before may still come
		}
		if !slices.Contains([]string{"id=1", "id=2", "id=3"}, d.Subject) || d.Type != "public.items.updated" {
			t.Errorf("the filter let %s of %s through", d.Type, d.Subject)
		}
	}

	// Paused, resumed, cancelled.
	slow, err := w.api.CreateReplay(t.Context(), client.NewReplay{Subscription: sub.ID, From: all, Rate: &client.RateLimit{PerSecond: 30}})
	if err != nil || slow.ETA == nil {
		t.Fatalf("replay: %+v, %v", slow, err)
	}
	waitFor(t, time.Minute, "some are delivered", func() bool { return state(slow.ID).Delivered >= 5 }, w.gateway.tail)
	if _, err := w.api.PauseReplay(t.Context(), slow.ID); err != nil {
		t.Fatal(err)
	}
	var still int64
	waitFor(t, time.Minute, "it stands still", func() bool {
		was := still
		still = state(slow.ID).Delivered
		select {
		case <-time.After(300 * time.Millisecond): // ten of its requests
		case <-t.Context().Done():
		}
		return was == still && still == state(slow.ID).Delivered
	})
	if s := state(slow.ID); s.State != "paused" || s.Delivered >= s.Total {
		t.Errorf("paused: %+v", s)
	}
	if got := call(t, env, "jobs", "resume", slow.ID); got.code != exitOK {
		t.Errorf("resume: %+v", got)
	}
	waitFor(t, time.Minute, "it goes on", func() bool { return state(slow.ID).Delivered > still }, w.gateway.tail)
	// One that is interrupted goes on, and says how it is ended.
	interrupted := rowcall(t, env, "replay", "items", "--from=1", "--rate=1")
	var said strings.Builder
	interrupted.Stderr = &said
	if err := interrupted.Start(); err != nil {
		t.Fatal(err)
	}
	second := ""
	waitFor(t, time.Minute, "it has begun", func() bool {
		page, err := w.api.Jobs(t.Context(), client.JobQuery{State: "running"})
		if err != nil || len(page.Items) < 2 {
			return false
		}
		second = page.Items[0].ID
		return true
	}, w.gateway.tail)
	if err := interrupted.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := interrupted.Wait(); interrupted.ProcessState.ExitCode() != exitFailed {
		t.Errorf("interrupted: %v", err)
	}
	if want := "rowcall: interrupted; " + second + " goes on by itself: rowcall jobs get " + second + " shows it, rowcall jobs cancel " + second + " ends it\n"; said.String() != want {
		t.Errorf("interrupted: %q, want %q", said.String(), want)
	}
	if got := call(t, env, "jobs", "cancel", second); got.code != exitOK || !strings.Contains(got.stdout, "items (sub_") {
		t.Errorf("cancel: %+v", got)
	}
	if got, err := w.api.CancelReplay(t.Context(), slow.ID); err != nil || got.State != "cancelled" || got.EndedAt == nil {
		t.Errorf("cancel: %+v, %v", got, err)
	}
	_, err = w.api.ResumeReplay(t.Context(), slow.ID)
	if err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("resume after the end: %v", err)
	}

	// Nothing live, and the endpoint is down: the replay probes.
	down.Store(true)
	parked, err := w.api.CreateReplay(t.Context(), client.NewReplay{Subscription: sub.ID, From: all, To: &client.ReplayPlace{Offset: 2*rows + 1}})
	if err != nil {
		t.Fatal(err)
	}
	health := func() string {
		h, err := w.api.SubscriptionHealth(t.Context(), sub.ID)
		if err != nil {
			t.Fatal(err)
		}
		return h.Health
	}
	waitFor(t, 2*time.Minute, "the endpoint is parked", func() bool { return health() == "parked" }, w.gateway.tail)
	tried := r.Counts().Received
	waitFor(t, time.Minute, "it is probed", func() bool { return r.Counts().Received >= tried+2 }, w.gateway.tail)
	w.gateway.kill() // and so it is after a kill
	w.start(t)
	tried = r.Counts().Received
	waitFor(t, time.Minute, "it is probed again", func() bool { return r.Counts().Received >= tried+2 }, w.gateway.tail)
	down.Store(false)
	waitFor(t, time.Minute, "all is delivered", func() bool { s := state(parked.ID); return s.State == "done" && s.Delivered == 2*rows }, w.gateway.tail,
		func() string { return fmt.Sprintf("%+v", state(parked.ID)) })
	waitFor(t, time.Minute, "the endpoint is healthy", func() bool { return health() == "healthy" }, w.gateway.tail)
	w.stop(t)
}
