package subscriptions

import "time"

// Duration is a time.Duration written as Go's "15s" plus days, "30d".
type Duration time.Duration

// ParseDuration reads Go's form, and "d" for 24 h ("1d12h").
func ParseDuration(s string) (Duration, error) { panic("unwritten") }

// D is the time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }
