package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Lease is this instance's right to own sources and lanes: a row with an epoch,
// judged by the store's clock, and a deadline by this machine's monotonic clock.
type Lease struct {
	Instance string
	Epoch    int64
}

// holder is what this instance knows of its lease.
type holder struct {
	start    time.Time    // the monotonic clock's zero
	deadline atomic.Int64 // ns since start; 0: no lease

	mu       sync.Mutex
	epoch    int64         // 0: none yet, or lost
	acquired chan struct{} // closed while there is a lease
	appender backend       // of this process, for who takes over
}

func (h *holder) init() {
	h.start = time.Now()
	h.acquired = make(chan struct{})
}

// set notes that the lease of an epoch holds until the deadline.
func (h *holder) set(epoch int64, deadline time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch == 0 {
		close(h.acquired)
	}
	h.epoch = epoch
	h.deadline.Store(int64(deadline.Sub(h.start)))
}

// lose notes that there is no lease.
func (h *holder) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch != 0 {
		h.acquired = make(chan struct{})
	}
	h.epoch = 0
	h.deadline.Store(0)
}

func (h *holder) get() (epoch int64, appender backend, acquired <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.epoch, h.appender, h.acquired
}

func (h *holder) setAppender(b backend) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.appender = b
}

// Lease waits until Run has acquired the lease and returns it. A lease that was
// lost comes back with another epoch; until then Lease waits.
func (s *Store) Lease(ctx context.Context) (Lease, error) {
	for {
		epoch, _, acquired := s.holder.get()
		if epoch != 0 {
			return Lease{Instance: s.config.Instance, Epoch: epoch}, nil
		}
		select {
		case <-acquired:
		case <-ctx.Done():
			return Lease{}, fmt.Errorf("wait for lease: %w", ctx.Err())
		}
	}
}

// currentLease returns the lease, false while there is none. It may have expired
// by the store's clock: what must not be written then is fenced by the row.
func (s *Store) currentLease() (Lease, bool) {
	epoch, _, _ := s.holder.get()
	return Lease{Instance: s.config.Instance, Epoch: epoch}, epoch != 0
}

// LeaseDeadline is when this instance's right ends unless it is renewed: no POST
// starts after it. Zero while there is no lease. It costs an atomic load.
func (s *Store) LeaseDeadline() time.Time {
	ns := s.holder.deadline.Load()
	if ns == 0 {
		return time.Time{}
	}
	return s.holder.start.Add(time.Duration(ns))
}

const releaseLeaseSQL = `
UPDATE rowcall.leases SET expires_at = clock_timestamp(), pid = NULL, backend_start = NULL, appender_pid = NULL, appender_start = NULL
WHERE instance = $1 AND epoch = $2`

// ReleaseLease gives up the lease, so that another instance, or the next life of
// this one, takes over at once. Run must have ended.
func (s *Store) ReleaseLease(ctx context.Context) error {
	lease, ok := s.currentLease()
	if !ok {
		return nil
	}
	s.holder.lose()
	if _, err := s.pool.Exec(ctx, releaseLeaseSQL, lease.Instance, lease.Epoch); err != nil {
		return fmt.Errorf("release lease: %w", err)
	}
	return nil
}

// keepLease acquires and renews the lease until ctx ends, on a connection of its
// own: a full pool must not cost the lease.
func (s *Store) keepLease(ctx context.Context) error {
	l := &leaseKeeper{s: s}
	defer l.disconnect(ctx)
	return s.repeat(ctx, "renew lease", s.config.LeaseTTL/4, l.keep)
}

// keep is renew, over and over while a former holder is waited for: the server
// may take a moment to notice that a process which was killed is gone.
func (l *leaseKeeper) keep(ctx context.Context) error {
	for pause := 25 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if err := l.renew(ctx); err != nil || !l.waiting {
			return err
		}
		if err := sleep(ctx, min(pause, l.s.config.LeaseTTL/4)); err != nil {
			return err
		}
	}
}

// leaseKeeper is the connection that renews the lease.
type leaseKeeper struct {
	s       *Store
	conn    *pgx.Conn // nil: not connected
	backend backend
	waiting bool // for a former holder; said once
}

// disconnect closes the connection, within a second, also when ctx is over.
func (l *leaseKeeper) disconnect(ctx context.Context) {
	if l.conn != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = l.conn.Close(ctx)
		l.conn = nil
	}
}

func (l *leaseKeeper) connect(ctx context.Context) error {
	config, err := pgx.ParseConfig(l.s.config.URL)
	if err != nil {
		return fmt.Errorf("parse database url: %w", err)
	}
	harden(&config.Config)
	config.RuntimeParams["application_name"] = "rowcall lease"
	config.RuntimeParams["statement_timeout"] = fmt.Sprint(max(l.s.config.LeaseTTL/2, 100*time.Millisecond).Milliseconds())
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, backendSQL).Scan(&l.backend.pid, &l.backend.start); err != nil {
		_ = conn.Close(ctx)
		return fmt.Errorf("read own backend: %w", err)
	}
	l.conn = conn
	return nil
}

// renew renews the lease, or acquires it where there is none. It returns nil,
// too, when somebody else holds it: that is no failure.
func (l *leaseKeeper) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, max(l.s.config.LeaseTTL, time.Second), errSlow)
	defer cancel()
	if l.conn == nil || l.conn.IsClosed() {
		l.conn = nil
		if err := l.connect(ctx); err != nil {
			return err
		}
	}
	err := l.renewOrAcquire(ctx)
	if err != nil {
		l.disconnect(ctx)
	}
	return err
}

const (
	renewLeaseSQL = `
UPDATE rowcall.leases SET expires_at = clock_timestamp() + $3, renewed_at = clock_timestamp(),
  pid = $4, backend_start = $5, appender_pid = $6, appender_start = $7
WHERE instance = $1 AND epoch = $2`
	// Ends appenders of expired leases, for they may hold the head of the log, and
	// says whether others live.
	watchLeasesSQL = `
SELECT coalesce(bool_or(expires_at > clock_timestamp()), false),
  count(*) FILTER (WHERE CASE WHEN expires_at <= clock_timestamp() AND EXISTS (
    SELECT FROM pg_stat_activity a WHERE a.pid = l.appender_pid AND a.backend_start = l.appender_start)
    THEN pg_terminate_backend(l.appender_pid) END)
FROM rowcall.leases l WHERE instance <> $1`
)

func (l *leaseKeeper) renewOrAcquire(ctx context.Context) error {
	s := l.s
	epoch, appender, _ := s.holder.get()
	if epoch == 0 {
		return l.acquire(ctx)
	}
	sent := time.Now()
	tag, err := l.conn.Exec(ctx, renewLeaseSQL, s.config.Instance, epoch, s.config.LeaseTTL,
		l.backend.pid, l.backend.start, null(appender.pid), nullTime(appender.start))
	if err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	if tag.RowsAffected() == 0 {
		s.holder.lose()
		l.sayLost(ctx, epoch)
		return l.acquire(ctx)
	}
	s.holder.set(epoch, sent.Add(s.config.LeaseTTL))
	var others bool
	var ended int
	if err := l.conn.QueryRow(ctx, watchLeasesSQL, s.config.Instance).Scan(&others, &ended); err != nil {
		return fmt.Errorf("watch leases: %w", err)
	}
	s.others.Store(others)
	if ended > 0 {
		s.log.Warn().Int("ended", ended).Msg("ended appenders of instances whose lease has expired")
	}
	return nil
}

// Who takes over the lanes of a lease that ran out raises its epoch alone.
const leaseNamesUsSQL = `SELECT pid = $2 AND backend_start = $3 FROM rowcall.leases WHERE instance = $1`

// sayLost says who has the lease that this instance held.
func (l *leaseKeeper) sayLost(ctx context.Context, epoch int64) {
	why := "lease lost: another process took the name of this instance"
	var ours *bool
	err := l.conn.QueryRow(ctx, leaseNamesUsSQL, l.s.config.Instance, l.backend.pid, l.backend.start).Scan(&ours)
	if err == nil && ours != nil && *ours {
		why = "lease lost: it ran out, and another instance took over the lanes"
	}
	l.s.log.Warn().Err(err).Int64("epoch", epoch).Msg(why)
}

// null is v, or nil where it is 0.
func null[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

const (
	createLeaseSQL = `
INSERT INTO rowcall.leases (instance, epoch, expires_at, pid, backend_start, appender_pid, appender_start)
VALUES ($1, 1, clock_timestamp() + $2, $3, $4, $5, $6) ON CONFLICT (instance) DO NOTHING`
	// backend_start is hidden where the backend is another role's: then it counts
	// as the same.
	lockLeaseSQL = `
SELECT l.epoch, l.expires_at <= clock_timestamp() AS expired,
  greatest(l.expires_at - clock_timestamp(), '0'::interval) AS rest,
  coalesce(l.pid, 0), a.pid IS NOT NULL AS alive, coalesce(host(a.client_addr), '') AS address,
  coalesce(l.appender_pid, 0)
FROM rowcall.leases l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid AND coalesce(a.backend_start = l.backend_start, true)
WHERE l.instance = $1 FOR UPDATE OF l`
	// Both of the former holder's connections go, where they are still there.
	endHolderSQL = `
SELECT count(pg_terminate_backend(a.pid)) FROM rowcall.leases l JOIN pg_stat_activity a
ON a.pid = l.pid AND a.backend_start = l.backend_start OR a.pid = l.appender_pid AND a.backend_start = l.appender_start
WHERE l.instance = $1 AND a.pid <> pg_backend_pid() AND a.pid <> $2`
	takeLeaseSQL = `
UPDATE rowcall.leases SET epoch = epoch + 1, expires_at = clock_timestamp() + $2, renewed_at = clock_timestamp(),
  pid = $3, backend_start = $4, appender_pid = $5, appender_start = $6
WHERE instance = $1 RETURNING epoch`
)

// acquire takes the lease where it is free: nobody had it, its holder is gone
// from the server (our own former life, which was killed), or it has expired.
// Otherwise it says, once, whom it waits for.
func (l *leaseKeeper) acquire(ctx context.Context) error {
	s := l.s
	_, appender, _ := s.holder.get()
	sent := time.Now()
	var epoch int64
	err := pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		epoch = 0
		tag, err := tx.Exec(ctx, createLeaseSQL, s.config.Instance, s.config.LeaseTTL,
			l.backend.pid, l.backend.start, null(appender.pid), nullTime(appender.start))
		if err != nil {
			return fmt.Errorf("create lease: %w", err)
		}
		if tag.RowsAffected() == 1 {
			epoch = 1
			return nil
		}
		var was int64
		var expired, alive bool
		var rest time.Duration
		var pid, appenderPID int32
		var address string
		err = tx.QueryRow(ctx, lockLeaseSQL, s.config.Instance).Scan(&was, &expired, &rest, &pid, &alive, &address, &appenderPID)
		if err != nil {
			return fmt.Errorf("lock lease: %w", err)
		}
		if alive && !expired && pid != l.backend.pid {
			if !l.waiting {
				l.waiting = true
				s.log.Warn().Str("instance", s.config.Instance).Int32("pid", pid).Str("address", address).Dur("rest", rest).
					Msg("waiting for the lease: another process that is still connected holds the name of this instance")
			}
			return nil
		}
		var ended int
		if err := tx.QueryRow(ctx, endHolderSQL, s.config.Instance, appender.pid).Scan(&ended); err != nil {
			return fmt.Errorf("end former holder: %w", err)
		}
		err = tx.QueryRow(ctx, takeLeaseSQL, s.config.Instance, s.config.LeaseTTL,
			l.backend.pid, l.backend.start, null(appender.pid), nullTime(appender.start)).Scan(&epoch)
		if err != nil {
			return fmt.Errorf("take lease: %w", err)
		}
		return nil
	})
	if err != nil || epoch == 0 {
		return err
	}
	l.waiting = false
	s.holder.set(epoch, sent.Add(s.config.LeaseTTL))
	s.log.Info().Int64("epoch", epoch).Msg("lease acquired")
	return nil
}

const recordAppenderSQL = `UPDATE rowcall.leases SET appender_pid = $3, appender_start = $4 WHERE instance = $1 AND epoch = $2`

// connectAppender connects the appender, and writes into the lease which server
// process it has, before it can lock anything.
func (s *Store) connectAppender(ctx context.Context, a *appender) error {
	w, err := connectWire(ctx, s.config.URL, func(ctx context.Context, conn *pgconn.PgConn, b backend) error {
		s.holder.setAppender(b)
		lease, ok := s.currentLease()
		if !ok {
			return nil
		}
		args := [][]byte{
			[]byte(lease.Instance), fmt.Append(nil, lease.Epoch), fmt.Append(nil, b.pid),
			b.start.AppendFormat(nil, time.RFC3339Nano),
		}
		if err := conn.ExecParams(ctx, recordAppenderSQL, args, nil, nil, nil).Read().Err; err != nil {
			return fmt.Errorf("record appender: %w", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("connect appender: %w", errors.Join(err, context.Cause(ctx)))
	}
	a.wire = w
	return nil
}
