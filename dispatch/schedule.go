package dispatch

import (
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

// NextTry is the wait before the try that follows failed try number attempt
// (1 is the first): exponential from retry.Initial to retry.Max with jitter,
// random in [0, 1). ok is false when the budget (attempts, or age since the
// first failure) is used up. Pure.
func NextTry(retry subscriptions.Retry, attempt int, age time.Duration, random float64) (wait time.Duration, ok bool) {
	panic("unwritten")
}
