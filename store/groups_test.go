package store_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
)

// Whatever there is is counted in one pass that keeps no more than the groups; what
// has changed of late is found without a look at the rest.
func TestGroupsSinceATimeAreCountedInOnePass(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	subscribe(t, s, "x", store.Start{})
	subscribe(t, s, "y", store.Start{})
	lanes := claim(t, s)
	const rows = 20_000
	now := time.Now().UTC().Truncate(time.Second)
	w.exec(`INSERT INTO rowcall.deliveries (lane, "offset", state, keys, reason, status, error, first_failed_at, updated_at)
SELECT (ARRAY[$1::int, $2::int])[1 + i % 2], i, CASE i % 1000 WHEN 0 THEN 'retrying' ELSE 'dead' END, ARRAY['t/' || i], 'timeout', 500 + i % 4, 'error ' || i,
  $4, $4::timestamptz - ($3 - i) * interval '1 second' FROM generate_series(1, $3::int) i`, int(lanes["x"].ID), int(lanes["y"].ID), rows, now)
	w.exec(`ANALYZE rowcall.deliveries, rowcall.cursors`)
	sql := store.GroupsSQL()
	// Who takes each tenth row for a group sorts a million of them on disk.
	plan := w.plan("(ANALYZE, TIMING off, SUMMARY off)", sql[0], now.Add(-rows*time.Second))
	grouped := regexp.MustCompile(`Aggregate +\(cost=\S+ rows=(\d+) `).FindAllStringSubmatch(plan, -1)
	if len(grouped) < 2 || strings.Count(plan, "Seq Scan on deliveries") != 1 {
		t.Errorf("the deliveries are not grouped in one pass:\n%s", plan)
	}
	for _, n := range grouped {
		if n, err := strconv.Atoi(n[1]); err != nil || n > 100 {
			t.Errorf("the server takes them for %d groups, error %v:\n%s", n, err, plan)
		}
	}
	for _, sql := range sql {
		if plan := w.plan("(ANALYZE, TIMING off, SUMMARY off)", sql, now.Add(-20*time.Second)); !strings.Contains(plan, "deliveries_died") || strings.Contains(plan, "Seq Scan on deliveries") {
			t.Errorf("what has changed of late is not found by deliveries_died:\n%s", plan)
		}
	}
	// The newest 2,500: each lane has half of them, half of these each of two statuses;
	// three of them are retrying, of one status.
	groups, err := s.DeliveryGroups(t.Context(), store.DeliveryFilter{Since: now.Add(-2499 * time.Second)}, nil, 10)
	if err != nil || len(groups) != 5 {
		t.Fatalf("%+v, error %v", groups, err)
	}
	var sum int64
	for _, g := range groups {
		sum += g.Count
		if want := int64(625); g.State == store.Dead && g.Status != 500 && (g.Count != want || g.Keys != want) || g.State == store.Retrying && (g.Count != 3 || g.Status != 500) {
			t.Errorf("%+v", g)
		}
	}
	if last := groups[len(groups)-1]; sum != 2500 || last.Error != "error 20000" || !last.UpdatedAt.Equal(now) {
		t.Errorf("%d in all; the last group: %+v", sum, last)
	}
}
