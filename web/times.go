package web

import (
	"strconv"
	"strings"
	"time"
)

// readTime reads a time as people write it: a duration from now, in the
// direction of sign, such as 90d or 1h30m, or a time in UTC unless it says its
// zone. problem says what is wrong with it; empty: nothing.
func readTime(text string, now time.Time, sign int) (at time.Time, problem string) {
	text = strings.TrimSpace(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n > 0 && n < 100_000 {
			return now.Add(time.Duration(float64(sign) * n * float64(24*time.Hour))).UTC().Truncate(time.Second), ""
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(time.Duration(sign) * d).UTC().Truncate(time.Second), ""
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), ""
		}
	}
	return time.Time{}, "is neither a duration such as 90d or 12h, nor a time such as 2027-01-31T12:00:00Z"
}
