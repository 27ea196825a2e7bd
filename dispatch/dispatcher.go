package dispatch

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
)

// Config is what New needs; zero values are the documented defaults.
type Config struct {
	Transport   http.RoundTripper     // Guard.Transport
	Version     string                // for User-Agent
	MaxInFlight int                   // attempts at once, of all lanes; default from RLIMIT_NOFILE
	Attempts    string                // all (default) or failures: which attempts go into history
	Registerer  prometheus.Registerer // nil: no metrics
	Logger      zerolog.Logger
}

// Dispatcher runs the lanes that this instance owns.
type Dispatcher struct{}

// New makes a dispatcher over the store.
func New(s *store.Store, config Config) (*Dispatcher, error) { panic("unwritten") }

// Run delivers until ctx ends; then it stops starting attempts, lets those in
// flight finish (each within its own timeout, all within 20 s), settles, and
// returns nil.
func (d *Dispatcher) Run(ctx context.Context) error { panic("unwritten") }
