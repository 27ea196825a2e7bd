package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
)

// Config is what New needs; zero values are the documented defaults.
type Config struct {
	Transport   http.RoundTripper     // Guard.Transport
	Version     string                // for User-Agent
	MaxInFlight int                   // attempts at once, of all lanes; default by RLIMIT_NOFILE
	Attempts    string                // all (default) or failures: which attempts go into history
	Drain       time.Duration         // how long attempts in flight may take to end when Run ends; default 20s
	Registerer  prometheus.Registerer // nil: no metrics
	Logger      zerolog.Logger
}

func (c *Config) validate() error {
	var errs []error
	if c.Transport == nil {
		errs = append(errs, errors.New("transport: required"))
	}
	if c.MaxInFlight < 0 {
		errs = append(errs, errors.New("max_in_flight: must not be negative"))
	}
	if c.Attempts != "" && c.Attempts != "all" && c.Attempts != "failures" {
		errs = append(errs, fmt.Errorf("attempts: %q is neither all nor failures", c.Attempts))
	}
	return errors.Join(errs...)
}

// Dispatcher runs the lanes that this instance owns.
type Dispatcher struct {
	store   *store.Store
	config  Config
	sender  *Sender
	metrics *metrics
}

// New makes a dispatcher over the store.
func New(s *store.Store, config Config) (*Dispatcher, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("configure dispatch: %w", err)
	}
	if config.MaxInFlight == 0 {
		config.MaxInFlight = defaultInFlight()
	}
	if config.Drain == 0 {
		config.Drain = 20 * time.Second
	}
	return &Dispatcher{
		store: s, config: config,
		sender:  NewSender(config.Transport, config.Version),
		metrics: newMetrics(config.Registerer),
	}, nil
}

// Run delivers until ctx ends; then it stops starting attempts, lets those in
// flight end (each within its own timeout, all within Config.Drain), settles,
// and returns nil. When the lease is lost it starts anew under the next one.
func (d *Dispatcher) Run(ctx context.Context) error {
	for {
		lease, err := d.store.Lease(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for the lease: %w", err)
		}
		s := newSession(d, lease)
		err = s.run(ctx)
		if ctx.Err() != nil || err != nil && !errors.Is(err, store.ErrFenced) {
			return err
		}
		d.config.Logger.Warn().Err(err).Msg("the lease was lost, claiming lanes anew")
	}
}
