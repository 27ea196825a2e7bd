package dispatch_test

import (
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/subscriptions"
)

func drawRetry(t *rapid.T) subscriptions.Retry {
	initial := rapid.Int64Range(int64(100*time.Millisecond), int64(time.Hour)).Draw(t, "initial")
	return subscriptions.Retry{
		Initial:     subscriptions.Duration(initial),
		Max:         subscriptions.Duration(rapid.Int64Range(initial, int64(7*24*time.Hour)).Draw(t, "max")),
		MaxAttempts: rapid.IntRange(1, 1000).Draw(t, "attempts"),
		MaxAge:      subscriptions.Duration(rapid.Int64Range(int64(time.Minute), int64(365*24*time.Hour)).Draw(t, "age")),
	}
}

// live is backoff/v4 itself with our multiplier, without jitter.
func live(retry subscriptions.Retry) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(retry.Initial.D()), backoff.WithMaxInterval(retry.Max.D()),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0), backoff.WithMaxElapsedTime(0))
}

func TestTheScheduleIsThatOfALiveBackOff(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		retry := drawRetry(t)
		interval := live(retry)
		for attempt := 1; attempt <= 30; attempt++ {
			want := interval.NextBackOff()
			low, _ := dispatch.NextTry(retry, attempt, 0, 0)
			if got := 2 * low; got < want-2 || got > want+2 {
				t.Fatalf("try %d: interval %v, want %v", attempt, got, want)
			}
			top, _ := dispatch.NextTry(retry, attempt, 0, 1)
			if limit := min(want*3/2, retry.Max.D()); top < limit-2 || top > limit+2 {
				t.Fatalf("try %d: upper bound %v, want %v", attempt, top, limit)
			}
		}
	})
}

func TestAWaitStaysWithinItsBoundsAndGrows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		retry := drawRetry(t)
		attempt := rapid.IntRange(1, 1000).Draw(t, "attempt")
		random := rapid.Float64Range(0, 0.999999).Draw(t, "random")
		wait, _ := dispatch.NextTry(retry, attempt, 0, random)
		if wait < retry.Initial.D()/2 || wait > retry.Max.D() {
			t.Fatalf("wait %v is outside [%v, %v]", wait, retry.Initial.D()/2, retry.Max.D())
		}
		if next, _ := dispatch.NextTry(retry, attempt+1, 0, random); next < wait {
			t.Fatalf("try %d waits %v, the one before %v", attempt+1, next, wait)
		}
		if more, _ := dispatch.NextTry(retry, attempt, 0, min(1, random+0.1)); more < wait {
			t.Fatalf("more randomness waits less: %v, %v", more, wait)
		}
	})
}

func TestTheBudgetEndsByAttemptsAndByAge(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		retry := drawRetry(t)
		attempt := rapid.IntRange(1, 1100).Draw(t, "attempt")
		age := time.Duration(rapid.Int64Range(0, int64(400*24*time.Hour)).Draw(t, "age"))
		random := rapid.Float64Range(0, 0.999999).Draw(t, "random")
		wait, ok := dispatch.NextTry(retry, attempt, age, random)
		if want := attempt < retry.MaxAttempts && age+wait <= retry.MaxAge.D(); ok != want {
			t.Fatalf("ok = %v after try %d of %d, age %v + %v of %v", ok, attempt, retry.MaxAttempts, age, wait, retry.MaxAge.D())
		}
	})
}

func TestTheDefaultScheduleLastsFourToNineHours(t *testing.T) {
	t.Parallel()
	for random, bounds := range map[float64][2]time.Duration{
		0: {4 * time.Hour, 5 * time.Hour}, 0.999999: {8 * time.Hour, 9 * time.Hour},
	} {
		var age time.Duration
		attempt := 1
		for ; ; attempt++ {
			wait, ok := dispatch.NextTry(subscriptions.Retry{}, attempt, age, random)
			if !ok {
				break
			}
			age += wait
		}
		if attempt != 20 || age < bounds[0] || age > bounds[1] {
			t.Errorf("random %v: %d tries in %v", random, attempt, age)
		}
	}
}
