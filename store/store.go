package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/subscriptions"
)

// Config is what Open needs. The zero value of every member but URL, Instance
// and Cipher is its documented default.
type Config struct {
	URL               string // the database that holds schema rowcall
	Instance          string // name of this instance: the same after its restart, unlike any other's
	Cipher            *subscriptions.Cipher
	RingBytes         int64         // the newest part of the log kept in memory; default 32 MiB
	Retention         time.Duration // how long delivered events stay in the log; default 168h
	LogMaxBytes       int64         // disk for the log; default 32 GiB; appends go on beyond it, with a warning
	AttemptsRetention time.Duration // default 7 days
	DeadRetention     time.Duration // how long dead letters stay; default 30 days
	LeaseTTL          time.Duration // default 4s; renewed every quarter of it
	Logger            zerolog.Logger
}

// Store is the durable log and the rows around it. Its methods are safe for
// concurrent use. One that finds the database down returns an error for which
// Unavailable is true, after having given up nothing: callers try again.
type Store struct {
	config Config
	pool   *pgxpool.Pool
	log    zerolog.Logger
}

// Open connects to a migrated database. It fails where the schema is older or
// newer than this binary (ErrSchema), and where the master key is not the one
// that the secrets were sealed with (ErrKey).
func Open(ctx context.Context, config Config) (*Store, error) { panic("unwritten") }

// Run does the store's own work until ctx ends: it acquires and renews the
// instance's lease, listens for notifications, makes partitions ahead and
// drops old ones. It survives a database that is down for however long.
func (s *Store) Run(ctx context.Context) error { panic("unwritten") }

// Close frees the connections. Call it last.
func (s *Store) Close() { panic("unwritten") }

// Ping is nil when the database answers and accepts writes.
func (s *Store) Ping(ctx context.Context) error { panic("unwritten") }
