package dispatch

import (
	"net/http/httptest"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/subscriptions"
)

// scraped are the samples of a counter's series as Prometheus gets them.
func scraped(t *testing.T, registry *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	found := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?m)^`+name+`\{(.*)\} (\S+)$`).FindAllStringSubmatch(rec.Body.String(), -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		found[m[1]] = v
	}
	return found
}

// A counter whose series begins with its first event has no increase by it: the
// alert on a single loss would never fire.
func TestWhatIsCountedBeginsAtZero(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	newMetrics(registry)
	for name, want := range map[string][]string{
		"rowcall_attempts_total": {
			`outcome="delivered",reason=""`, `outcome="blocked",reason="blocked"`, `outcome="failed",reason="local_resource"`,
			`outcome="failed",reason="rejected"`, `outcome="unknown",reason="unknown"`,
		},
		"rowcall_given_up_events_total": {
			`reason="hold_limit_age",then="dead-letter"`, `reason="hold_limit_bytes",then="dead-letter"`,
			`reason="hold_limit_age",then="drop"`, `reason="hold_limit_bytes",then="drop"`, `reason="log_full",then="drop"`,
		},
		"rowcall_dead_letters_total": {`reason="rejected"`, `reason="unknown"`},
	} {
		found := scraped(t, registry, name)
		for _, labels := range want {
			if v, ok := found[labels]; !ok || v != 0 {
				t.Errorf("%s{%s}: %v, there: %t", name, labels, v, ok)
			}
		}
	}
}

func TestDeadLettersAreCountedByTheirReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		e := newEndpoint(func(string, int) (int, time.Duration) { return 422, time.Millisecond })
		m := newMemory(simulated(func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 2 }))
		_, kill := liveAs(t, m, Config{Transport: e, Version: "sim", Drain: time.Minute, Logger: zerolog.Nop(), Registerer: registry})
		dead := func() map[string]float64 { return scraped(t, registry, "rowcall_dead_letters_total") }
		before := dead()
		for n := range 3 {
			m.append(rowEvent(n, n))
		}
		await(t, time.Hour, "all dead", func() bool { return dead()[`reason="rejected"`] == 3 })
		kill()
		after := dead()
		if len(after) != len(before) || len(after) != len(reasons) {
			t.Errorf("%d series before, %d after, of %d reasons", len(before), len(after), len(reasons))
		}
		for labels, v := range after {
			if v != 0 && (labels != `reason="rejected"` || v != 3) {
				t.Errorf("%s: %v", labels, v)
			}
		}
	})
}
