package web

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

// chart is numbers over time as the server draws them: paths in a box of 600 by
// 96 that stretches, with its words beside it.
type chart struct {
	Title    string
	Main     string // what it comes to, first in large
	More     string
	Max      string // what the upper edge is
	From, To moment
	Area     string // paths; empty: there is nothing to draw
	Solid    string
	Dashed   string
	Names    []string // of its columns
	Values   []chartRow
}

// chartRow is a step in the table behind a chart.
type chartRow struct {
	At    moment
	Texts []string
}

const chartWide, chartHigh = 600.0, 96.0

// line is a series with how it is written.
type line struct {
	name   string
	values []*float64 // nil: not known
	text   func(float64) string
}

// newChart draws one or two lines over the same steps.
func newChart(title string, times []time.Time, now time.Time, lines ...line) chart {
	c := chart{Title: title}
	top := 0.0
	for _, l := range lines {
		c.Names = append(c.Names, l.name)
		for _, v := range l.values {
			if v != nil {
				top = max(top, *v)
			}
		}
	}
	for i, t := range times {
		row := chartRow{At: at(t, now)}
		for _, l := range lines {
			text := unknown
			if l.values[i] != nil {
				text = l.text(*l.values[i])
			}
			row.Texts = append(row.Texts, text)
		}
		c.Values = append(c.Values, row)
	}
	if len(times) == 0 {
		return c
	}
	c.From, c.To = at(times[0], now), at(now, now)
	if top == 0 {
		return c
	}
	c.Max = lines[0].text(top)
	c.Solid = trace(lines[0].values, top)
	if !slices.Contains(lines[0].values, nil) {
		c.Area = c.Solid + fmt.Sprintf("L%.0f %.0fL0 %.0fZ", chartWide, chartHigh, chartHigh)
	}
	if len(lines) > 1 {
		c.Dashed = trace(lines[1].values, top)
	}
	return c
}

// trace is a line through values; what is not known is a gap.
func trace(values []*float64, top float64) string {
	var b strings.Builder
	pen := "M"
	for i, v := range values {
		if v == nil {
			pen = "M"
			continue
		}
		x := float64(i) * chartWide / float64(max(1, len(values)-1))
		y := chartHigh - 2 - (chartHigh-6)*(*v)/top
		fmt.Fprintf(&b, "%s%.1f %.1f", pen, x, y)
		switch alone := pen == "M" && (i+1 == len(values) || values[i+1] == nil); {
		case alone && i > 0: // it is seen too
			b.WriteString("h-6")
		case alone:
			b.WriteString("h6")
		}
		pen = "L"
	}
	return b.String()
}

// charts are what happened in a window: how much, how fast, how badly.
func charts(s *client.Stats, now time.Time) []chart {
	step := time.Duration(s.Step) * time.Second
	n := len(s.Series)
	times := make([]time.Time, n)
	captured, delivered := make([]*float64, n), make([]*float64, n)
	p50, p95, failed := make([]*float64, n), make([]*float64, n), make([]*float64, n)
	for i := range s.Series {
		of := &s.Series[i]
		times[i] = of.At
		// The newest step has not ended.
		seconds := min(step, max(now.Sub(of.At), 10*time.Second)).Seconds()
		if of.Captured != nil {
			captured[i] = new(float64(*of.Captured) / seconds)
		}
		p50[i], p95[i] = of.P50, of.P95
		if of.Delivered == nil {
			continue
		}
		delivered[i] = new(float64(*of.Delivered) / seconds)
		if tries := *of.Delivered + of.Failed; tries > 0 {
			failed[i] = new(100 * float64(of.Failed) / float64(tries))
		}
	}
	span := (step * time.Duration(max(1, n))).Seconds()
	flow := newChart("Events a second", times, now, line{"captured", captured, perSecond}, line{"delivered", delivered, perSecond})
	if s.Captured == nil {
		flow = newChart("Events a second", times, now, line{"delivered", delivered, perSecond})
	}
	flow.Main, flow.More = unknown, "delivered: only tries that failed are kept"
	if n := s.Sum.Delivered; n != nil {
		flow.Main, flow.More = number(*n), "delivered, "+perSecond(float64(*n)/span)+" on average"
	}
	if s.Sum.Captured != nil {
		flow.More += " · " + number(*s.Sum.Captured) + " captured"
	}
	latency := newChart("Time of a try", times, now, line{"median", p50, milliseconds}, line{"slowest 5 %", p95, milliseconds})
	latency.Main = unknown
	if s.Sum.P50 != nil {
		latency.Main, latency.More = milliseconds(*s.Sum.P50), "median"
	}
	if s.Sum.P95 != nil {
		latency.More += " · " + milliseconds(*s.Sum.P95) + " for the slowest 5 %"
	}
	failures := newChart("Failed tries", times, now, line{"failed", failed, func(v float64) string { return percent(new(v / 100)) }})
	failures.Main, failures.More = unknown, "no try was made"
	if s.Sum.Delivered == nil {
		failures.More = plural(s.Sum.Failed, "try", "tries") + " failed; how many were made is not kept"
	} else if tries := *s.Sum.Delivered + s.Sum.Failed; tries > 0 {
		failures.Main, failures.More = percent(new(float64(s.Sum.Failed)/float64(tries))), "of "+plural(tries, "try", "tries")
	}
	return []chart{flow, latency, failures}
}

func perSecond(v float64) string {
	switch {
	case v == 0:
		return "0/s"
	case v < 0.1:
		return strconv.FormatFloat(60*v, 'f', 1, 64) + "/min"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64) + "/s"
	default:
		return number(int64(math.Round(v))) + "/s"
	}
}

// windows are the spans that charts are of.
func windows() []windowOption {
	return []windowOption{{"hour", "1 h"}, {"day", "24 h"}, {"week", "7 d"}}
}

type windowOption struct{ Name, Text string }

// windowOf is the span that an address asks for.
func windowOf(name string) string {
	if name == "day" || name == "week" {
		return name
	}
	return "hour"
}
