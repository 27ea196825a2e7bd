package postgres

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowcall/rowcall/store"
)

// metrics are one source's. Their names are part of the outside contract.
type metrics struct {
	captured   prometheus.Counter
	lagBytes   prometheus.Gauge
	lagSeconds prometheus.Gauge
	state      map[store.SourceState]prometheus.Gauge
}

var states = []store.SourceState{
	store.SourceStarting, store.SourceStreaming, store.SourceWaiting, store.SourceGap, store.SourceRefused,
}

func newMetrics(r prometheus.Registerer, source string) (*metrics, error) {
	captured := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rowcall_captured_events_total",
		Help: "Events of the source that became durable in the log.",
	}, []string{"source"})
	lagBytes := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "rowcall_source_lag_bytes",
		Help: "WAL of the source that is not confirmed yet.",
	}, []string{"source"})
	lagSeconds := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "rowcall_source_lag_seconds",
		Help: "How long after its commit on the source the newest transaction became durable in the log, or how long a heartbeat is out.",
	}, []string{"source"})
	state := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "rowcall_source_state",
		Help: "1 for the state that the source is in, 0 for the others.",
	}, []string{"source", "state"})
	if r != nil {
		var err error
		captured, err = register(r, captured, err)
		lagBytes, err = register(r, lagBytes, err)
		lagSeconds, err = register(r, lagSeconds, err)
		state, err = register(r, state, err)
		if err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	m := &metrics{
		captured:   captured.WithLabelValues(source),
		lagBytes:   lagBytes.WithLabelValues(source),
		lagSeconds: lagSeconds.WithLabelValues(source),
		state:      map[store.SourceState]prometheus.Gauge{},
	}
	for _, s := range states {
		m.state[s] = state.WithLabelValues(source, string(s))
	}
	return m, nil
}

// register adds a collector, or finds the one that another source has added.
func register[C prometheus.Collector](r prometheus.Registerer, c C, before error) (C, error) {
	err := r.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing, before
		}
	}
	return c, errors.Join(before, err)
}

// leave ends what this instance says of a source that another captures: its last
// state would be taken for one of now.
func (m *metrics) leave() {
	m.enter("")
	m.lagBytes.Set(0)
	m.lagSeconds.Set(0)
}

func (m *metrics) enter(state store.SourceState) {
	for s, gauge := range m.state {
		if s == state {
			gauge.Set(1)
		} else {
			gauge.Set(0)
		}
	}
}
