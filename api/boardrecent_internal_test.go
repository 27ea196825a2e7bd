package api

import (
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
)

func TestADrainIsEstimatedByWhatWentOfItsOwn(t *testing.T) {
	t.Parallel()
	now := time.Date(2027, 1, 2, 3, 4, 30, 0, time.UTC)
	from := now.Truncate(time.Minute).Add(-59 * time.Minute)
	old := store.Tries{At: from, Delivered: 1e6, Own: 1e6}
	lately := store.Tries{At: from.Add(57 * time.Minute), Delivered: 540, Failed: 3, Own: 270} // of 4½ minutes
	for name, c := range map[string]struct {
		row   boardRow
		tries []store.Tries
		want  float64 // 0: not known
	}{
		"what waits, at the rate of the last minutes": {boardRow{Condition: "healthy", Waiting: logCount{Events: 100}}, []store.Tries{old, lately}, 100},
		"it recovers":                     {boardRow{Condition: "recovering", Waiting: logCount{Events: 50}}, []store.Tries{lately}, 50},
		"nothing waits":                   {boardRow{Condition: "healthy"}, []store.Tries{lately}, 0},
		"nothing went lately":             {boardRow{Condition: "healthy", Waiting: logCount{Events: 100}}, []store.Tries{old}, 0},
		"it is held":                      {boardRow{Condition: "paused", Waiting: logCount{Events: 100}}, []store.Tries{lately}, 0},
		"replays alone went":              {boardRow{Condition: "healthy", Waiting: logCount{Events: 100}}, []store.Tries{{At: lately.At, Delivered: 5}}, 0},
		"what is of another hour is left": {boardRow{Condition: "healthy", Waiting: logCount{Events: 100}}, []store.Tries{{At: now.Add(time.Hour), Own: 9}, {At: from.Add(-time.Hour), Own: 9}}, 0},
	} {
		r := c.row.recent(c.tries, from, now)
		if got := r.DrainSeconds; (got == nil) != (c.want == 0) || got != nil && *got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if r := (&boardRow{}).recent([]store.Tries{lately}, from, now); (*r.Delivered)[57] != 540 || r.Failed[57] != 3 || len(*r.Delivered) != 60 {
		t.Errorf("%+v", r)
	}
}
