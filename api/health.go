package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rowcall/rowcall/store"
)

const (
	readyTimeout = 3 * time.Second
	readyAge     = time.Second // the checks run at most once in this time
)

// registerPublic adds the routes that need no key: health, metrics and the
// document. They show nothing of what is in the log.
func (a *API) registerPublic() error {
	collector := newCollector(a.store, a.config)
	if err := a.config.Registry.Register(collector); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	a.router.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	a.router.Get("/readyz", func(w http.ResponseWriter, r *http.Request) {
		answer := a.ready.check(r.Context())
		status := http.StatusOK
		if !answer.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, answer)
	})
	a.router.Method(http.MethodGet, "/metrics", promhttp.HandlerFor(a.config.Registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	}))
	a.router.Get("/v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(a.spec)
	})
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = marshal(w, v)
}

// readyAnswer is the body of /readyz. It is seen without a key, so it says what
// is wrong in words of ours and leaves the texts of servers to GET /v1/sources.
type readyAnswer struct {
	Ready  bool         `json:"ready"`
	Checks []readyCheck `json:"checks"`
}

type readyCheck struct {
	Name  string `json:"name"` // store, source/<name>, service
	Ready bool   `json:"ready"`
	Error string `json:"error,omitempty"`
}

// readyStore is what readiness looks at.
type readyStore interface {
	Ping(ctx context.Context) error
	Sources(ctx context.Context) ([]store.Source, error)
}

// readiness says whether the service does its work. Answers are shared for
// readyAge, so that who asks often costs the store nothing.
type readiness struct {
	store  readyStore
	config Config

	mu   sync.Mutex
	at   time.Time
	last readyAnswer
}

func newReadiness(st readyStore, config Config) *readiness {
	return &readiness{store: st, config: config}
}

func (r *readiness) check(ctx context.Context) readyAnswer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.at.IsZero() || now.Sub(r.at) >= readyAge {
		// Whoever asked may be gone: the answer is for the next one, too.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
		defer cancel()
		r.last, r.at = r.look(ctx), time.Now()
	}
	return r.last
}

func (r *readiness) look(ctx context.Context) readyAnswer {
	var checks []readyCheck
	add := func(name, fault string) {
		checks = append(checks, readyCheck{Name: name, Ready: fault == "", Error: fault})
	}
	if r.config.Ready != nil {
		fault := ""
		if err := r.config.Ready(ctx); err != nil {
			fault = err.Error()
		}
		add("service", fault)
	}
	sources, fault := []store.Source(nil), ""
	err := r.store.Ping(ctx)
	if err == nil {
		sources, err = r.store.Sources(ctx)
	}
	if err != nil {
		fault = "the store does not answer or does not take writes"
		r.config.Logger.Debug().Err(err).Msg("store is not ready")
	}
	add("store", fault)
	// Published events have nobody who captures them and could fall silent.
	sources = slices.DeleteFunc(sources, func(s store.Source) bool { return s.Kind == "http" })
	if err == nil && len(sources) == 0 {
		add("sources", "no source has been started yet")
	}
	for _, s := range sources {
		add("source/"+s.Name, sourceFault(s, time.Now(), r.config.HeartbeatAge, r.config.StartingAge))
	}
	answer := readyAnswer{Ready: true, Checks: checks}
	for _, c := range checks {
		answer.Ready = answer.Ready && c.Ready
	}
	return answer
}

// sourceFault says why a source does not do its work at a time; empty where it
// does.
func sourceFault(s store.Source, now time.Time, heartbeatAge, startingAge time.Duration) string {
	const more = "; GET /v1/sources says more"
	switch s.State {
	case store.SourceStreaming:
		if s.HeartbeatAt.IsZero() {
			return "streaming, but no heartbeat has come back yet" + more
		}
		if age := now.Sub(s.HeartbeatAt); age > heartbeatAge {
			return fmt.Sprintf("streaming, but the last heartbeat came back %s ago", age.Round(time.Second)) + more
		}
		return ""
	case store.SourceStarting:
		if age := now.Sub(s.UpdatedAt); age > startingAge {
			return fmt.Sprintf("starting for %s", age.Round(time.Second)) + more
		}
		return ""
	case store.SourceWaiting:
		return "the source cannot be reached or is busy; it is tried again by itself" + more
	case store.SourceGap:
		return "changes may be lost: deliveries wait until the gap is accepted" + more
	case store.SourceRefused:
		return "capture cannot go on by itself" + more
	default:
		return "in a state that this version does not know" + more
	}
}
