package store_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
)

// Lists of what grows without end read what they show, and what they look at of it
// by a bounded walk: never a whole table, whatever they are filtered by.
func TestNoListReadsAWholeTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	const rows = 20_000
	fill(t, s, rows+1)
	x, y := subscribe(t, s, "x", store.Start{}), subscribe(t, s, "y", store.Start{})
	subscribe(t, s, "keyless", store.Start{})
	w.exec(`UPDATE rowcall.subscriptions SET spec = spec || '{"labels": {"team": "blue"}}' WHERE id = $1`, y.ID)
	lanes := claim(t, s)
	w.exec(`INSERT INTO rowcall.deliveries (lane, "offset", state, keys, reason, status)
SELECT (ARRAY[$1::int, $2::int])[1 + i % 2], i, CASE i % 1000 WHEN 0 THEN 'retrying' WHEN 1 THEN 'blocked' ELSE 'dead' END,
  CASE i % 1000 WHEN 2 THEN '{}'::text[] WHEN 3 THEN ARRAY['t/a', 't/' || i] ELSE ARRAY['t/' || i] END, 'timeout', 500 + i % 4
FROM generate_series(1, $3::int) i`, int(lanes["x"].ID), int(lanes["y"].ID), rows)
	w.exec(`UPDATE rowcall.deliveries SET event = jsonb_build_object('lsn', "offset" / 10, 'ordinal', "offset" % 10, 'generation', 1, 'relation', 1,
  'id', CASE "offset" % 2 WHEN 0 THEN 'id-' || "offset" END) WHERE "offset" <= $1`, rows/4)
	w.exec(`INSERT INTO rowcall.deliveries (lane, "offset", state, keys, reason) SELECT $1::int, i, 'dead', '{}', 'tls' FROM generate_series(1, $2::int) i`, int(lanes["keyless"].ID), rows)
	w.hash()
	w.exec(`INSERT INTO rowcall.attempts (at, lane, "offset", attempt, duration, status, outcome)
SELECT clock_timestamp(), $1::int, i, 1, 1000, 200, 0 FROM generate_series(1, $2::int) i`, int(lanes["x"].ID), rows)
	w.exec(`ANALYZE rowcall.deliveries, rowcall.events, rowcall.attempts, rowcall.cursors`)

	large := regexp.MustCompile(`Seq Scan on (deliveries|events|attempts).* rows=\d{3}`)
	// A walk looks at 1,000 deliveries at once: what an index is read for in vain is no more.
	removed := regexp.MustCompile(`Rows Removed by .*: (\d+)`)
	explain := func(what any, with, sql string, args []any) string {
		t.Helper()
		plan := w.plan(with, sql, args...)
		if large.MatchString(plan) {
			t.Errorf("%+v reads a whole table:\n%s\n%s", what, sql, plan)
		}
		for _, n := range removed.FindAllStringSubmatch(plan, -1) {
			if n, err := strconv.Atoi(n[1]); err != nil || n > 2_000 {
				t.Errorf("%+v reads %d rows in vain, error %v:\n%s\n%s", what, n, err, sql, plan)
			}
		}
		return plan
	}
	// Each bit is a filter.
	combinations := func(n int, each func(has func(bit int) bool)) {
		for bits := range 1 << n {
			each(func(bit int) bool { return bits>>bit&1 == 1 })
		}
	}
	for _, state := range []store.DeliveryState{"", store.Dead, store.Retrying} {
		combinations(6, func(has func(int) bool) {
			f := store.DeliveryFilter{State: state}
			for bit, set := range []func(){
				func() { f.Subscription = y.ID }, func() { f.Reason, f.Status = "refused", 418 }, func() { f.Type = "public.orders.updated" },
				func() { f.Key = "t/77" }, func() { f.Since, f.Until = time.Now().Add(-time.Hour), time.Now() },
				func() { f.Labels = store.LabelsOf(map[string]string{"team": "blue"}) },
			} {
				if has(bit) {
					set()
				}
			}
			sql, args, err := s.ListSQL(t.Context(), &f, store.DeliveryPlace{Offset: 15000, Lane: 1}, store.DeliveryPlace{Offset: 14000, Lane: 1})
			if err != nil {
				t.Fatal(err)
			}
			for i := range sql {
				plan := explain(f, "(ANALYZE, TIMING off, SUMMARY off)", sql[i], args[i])
				var indexes []string
				switch {
				case f.Key != "":
					indexes = []string{"deliveries_key ", "deliveries_second_key "}
				case state == store.Retrying:
					indexes = []string{"deliveries_open "}
				case f.Subscription != "" || f.Labels != "":
					indexes = []string{"deliveries_pkey "}
				default:
					indexes = []string{"deliveries_order "}
				}
				for _, index := range indexes {
					if i > 0 {
						break // between the places that the first found, one index is as good as another
					}
					if !strings.Contains(plan, "using "+index) && !strings.Contains(plan, "Index Scan on "+index) {
						t.Errorf("%+v does not go by %s:\n%s\n%s", f, index, sql[i], plan)
					}
				}
			}
		})
	}
	combinations(5, func(has func(int) bool) {
		f := store.AttemptFilter{}
		for bit, set := range []func(){
			func() { f.Subscription = x.ID }, func() { f.Lane = 1 }, func() { f.Offset = 77 }, func() { f.Outcome = new(int16(1)) },
			func() { f.Labels = store.LabelsOf(map[string]string{"team": "blue"}) },
		} {
			if has(bit) {
				set()
			}
		}
		for _, past := range []store.AttemptPlace{{}, {At: time.Now(), Lane: 1, Offset: 5}} {
			f.Past = past
			sql, args, err := s.AttemptsSQL(t.Context(), &f, time.Now().Add(-time.Minute), time.Now().Add(-59*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			explain(f, "", sql, args)
		}
	})
	combinations(2, func(has func(int) bool) {
		f := store.EventFilter{}
		if has(0) {
			f.Type = "public.orders.updated"
		}
		if has(1) {
			f.Key = "t/77"
		}
		sql, args := store.EventsSQL(&f, 14000, 15000)
		explain(f, "", sql, args)
	})
	// An event that only a delivery has is found by what its id says.
	for sql, index := range map[string]string{store.KeptByPositionSQL: "deliveries_event_place", store.KeptByPublicIDSQL: "deliveries_event_id"} {
		args := []any{"an-id"}
		if strings.Contains(sql, "$3") {
			args = []any{int64(5), int64(6), int32(1)}
		}
		if plan := explain(index, "", sql, args); !strings.Contains(plan, index) {
			t.Errorf("events of deliveries are not found by %s:\n%s", index, plan)
		}
	}
}
