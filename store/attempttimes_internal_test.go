package store

import (
	"testing"
	"time"
)

func TestASliceOfTheHistoryIsBoundByWhatWasCounted(t *testing.T) {
	t.Parallel()
	day := time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)
	at := func(hour, minute int) time.Time {
		return day.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
	}
	known := attemptTimes{counted: at(13, 0), steps: []attemptStep{
		{at(12, 1), at(12, 2), 30_000},
		{at(12, 0), at(12, 1), 40_000},
		{at(10, 0), at(10, 15), 450_000},
		{at(9, 0), at(10, 15), 100}, // overlaps
	}}
	for _, c := range []struct {
		end    time.Time
		beyond time.Duration
		want   time.Time
	}{
		{at(12, 30), time.Hour, at(12, 0).Add(30 * time.Second)},                             // a minute, and the half of the one before
		{at(12, 1).Add(30 * time.Second), time.Hour, at(12, 0).Add(7500 * time.Millisecond)}, // half of the newest
		{at(12, 0).Add(30 * time.Second), time.Hour, at(10, 14)},                             // and, behind the quiet, little of the busy
		{at(10, 0), time.Second, at(9, 0).Add(-time.Second)},                                 // all that is known, and as much as may be of what is not
		{at(8, 0), time.Hour, at(7, 0)},
		{at(8, 0), 10 * time.Hour, at(8, 0).Add(-ChartStep)},
		{at(14, 0), time.Minute, at(13, 59)}, // it has not been counted yet
		{at(13, 0).Add(20 * time.Second), time.Second, at(12, 0).Add(30 * time.Second)},
	} {
		if got := known.bound(c.end, mostRows, c.beyond); !got.Equal(c.want) {
			t.Errorf("to %s: from %s, want %s", c.end, got, c.want)
		}
	}
}
