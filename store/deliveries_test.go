package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
)

// owed is two lanes that owe deliveries of the first six of ten events.
func owed(t *testing.T, w *world) (s *store.Store, x, y store.Lane) {
	t.Helper()
	s, _ = w.instance("a")
	c := source(t, s, "shop")
	b := &store.Batch{Checkpoint: store.Checkpoint{Commit: 100}}
	for i := range 10 {
		e := store.Event{
			LSN: 100, Ordinal: int64(i), Time: 1_780_000_000_000_001, Generation: 1, Kind: store.KindRow,
			Type: []string{"public.orders.inserted", "public.orders.updated"}[i%2], Key: fmt.Sprintf("public.orders/id=%d", i),
		}
		if i == 3 {
			e.OldKey = "public.orders/id=99"
		}
		b.End(fmt.Appendf(b.Begin(e), `{"n":%d}`, i))
	}
	mustAppend(t, s, c, b)
	subscribe(t, s, "x", store.Start{Earliest: true})
	subscribe(t, s, "y", store.Start{Earliest: true})
	lanes := claim(t, s)
	x, y = lanes["x"], lanes["y"]
	upsert := []store.Delivery{
		{Offset: 1, State: store.Retrying, Keys: []string{"k"}, Reason: "timeout"},
		{Offset: 2, State: store.Blocked, Keys: []string{"k"}},
		{Offset: 3, State: store.Dead, Keys: []string{"l"}, Reason: "rejected"},
		{Offset: 4, State: store.Dead, Keys: []string{}, Reason: "rejected"},
		{Offset: 5, State: store.Dead, Keys: []string{}, Barrier: "public.orders"},
		{Offset: 6, State: store.Retrying, Keys: []string{"m"}, Reason: "timeout"},
	}
	for _, l := range []store.Lane{x, y} {
		settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{Lane: l.ID, Epoch: l.Epoch, Cursor: 11, Upsert: upsert}}})
	}
	w.exec(`UPDATE rowcall.deliveries SET updated_at = timestamptz '2026-01-01 00:00Z' + "offset" * interval '1 hour'`)
	return s, x, y
}

// drop takes events out of the log the way retention does: deliveries keep them.
func (w *world) drop(past store.Offset) {
	w.t.Helper()
	w.exec(`UPDATE rowcall.deliveries d SET data = e.data, event = jsonb_build_object('lsn', e.lsn, 'ordinal', e.ordinal,
  'time', (extract(epoch FROM e.time) * 1000000)::bigint, 'source', e.source, 'generation', e.generation,
  'kind', e.kind, 'type', e.type, 'key', e.key, 'old_key', e.old_key, 'subject', e.subject, 'id', e.id)
FROM rowcall.events e WHERE e."offset" = d."offset" AND e."offset" < $1`, int64(past))
	w.exec(`DELETE FROM rowcall.events WHERE "offset" < $1`, int64(past))
}

const within = time.Minute // lists take no longer

func TestDeliveriesAreListedFromTheNewestAndFiltered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, x, y := owed(t, w)
	at := func(hour int) time.Time { return time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC) }
	both := func(offsets ...store.Offset) (want []string) {
		for _, at := range offsets {
			want = append(want, fmt.Sprintf("y%d", at), fmt.Sprintf("x%d", at))
		}
		return want
	}
	check := func() {
		t.Helper()
		for name, c := range map[string]struct {
			filter store.DeliveryFilter
			want   []string
		}{
			"all":             {store.DeliveryFilter{}, both(6, 5, 4, 3, 2, 1)},
			"state":           {store.DeliveryFilter{State: store.Dead}, both(5, 4, 3)},
			"reason":          {store.DeliveryFilter{Reason: "timeout"}, both(6, 1)},
			"subscription":    {store.DeliveryFilter{Subscription: x.Subscription.ID, State: store.Blocked}, []string{"x2"}},
			"type":            {store.DeliveryFilter{Type: "public.orders.updated"}, both(6, 4, 2)},
			"key":             {store.DeliveryFilter{Key: "public.orders/id=4"}, both(5)},
			"old key":         {store.DeliveryFilter{Key: "public.orders/id=99"}, both(4)},
			"type and key":    {store.DeliveryFilter{Type: "public.orders.updated", Key: "public.orders/id=4"}, nil},
			"since":           {store.DeliveryFilter{Since: at(5)}, both(6, 5)},
			"until":           {store.DeliveryFilter{Until: at(2)}, both(1)},
			"since and until": {store.DeliveryFilter{Since: at(2), Until: at(4)}, both(3, 2)},
		} {
			for _, limit := range []int{1, 5, 100} {
				f := c.filter
				var got []string
				for {
					page, next, err := s.Deliveries(t.Context(), f, limit, within)
					if err != nil || len(page) > limit {
						t.Fatalf("%s: a page of %d, error %v", name, len(page), err)
					}
					for _, d := range page {
						lane := "x"
						if d.Lane == y.ID {
							lane = "y"
						}
						got = append(got, fmt.Sprintf("%s%d", lane, d.Offset))
						e := d.Event
						if e == nil || e.Offset != d.Offset || e.Ordinal != int64(d.Offset-1) || e.Source != "/sources/shop" || e.Data != nil ||
							e.ID() != fmt.Sprintf("01-0000000000000064-%d", d.Offset-1) || e.Time != 1_780_000_000_000_001 {
							t.Fatalf("%s: the event of %d is %+v", name, d.Offset, e)
						}
						if want := map[store.LaneID]any{x.ID: x.Subscription.ID, y.ID: y.Subscription.ID}[d.Lane]; d.Subscription != want {
							t.Fatalf("%s: delivery of lane %d is of subscription %s", name, d.Lane, d.Subscription)
						}
					}
					if f.Past = next; next == (store.DeliveryPlace{}) {
						break
					}
				}
				diff(t, name, c.want, got)
			}
		}
	}
	check()
	w.drop(5) // some of it only the deliveries have from now on
	check()
	// Dropped between the look at the deliveries and that at the log: the ring has it.
	w.exec(`DELETE FROM rowcall.events WHERE "offset" = 6`)
	page, _, err := s.Deliveries(t.Context(), store.DeliveryFilter{}, 1, within)
	if err != nil || len(page) != 1 || page[0].Event == nil || page[0].Event.Data != nil {
		t.Fatalf("page %+v, error %v", page, err)
	}
}

func TestADeliveryIsReadWithItsEventThoughTheLogHasDroppedIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, x, _ := owed(t, w)
	w.config.Instance = "reader" // with nothing in its ring
	other, _ := w.instance("reader")
	w.drop(4)
	for _, at := range []store.Offset{3, 4} {
		want, err := s.Event(t.Context(), at) // from the ring
		if err != nil {
			t.Fatal(err)
		}
		got, err := other.Delivery(t.Context(), x.ID, at)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "delivery", store.Delivery{
			Lane: x.ID, Offset: at, State: store.Dead, Reason: "rejected", Keys: map[store.Offset][]string{3: {"l"}, 4: {}}[at],
			UpdatedAt:    time.Date(2026, 1, 1, int(at), 0, 0, 0, time.UTC),
			Subscription: x.Subscription.ID, Event: want,
		}, got)
	}
	for _, missing := range []struct {
		lane store.LaneID
		at   store.Offset
	}{{x.ID, 7}, {99, 1}} {
		if _, err := s.Delivery(t.Context(), missing.lane, missing.at); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%+v: error %v, want not found", missing, err)
		}
	}
	// An event that nobody has leaves the delivery readable.
	w.exec(`DELETE FROM rowcall.events WHERE "offset" = 6`)
	if d, err := other.Delivery(t.Context(), x.ID, 6); err != nil || d.Event != nil {
		t.Errorf("delivery %+v, error %v", d, err)
	}
	page, _, err := other.Deliveries(t.Context(), store.DeliveryFilter{}, 1, within)
	if err != nil || len(page) != 1 || page[0].Event != nil {
		t.Errorf("page %+v, error %v", page, err)
	}
}

func TestALaneGetsBackWhatItOwesAndTheDeadThatHoldAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, x, _ := owed(t, w)
	for withDead, want := range map[bool][]store.Offset{false: {1, 2, 6}, true: {1, 2, 3, 5, 6}} {
		found, err := s.LaneDeliveries(t.Context(), x.ID, withDead)
		if err != nil {
			t.Fatal(err)
		}
		var got []store.Offset
		for _, d := range found {
			got = append(got, d.Offset)
		}
		diff(t, "offsets", want, got)
	}
}

// A lane is opened at each start, edit and parking: what it reads then has no part of
// its dead letters, of which there may be a million.
func TestALaneIsOpenedWithoutReadingItsDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	const rows = 20_000
	fill(t, s, rows+1)
	subscribe(t, s, "x", store.Start{})
	lane := int(claim(t, s)["x"].ID)
	w.exec(`INSERT INTO rowcall.deliveries (lane, "offset", state, keys, reason)
SELECT $1::int, i, CASE i % 1000 WHEN 0 THEN 'retrying' ELSE 'dead' END, ARRAY['t/' || i], 'timeout' FROM generate_series(1, $2::int) i`, lane, rows)
	w.exec(`ANALYZE rowcall.deliveries`)
	lines, err := w.conn.Query(t.Context(), "EXPLAIN (ANALYZE, TIMING OFF) "+store.LaneDeliveriesSQL, lane)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(lines, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(plan, "\n")
	if strings.Contains(text, "Rows Removed by Filter") || !strings.Contains(text, "rows=20 ") && !strings.Contains(text, "rows=20.00 ") {
		t.Errorf("to read 20 deliveries others are looked at:\n%s", text)
	}
}

func TestKeysOfAnyTextComeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, x, _ := owed(t, w)
	keys := []string{`a"b`, `c\d`, "e,f", "{g}", "NULL", "", " ", "ü\n", "\x00\xfe"}
	settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{
		{Lane: x.ID, Epoch: x.Epoch, Cursor: 11, Upsert: []store.Delivery{{Offset: 9, State: store.Blocked, Keys: keys}}},
	}})
	found, err := s.LaneDeliveries(t.Context(), x.ID, false)
	if err != nil {
		t.Fatal(err)
	}
	keys[len(keys)-1] = "\uFFFD\uFFFD"
	diff(t, "keys", keys, found[len(found)-1].Keys)
}

func TestAnIntentReachesTheOwnerOfTheLane(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, x, y := owed(t, w)
	other, _ := w.instance("b")
	wishes := []store.Intent{
		{Lane: x.ID, Action: "retry", Offset: 3, Actor: "ann\x00"},
		{Lane: y.ID, Action: "discard", Offset: 1, Actor: "bob"},
	}
	for _, in := range wishes {
		w.says(store.TopicIntents, func() {
			if err := other.Request(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		})
	}
	wishes[0].Actor = "ann\uFFFD"
	got, err := s.Intents(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "intents", wishes, got, cmpopts.IgnoreFields(store.Intent{}, "ID"))
	if got[0].ID >= got[1].ID {
		t.Errorf("intents %+v are out of order", got)
	}
	if got, err := other.Intents(t.Context(), 0, 100); err != nil || len(got) > 0 {
		t.Errorf("another instance has intents %+v, error %v", got, err)
	}
	for _, in := range []store.Intent{{Lane: x.ID, Action: "retry", Offset: 7}, {Lane: 99, Action: "retry", Offset: 1}} {
		if err := s.Request(t.Context(), in); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%+v: error %v, want not found", in, err)
		}
	}
	if n := one[int](w, `SELECT count(*) FROM rowcall.intents`); n != 2 {
		t.Errorf("%d intents", n)
	}
}
