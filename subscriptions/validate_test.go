package subscriptions_test

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/subscriptions"
)

func valid() subscriptions.Spec {
	return subscriptions.Spec{
		Name: "n", Events: []string{"**"}, Endpoint: subscriptions.Endpoint{URL: "https://example.com/hooks"},
	}
}

// faultsOf are the faults of a valid Spec after one change.
func faultsOf(t *testing.T, change func(*subscriptions.Spec)) []string {
	t.Helper()
	spec := valid()
	change(&spec)
	return faults(t, spec.Validate())
}

func TestZeroMembersAreValid(t *testing.T) {
	t.Parallel()
	spec := valid()
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(valid(), spec); diff != "" {
		t.Errorf("Validate changed the Spec: %s", diff)
	}
}

func TestNormalizeKeepsWhatIsGiven(t *testing.T) {
	t.Parallel()
	given := mustParse(t, with(`"labels":{"a":"1"},"max_in_flight":1,"retry":{"max_attempts":1},"ordering":"none"`))
	spec := given
	spec.Normalize()
	if diff := cmp.Diff(given, spec); diff != "" {
		t.Error(diff)
	}
}

func TestBoundsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	const ms, s, m, h, d = time.Millisecond, time.Second, time.Minute, time.Hour, 24 * time.Hour
	durations := map[string]struct {
		least, most time.Duration
		set         func(*subscriptions.Spec, subscriptions.Duration)
	}{
		"endpoint.timeout": {100 * ms, 120 * s, func(p *subscriptions.Spec, v subscriptions.Duration) { p.Endpoint.Timeout = v }},
		"retry.initial": {100 * ms, h, func(p *subscriptions.Spec, v subscriptions.Duration) {
			p.Retry.Initial, p.Retry.Max = v, subscriptions.Duration(7*d)
		}},
		"retry.max": {100 * ms, 7 * d, func(p *subscriptions.Spec, v subscriptions.Duration) {
			p.Retry.Initial, p.Retry.Max = subscriptions.Duration(100*ms), v
		}},
		"retry.max_age":  {m, 365 * d, func(p *subscriptions.Spec, v subscriptions.Duration) { p.Retry.MaxAge = v }},
		"batch.max_wait": {1, 60 * s, func(p *subscriptions.Spec, v subscriptions.Duration) { p.Batch.MaxWait = v }},
		"outage.hold_limit.age": {m, 365 * d, func(p *subscriptions.Spec, v subscriptions.Duration) {
			p.Outage.HoldLimit.Age = v
		}},
		"window.for": {m, 7 * d, func(p *subscriptions.Spec, v subscriptions.Duration) {
			p.Window = &subscriptions.Window{Cron: "0 2 1 * *", For: v}
		}},
	}
	for field, c := range durations {
		check := func(value time.Duration, ok bool) {
			t.Helper()
			spec := valid()
			c.set(&spec, subscriptions.Duration(value))
			expectBound(t, field, value.String(), spec.Validate(), ok)
		}
		check(c.least, true)
		check(c.most, true)
		check(c.most+1, false)
		check(-s, false)
		if c.least > 1 {
			check(c.least-1, false)
		}
	}
	numbers := map[string]struct {
		least, most float64
		set         func(*subscriptions.Spec, float64)
	}{
		"max_in_flight":         {1, 1000, func(p *subscriptions.Spec, v float64) { p.MaxInFlight = int(v) }},
		"batch.max_events":      {1, 1000, func(p *subscriptions.Spec, v float64) { p.Batch.MaxEvents = int(v) }},
		"batch.max_bytes":       {1 << 10, 10 << 20, func(p *subscriptions.Spec, v float64) { p.Batch.MaxBytes = int64(v) }},
		"retry.max_attempts":    {1, 1000, func(p *subscriptions.Spec, v float64) { p.Retry.MaxAttempts = int(v) }},
		"rate_limit.per_second": {0.001, 100_000, func(p *subscriptions.Spec, v float64) { p.RateLimit = &subscriptions.RateLimit{PerSecond: v} }},
	}
	for field, c := range numbers {
		for value, ok := range map[float64]bool{c.least: true, c.most: true, c.most + 1: false, -1: false} {
			spec := valid()
			c.set(&spec, value)
			expectBound(t, field, strconv.FormatFloat(value, 'g', -1, 64), spec.Validate(), ok)
		}
	}
	for _, value := range []float64{0, 0.0009, math.NaN(), math.Inf(1)} {
		spec := valid()
		spec.RateLimit = &subscriptions.RateLimit{PerSecond: value}
		expectBound(t, "rate_limit.per_second", strconv.FormatFloat(value, 'g', -1, 64), spec.Validate(), false)
	}
}

// expectBound wants a fault of the field that names both ends, or none.
func expectBound(t *testing.T, field, value string, err error, ok bool) {
	t.Helper()
	refused := faults(t, err)
	switch {
	case ok && len(refused) > 0:
		t.Errorf("%s of %s: %v", field, value, refused)
	case !ok && (len(refused) != 1 || !strings.HasPrefix(refused[0], field+": must be from ")):
		t.Errorf("%s of %s: %v", field, value, refused)
	}
}

func TestMembersOfPeopleAreChecked(t *testing.T) {
	t.Parallel()
	repeat := func(s string, n int) *string { return new(strings.Repeat(s, n)) }
	many := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m["X-"+strconv.Itoa(i)] = "v"
		}
		return m
	}
	labels := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m["k"+strconv.Itoa(i)] = "v"
		}
		return m
	}
	type change = func(*subscriptions.Spec)
	for name, c := range map[string]struct {
		change change
		want   []string
	}{
		"name of 100 letters":    {func(s *subscriptions.Spec) { s.Name = *repeat("é", 100) }, nil},
		"name of 101 letters":    {func(s *subscriptions.Spec) { s.Name = *repeat("é", 101) }, []string{"name: must have at most 100 characters"}},
		"name with a line break": {func(s *subscriptions.Spec) { s.Name = "a\nb" }, []string{"name: must not have control characters"}},
		"name with NUL":          {func(s *subscriptions.Spec) { s.Name = "a\x00b" }, []string{"name: must not have control characters"}},
		"name of bad UTF-8":      {func(s *subscriptions.Spec) { s.Name = "a\xffb" }, []string{"name: must not have control characters"}},
		"name with space around": {func(s *subscriptions.Spec) { s.Name = " a" }, []string{"name: must not start or end with white space"}},
		"description of lines":   {func(s *subscriptions.Spec) { s.Description = "a\n\tb" }, nil},
		"description too long":   {func(s *subscriptions.Spec) { s.Description = *repeat("a", 1001) }, []string{"description: must have at most 1000 characters"}},
		"20 labels":              {func(s *subscriptions.Spec) { s.Labels = labels(20) }, nil},
		"21 labels":              {func(s *subscriptions.Spec) { s.Labels = labels(21) }, []string{"labels: must have at most 20 members"}},
		"label key of the form":  {func(s *subscriptions.Spec) { s.Labels = map[string]string{"app.io/a_b-c.9": ""} }, nil},
		"label key of 64":        {func(s *subscriptions.Spec) { s.Labels = map[string]string{*repeat("a", 64): ""} }, []string{"labels." + *repeat("a", 64) + ": must have a key of 1 to 63 lower-case letters, digits and ._/-"}},
		"label key in capitals":  {func(s *subscriptions.Spec) { s.Labels = map[string]string{"Team": ""} }, []string{"labels.Team: must have a key of 1 to 63 lower-case letters, digits and ._/-"}},
		"label key, line break":  {func(s *subscriptions.Spec) { s.Labels = map[string]string{"a\n": ""} }, []string{`labels["a\n"]: must have a key of 1 to 63 lower-case letters, digits and ._/-`}},
		"label value of 101":     {func(s *subscriptions.Spec) { s.Labels = map[string]string{"a": *repeat("v", 101)} }, []string{"labels.a: must have at most 100 characters"}},
		"100 events":             {func(s *subscriptions.Spec) { s.Events = strings.Split(*repeat("a,", 99)+"a", ",") }, nil},
		"101 events":             {func(s *subscriptions.Spec) { s.Events = strings.Split(*repeat("a,", 100)+"a", ",") }, []string{"events: must have at most 100 patterns"}},
		"no events":              {func(s *subscriptions.Spec) { s.Events = []string{} }, []string{`events: is required: 1 to 100 patterns such as "public.orders.*"`}},
		"20 headers":             {func(s *subscriptions.Spec) { s.Endpoint.Headers = many(20) }, nil},
		"21 headers":             {func(s *subscriptions.Spec) { s.Endpoint.Headers = many(21) }, []string{"endpoint.headers: must have at most 20 members"}},
		"headers of 8 KiB":       {func(s *subscriptions.Spec) { s.Endpoint.Headers = map[string]string{"X": *repeat("v", 8<<10-1)} }, nil},
		"headers above 8 KiB":    {func(s *subscriptions.Spec) { s.Endpoint.Headers = map[string]string{"X": *repeat("v", 8<<10)} }, []string{"endpoint.headers: must have at most 8192 bytes in all"}},
		"headers twice":          {func(s *subscriptions.Spec) { s.Endpoint.Headers = map[string]string{"X-A": "1", "x-a": "2"} }, []string{"endpoint.headers.x-a: is given more than once; upper and lower case are the same here"}},
		"ordering unknown":       {func(s *subscriptions.Spec) { s.Ordering = "KEY" }, []string{`ordering: must be "key" or "none"`}},
		"on_dead unknown":        {func(s *subscriptions.Spec) { s.OnDead = "wait" }, []string{`on_dead: must be "skip" or "block"`}},
		"max below initial":      {func(s *subscriptions.Spec) { s.Retry.Max = subscriptions.Duration(time.Millisecond * 500) }, []string{"retry.max: must not be below retry.initial"}},
		"signing empty":          {func(s *subscriptions.Spec) { s.Signing = []string{} }, []string{`signing: must name at least one of "v1", "v1a"`}},
		"signing unknown":        {func(s *subscriptions.Spec) { s.Signing = []string{"v2"} }, []string{`signing[0]: must be "v1" or "v1a"`}},
		"both signatures":        {func(s *subscriptions.Spec) { s.Signing = []string{"v1", "v1a"} }, nil},
		"v1a alone":              {func(s *subscriptions.Spec) { s.Signing = []string{"v1a"} }, nil},
		"format of data alone":   {func(s *subscriptions.Spec) { s.Format = subscriptions.Raw }, nil},
		"format of headers":      {func(s *subscriptions.Spec) { s.Format = subscriptions.CloudEventsBinary }, nil},
		"format unknown":         {func(s *subscriptions.Spec) { s.Format = "xml" }, []string{`format: must be "cloudevents" or "cloudevents-binary" or "raw"`}},
		"two authorizations": {func(s *subscriptions.Spec) {
			s.Endpoint.Auth, s.Endpoint.Headers = bearer("t"), map[string]string{"authorization": "Bearer x"}
		}, []string{"endpoint.headers.authorization: must not be given beside endpoint.auth, which sets it"}},
		"a header beside what sets it": {func(s *subscriptions.Spec) {
			s.Endpoint.Headers, s.Endpoint.TraceContext = map[string]string{"TraceParent": "00-1-1-00"}, true
		}, []string{"endpoint.headers.TraceParent: must not be given beside endpoint.trace_context, which sets it"}},
		"signing twice":           {func(s *subscriptions.Spec) { s.Signing = []string{"v1", "v1"} }, []string{"signing[1]: is given more than once"}},
		"filter empty":            {func(s *subscriptions.Spec) { s.Filter = new(" ") }, []string{"filter: must not be empty; null stands for none"}},
		"filter too long":         {func(s *subscriptions.Spec) { s.Filter = repeat("a", 16<<10+1) }, []string{"filter: must have at most 16384 bytes"}},
		"filter with NUL":         {func(s *subscriptions.Spec) { s.Filter = new("a\x00") }, []string{"filter: must not have control characters"}},
		"key without order":       {func(s *subscriptions.Spec) { s.Ordering, s.OrderingKey = subscriptions.OrderNone, new("a") }, []string{`ordering_key: must be null where ordering is "none"`}},
		"batch of raw":            {func(s *subscriptions.Spec) { s.Format, s.Batch.MaxEvents = subscriptions.Raw, 5 }, []string{`batch.max_events: must be 1 unless format is "cloudevents"`}},
		"hold limit of no bytes":  {func(s *subscriptions.Spec) { s.Outage.HoldLimit.Bytes = new(int64(0)) }, []string{"outage.hold_limit.bytes: must be at least 1; null stands for no limit"}},
		"hold limit then unknown": {func(s *subscriptions.Spec) { s.Outage.HoldLimit.Then = "keep" }, []string{`outage.hold_limit.then: must be "dead-letter" or "drop"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, faultsOf(t, c.change)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCompactionNeedsKeys(t *testing.T) {
	t.Parallel()
	got := faultsOf(t, func(s *subscriptions.Spec) { s.Compact, s.Ordering = true, subscriptions.OrderNone })
	if len(got) != 1 || !strings.HasPrefix(got[0], `compact: must be false where ordering is "none"`) {
		t.Errorf("with ordering none: %v", got)
	}
	if got := faultsOf(t, func(s *subscriptions.Spec) { s.Compact = true }); len(got) != 0 {
		t.Errorf("with keys: %v", got)
	}
	key := "data.row.customer_id"
	got = faultsOf(t, func(s *subscriptions.Spec) { s.Compact, s.OrderingKey = true, &key })
	if len(got) != 1 || !strings.HasPrefix(got[0], "compact: must be false beside an ordering_key") {
		t.Errorf("with an ordering key: %v", got)
	}
}

func TestProbesAreRangesOrCron(t *testing.T) {
	t.Parallel()
	for probe, ok := range map[string]bool{
		"5s..15m": true, "1s..24h": true, "1s..1d": true, "1m..1m": true, "*/5 * * * *": true, "@hourly": true,
		"999ms..1m": false, "1s..25h": false, "2m..1m": false, "1s..": false, "..1s": false, "1s": false, "1s...1m": false,
		"-1s..1m": false, "@every 5m": false, "0 0 30 2 *": false, "TZ=UTC 0 2 * * *": false, "x": false,
		"TZ=0": false, "CRON_TZ=": false, "1s..1m..1h": false, "*/0 * * * *": false, "0-99999999 * * * *": false,
		"..": false, " ": false, "1s..1m\n": false, "\x00": false, "0 0 * * * *": false, "1s..9999999999999d": false,
		strings.Repeat("1,", 1000) + "1 * * * *": false,
	} {
		got := faultsOf(t, func(s *subscriptions.Spec) { s.Outage.Probe = probe })
		if ok && len(got) != 0 || !ok && (len(got) != 1 || !strings.HasPrefix(got[0], "outage.probe: must be two durations from 1s to 24h")) {
			t.Errorf("%q: %v", probe, got)
		}
	}
}

func TestWindowsAreCronInUTC(t *testing.T) {
	t.Parallel()
	for cron, want := range map[string]string{
		"0 2 * * *": "", "*/15 8-18 * * 1-5": "", "@daily": "", "0 0 29 2 *": "",
		"":                                      "must be a cron expression",
		"0 2 * *":                               "must be a cron expression",
		"0 2 * * * *":                           "must be a cron expression",
		"61 * * * *":                            "must be a cron expression",
		"*/0 * * * *":                           "must be a cron expression",
		"@never":                                "must be a cron expression",
		"@every 1h":                             "must have fixed times",
		"0 0 31 2 *":                            "must name a time that comes",
		"TZ=0":                                  "must not name a time zone",
		"TZ=Europe/Berlin":                      "must not name a time zone",
		"CRON_TZ=UTC 0 2 * *":                   "must not name a time zone",
		" TZ=UTC 0 2 * * *":                     "must not name a time zone",
		strings.Repeat("0,", 100) + "0 2 * * *": "must be a cron expression",
	} {
		got := faultsOf(t, func(s *subscriptions.Spec) {
			s.Window = &subscriptions.Window{Cron: cron, For: subscriptions.Duration(time.Minute)}
		})
		switch {
		case want == "" && len(got) == 0:
		case want != "" && len(got) == 1 && strings.HasPrefix(got[0], "window.cron: "+want):
		default:
			t.Errorf("%q: %v, want %q", cron, got, want)
		}
	}
}
