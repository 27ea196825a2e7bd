package store

import (
	"testing"
	"time"
)

func TestACountIsRememberedByWhatItTook(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rows int64
		took time.Duration
		good time.Duration // and as half as long again
	}{
		"of few":              {countedEach, time.Second, 0},
		"that was quick":      {1e6, 20 * time.Millisecond, 0},
		"of many":             {1e5, 100 * time.Millisecond, 4900 * time.Millisecond},
		"of a million":        {1e6, time.Second, 10 * time.Second},
		"that took very long": {1e8, 10 * time.Second, 90 * time.Second},
	} {
		var r remembered[int]
		before := time.Now()
		r.keep(1, c.rows, c.took)
		after := time.Now()
		if c.good == 0 {
			if !r.until.IsZero() || !r.grace.IsZero() {
				t.Errorf("a count %s is remembered until %s", name, r.until)
			}
			continue
		}
		for what, at := range map[time.Duration]time.Time{c.good: r.until, c.good + c.good/2: r.grace} {
			if at.Before(before.Add(what)) || at.After(after.Add(what)) {
				t.Errorf("a count %s is remembered for %s, want %s", name, at.Sub(before), what)
			}
		}
	}
}
