package main

import (
	"fmt"
	"io"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report gathers figures and prints them, first as they come and at the end
// beside the bars that they have to meet.
type report struct {
	out       io.Writer
	drains    []round
	batched   []round
	filtered  []round
	live      liveResult
	latencies []latencies
	idleRatio float64
	fanRatio  float64
	bulkRatio float64
	big       int
	bigRSS    float64
	lost      int
	pages     int
	slow      []string // pages over their bar
}

type liveResult struct {
	writeRate, rate, rss float64
	tally                tally
	written              int
}

func newReport(out io.Writer) *report { return &report{out: out} }

func (r *report) line(name, format string, args ...any) {
	fmt.Fprintf(r.out, "  %-46s "+format+"\n", append([]any{name}, args...)...)
}

func (r *report) title(o options) {
	fmt.Fprintf(r.out, "rowcall-bench: %d cores, %s; %d rounds of %d events. Compare figures of this run with each other only.\n\n",
		runtime.NumCPU(), runtime.Version(), o.rounds, o.events)
	fmt.Fprintf(r.out, "  %-6s %10s %10s %10s %10s %7s %11s %11s %9s %6s\n", "drain", "bare POST", "recvlogic", "log only", "rowcall", "ratio",
		"gateway CPU", "Postgr. CPU", "WAL/event", "RSS")
}

func (r *report) showRound(m round) {
	fmt.Fprintf(r.out, "  %-6d %8.0f/s %8.0f/s %8.0f/s %8.0f/s %7.2f %8.1f µs %8.1f µs %7.0f B %4.0fMB\n", len(r.drains), m.bareRate, m.recvRate, m.logRate,
		m.rate, m.rate/m.bareRate, m.gatewayCPU, m.pgCPU, m.walBytes, m.rss)
}

func (r *report) showBatched(m round) {
	r.line(fmt.Sprintf("drain with %d events a POST", batchSize), "%8.0f events/s  (%.2f of pg_recvlogical, %.0f/s), gateway %.1f µs, Postgres %.1f µs an event",
		m.rate, m.rate/m.recvRate, m.recvRate, m.gatewayCPU, m.pgCPU)
}

func (r *report) showLive() {
	l := r.live
	fmt.Fprintln(r.out)
	r.line("live, eight writers at full speed", "%8.0f events/s delivered while %.0f/s were written, RSS %.0f MiB", l.rate, l.writeRate, l.rss)
}

func (r *report) showLatency(l latencies) {
	r.line("commit → receipt at "+l.name, "p50 %.2f  p95 %.2f  p99 %.2f ms", l.P50, l.P95, l.P99)
}

// showPage says how long a page takes: its median, and the slowest of all, the
// first included.
func (r *report) showPage(v view, middle, most time.Duration) {
	verdict := ""
	if r.pages++; middle > v.bar() {
		verdict = fmt.Sprintf("  over %d", v.bar().Milliseconds())
		r.slow = append(r.slow, v.path)
	}
	fmt.Fprintf(r.out, "  %6.1f %6.1f ms  %s%s%s\n", middle.Seconds()*1000, most.Seconds()*1000, v.name(), v.body, verdict)
}

// showFurther says how many pages of a list there were before its first row, or its end.
func (r *report) showFurther(v view, pages int, took time.Duration) {
	verdict := ""
	if pages > walkMost {
		verdict = fmt.Sprintf("  over %d", walkMost)
		r.slow = append(r.slow, v.path)
	}
	fmt.Fprintf(r.out, "  %6d pages, %.1f s to the first row or the end of %s%s\n", pages, took.Seconds(), v.name(), verdict)
}

// name is its path, to be read.
func (v view) name() string {
	name := v.path
	if u, err := url.Parse(v.path); err == nil {
		q := u.Query()
		deep := q.Has("cursor")
		q.Del("cursor")
		if name = strings.TrimSuffix(u.Path+"?"+q.Encode(), "?"); deep {
			name += " (deep)"
		}
	}
	if plain, err := url.QueryUnescape(name); err == nil {
		name = plain
	}
	if v.key != nil {
		name += " (key of " + v.key.label + ")"
	}
	return name
}

// of is the median over the rounds.
func (r *report) of(f func(round) float64) float64 {
	var all []float64
	for _, m := range r.drains {
		all = append(all, f(m))
	}
	return median(all)
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// bars prints the ratios beside what they should be.
func (r *report) bars() {
	fmt.Fprintf(r.out, "\n  %-58s %8s %8s\n", "ratios of medians, in this run", "seen", "bar")
	bar := func(name string, seen, bar float64, atLeast bool) {
		sign, verdict := "≤", "ok"
		if atLeast {
			sign = "≥"
		}
		if atLeast && seen < bar || !atLeast && seen > bar {
			verdict = "MISSED"
		}
		fmt.Fprintf(r.out, "  %-58s %8.2f %2s%6.2f  %s\n", name, seen, sign, bar, verdict)
	}
	if len(r.drains) > 0 {
		bare := r.of(func(m round) float64 { return m.bareRate })
		recv := r.of(func(m round) float64 { return m.recvRate })
		bar("backlog, single signed POSTs ÷ bare POST loop", r.of(func(m round) float64 { return m.rate })/bare, .6, true)
		bar("capture → log alone ÷ pg_recvlogical", r.of(func(m round) float64 { return m.logRate })/recv, .5, true)
		bar("gateway CPU an event ÷ CPU a request of the bare loop",
			r.of(func(m round) float64 { return m.gatewayCPU })/r.of(func(m round) float64 { return m.bareCPU }), 2, false)
		bar("WAL written an event ÷ payload bytes", r.of(func(m round) float64 { return m.walRatio }), 1.6, false)
		bar("RSS at saturation, MiB", r.of(func(m round) float64 { return m.rss }), 150, false)
	}
	if len(r.batched) > 0 {
		var ratios []float64
		for _, m := range r.batched {
			ratios = append(ratios, m.rate/m.recvRate)
		}
		bar(fmt.Sprintf("backlog, %d events a POST ÷ pg_recvlogical", batchSize), median(ratios), .4, true)
	}
	for _, l := range r.latencies[:min(2, len(r.latencies))] {
		bar("commit → receipt at "+l.name+", p50 ms", l.P50, 3, false)
		bar("commit → receipt at "+l.name+", p99 ms", l.P99, 12, false)
	}
	if len(r.latencies) == 4 {
		for i := range 2 {
			bar("p99 beside an endpoint that hangs ÷ alone, at "+r.latencies[i].name, r.latencies[i+2].P99/r.latencies[i].P99, 2, false)
		}
	}
	if r.idleRatio > 0 {
		bar("rate with 1,000 idle subscriptions ÷ with one", r.idleRatio, .9, true)
	}
	if r.fanRatio > 0 {
		bar("deliveries/s with 10 matching subscriptions ÷ with one", r.fanRatio, .9, true)
	}
	if r.bulkRatio > 0 {
		bar("p99 of 980 healthy endpoints beside 20 that hang or fail ÷ before", r.bulkRatio, 2, false)
	}
	if r.pages > 0 {
		bar(fmt.Sprintf("of %d pages and lists, over their bar", r.pages), float64(len(r.slow)), 0, false)
	}
	if r.big > 0 {
		bar(fmt.Sprintf("RSS with a backlog of %d, MiB", r.big), r.bigRSS, 256, false)
	}
	lost, dup, order := r.lost, 0, 0
	for _, m := range slices.Concat(r.drains, r.batched, r.filtered) {
		lost, dup, order = lost+m.lost, dup+m.dup, order+m.order
	}
	for _, l := range r.latencies {
		lost, dup, order = lost+l.written-l.Unique, dup+l.Duplicates, order+l.OutOfOrder
	}
	if r.live.written > 0 {
		lost, dup, order = lost+r.live.written-r.live.tally.Unique, dup+r.live.tally.Duplicates, order+r.live.tally.OutOfOrder
	}
	fmt.Fprintf(r.out, "\n  lost %d, duplicated %d, out of order %d\n", lost, dup, order)
}
