package main

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/storetest"
)

// fails answers every delivery with 503.
func fails(hooktest.Delivery) hooktest.Reply {
	return hooktest.Reply{Status: http.StatusServiceUnavailable}
}

// parked reports whether the one endpoint is parked, and when it is probed next.
func parked(t *testing.T, db *pgxpool.Pool) (bool, time.Time) {
	t.Helper()
	var state string
	var next time.Time
	const sql = `SELECT coalesce(health->>'state', ''), coalesce((health->>'next_probe')::timestamptz, 'epoch') FROM rowcall.cursors`
	if err := db.QueryRow(t.Context(), sql).Scan(&state, &next); err != nil {
		t.Fatal(err)
	}
	return state == "parked" || state == "probing", next.UTC()
}

func TestItsProbesDecideWhenAnEndpointThatIsDownIsAsked(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	w := newWorld(t, cluster, cluster)
	db := database(t, cluster)
	mustExec(t, db, `CREATE TABLE items (id bigint PRIMARY KEY)`)
	w.start(t)
	w.awaitState(t, "streaming")
	r := hooktest.Start(t, hooktest.Config{Reply: fails})
	sub := w.subscribe(t, map[string]any{
		"name": "items", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()},
		"outage": map[string]any{"probe": "1s..1s"},
	})
	const events = 100
	mustExec(t, db, `INSERT INTO items SELECT i FROM generate_series(1, $1) i`, events)
	waitFor(t, time.Minute, "the endpoint is parked", func() bool { is, _ := parked(t, db); return is }, w.gateway.tail)
	before := r.Counts().Received
	waitFor(t, time.Minute, "it is probed every second", func() bool { return r.Counts().Received >= before+4 }, w.gateway.tail)

	// Half a year from now: but for the probe that follows an edit, there is none.
	far := time.Now().UTC().AddDate(0, 6, 0)
	cron := fmt.Sprintf("0 3 1 %d *", far.Month())
	patch := func(probe string) {
		t.Helper()
		body := map[string]any{"outage": map[string]any{"probe": probe}}
		if _, err := w.api.PatchSubscription(t.Context(), sub.ID, body, 0); err != nil {
			t.Fatal(err)
		}
	}
	patch(cron)
	var next time.Time
	waitFor(t, time.Minute, "the next probe is the cron expression's", func() bool {
		_, next = parked(t, db)
		return next.After(time.Now().Add(24 * time.Hour))
	}, w.gateway.tail)
	if next.Month() != far.Month() || next.Day() != 1 || next.Hour() != 3 || next.Minute() != 0 || next.Second() > 0 {
		t.Errorf("with %q the next probe is at %v", cron, next)
	}
	if n := r.Counts().Received; n >= before+events/2 {
		t.Errorf("%d requests to an endpoint that is down", n-before)
	}
	r.Script(nil)
	patch("5s..1m")
	waitFor(t, time.Minute, "everything has arrived", func() bool { return r.Counts().Succeeded >= events }, w.gateway.tail)
	w.stop(t)
	for _, fault := range r.Check() {
		t.Error(fault)
	}
}
