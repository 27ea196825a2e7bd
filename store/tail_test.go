package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
)

// What a transaction saves that was under way at one look, and committed before the
// next, is seen by the next, and once.
func TestAttemptsAreFollowedEachOnceThoughTheirTransactionsOverlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	conn := connect(t, w.config.URL)
	subscribe(t, s, "x", store.Start{})
	lane := claim(t, s)["x"].ID
	began := micro(time.Now())
	mark, err := s.AttemptMark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	look := func(want ...store.Offset) {
		t.Helper()
		found, others, next, err := s.AttemptsSince(t.Context(), mark, began.Add(-time.Minute), store.TailFilter{}, 3)
		if err != nil {
			t.Fatal(err)
		}
		mark = next
		var got []store.Offset
		for _, a := range found {
			got = append(got, a.Offset)
			if a.Offset != 2 && a.Timings != (store.Timings{FirstByte: time.Duration(a.Offset) * time.Second}) {
				t.Errorf("attempt %d has timings %+v", a.Offset, a.Timings)
			}
		}
		if !slices.Equal(got, want[:min(3, len(want))]) || int(others) != len(want)-len(got) {
			t.Errorf("got %v and %d others, want %v", got, others, want)
		}
	}
	save := func(offsets ...store.Offset) {
		t.Helper()
		var as []store.Attempt
		for _, offset := range offsets {
			// The later its offset, the sooner it began, and the longer it took.
			as = append(as, store.Attempt{At: began.Add(-time.Duration(offset) * time.Second), Lane: lane, Offset: offset, Attempt: 1, Duration: 2 * time.Duration(offset) * time.Second, Timings: store.Timings{FirstByte: time.Duration(offset) * time.Second}})
		}
		if err := s.SaveAttempts(t.Context(), as); err != nil {
			t.Fatal(err)
		}
	}
	look()
	save(1)
	exec(t, conn, `BEGIN`)
	exec(t, conn, `INSERT INTO rowcall.attempts (at, lane, "offset", attempt, duration, status, outcome) VALUES ($1, $2, 2, 1, 0, 200, 0)`, began, lane)
	look(1)
	save(3)
	look(3)
	look()
	exec(t, conn, `COMMIT`)
	look(2)
	save(5, 4, 6, 8, 7)
	look(4, 5, 6, 7, 8) // those that began last, in the order in which they ended
	look()
}
