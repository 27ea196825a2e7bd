package subscriptions

import (
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Probe is when an endpoint that is down is asked again: at intervals that
// double from Min to Max, or at the times of a cron expression in UTC.
type Probe struct {
	Min, Max time.Duration
	cron     cron.Schedule // nil: intervals
}

// ParseProbe reads "5s..15m" or a cron expression, in the bounds that Validate
// checks.
func ParseProbe(text string) (Probe, error) {
	if err := checkProbe(text); err != nil {
		return Probe{}, err
	}
	low, high, ok := strings.Cut(text, "..")
	if !ok {
		schedule, err := cron.ParseStandard(text) // checked above: it neither panics nor fails
		return Probe{cron: schedule}, err
	}
	least, err := ParseDuration(low)
	if err != nil {
		return Probe{}, err
	}
	most, err := ParseDuration(high)
	return Probe{Min: least.D(), Max: most.D()}, err
}

// Next is when to ask after failures probes in a row have failed (0: the
// endpoint has just been found down). random, in [0, 1), spreads the probes of
// endpoints that went down together: over the upper half of an interval, or the
// first second behind a cron time. Pure.
func (p Probe) Next(now time.Time, failures int, random float64) time.Time {
	if p.cron != nil {
		return p.cron.Next(now.UTC()).Add(time.Duration(random * float64(time.Second)))
	}
	interval := p.Min
	for range failures {
		if interval >= p.Max/2 {
			interval = p.Max
			break
		}
		interval *= 2
	}
	return now.Add(interval/2 + time.Duration(random*float64(interval/2)))
}
