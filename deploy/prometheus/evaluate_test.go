// Package prometheus_test has Prometheus itself evaluate the alert rules.
package prometheus_test

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"go.yaml.in/yaml/v3"
)

// rule is an alert rule.
type rule struct {
	Alert       string
	Expr        string
	For         time.Duration
	Labels      map[string]string
	Annotations map[string]string
}

func rules(t *testing.T) map[string]rule {
	t.Helper()
	content, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	found := map[string]rule{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			found[r.Alert] = r
		}
	}
	return found
}

// sample is a value at a time in milliseconds.
type sample struct {
	at    int64
	value float64
}

func (s sample) T() int64                      { return s.at }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.value }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

// found is the series of one selector.
type found struct {
	storage.SeriesSet
	series []storage.Series
	at     int
}

func (f *found) Next() bool         { f.at++; return f.at <= len(f.series) }
func (f *found) At() storage.Series { return f.series[f.at-1] }

// scrapes is what Prometheus has stored: a sample of each series a minute, in the
// notation of its own tests: "name{label="x"} 0x10 1+1x3 _ stale".
func scrapes(t *testing.T, written []string) storage.Queryable {
	t.Helper()
	var all []storage.Series
	for _, text := range written {
		name, values, err := parser.ParseSeriesDesc(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var samples []chunks.Sample
		for i, v := range values {
			if !v.Omitted {
				samples = append(samples, sample{int64(i) * time.Minute.Milliseconds(), v.Value})
			}
		}
		all = append(all, storage.NewListSeries(name, samples))
	}
	selected := func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		f := &found{SeriesSet: storage.EmptySeriesSet()}
		for _, s := range all {
			if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.Labels().Get(m.Name)) }) {
				f.series = append(f.series, s)
			}
		}
		return f
	}
	return &storage.MockQueryable{MockQuerier: &storage.MockQuerier{SelectMockFunction: selected}}
}

// firing returns the minutes, of the first so many, in which a rule fires, by the
// labels of its alerts.
func firing(t *testing.T, r rule, written []string, minutes int) map[string][]int {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})
	stored := scrapes(t, written)
	since := map[string]int{}
	fires := map[string][]int{}
	for minute := range minutes {
		query, err := engine.NewInstantQuery(t.Context(), stored, nil, r.Expr, time.Unix(int64(minute)*60, 0))
		if err != nil {
			t.Fatalf("%s: %v", r.Alert, err)
		}
		result, err := query.Exec(t.Context()).Vector()
		if err != nil {
			t.Fatalf("%s: %v", r.Alert, err)
		}
		pending := map[string]int{}
		for _, s := range result {
			name := s.Metric.MatchLabels(false, "__name__").String()
			pending[name] = minute
			if first, ok := since[name]; ok {
				pending[name] = first
			}
			if minute-pending[name] >= int(r.For.Minutes()) {
				fires[name] = append(fires[name], minute)
			}
			summarize(t, r, s)
		}
		since = pending
		query.Close()
	}
	return fires
}

// summarize has the rule's summary say what fires: every label that it names is there.
func summarize(t *testing.T, r rule, s promql.Sample) {
	t.Helper()
	summary := r.Annotations["summary"]
	same := func(v float64) string { return fmt.Sprint(v) }
	said, err := template.New(r.Alert).Funcs(template.FuncMap{"humanizePercentage": same, "humanizeDuration": same}).
		Parse("{{ $labels := .Labels }}{{ $value := .Value }}" + summary)
	if err != nil {
		t.Fatal(err)
	}
	if err := said.Execute(io.Discard, map[string]any{"Labels": s.Metric.Map(), "Value": s.F}); err != nil {
		t.Fatal(err)
	}
	for _, named := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(summary, -1) {
		if !s.Metric.Has(named[1]) && !strings.Contains(summary, "with "+named[0]) {
			t.Fatalf("%s names the label %s, which %s lacks", r.Alert, named[1], s.Metric)
		}
	}
}

// wellSeries are what an installation shows that does well, each from its first minute on.
const wellSeries = `up 1
process_start_time_seconds -86400
rowcall_build_info{version="1"} 1
rowcall_store_up 1
rowcall_log_bytes 10
rowcall_log_max_bytes 1000
rowcall_source_lag_bytes{source="main"} 4096
rowcall_source_lag_seconds{source="main"} 0.1
rowcall_source_state{source="main",state="streaming"} 1
rowcall_source_state{source="main",state="gap"} 0
rowcall_source_state{source="main",state="refused"} 0
rowcall_source_state{source="main",state="waiting"} 0
rowcall_append_seconds_bucket{le="0.1"} 0+60
rowcall_append_seconds_bucket{le="5"} 0+60
rowcall_append_seconds_bucket{le="+Inf"} 0+60
rowcall_endpoint_health{subscription="sub_a",state="healthy"} 1
rowcall_oldest_undelivered_seconds{subscription="sub_a"} 0
rowcall_attempts_total{outcome="delivered",reason=""} 0+60
rowcall_attempts_total{outcome="blocked",reason="blocked"} 0
rowcall_attempts_total{outcome="failed",reason="local_resource"} 0
rowcall_attempts_unrecorded_total 0
rowcall_given_up_events_total{then="dead-letter",reason="log_full"} 0
rowcall_given_up_events_total{then="drop",reason="hold_limit_age"} 0
rowcall_dead_range_dropped_events_total 0
rowcall_dead_letters_total{reason="rejected"} 0`

// well is an instance in which all is well, for so many minutes, by its target's
// labels: up for a day before the first of them. What is given in its place stands
// for the series of that name.
func well(target string, minutes int, instead ...string) []string {
	series := map[string]string{}
	for line := range strings.Lines(wellSeries) {
		name, values, _ := strings.Cut(strings.TrimSpace(line), " ")
		series[name] = fmt.Sprintf("%sx%d", values, minutes)
	}
	for _, text := range instead {
		name, values, _ := strings.Cut(text, " ")
		series[name] = values
	}
	var all []string
	for name, values := range series {
		stem, own, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
		all = append(all, stem+"{"+strings.Trim(target+","+own, ",")+"} "+values)
	}
	return all
}

// sorted is a set of labels as Prometheus prints it.
func sorted(parts ...string) string {
	var all []string
	for _, part := range parts {
		for l := range strings.SplitSeq(part, ",") {
			if l = strings.TrimSpace(l); l != "" {
				all = append(all, l)
			}
		}
	}
	slices.Sort(all)
	return "{" + strings.Join(all, ", ") + "}"
}
