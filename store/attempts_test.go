package store_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
)

// history lists all attempts of a filter, by pages of limit that are found within a time.
func history(t *testing.T, s *store.Store, f store.AttemptFilter, limit int, within time.Duration) []store.Attempt {
	t.Helper()
	var all []store.Attempt
	for {
		page, next, err := s.Attempts(t.Context(), f, limit, within)
		if err != nil || len(page) > limit {
			t.Fatalf("a page of %d, error %v", len(page), err)
		}
		all = append(all, page...)
		if next.At.IsZero() {
			return all
		}
		f.Past = next
	}
}

func TestAttemptsAreListedFromTheNewestThoughTheirTimesAreEqual(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	x, y := subscribe(t, s, "x", store.Start{}), subscribe(t, s, "y", store.Start{})
	lanes := claim(t, s)
	now := micro(time.Now())
	timings := []store.Timings{
		{},
		{FirstByte: 12_345 * time.Microsecond},
		{DNS: 3 * time.Second},
		{Connect: time.Microsecond, TLS: time.Hour},
		{DNS: time.Microsecond, Connect: 127 * time.Microsecond, TLS: 128 * time.Microsecond, FirstByte: 256 * time.Microsecond},
	}
	var saved []store.Attempt
	for i, age := range []time.Duration{-time.Hour, 0, 0, time.Second, 90 * time.Minute, 26 * time.Hour} {
		for offset := range store.Offset(5) {
			for _, sub := range []string{"x", "y"} {
				a := store.Attempt{
					At: now.Add(-age), Lane: lanes[sub].ID, Offset: offset + store.Offset(10*i) + 1, Attempt: i + 1,
					Duration: time.Duration(offset) * time.Millisecond, Status: 200, Subscription: lanes[sub].Subscription.ID,
				}
				a.Timings = timings[offset]
				if offset == 2 {
					a.Status, a.Outcome, a.Reason, a.Detail = 500, 1, "server_error", json.RawMessage(`{"body": "no"}`)
				}
				saved = append(saved, a)
			}
		}
	}
	if err := s.SaveAttempts(t.Context(), saved); err != nil {
		t.Fatal(err)
	}
	want := func(keep func(a store.Attempt) bool) []store.Attempt {
		kept := slices.DeleteFunc(slices.Clone(saved), func(a store.Attempt) bool { return !keep(a) })
		slices.SortFunc(kept, func(a, b store.Attempt) int {
			if c := b.At.Compare(a.At); c != 0 {
				return c
			}
			if a.Lane != b.Lane {
				return int(b.Lane - a.Lane)
			}
			return int(b.Offset - a.Offset)
		})
		return kept
	}
	for name, c := range map[string]struct {
		filter store.AttemptFilter
		keep   func(a store.Attempt) bool
	}{
		"all":          {store.AttemptFilter{}, func(store.Attempt) bool { return true }},
		"subscription": {store.AttemptFilter{Subscription: y.ID}, func(a store.Attempt) bool { return a.Lane == lanes["y"].ID }},
		"event":        {store.AttemptFilter{Offset: 43}, func(a store.Attempt) bool { return a.Offset == 43 }},
		"outcome":      {store.AttemptFilter{Outcome: new(int16(1))}, func(a store.Attempt) bool { return a.Outcome == 1 }},
		"success":      {store.AttemptFilter{Outcome: new(int16(0))}, func(a store.Attempt) bool { return a.Outcome == 0 }},
		"older":        {store.AttemptFilter{Past: store.AttemptPlace{At: now.Add(-time.Minute)}}, func(a store.Attempt) bool { return a.At.Before(now.Add(-time.Minute)) }},
	} {
		for _, limit := range []int{1, 7, 60, 1000} {
			diff(t, fmt.Sprintf("%s by %d", name, limit), want(c.keep), history(t, s, c.filter, limit, within))
		}
	}
	// A success is narrow.
	if n := one[int](w, `SELECT count(*) FROM rowcall.attempts WHERE (outcome = 0) <> (reason IS NULL) OR (outcome = 0) <> (detail IS NULL)`); n > 0 {
		t.Errorf("%d successes have a reason or detail, or failures have none", n)
	}
	if n := one[int](w, `SELECT count(*) FROM rowcall.attempts WHERE "offset" % 10 = 1 AND timings IS NOT NULL OR "offset" % 10 = 2 AND octet_length(timings) > 2`); n > 0 {
		t.Errorf("%d attempts over a connection that was there take more than two bytes for timings", n)
	}
	if a, err := s.Attempt(t.Context(), lanes["x"].ID, 5, now.Add(time.Hour)); err != nil || a.Timings != timings[4] {
		t.Errorf("one attempt: %+v, %v", a, err)
	}
	// History outlives its subscription.
	if err := s.DeleteSubscription(t.Context(), x.ID, x.Version); err != nil {
		t.Fatal(err)
	}
	if all := history(t, s, store.AttemptFilter{}, 1000, within); len(all) != len(saved) {
		t.Errorf("%d attempts are left of %d", len(all), len(saved))
	}
}

func TestNoAttemptFallsBetweenTwoSlicesOfTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	past := micro(time.Now())
	var want []time.Time
	var saved []store.Attempt
	for _, edge := range []time.Duration{time.Second, 5 * time.Second, 21 * time.Second} {
		for _, at := range []time.Duration{-time.Microsecond, 0, time.Microsecond} {
			want = append(want, past.Add(-edge-at))
			saved = append(saved, store.Attempt{At: past.Add(-edge - at), Lane: 1, Offset: 1, Attempt: 1})
		}
	}
	if err := s.SaveAttempts(t.Context(), saved); err != nil {
		t.Fatal(err)
	}
	var got []time.Time
	for _, a := range history(t, s, store.AttemptFilter{Past: store.AttemptPlace{At: past}}, 100, within) {
		got = append(got, a.At)
	}
	diff(t, "times", want, got)
	// Nor between two pages that end where their time did: each looks at a slice alone.
	got = nil
	for f := (store.AttemptFilter{Past: store.AttemptPlace{At: past}}); len(got) < len(want); {
		page, next, err := s.Attempts(t.Context(), f, 2, 0)
		if err != nil || next.At.IsZero() {
			t.Fatalf("found %v, then %v, error %v", got, next, err)
		}
		for _, a := range page {
			got = append(got, a.At)
		}
		f.Past = next
	}
	diff(t, "times, by pages that are out of time", want, got)
}

func TestAttemptsOfADayWithoutPartitionAreSaved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.AttemptsRetention = 1000 * 24 * time.Hour
	s, _ := w.instance("a")
	now := micro(time.Now())
	next := store.Offset(0)
	for _, days := range []int{-400, -40, 12, 300} {
		at := now.AddDate(0, 0, days)
		name := "rowcall.attempts_" + at.Format("20060102")
		if one[bool](w, `SELECT to_regclass($1) IS NOT NULL`, name) {
			t.Fatalf("%s is there already", name)
		}
		for range 2 {
			next += 2
			as := []store.Attempt{{At: now, Lane: 1, Offset: next, Attempt: 1}, {At: at, Lane: 1, Offset: next + 1, Attempt: 1}}
			if err := s.SaveAttempts(t.Context(), as); err != nil {
				t.Fatal(err)
			}
		}
		if n := one[int](w, `SELECT count(*) FROM `+name); n != 2 {
			t.Errorf("%s holds %d attempts", name, n)
		}
	}
	if all := history(t, s, store.AttemptFilter{}, 3, within); len(all) != 16 || !all[15].At.Equal(now.AddDate(0, 0, -400)) {
		t.Errorf("%d attempts", len(all))
	}
	if err := s.SaveAttempts(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestAttemptsOfAnyContentAreSaved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	now := micro(time.Now())
	details := map[string]string{
		`{"a":"b"}`:                       `{"a": "b"}`,
		`{"a":"x\u0000y","n":1.50}`:       `{"a": "x�y", "n": 1.50}`,
		`["\ud800", "\\u0000", "\u00e9"]`: `["�", "\\u0000", "é"]`,
		"{\"a\":\"\xff\"}":                `{"a": "�"}`,
		`{"\u0000":[{"b":"\u0000"}]}`:     `{"�": [{"b": "�"}]}`,
		"no JSON \x00\xff \" at all":      `"no JSON �� \" at all"`,
		`{"cut":`:                         `"{\"cut\":"`,
	}
	var saved []store.Attempt
	var want []string
	for given, stored := range details {
		saved = append(saved, store.Attempt{
			At: now, Lane: 1, Offset: store.Offset(100 - len(saved)), Attempt: 1, Duration: 100 * time.Hour, Status: 99_999, Outcome: 1,
			Reason: "tim\x00eout", Detail: json.RawMessage(given),
		})
		want = append(want, stored)
	}
	if err := s.SaveAttempts(t.Context(), saved); err != nil {
		t.Fatal(err)
	}
	got := history(t, s, store.AttemptFilter{}, 100, within)
	var kept []string
	for _, a := range got {
		kept = append(kept, string(a.Detail))
		if a.Reason != "tim\uFFFDeout" || a.Status != 32767 || a.Duration < 35*time.Minute {
			t.Errorf("attempt %+v", a)
		}
	}
	diff(t, "details", want, kept)
}

func BenchmarkSaveAttempts(b *testing.B) {
	w := newWorld(b)
	s, _ := w.instance("a")
	as := make([]store.Attempt, 1000)
	for i := range as {
		as[i] = store.Attempt{At: time.Now(), Lane: store.LaneID(i % 10), Offset: store.Offset(i), Attempt: 1, Duration: time.Millisecond, Status: 200}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.SaveAttempts(b.Context(), as); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(as)), "ns/attempt")
}
