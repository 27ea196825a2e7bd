package main

import (
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch/hooktest"
)

func TestACompactSubscriptionGetsTheLatestOfEachRowFromABacklogAndEverythingLive(t *testing.T) {
	t.Parallel()
	w, db := streaming(t, `CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL)`, `INSERT INTO items SELECT i, 0 FROM generate_series(1, 20) i`)
	r := hooktest.Start(t, hooktest.Config{})
	sub := w.subscribe(t, map[string]any{
		"name": "items", "events": []string{"public.items.*"}, "compact": true, "endpoint": map[string]any{"url": r.URL()},
	})
	if _, err := w.api.PauseSubscription(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
	const rounds = 100
	for range rounds {
		mustExec(t, db, `UPDATE items SET n = n + 1`)
	}
	mustExec(t, db, `DELETE FROM items WHERE id = 20`)
	mustExec(t, db, `UPDATE items SET id = 119 WHERE id = 19`) // of two keys: it stays, and so does the state before it
	mustExec(t, db, `UPDATE items SET n = -1 WHERE id = 119`)
	waitFor(t, time.Minute, "everything is in the log", func() bool {
		return mustCount(t, db, `SELECT count(*) FROM rowcall.events`) == 20*rounds+3
	}, w.gateway.tail)
	if _, err := w.api.ResumeSubscription(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
	const left = 18 + 1 + 3 // eighteen rows, the deleted one, and three of the one whose key changed
	waitFor(t, time.Minute, "the latest have arrived", func() bool { return r.Counts().Succeeded >= left }, w.gateway.tail)

	// Live, nothing is left out.
	for range rounds {
		mustExec(t, db, `UPDATE items SET n = n + 1 WHERE id = 1`)
	}
	waitFor(t, time.Minute, "what came later has arrived", func() bool { return r.Counts().Succeeded >= left+rounds }, w.gateway.tail)
	w.stop(t)
	if n := r.Counts().Received; n != left+rounds {
		t.Errorf("%d events arrived, want %d", n, left+rounds)
	}
	for _, fault := range r.Check() {
		t.Error(fault)
	}
	last := map[string]string{}
	for _, d := range r.Deliveries() {
		var data struct {
			Op  string
			Key struct{ ID int64 }
			Row struct{ N int64 }
		}
		decode(t, d.Data, &data)
		switch {
		case data.Key.ID == 20 && data.Op != "delete":
			t.Errorf("of the deleted row a %s of n=%d was sent", data.Op, data.Row.N)
		case data.Key.ID > 1 && data.Key.ID < 19 && data.Row.N != rounds:
			t.Errorf("row %d was sent with n=%d", data.Key.ID, data.Row.N)
		}
		last[d.Key] = d.Type
	}
	if len(last) != 21 {
		t.Errorf("events of %d keys arrived, want 21: %v", len(last), last)
	}
}
