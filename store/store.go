package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/rowcall/rowcall/migrations"
	"github.com/rowcall/rowcall/subscriptions"
)

// Config is what Open needs. The zero value of every member but URL, Instance
// and Cipher is its documented default.
type Config struct {
	URL               string // the database that holds schema rowcall
	Instance          string // name of this instance: the same after its restart, unlike any other's
	Cipher            *subscriptions.Cipher
	RingBytes         int64                 // the newest part of the log kept in memory; default 32 MiB
	Retention         time.Duration         // how long delivered events stay in the log; default 168h
	LogMaxBytes       int64                 // disk for the log; default 32 GiB; appends go on at it, and the oldest events go: see bound
	AttemptsRetention time.Duration         // default 7 days
	DeadRetention     time.Duration         // how long dead letters stay; default 30 days
	LeaseTTL          time.Duration         // default 4s; renewed every quarter of it
	ReadOnly          bool                  // to look at what others serve: nothing can be written, and Run is not called
	Registerer        prometheus.Registerer // nil: no metrics
	Logger            zerolog.Logger
}

// validate names every fault at once, and fills in defaults.
func (c *Config) validate() error {
	var errs []error
	if c.URL == "" {
		errs = append(errs, errors.New("URL: missing"))
	}
	if c.Instance == "" {
		errs = append(errs, errors.New("Instance: missing"))
	}
	if c.Cipher == nil {
		errs = append(errs, errors.New("Cipher: missing"))
	}
	for name, v := range map[string]int64{
		"RingBytes": c.RingBytes, "Retention": int64(c.Retention), "LogMaxBytes": c.LogMaxBytes,
		"AttemptsRetention": int64(c.AttemptsRetention), "DeadRetention": int64(c.DeadRetention), "LeaseTTL": int64(c.LeaseTTL),
	} {
		if v < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is below 0", name, v))
		}
	}
	const day = 24 * time.Hour
	c.RingBytes = cmp.Or(c.RingBytes, 32<<20)
	c.Retention = cmp.Or(c.Retention, 7*day)
	c.LogMaxBytes = cmp.Or(c.LogMaxBytes, 32<<30)
	c.AttemptsRetention = cmp.Or(c.AttemptsRetention, 7*day)
	c.DeadRetention = cmp.Or(c.DeadRetention, 30*day)
	c.LeaseTTL = cmp.Or(c.LeaseTTL, 4*time.Second)
	return errors.Join(errs...)
}

// Store is the durable log and the rows around it. Its methods are safe for
// concurrent use. One that finds the database down returns an error for which
// Unavailable is true, after having given up nothing: callers try again.
type Store struct {
	config  Config
	pool    *pgxpool.Pool
	log     zerolog.Logger
	metrics metrics

	head     head      // the offset that the next event gets
	regress  regress   // whether it went back
	ring     ring      // the newest part of the log
	appender appender  // the one connection that appends
	names    names     // of sources
	tables   relations // what versions of tables look like
	holder   holder    // this instance's lease
	changes  changes   // who wants to hear of topics
	spans    spans     // of partitions to be made
	feeder   feeder    // of bulk jobs
	oldest   atomic.Int64
	wide     atomic.Int64 // so many pages from now on are read with care for large events
	others   atomic.Bool  // other instances live, and want to be told of a new head
	types    sourceTypes  // of which it is known who writes them
	backlogs backlogs     // what lanes owe, as it was last looked at
	groups   groups
	// events of dead ranges that went since it was last announced; the keeper's alone
	droppedRanges map[string]int64
	boundHeld     boundHeld
	lagSaid       map[string]time.Time             // the heartbeat after which a source was said to lag; likewise
	marked        atomic.Int64                     // the head whose time was last noted
	wanted        chan struct{}                    // somebody asked for counts of attempts
	recounts      chan func(context.Context) error // see remembered

	waiting publications // what waits for the appender to be published
}

// Open connects to a migrated database. It fails where the schema is older or
// newer (ErrNewer) than this binary (ErrSchema), and where the master key is not the
// one that the secrets were sealed with (ErrKey).
func Open(ctx context.Context, config Config) (*Store, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("store configuration: %w", err)
	}
	poolConfig, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		return nil, fmt.Errorf("parse database url: %w", err)
	}
	harden(&poolConfig.ConnConfig.Config)
	poolConfig.ConnConfig.DialFunc = dialBounded
	// Compiling took 200 ms of the 400 that the longest of the queries here took.
	if _, chosen := poolConfig.ConnConfig.RuntimeParams["jit"]; !chosen {
		poolConfig.ConnConfig.RuntimeParams["jit"] = "off"
	}
	if config.ReadOnly {
		poolConfig.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	}
	poolConfig.BeforeClose = beforeClose
	poolConfig.MaxConns = max(poolConfig.MaxConns, 8)
	// A connection that a restart of the server cut should not be the next
	// caller's problem.
	poolConfig.HealthCheckPeriod = 5 * time.Second
	s := &Store{config: config, log: config.Logger, metrics: newMetrics(), regress: regress{c: make(chan struct{})}}
	poolConfig.AfterConnect = s.checkConnection
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	s.pool = pool
	s.ring.limit = config.RingBytes
	s.droppedRanges, s.lagSaid = map[string]int64{}, map[string]time.Time{}
	s.appender.turn = make(chan struct{}, 1)
	s.spans = defaultSpans(config.LogMaxBytes)
	s.holder.init()
	s.feeder.wake, s.wanted = make(chan struct{}, 1), make(chan struct{}, 1)
	s.recounts = make(chan func(context.Context) error, sinceKept+2)
	if err := errors.Join(s.metrics.register(config.Registerer), s.check(ctx)); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// check looks whether the database is one to work with.
func (s *Store) check(ctx context.Context) error {
	if err := s.checkSchema(ctx); err != nil {
		return err
	}
	if err := s.checkKey(ctx); err != nil {
		return err
	}
	return s.readHead(ctx, s.pool)
}

const schemaVersionSQL = `SELECT coalesce(max(version_id), 0) FROM rowcall.schema_migrations WHERE is_applied`

func (s *Store) checkSchema(ctx context.Context) error {
	var version int64
	err := s.pool.QueryRow(ctx, schemaVersionSQL).Scan(&version)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "42P01" || pg.Code == "3F000") {
		return fmt.Errorf("%w: the database holds no schema rowcall; run rowcall migrate", ErrSchema)
	}
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	switch latest := migrations.Latest(); {
	case version < latest:
		return fmt.Errorf("%w: the database is at %d, this binary wants %d; run rowcall migrate", ErrSchema, version, latest)
	case version > latest:
		return fmt.Errorf("%w: the database is at %d, this binary knows %d; install a newer rowcall", ErrNewer, version, latest)
	}
	return nil
}

const (
	keyCheck         = "key_check"
	keyCheckPlace    = "settings/key_check"
	keyCheckText     = "rowcall"
	insertSettingSQL = `INSERT INTO rowcall.settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	selectSettingSQL = `SELECT value FROM rowcall.settings WHERE name = $1`
)

// checkKey opens a value that the first start sealed, which this one may be.
func (s *Store) checkKey(ctx context.Context) error {
	var sealed []byte
	err := s.pool.QueryRow(ctx, selectSettingSQL, keyCheck).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		if s.config.ReadOnly {
			return nil
		}
		fresh := s.config.Cipher.Seal([]byte(keyCheckText), keyCheckPlace)
		if _, err := s.pool.Exec(ctx, insertSettingSQL, keyCheck, fresh); err != nil {
			return fmt.Errorf("save key check value: %w", err)
		}
		// Two instances may start for the first time at once: the first counts.
		err = s.pool.QueryRow(ctx, selectSettingSQL, keyCheck).Scan(&sealed)
	}
	if err != nil {
		return fmt.Errorf("read key check value: %w", err)
	}
	if plain, err := s.config.Cipher.Open(sealed, keyCheckPlace); err != nil || string(plain) != keyCheckText {
		return fmt.Errorf("%w: the secrets in this database were sealed with another key; start with that one", ErrKey)
	}
	return nil
}

// Run does the store's own work until ctx ends: it acquires and renews the
// instance's lease, listens for notifications, makes partitions ahead and
// drops old ones, and works through bulk jobs. It survives a database that is
// down for however long. It ends by itself, with ErrRegressed, where the log has
// lost events that it had.
func (s *Store) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.awaitRegress(ctx) })
	group.Go(func() error { return s.keepLease(ctx) })
	group.Go(func() error { return s.listen(ctx) })
	group.Go(func() error { return s.pollHead(ctx) })
	group.Go(func() error { return s.keepLog(ctx) })
	group.Go(func() error { return s.feedJobs(ctx) })
	group.Go(func() error { return s.countAttemptsOften(ctx) })
	group.Go(func() error { return s.recountOften(ctx) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Close frees the connections. Call it last.
func (s *Store) Close() {
	s.appender.close()
	s.pool.Close()
}

// Ping is nil when the database answers and accepts writes.
func (s *Store) Ping(ctx context.Context) error {
	var readOnly bool
	err := s.pool.QueryRow(ctx,
		`SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean`).Scan(&readOnly)
	if err != nil {
		return fmt.Errorf("ping store: %w", err)
	}
	if readOnly {
		return fmt.Errorf("ping store: %w", &pgconn.PgError{Severity: "ERROR", Code: "25006", Message: "the database is read-only"})
	}
	return nil
}

// repeat calls do, every period and until ctx ends; while do fails, after a
// growing pause of at most the period and 5 s. It says a streak of failures
// once, and its end once.
func (s *Store) repeat(ctx context.Context, what string, period time.Duration, do func(context.Context) error) error {
	var streak streak
	for {
		err := do(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause := period
		if streak.note(s.log, what, err) {
			pause = min(period, streak.pause())
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}
