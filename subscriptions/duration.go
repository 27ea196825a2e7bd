package subscriptions

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// Duration is a time.Duration written as Go's "15s" plus days, "30d".
//
// It prints without parts that are zero ("1h", not "1h0m0s"), whole days of
// more than a week as days ("30d"), and everything else with hours as the
// largest unit ("72h", "168h", "732h"). What it prints reads back as the same
// value.
type Duration time.Duration

var errDuration = errors.New(`must be a duration such as "15s", "1h30m" or "30d"`)

// ParseDuration reads Go's form, and "d" for 24 h ("1d12h"). Days are whole and
// come first. Its error never holds the text.
func ParseDuration(s string) (Duration, error) {
	sign, rest := "", s
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		sign, rest = rest[:1], rest[1:]
	}
	number, clock, hasDays := strings.Cut(rest, "d")
	if !hasDays {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, errDuration
		}
		return Duration(d), nil
	}
	days, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, errDuration
	}
	if days > math.MaxInt64/uint64(day) {
		return 0, errors.New("must be a duration of at most 292 years")
	}
	total := time.Duration(days) * day
	if clock != "" {
		// "0" needs no unit in Go, and a sign belongs in front of the days.
		if clock[0] == '-' || clock[0] == '+' || clock == "0" {
			return 0, errDuration
		}
		d, err := time.ParseDuration(clock)
		if err != nil {
			return 0, errDuration
		}
		if d > math.MaxInt64-total {
			return 0, errors.New("must be a duration of at most 292 years")
		}
		total += d
	}
	if sign == "-" {
		total = -total
	}
	return Duration(total), nil
}

// D is the time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string {
	if t := time.Duration(d); t%day == 0 && (t > week || t < -week) {
		return strconv.FormatInt(int64(t/day), 10) + "d"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText is String; in JSON a Duration is a string.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is ParseDuration.
func (d *Duration) UnmarshalText(b []byte) error {
	parsed, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
