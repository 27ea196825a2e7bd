package dispatch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// metrics counts attempts and what became of events. Outcome and reason come from
// closed sets, and each pair is there from the start, at 0: of a series that begins
// with its first event Prometheus sees no increase.
type metrics struct {
	attempts  *prometheus.CounterVec
	attempt   prometheus.Histogram
	delivery  prometheus.Histogram
	lost      prometheus.Counter
	heldEnded *prometheus.CounterVec
	compacted prometheus.Counter
	dead      *prometheus.CounterVec
	delivered prometheus.Counter // of attempts: the success, looked up once
}

func newMetrics(r prometheus.Registerer) *metrics {
	buckets := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86400}
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rowcall_attempts_total", Help: "HTTP attempts, by outcome and reason.",
		}, []string{"outcome", "reason"}),
		attempt: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rowcall_attempt_seconds", Help: "Duration of an HTTP attempt.", Buckets: buckets[:16],
		}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rowcall_delivery_seconds", Help: "From the commit on the source to the 2xx of the endpoint.", Buckets: buckets,
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rowcall_attempts_unrecorded_total", Help: "Attempts that are missing from the history.",
		}),
	}
	m.heldEnded = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rowcall_given_up_events_total", Help: "Events that lanes held for too long and gave up, by what became of them and why.",
	}, []string{"then", "reason"})
	m.compacted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rowcall_compacted_events_total", Help: "Events of a backlog that were not sent, because a newer one of their key was (compact).",
	})
	m.dead = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rowcall_dead_letters_total", Help: "Events that became dead letters, by why their last attempt failed.",
	}, []string{"reason"})
	m.delivered = m.attempts.WithLabelValues("delivered", "")
	m.begin()
	if r != nil {
		r.MustRegister(m.attempts, m.attempt, m.delivery, m.lost, m.heldEnded, m.compacted, m.dead)
	}
	return m
}

// begin makes the series of what has not happened yet.
func (m *metrics) begin() {
	for _, reason := range reasons {
		m.dead.WithLabelValues(string(reason))
		switch reason {
		case ReasonFilterError, ReasonTransformError: // nothing is sent
		case ReasonBlocked:
			m.attempts.WithLabelValues(BlockedTarget.String(), string(reason))
		case ReasonUnknown:
			m.attempts.WithLabelValues(Unknown.String(), string(reason))
		default:
			m.attempts.WithLabelValues(Failed.String(), string(reason))
		}
	}
	for _, reason := range []string{reasonHoldAge, reasonHoldBytes} {
		m.heldEnded.WithLabelValues(subscriptions.HoldDeadLetter, reason)
		m.heldEnded.WithLabelValues(subscriptions.HoldDrop, reason)
	}
	m.heldEnded.WithLabelValues(subscriptions.HoldDrop, reasonLogFull)
}

// observe counts one attempt.
func (m *metrics) observe(ev *store.Event, reply Reply, v Verdict) {
	m.attempt.Observe(reply.Duration.Seconds())
	if v.Outcome == Delivered {
		m.delivered.Inc()
		m.delivery.Observe(time.Since(time.UnixMicro(ev.Time)).Seconds())
		return
	}
	m.attempts.WithLabelValues(v.Outcome.String(), string(v.Reason)).Inc()
}

// observeBatch counts one attempt with several events.
func (m *metrics) observeBatch(events []*store.Event, reply Reply, v Verdict) {
	m.attempt.Observe(reply.Duration.Seconds())
	if v.Outcome != Delivered {
		m.attempts.WithLabelValues(v.Outcome.String(), string(v.Reason)).Inc()
		return
	}
	m.delivered.Inc()
	now := time.Now()
	for _, ev := range events {
		m.delivery.Observe(now.Sub(time.UnixMicro(ev.Time)).Seconds())
	}
}

// String is the outcome's name in metrics and the API.
func (o Outcome) String() string {
	switch o {
	case Delivered:
		return "delivered"
	case Failed:
		return "failed"
	case BlockedTarget:
		return "blocked"
	default:
		return "unknown"
	}
}
