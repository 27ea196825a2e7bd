package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch/hooktest"
)

// heldLane is a subscription of TestALaneGivesUpWhatItsHoldLimitSaysAndNothingElse.
type heldLane struct {
	name   string
	limit  map[string]any
	age    string // what hold_limit.age is set to behind the API's back, which takes no less than a minute
	paused bool   // else its endpoint is down
	sub    client.Subscription
	r      *hooktest.Receiver
}

// setAge sets hold_limit.age.
func (h *heldLane) setAge(t *testing.T, db *pgxpool.Pool, age string) {
	t.Helper()
	mustExec(t, db, `UPDATE rowcall.subscriptions SET version = version + 1,
		spec = jsonb_set(spec, '{outage,hold_limit,age}', to_jsonb($2::text)) WHERE id = $1`, h.sub.ID, age)
	mustExec(t, db, `NOTIFY rowcall, 'subscriptions'`)
}

// outcome is what became of the events of a lane: delivered, and given up.
func (h *heldLane) outcome(t *testing.T, db *pgxpool.Pool) (delivered, dead map[int64]bool, dropped int) {
	t.Helper()
	delivered, dead = map[int64]bool{}, map[int64]bool{}
	for _, d := range h.r.Deliveries() {
		if d.Succeeded() {
			delivered[d.Sequence] = true
		}
	}
	rows, err := db.Query(t.Context(), `
SELECT e."offset" FROM rowcall.events e JOIN rowcall.dead_ranges r ON e."offset" >= r."from" AND e."offset" < r.past
JOIN rowcall.cursors c ON c.lane = r.lane
WHERE c.subscription = $1 AND e.type LIKE 'public.items.%' AND NOT EXISTS (
  SELECT FROM generate_subscripts(r.settled, 1) i WHERE i % 2 = 1 AND e."offset" >= r.settled[i] AND e."offset" < r.settled[i + 1])
UNION SELECT d."offset" FROM rowcall.deliveries d JOIN rowcall.cursors c ON c.lane = d.lane WHERE c.subscription = $1 AND d.state = 'dead'`, h.sub.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var at int64
		if err := rows.Scan(&at); err != nil {
			t.Fatal(err)
		}
		dead[at] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return delivered, dead, mustCount(t, db, `SELECT dropped::int FROM rowcall.cursors WHERE subscription = $1`, h.sub.ID)
}

// What a lane holds for longer, or more of, than hold_limit says is given up, by
// either policy, across a kill; all that comes after it is delivered, in order of
// its keys, and nothing is lost unseen.
func TestALaneGivesUpWhatItsHoldLimitSaysAndNothingElse(t *testing.T) {
	t.Parallel()
	w, db := streamingAsBuilt(t, `CREATE TABLE items (id bigint PRIMARY KEY, n bigint, note text)`)
	down := func(hooktest.Delivery) hooktest.Reply { return hooktest.Reply{Status: 503} }
	lanes := []*heldLane{
		{name: "age, dead-letter, down", limit: map[string]any{"age": "1m", "then": "dead-letter"}, age: "4s"},
		{name: "age, drop, paused", limit: map[string]any{"age": "1m", "then": "drop"}, age: "4s", paused: true},
		{name: "bytes, dead-letter, down", limit: map[string]any{"bytes": 60_000, "then": "dead-letter"}},
		{name: "bytes, drop, paused", limit: map[string]any{"bytes": 60_000, "then": "drop"}, paused: true},
	}
	live := hooktest.Start(t, hooktest.Config{})
	w.subscribe(t, map[string]any{"name": "live", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": live.URL()}})
	for _, h := range lanes {
		h.r = hooktest.Start(t, hooktest.Config{})
		h.sub = w.subscribe(t, map[string]any{
			"name": h.name, "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": h.r.URL()},
			"outage": map[string]any{"probe": "1s..2s", "hold_limit": h.limit},
		})
		if h.age != "" {
			h.setAge(t, db, h.age)
		}
		if h.paused {
			if _, err := w.api.PauseSubscription(t.Context(), h.sub.ID); err != nil {
				t.Fatal(err)
			}
			waitFor(t, time.Minute, h.name+" is held: what is written before that may be delivered", func() bool {
				return mustCount(t, db, `SELECT count(*) FROM rowcall.cursors WHERE subscription = $1 AND health->>'hold' = 'paused'`, h.sub.ID) == 1
			}, w.gateway.tail)
		} else {
			h.r.Script(down)
		}
	}
	total := 0
	write := func(times int) {
		for range times {
			mustExec(t, db, `INSERT INTO items SELECT i, $1, repeat('x', 900) FROM generate_series(1, 40) i
				ON CONFLICT (id) DO UPDATE SET n = excluded.n`, total)
			total += 40
		}
	}
	gaveUp := func(least int) {
		t.Helper()
		for _, h := range lanes {
			waitFor(t, time.Minute, h.name+" gives up", func() bool {
				_, dead, dropped := h.outcome(t, db)
				return len(dead)+dropped >= least
			}, w.gateway.tail)
		}
	}
	write(5)
	gaveUp(50)
	w.gateway.kill()
	w.start(t)
	w.awaitState(t, "streaming")
	write(5)
	gaveUp(200)
	for _, h := range lanes {
		h.setAge(t, db, "1h") // a slow machine is not to give up what comes now
		h.r.Script(nil)
		if h.paused {
			if _, err := w.api.ResumeSubscription(t.Context(), h.sub.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := total
	write(2)
	for _, h := range lanes {
		waitFor(t, time.Minute, h.name+" ends with all", func() bool {
			delivered, dead, dropped := h.outcome(t, db)
			for at := range delivered {
				delete(dead, at)
			}
			return len(delivered)+len(dead)+dropped >= total
		}, w.gateway.tail)
		delivered, dead, dropped := h.outcome(t, db)
		if got := len(delivered) + len(dead) + dropped; got != total || len(delivered) < total-before {
			t.Errorf("%s: %d delivered, %d dead, %d dropped of %d", h.name, len(delivered), len(dead), dropped, total)
		}
		for _, d := range h.r.Disorders() {
			if !d.Never {
				t.Errorf("%s: %s", h.name, d)
			}
		}
		ranges, err := w.api.DeadRanges(t.Context(), client.DeadRangeQuery{Subscription: h.sub.ID})
		if err != nil {
			t.Fatal(err)
		}
		if has := len(ranges.Items) > 0; has == h.paused {
			t.Errorf("%s has %d dead ranges", h.name, len(ranges.Items))
		}
		if n := mustCount(t, db, `SELECT count(*) FROM rowcall.dead_ranges`); n > 8 {
			t.Errorf("%d rows for what was given up", n)
		}
	}
	waitFor(t, time.Minute, "the live one got all", func() bool { return len(arrived(live)) == total })
	if metrics := scrape(t, w.listen); !strings.Contains(metrics, `rowcall_given_up_events_total{reason="hold_limit_bytes",then="drop"}`) {
		t.Error("no metric says what was given up")
	}
	if log := w.gateway.log.String(); strings.Count(log, "events were held for too long and are given up") == 0 {
		t.Error(fmt.Sprint("the log says too little of what was given up:\n", w.gateway.tail()))
	}
	retryRanges(t, w, lanes, total)
	w.stop(t)
}

// retryRanges has all dead ranges delivered, across a kill, and demands that they
// are gone then and everything is accounted for.
func retryRanges(t *testing.T, w *world, lanes []*heldLane, total int) {
	t.Helper()
	ranges, err := w.api.DeadRanges(t.Context(), client.DeadRangeQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range ranges.Items {
		got := call(t, []string{"ROWCALL_URL=http://" + w.listen, "ROWCALL_API_KEY=" + worldKey}, "dead-ranges", "discard", r.ID)
		if got.code != exitUsage || !strings.HasPrefix(got.stderr, fmt.Sprintf("%d events at most (", r.Count)) {
			t.Fatalf("a discard of %+v that nobody agrees to: %+v", r, got)
		}
		made, err := w.api.RetryDeadRange(t.Context(), r.ID)
		if err != nil || made.Total != r.Count || made.DeadRange == nil || *made.DeadRange != r.ID {
			t.Fatalf("retry of %+v: %+v, %v", r, made, err)
		}
	}
	w.gateway.kill()
	w.start(t)
	w.awaitState(t, "streaming")
	for _, h := range lanes {
		var b client.Balance
		waitFor(t, time.Minute, h.name+" has all", func() bool {
			b = w.health(t, h.sub.ID).Balance
			return b.Delivered+b.Dead+b.Dropped == int64(total)
		}, func() string { return fmt.Sprintf("%+v\n%s", b, w.gateway.tail()) })
		if b.Matched != int64(total) || b.Unaccounted+b.DeadRanges != 0 || !h.paused && b.Dropped != 0 {
			t.Errorf("%s: balance %+v", h.name, b)
		}
		if got := int64(len(arrived(h.r))); got != b.Delivered {
			t.Errorf("%s: %d arrived, and %d are counted", h.name, got, b.Delivered)
		}
	}
	if ranges, err := w.api.DeadRanges(t.Context(), client.DeadRangeQuery{}); err != nil || len(ranges.Items) > 0 {
		t.Errorf("%d dead ranges are left, error %v", len(ranges.Items), err)
	}
}

// scrape is what /metrics says.
func scrape(t *testing.T, addr string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
