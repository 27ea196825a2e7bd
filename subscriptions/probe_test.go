package subscriptions_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/subscriptions"
)

func TestProbesComeAtGrowingIntervalsUpToTheLargest(t *testing.T) {
	t.Parallel()
	p, err := subscriptions.ParseProbe("5s..15m")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		failures, random := rapid.IntRange(0, 10_000).Draw(t, "failures"), rapid.Float64Range(0, 0.999).Draw(t, "random")
		wait := p.Next(now, failures, random).Sub(now)
		if wait < 2500*time.Millisecond || wait > 15*time.Minute {
			t.Fatalf("after %d failures the wait is %v", failures, wait)
		}
		if more := p.Next(now, failures+1, random).Sub(now); more < wait {
			t.Fatalf("the wait shrinks from %v to %v after %d failures", wait, more, failures)
		}
	})
	if wait := p.Next(now, 50, 0.999).Sub(now); wait < 14*time.Minute {
		t.Errorf("after 50 failures the wait is %v, want nearly 15m", wait)
	}
}

func TestACronExpressionNamesTheTimesOfProbes(t *testing.T) {
	t.Parallel()
	p, err := subscriptions.ParseProbe("30 2 * * *")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)) // 02:04 in UTC
	want := time.Date(2026, 1, 2, 2, 30, 0, 0, time.UTC)
	if got := p.Next(now, 7, 0); !got.Equal(want) {
		t.Errorf("next probe at %v, want %v", got, want)
	}
	if got := p.Next(now, 7, 0.5); !got.Equal(want.Add(time.Second / 2)) {
		t.Errorf("next probe at %v, want half a second later", got)
	}
}
