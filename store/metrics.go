package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are of appends. Their names are part of the outside contract.
type metrics struct {
	appended prometheus.Counter
	seconds  prometheus.Histogram

	rangesDropped prometheus.Counter
}

func newMetrics() metrics {
	return metrics{
		appended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rowcall_appended_events_total",
			Help: "Events that this instance appended to the log, of all sources.",
		}),
		rangesDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rowcall_dead_range_dropped_events_total",
			Help: "Events of dead ranges that this instance dropped since the log was at its size limit.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "rowcall_append_seconds",
			Help:    "Duration of an append that succeeded, from the wait for its turn to its commit.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}),
	}
}

func (m metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	if err := errors.Join(r.Register(m.appended), r.Register(m.seconds), r.Register(m.rangesDropped)); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

func (m metrics) append(events int, took time.Duration) {
	m.appended.Add(float64(events))
	m.seconds.Observe(took.Seconds())
}
