package dispatch

import (
	"cmp"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/rowcall/rowcall/subscriptions"
)

// The shape of the schedule. Randomisation is backoff/v4's default; its
// multiplier of 1.5 is not, since 20 tries that double last four times as long.
const (
	multiplier    = 2
	randomisation = backoff.DefaultRandomizationFactor
)

// Defaults of a subscription's retry, used where a member is zero.
const (
	defaultInitial     = time.Second
	defaultMax         = time.Hour
	defaultMaxAttempts = 20
	defaultMaxAge      = 72 * time.Hour
)

// NextTry is the wait before the try that follows failed try number attempt
// (1 is the first): exponential from retry.Initial to retry.Max with jitter,
// random in [0, 1). ok is false when the budget (attempts, or age since the
// first failure) is used up. Pure.
//
// It is the formula of backoff/v4's ExponentialBackOff, computed from the
// attempt number, which is what survives a restart: the interval doubles from
// Initial and stops at Max; the wait is spread over [0.5, 1.5) of the interval,
// but, unlike there, never beyond Max, so what is retried at the cap is spread
// over [Max/2, Max). As there, a try that would fall past MaxAge is not made.
func NextTry(retry subscriptions.Retry, attempt int, age time.Duration, random float64) (wait time.Duration, ok bool) {
	initial := cmp.Or(retry.Initial.D(), defaultInitial)
	limit := max(cmp.Or(retry.Max.D(), defaultMax), initial)
	interval := initial
	for range attempt - 1 {
		if interval >= limit/multiplier {
			interval = limit
			break
		}
		interval *= multiplier
	}
	low := float64(interval) * (1 - randomisation)
	high := min(float64(interval)*(1+randomisation), float64(limit))
	wait = time.Duration(low + random*(high-low))
	ok = attempt < cmp.Or(retry.MaxAttempts, defaultMaxAttempts) &&
		age+wait <= cmp.Or(retry.MaxAge.D(), defaultMaxAge)
	return wait, ok
}
