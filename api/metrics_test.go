package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/pgtemp"
	"github.com/rowcall/rowcall/store/storetest"
)

// value is one sample of a scrape.
func value(t *testing.T, scrape, series string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(scrape)
	if m == nil {
		t.Fatalf("no %s in:\n%s", series, scrape)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMetricsSayHowFarEverySubscriptionIs(t *testing.T) {
	t.Parallel()
	w, failingID, _ := failing(t)
	waiting, _ := w.subscribe("waiting", `"start":"earliest"`)["id"].(string)
	a := w.do(request{method: "GET", path: "/metrics"})
	if a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for series, want := range map[string]float64{
		`rowcall_backlog_events{subscription="` + waiting + `"}`:   3,
		`rowcall_backlog_events{subscription="` + failingID + `"}`: 0,
		`rowcall_deliveries{state="retrying"}`:                     1,
		`rowcall_deliveries{state="blocked"}`:                      1,
		`rowcall_deliveries{state="dead"}`:                         1,
		`rowcall_store_up`:                                         1,
	} {
		if got := value(t, a.body, series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	if got := value(t, a.body, "rowcall_log_bytes"); got < 8192 {
		t.Errorf("log of %v bytes", got)
	}
	if got := value(t, a.body, "rowcall_log_max_bytes"); got != 32<<30 {
		t.Errorf("the log may have %v bytes", got)
	}
	for _, id := range []string{waiting, failingID} { // what is retried is not delivered either
		if got := value(t, a.body, `rowcall_oldest_undelivered_seconds{subscription="`+id+`"}`); got <= 0 || got > 120 {
			t.Errorf("oldest undelivered of %s %v s", id, got)
		}
	}
}

func TestMetricsSayWhatHoldsASubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := w.subscribe("held")["id"].(string)
	free, _ := w.subscribe("free")["id"].(string)
	w.knows(id, store.EndpointHealth{State: "healthy", Hold: "filter_error", HeldSince: time.Now()})
	scrape := w.do(request{method: "GET", path: "/metrics"}).body
	if got := value(t, scrape, `rowcall_subscription_hold{hold="filter_error",subscription="`+id+`"}`); got != 1 {
		t.Errorf("held: %v", got)
	}
	if regexp.MustCompile(`rowcall_subscription_hold\{[^}]*` + free).MatchString(scrape) {
		t.Errorf("one that nothing holds is said to be held:\n%s", scrape)
	}
}

func TestSubscriptionsBeyondTheCapShareALabel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	w.write(claim, 0x100, 5, func(int) string { return `{}` })
	var ids []string
	for i := range 4 {
		id, _ := w.subscribe(fmt.Sprintf("s%d", i), `"start":"earliest"`)["id"].(string)
		ids = append(ids, id)
	}
	registry := prometheus.NewRegistry()
	a, err := api.New(w.store, api.Config{URLs: anyURL{}, Registry: registry, Subscriptions: 2, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	a.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	scrape := rec.Body.String()
	for i, id := range ids {
		if has := strings.Contains(scrape, id); has != (i < 2) {
			t.Errorf("subscription %d has a label: %t", i, has)
		}
	}
	if got := value(t, scrape, `rowcall_backlog_events{subscription="other"}`); got != 10 {
		t.Errorf("the rest have %v, want 10", got)
	}
	oldest := `rowcall_oldest_undelivered_seconds{subscription="other"}`
	if got := value(t, scrape, oldest); got <= 0 {
		t.Errorf("the oldest of the rest waits for %v s", got)
	}
	for _, id := range ids[1:] {
		w.knows(id, store.EndpointHealth{State: "healthy", Hold: "paused", HeldSince: time.Now()})
	}
	again, err := api.New(w.store, api.Config{URLs: anyURL{}, Registry: prometheus.NewRegistry(), Subscriptions: 2, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	rec = httptest.NewRecorder()
	again.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if got := value(t, rec.Body.String(), oldest); got != 0 {
		t.Errorf("of the rest, which are held, the oldest waits for %v s: who is paused would be an alert", got)
	}
	if got := value(t, rec.Body.String(), `rowcall_oldest_undelivered_seconds{subscription="`+ids[1]+`"}`); got <= 0 {
		t.Errorf("one with a label of its own, which is held, waits for %v s", got)
	}
	if _, err := api.New(w.store, api.Config{URLs: anyURL{}, Registry: registry}); err == nil {
		t.Error("two APIs registered the same metrics with one registry")
	}
}

func TestAStoreThatIsDownIsSaidAndNotServedStale(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	st := storetest.OpenIdle(t, store.Config{URL: storetest.Migrated(t, cluster)})
	key := api.NewKey()
	hash, err := api.HashKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.SetBootstrapKey(t.Context(), hash); err != nil {
		t.Fatal(err)
	}
	a, err := api.New(st, api.Config{URLs: anyURL{}, MetricsAge: time.Nanosecond, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, api: a, store: st}
	list := request{method: "GET", path: "/v1/subscriptions", key: key}
	if got := w.do(list); got.status != http.StatusOK {
		t.Fatalf("bootstrap key: %d %s", got.status, got.body)
	}
	if err := cluster.Stop(t.Context(), pgtemp.Immediate); err != nil {
		t.Fatal(err)
	}
	if got := w.do(request{method: "GET", path: "/healthz"}); got.status != http.StatusOK {
		t.Errorf("alive: %d", got.status)
	}
	if got := w.do(request{method: "GET", path: "/readyz"}); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "the store does not answer") {
		t.Errorf("ready: %d %s", got.status, got.body)
	}
	got := w.do(request{method: "GET", path: "/metrics"})
	if value(t, got.body, "rowcall_store_up") != 0 || strings.Contains(got.body, "rowcall_log_bytes ") {
		t.Errorf("metrics: %s", got.body)
	}
	got = w.do(list)
	got.problem(t, http.StatusServiceUnavailable, "unavailable")
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	// A key that is not remembered cannot be judged: that is no failed sign-in.
	for range 15 {
		w.do(request{method: "GET", path: "/v1/subscriptions", key: api.NewKey()}).problem(t, http.StatusServiceUnavailable, "unavailable")
	}
}
