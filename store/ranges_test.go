package store_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
)

// readOf is how many rows a query of a plan looked at in vain.
func readOf(t *testing.T, plan string) (rows int) {
	t.Helper()
	for _, n := range regexp.MustCompile(`Rows Removed by .*: (\d+)`).FindAllStringSubmatch(plan, -1) {
		some, err := strconv.Atoi(n[1])
		if err != nil {
			t.Fatal(err)
		}
		rows += some
	}
	return rows
}

const analyzed = "(ANALYZE, TIMING off, SUMMARY off)"

// A transaction of any size, and a key that few events have, are a few ranges of the
// log to look at: those that may have it, and those that are being written.
func TestAnEventIsFoundInFewRangesOfTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	from := source(t, s, "shop")
	const rows, each = 60_000, 6_000
	for first := 0; first < rows; first += each { // one transaction, by parts
		b := &store.Batch{Checkpoint: store.Checkpoint{Commit: 7, Ordinal: int64(first + each), End: 15}}
		for i := first; i < first+each; i++ {
			e := store.Event{LSN: 7, Ordinal: int64(i), Generation: 1, Kind: store.KindRow, Type: "public.orders.updated", Key: "public.orders/id=" + strconv.Itoa(i)}
			if i%10_000 == 5 {
				e.OldKey = "public.orders/id=old" + strconv.Itoa(i)
			}
			b.End(append(b.Begin(e), `{"note": "`+strings.Repeat("lorem ipsum ", 10)+`"}`...))
		}
		mustAppend(t, s, from, b)
	}
	if err := s.Summarize(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.exec(`ANALYZE rowcall.events`)
	const few = rows / 8
	for _, ordinal := range []int{0, 17, rows / 2, rows - 1, rows + 5} {
		e, err := s.EventByID(t.Context(), fmt.Sprintf("01-%016X-%d", 7, ordinal))
		if want := store.Offset(ordinal + 1); ordinal < rows && (err != nil || e.Offset != want) || ordinal >= rows && err == nil {
			t.Errorf("ordinal %d: %+v, error %v", ordinal, e, err)
		}
		if plan := w.plan(analyzed, store.EventByPositionSQL, int64(7), int64(ordinal), int32(1)); readOf(t, plan) > few {
			t.Errorf("ordinal %d: %d events are read:\n%s", ordinal, readOf(t, plan), plan)
		}
	}
	for key, want := range map[string]store.Offset{
		"public.orders/id=30000": 30001, "public.orders/id=old10005": 10006, "public.orders/id=59999": rows, "none/such": 0,
	} {
		f := store.EventFilter{Key: key}
		sql, args := store.EventsSQL(&f, 1, rows+1)
		if plan := w.plan(analyzed, sql, args...); readOf(t, plan) > few || !strings.Contains(plan, "key_old_key_idx") {
			t.Errorf("%s: %d events are read:\n%s", key, readOf(t, plan), plan)
		}
		var found []store.Event
		for next := store.Offset(rows + 1); next > 0; f.Past = next {
			some, past, err := s.Events(t.Context(), f, 10, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			found, next = append(found, some...), past
		}
		if want == 0 && len(found) > 0 || want > 0 && (len(found) != 1 || found[0].Offset != want) {
			t.Errorf("%s: %+v", key, found)
		}
	}
}

// Of a lane that few ranges of the history have, the others are passed over, and of
// outcomes that few have.
func TestAttemptsOfAQuietLaneAreFoundInFewRanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	busy, quiet, silent := subscribe(t, s, "busy", store.Start{}), subscribe(t, s, "quiet", store.Start{}), subscribe(t, s, "silent", store.Start{})
	w.exec(`UPDATE rowcall.subscriptions SET spec = spec || jsonb_build_object('labels', jsonb_build_object('team', name))`)
	lanes := claim(t, s)
	const rows = 60_000
	if err := s.GrowAttempts(t.Context()); err != nil {
		t.Fatal(err)
	}
	noon := time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour) // of yesterday
	w.exec(`INSERT INTO rowcall.attempts (at, lane, "offset", attempt, duration, status, outcome)
SELECT $1::timestamptz + i * interval '1 ms', CASE WHEN i % 20000 = 7 THEN $3::int ELSE $2::int END, i, 1, 1000, 200, CASE WHEN i = 1000 THEN 2 WHEN i % 3 = 0 THEN 1 ELSE 0 END
FROM generate_series(1, $4::int) i`, noon, int(lanes["busy"].ID), int(lanes["quiet"].ID), rows)
	if err := s.Summarize(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.exec(`ANALYZE rowcall.attempts`)
	team := func(name string) store.Labels { return store.LabelsOf(map[string]string{"team": name}) }
	for name, c := range map[string]struct {
		filter store.AttemptFilter
		want   int
	}{
		"of a quiet label":            {store.AttemptFilter{Labels: team("quiet")}, 3},
		"of a quiet subscription":     {store.AttemptFilter{Subscription: quiet.ID}, 3},
		"of its failures":             {store.AttemptFilter{Subscription: quiet.ID, Outcome: new(int16(1))}, 1},
		"of a silent label":           {store.AttemptFilter{Labels: team("silent")}, 0},
		"of a silent subscription":    {store.AttemptFilter{Subscription: silent.ID}, 0},
		"of nobody's label":           {store.AttemptFilter{Labels: team("none")}, 0},
		"of a label and another's":    {store.AttemptFilter{Labels: team("quiet"), Subscription: busy.ID}, 0},
		"of a rare outcome":           {store.AttemptFilter{Outcome: new(int16(2))}, 1},
		"of a busy one's":             {store.AttemptFilter{Labels: team("busy"), Outcome: new(int16(2))}, 1},
		"of an outcome that none had": {store.AttemptFilter{Outcome: new(int16(3))}, 0},
	} {
		sql, args, err := s.AttemptsSQL(t.Context(), &c.filter, noon, noon.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if plan := w.plan(analyzed, sql, args...); readOf(t, plan) > rows/4 {
			t.Errorf("%s: %d attempts are read:\n%s", name, readOf(t, plan), plan)
		}
		found, next, err := s.Attempts(t.Context(), c.filter, 100, within)
		if err != nil || len(found) != c.want || !next.At.IsZero() {
			t.Errorf("%s: %d found, next %v, error %v", name, len(found), next, err)
		}
	}
	// Over the quiet time since, and as far as the counts reach, it is one look.
	w.exec(`INSERT INTO rowcall.attempt_counts (step, lane, at, took, delivered, failed) VALUES (900, 0, $1, 1, 6000, 2000)`, noon)
	w.exec(`UPDATE rowcall.attempts_counted SET at = clock_timestamp()`)
	found, next, err := s.Attempts(t.Context(), store.AttemptFilter{Labels: team("quiet")}, 100, time.Nanosecond)
	if err != nil || len(found) != 3 || !next.At.Before(noon) {
		t.Errorf("at once: %d found, next %v, error %v", len(found), next, err)
	}
}
