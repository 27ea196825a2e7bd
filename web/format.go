package web

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// unknown stands where a number is not known; it is never 0.
const unknown = "–"

// number writes an integer with its thousands apart.
func number(v any) string {
	var n int64
	switch v := v.(type) {
	case int:
		n = int64(v)
	case int32:
		n = int64(v)
	case int64:
		n = v
	case *int64:
		if v == nil {
			return unknown
		}
		n = *v
	default:
		return unknown
	}
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "−", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// size writes bytes in binary units.
func size(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, unit := float64(n)/1024, 0
	for v >= 1023.95 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	precision := 0
	if v < 10 {
		precision = 1
	}
	return strconv.FormatFloat(v, 'f', precision, 64) + " " + []string{"KiB", "MiB", "GiB", "TiB", "PiB"}[unit]
}

// words writes a duration in its two largest units, as people say it.
func words(d time.Duration) string {
	d = d.Abs()
	part := func(n time.Duration, unit string) string { return strconv.FormatInt(int64(n), 10) + " " + unit }
	const day = 24 * time.Hour
	two := func(big, small time.Duration, bigUnit, smallUnit string) string {
		text := part(d/big, bigUnit)
		if rest := d % big / small; rest > 0 && d/big < 10 {
			text += " " + part(rest, smallUnit)
		}
		return text
	}
	switch {
	case d < time.Millisecond:
		return part(d/time.Microsecond, "µs")
	case d < time.Second:
		return part(d/time.Millisecond, "ms")
	case d < 10*time.Second:
		return strconv.FormatFloat(math.Floor(d.Seconds()*10)/10, 'f', -1, 64) + " s"
	case d < time.Minute:
		return part(d/time.Second, "s")
	case d < time.Hour:
		return part(d/time.Minute, "min")
	case d < day:
		return two(time.Hour, time.Minute, "h", "min")
	default:
		return two(day, time.Hour, "d", "h")
	}
}

// percent writes a share; nil is not known.
func percent(share *float64) string {
	if share == nil {
		return unknown
	}
	switch v := *share * 100; {
	case v == 0 || v >= 10:
		return strconv.FormatFloat(v, 'f', 0, 64) + " %"
	default:
		return strconv.FormatFloat(max(v, 0.1), 'f', 1, 64) + " %"
	}
}

// milliseconds writes how long an attempt took.
func milliseconds(ms float64) string {
	switch {
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	case ms < 10_000:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	default:
		return strconv.FormatFloat(ms/1000, 'f', 1, 64) + " s"
	}
}

// moment is a time as a page shows it: relative, with the absolute behind it.
// The script puts it into the viewer's zone and keeps it current.
type moment struct {
	ISO, Absolute, Text string // all empty: not known
	Ahead               bool   // it is still to come
}

// at makes a moment of a time.Time or *time.Time, seen from now.
func at(v any, now time.Time) moment {
	var t time.Time
	switch v := v.(type) {
	case time.Time:
		t = v
	case *time.Time:
		if v != nil {
			t = *v
		}
	}
	if t.IsZero() {
		return moment{Text: unknown}
	}
	t = t.UTC()
	return moment{ISO: t.Format(time.RFC3339Nano), Absolute: t.Format("2006-01-02 15:04:05.000 UTC"), Text: relative(t, now), Ahead: t.After(now)}
}

func relative(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d > -time.Second && d < time.Second:
		return "now"
	case d < 0:
		return "in " + words(-d)
	default:
		return words(d) + " ago"
	}
}

// hostOf is what of a URL tells endpoints apart in a list.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return raw
	}
	return u.Host + strings.TrimSuffix(u.Path, "/")
}

// short cuts a text to n characters.
func short(n int, text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}

// plural writes a number with its noun.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// statusText names an HTTP status; empty for 0.
func statusText(status int) string {
	if status == 0 {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, httpStatus(status)))
}
