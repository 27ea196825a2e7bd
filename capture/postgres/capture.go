// Package postgres captures the row writes of a PostgreSQL database by logical
// replication (pgoutput) and appends them to the log.
package postgres

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
)

// Config is what New needs; zero values are the documented defaults.
type Config struct {
	Name          string        // of the source; slot and publication are rowcall_<name>
	URL           string        // of the database to capture
	Tables        []string      // SQL identifiers: schema.table or schema.*; default public.*
	Heartbeat     time.Duration // default 10s
	MaxValueBytes int64         // columns beyond it are left out; default 16 MiB
	Registerer    prometheus.Registerer
	Logger        zerolog.Logger
}

// Capture follows one source.
type Capture struct{}

// New checks the configuration; it does not connect.
func New(s *store.Store, config Config) (*Capture, error) { panic("unwritten") }

// Run captures until ctx ends. A source that is down is tried again for ever; a
// source that must not be captured is refused, which is a state with a reason
// and a remedy, looked at again every minute.
func (c *Capture) Run(ctx context.Context) error { panic("unwritten") }

// Finding is one thing that Check found.
type Finding struct {
	Level  string // ok, warning, fault
	What   string
	Remedy string // SQL or a setting; empty when ok
}

// Check explains, without creating anything, whether the source is fit.
func Check(ctx context.Context, config Config) ([]Finding, error) { panic("unwritten") }
