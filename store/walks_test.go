package store_test

import (
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// What one subscription has is found at once, however many newer deliveries others
// have: of a restricted key, and by a key that they do not order.
func TestDeliveriesOfSomeAreFoundBehindThoseOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	const rows = 5_000
	fill(t, s, rows+1)
	own, other := subscribe(t, s, "own", store.Start{}), subscribe(t, s, "other", store.Start{})
	w.exec(`UPDATE rowcall.subscriptions SET spec = spec || '{"labels": {"team": "blue"}}' WHERE id = $1`, own.ID)
	lanes := claim(t, s)
	w.exec(`INSERT INTO rowcall.deliveries (lane, "offset", state, keys, reason)
SELECT $1::int, i, 'dead', CASE i % 2 WHEN 0 THEN ARRAY['t/' || i] ELSE '{}'::text[] END, 'tls' FROM generate_series(1, $2::int) i`, int(lanes["other"].ID), rows)
	w.exec(`INSERT INTO rowcall.deliveries (lane, "offset", state, keys, reason) VALUES ($1, 7, 'dead', '{k}', 'tls'), ($1, 9, 'dead', '{}', 'tls')`, int(lanes["own"].ID))
	w.hash()
	blue := store.LabelsOf(map[string]string{"team": "blue"})
	nine := one[string](w, `SELECT key FROM rowcall.events WHERE "offset" = 9`)
	for name, c := range map[string]struct {
		filter store.DeliveryFilter
		want   store.Offset
		last   bool
	}{
		"of a label":                      {store.DeliveryFilter{Labels: blue}, 9, true},
		"of a label and a state":          {store.DeliveryFilter{Labels: blue, State: store.Dead}, 9, true},
		"of a key that it orders":         {store.DeliveryFilter{Subscription: own.ID, Key: "k"}, 7, true},
		"of a key that it does not order": {store.DeliveryFilter{Subscription: own.ID, Key: nine}, 9, true},
		"of a label's key":                {store.DeliveryFilter{Labels: blue, Key: "k"}, 7, true},
	} {
		found, next, err := s.Deliveries(t.Context(), c.filter, 10, time.Nanosecond)
		if err != nil || len(found) == 0 || found[0].Offset != c.want || found[0].Subscription != own.ID || next != (store.DeliveryPlace{}) {
			t.Errorf("%s: %d found, next %v, error %v", name, len(found), next, err)
		}
	}
	// Nobody has these: there is nothing to walk.
	for _, f := range []store.DeliveryFilter{{Labels: store.LabelsOf(map[string]string{"team": "red"})}, {Subscription: other.ID, Labels: blue}} {
		if found, next, err := s.Deliveries(t.Context(), f, 10, time.Nanosecond); err != nil || len(found) > 0 || next != (store.DeliveryPlace{}) {
			t.Errorf("%+v: %d found, next %v, error %v", f, len(found), next, err)
		}
		if n, atLeast, err := s.CountDeliveries(t.Context(), f, 0); err != nil || n != 0 || atLeast {
			t.Errorf("%+v: %d counted, at least %v, error %v", f, n, atLeast, err)
		}
	}
}

// One that orders no key is found by its event's, the old one of a key change too,
// however many others order none, and also once the log has dropped the event.
func TestDeliveriesThatOrderNoKeyAreFoundByThatOfTheirEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	sub := subscribe(t, s, "x", store.Start{})
	lane := claim(t, s)["x"]
	b := batch(100, 3_000)
	b.End(append(b.Begin(store.Event{LSN: 100, Ordinal: 3000, Generation: 1, Type: "public.orders.updated", Key: "t/new", OldKey: "t/old"}), `{}`...))
	mustAppend(t, s, source(t, s, "shop"), b)
	save := func(keys ...string) {
		t.Helper()
		saved := store.LaneSettlement{Lane: lane.ID, Epoch: lane.Epoch, Cursor: 3_002, Counts: store.Counts{}}
		for at := range store.Offset(3_001) {
			saved.Upsert = append(saved.Upsert, store.Delivery{Offset: at + 1, State: store.Dead, Keys: keys, Reason: "tls"})
		}
		settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{saved}})
	}
	finds := func(what, key string, want ...store.Offset) {
		t.Helper()
		for _, f := range []store.DeliveryFilter{{Key: key}, {Key: key, State: store.Dead, Subscription: sub.ID}} {
			found, next, err := s.Deliveries(t.Context(), f, 10, time.Nanosecond)
			if err != nil || len(found) != len(want) || len(want) > 0 && found[0].Offset != want[0] || next != (store.DeliveryPlace{}) {
				t.Errorf("%s, by %s: %d found, next %v, error %v; want %v", what, key, len(found), next, err, want)
			}
			if n, atLeast, err := s.CountDeliveries(t.Context(), f, time.Nanosecond); err != nil || int(n) != len(want) || atLeast {
				t.Errorf("%s, by %s: %d counted, at least %v, error %v; want %v", what, key, n, atLeast, err, want)
			}
		}
	}
	all := func(what string) {
		t.Helper()
		finds(what, "public.orders/id=77", 78)
		finds(what, "t/new", 3_001)
		finds(what, "t/old", 3_001)
		finds(what, "none/such")
	}
	save()
	all("saved")
	save()
	all("saved again")
	// What orders a key is found by that alone.
	save("k")
	finds("ordered", "public.orders/id=77")
	finds("ordered", "t/old")
	if err := s.LeavePartition(t.Context(), 1, 3_002); err != nil {
		t.Fatal(err)
	}
	w.exec(`DELETE FROM rowcall.events`)
	save()
	all("dropped from the log")
}

// A replay's lane goes a minute after it has ended; its tries stay what they were.
func TestTriesOfAReplayThatHasEndedAreItsSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	sub := subscribe(t, s, "x", store.Start{})
	w.exec(`UPDATE rowcall.subscriptions SET spec = spec || '{"labels": {"team": "blue"}}'`)
	own, ended := claim(t, s)["x"].ID, store.LaneID(999)
	w.exec(`INSERT INTO rowcall.jobs (id, kind, state, subscription, spec, total, at_least, lane, created_by, ended_at)
VALUES ('rpl_1', 'replay', 'done', $1, '{}', 1, false, $2, 'key', now() - interval '2 minutes')`, sub.ID, int(ended))
	at := time.Now().UTC().Truncate(time.Microsecond).Add(-time.Hour) // too old to be counted by now
	if err := s.SaveAttempts(t.Context(), []store.Attempt{{At: at, Lane: own, Offset: 1}, {At: at, Lane: ended, Offset: 2}}); err != nil {
		t.Fatal(err)
	}
	quarter := at.Truncate(store.QuarterStep)
	w.exec(`INSERT INTO rowcall.attempt_counts (step, lane, at, took, delivered, failed)
SELECT 900, lane, $1, 1, 10, 1 FROM unnest($2::int[]) lane`, quarter, []int32{int32(own), int32(ended)})
	blue := store.LabelsOf(map[string]string{"team": "blue"})
	for name, labels := range map[string]store.Labels{"of it": "", "of a label": blue} {
		of := sub.ID
		if labels != "" {
			of = ""
		}
		counts, err := s.AttemptCounts(t.Context(), of, labels, store.QuarterStep, quarter)
		if sum := store.SumAttempts(counts); err != nil || sum.Delivered != 20 || sum.Failed != 2 {
			t.Errorf("counts %s: %d delivered, %d failed, error %v", name, sum.Delivered, sum.Failed, err)
		}
		found, _, err := s.Attempts(t.Context(), store.AttemptFilter{Subscription: of, Labels: labels}, 10, within)
		if err != nil || len(found) != 2 {
			t.Errorf("list %s: %+v, error %v", name, found, err)
		}
	}
	tries, err := s.RecentTries(t.Context(), []subscriptions.ID{sub.ID}, store.QuarterStep, quarter)
	if got := tries[sub.ID]; err != nil || len(got) != 1 || got[0].Delivered != 20 || got[0].Own != 10 {
		t.Errorf("recent tries %+v, error %v", tries, err)
	}
	if try, err := s.Attempt(t.Context(), ended, 2, at); err != nil || try.Subscription != sub.ID {
		t.Errorf("a try of it: %+v, error %v", try, err)
	}
}

// Behind a quiet time there may be a busy one. What was counted of it bounds what a
// slice reads: here, of a minute, a few milliseconds.
func TestAttemptsBehindAQuietTimeAreReadByBoundedSlices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	busy := time.Now().UTC().Truncate(time.Minute).Add(-20 * time.Minute)
	if err := s.SaveAttempts(t.Context(), []store.Attempt{{At: busy.Add(-48 * time.Hour), Lane: 1, Offset: 1}}); err != nil { // the history's beginning
		t.Fatal(err)
	}
	w.exec(`INSERT INTO rowcall.attempt_counts (step, lane, at, took, delivered, failed) VALUES (60, 0, $1, 1, 2000000000, 1000000000)`, busy)
	found, next, err := s.Attempts(t.Context(), store.AttemptFilter{}, 10, time.Second)
	if err != nil || len(found) > 0 || next.At.Before(busy) || !next.At.Before(busy.Add(time.Minute)) {
		t.Errorf("%d found, next %s, error %v; want it within the minute from %s on", len(found), next.At, err, busy)
	}
	// A quiet history is gone through at once.
	w.exec(`UPDATE rowcall.attempt_counts SET delivered = 1, failed = 0`)
	if found, next, err := s.Attempts(t.Context(), store.AttemptFilter{}, 10, 20*time.Second); err != nil || len(found) != 1 || !next.At.IsZero() {
		t.Errorf("%d found, next %s, error %v", len(found), next.At, err)
	}
}
