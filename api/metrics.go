package api

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const (
	scrapeTimeout = 5 * time.Second
	// otherSubscriptions is the label of those beyond Config.Subscriptions, taken
	// together.
	otherSubscriptions = "other"
)

// backlogStore is what the collector reads.
type backlogStore interface {
	Backlogs(ctx context.Context) ([]store.Backlog, error)
	LogStats(ctx context.Context) (store.LogStats, error)
}

// collector makes the metrics that are read from rows, when they are asked for:
// they are the same on every instance. Rows are read at most once in
// Config.MetricsAge. When the store cannot be read, the metrics are absent, and
// rowcall_store_up is 0.
type collector struct {
	store  backlogStore
	config Config

	backlog    *prometheus.Desc
	oldest     *prometheus.Desc
	deliveries *prometheus.Desc
	logBytes   *prometheus.Desc
	logMax     *prometheus.Desc
	storeUp    *prometheus.Desc
	health     *prometheus.Desc
	hold       *prometheus.Desc

	mu   sync.Mutex
	at   time.Time
	last snapshot
}

// snapshot is what one reading gave.
type snapshot struct {
	ok       bool
	at       time.Time
	backlogs []store.Backlog
	stats    store.LogStats
}

func newCollector(st backlogStore, config Config) *collector {
	labels := []string{"subscription"}
	return &collector{
		store: st, config: config,
		backlog:    prometheus.NewDesc("rowcall_backlog_events", "Events of the log from a subscription's cursor on that its patterns match; what its filter leaves out counts.", labels, nil),
		oldest:     prometheus.NewDesc("rowcall_oldest_undelivered_seconds", "Age of the oldest event that waits, is retried or blocked; 0 when there is none.", labels, nil),
		deliveries: prometheus.NewDesc("rowcall_deliveries", "Deliveries that did not go at first pass, by state.", []string{"state"}, nil),
		logBytes:   prometheus.NewDesc("rowcall_log_bytes", "The log on disk, indexes included.", nil, nil),
		logMax:     prometheus.NewDesc("rowcall_log_max_bytes", "What the log may weigh on disk; at it the oldest goes.", nil, nil),
		storeUp:    prometheus.NewDesc("rowcall_store_up", "1 when the store could be read for these metrics.", nil, nil),
		health:     prometheus.NewDesc("rowcall_endpoint_health", "1 for the state of a subscription's endpoint: healthy, parked or recovering.", []string{"subscription", "state"}, nil),
		hold:       prometheus.NewDesc("rowcall_subscription_hold", "1 for why a subscription sends nothing, beside its endpoint's health; absent where nothing holds it.", []string{"subscription", "hold"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.backlog, c.oldest, c.deliveries, c.logBytes, c.logMax, c.storeUp, c.health, c.hold} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.read()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if !s.ok {
		gauge(c.storeUp, 0)
		return
	}
	gauge(c.storeUp, 1)
	gauge(c.logBytes, float64(s.stats.Bytes))
	gauge(c.logMax, float64(s.stats.MaxBytes))
	states := map[store.DeliveryState]int64{}
	for _, b := range s.backlogs {
		states[store.Retrying] += b.Retrying
		states[store.Blocked] += b.Blocked
		states[store.Dead] += b.Dead
	}
	for _, state := range []store.DeliveryState{store.Retrying, store.Blocked, store.Dead} {
		gauge(c.deliveries, float64(states[state]), string(state))
	}
	for _, b := range bySubscription(s, c.config.Subscriptions) {
		gauge(c.backlog, float64(b.events), string(b.subscription))
		gauge(c.oldest, b.age.Seconds(), string(b.subscription))
		for state, n := range b.health {
			gauge(c.health, float64(n), string(b.subscription), state)
		}
		for hold, n := range b.holds {
			gauge(c.hold, float64(n), string(b.subscription), hold)
		}
	}
}

type subscriptionBacklog struct {
	subscription subscriptions.ID
	events       int64
	age          time.Duration
	health       map[string]int // lanes by the state of their endpoint: one, but for what is counted together
	holds        map[string]int // likewise by what holds them
}

// bySubscription is the backlog per subscription: the first limit of them, by
// age of their lanes, so that labels stay the same from scrape to scrape, and
// the rest as one.
func bySubscription(s snapshot, limit int) []subscriptionBacklog {
	lanes := slices.Clone(s.backlogs)
	slices.SortFunc(lanes, func(a, b store.Backlog) int { return int(a.Lane) - int(b.Lane) })
	var out []subscriptionBacklog
	place := map[subscriptions.ID]int{}
	for _, b := range lanes {
		name := b.Subscription
		if _, known := place[name]; !known && len(out) >= limit {
			name = otherSubscriptions
		}
		i, known := place[name]
		if !known {
			i = len(out)
			place[name] = i
			out = append(out, subscriptionBacklog{subscription: name, health: map[string]int{}, holds: map[string]int{}})
		}
		out[i].health[cmp.Or(b.Health.State, "healthy")]++
		if b.Health.Hold != "" {
			out[i].holds[b.Health.Hold]++
		}
		if !b.GapSince.IsZero() {
			out[i].holds[conditionGap]++
		}
		out[i].events += b.Waiting.Events
		// A hold says whose events wait for it, but not among those taken together.
		if b.OldestAt != 0 && (b.Health.Hold == "" || name != otherSubscriptions) {
			out[i].age = max(out[i].age, s.at.Sub(time.UnixMicro(b.OldestAt)))
		}
	}
	return out
}

// read returns the rows, not older than Config.MetricsAge.
func (c *collector) read() snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && time.Since(c.at) < c.config.MetricsAge {
		return c.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout) //nolint:forbidigo // prometheus.Collector has none to pass on
	defer cancel()
	s := snapshot{at: time.Now()}
	var err error
	if s.backlogs, err = c.store.Backlogs(ctx); err == nil {
		s.stats, err = c.store.LogStats(ctx)
	}
	s.ok = err == nil
	if c.last.ok && err != nil || c.at.IsZero() && err != nil {
		c.config.Logger.Warn().Err(err).Msg("metrics cannot be read from the store")
	}
	c.last, c.at = s, time.Now()
	return s
}
