package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	connectTimeout = 10 * time.Second
	queryTimeout   = 15 * time.Second
	// readBuffer is how much of the stream one system call may bring: the server
	// sends every change by itself, and a busy one has sent many by the time we look.
	readBuffer = 64 << 10
)

// ordinary is the ordinary connection to a source: for its catalogue,
// heartbeats and the care of the publication. It is safe for concurrent use.
type ordinary struct {
	mu   sync.Mutex
	conn *pgx.Conn

	namesMu sync.Mutex
	names   catalogue // of types, for the columns of tables
}

// openOrdinary connects. It is not the walsender: nothing is streamed over it.
func openOrdinary(ctx context.Context, config Config) (*ordinary, error) {
	cfg, err := pgx.ParseConfig(config.URL)
	if err != nil {
		return nil, fmt.Errorf("parse source URL: %w", err)
	}
	prepare(&cfg.Config, config.Name)
	// Bounded everywhere: what hangs here would hang the watch over the source.
	cfg.RuntimeParams["statement_timeout"] = "10s"
	cfg.RuntimeParams["lock_timeout"] = "2s"
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "10s"
	cfg.RuntimeParams["default_transaction_read_only"] = "off"
	// A heartbeat waits for no standby.
	cfg.RuntimeParams["synchronous_commit"] = "local"
	cfg.RuntimeParams["search_path"] = "pg_catalog"
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to source: %w", err)
	}
	c := &ordinary{conn: conn}
	if conn.PgConn().ParameterStatus("server_encoding") == "SQL_ASCII" {
		// Such a database holds any bytes; asked for UTF-8 it fails on them.
		if _, err := conn.Exec(ctx, "SET client_encoding = 'SQL_ASCII'"); err != nil {
			c.close()
			return nil, fmt.Errorf("set encoding of source connection: %w", err)
		}
	}
	return c, nil
}

// do runs f on the connection, alone, for at most queryTimeout.
func (c *ordinary) do(ctx context.Context, f func(ctx context.Context, conn *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	return f(ctx, c.conn)
}

func (c *ordinary) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	closeConn(c.conn.PgConn())
}

// closed reports whether the connection is gone.
func (c *ordinary) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.IsClosed()
}

// serverEncoding is the encoding of the database.
func (c *ordinary) serverEncoding() string {
	return c.conn.PgConn().ParameterStatus("server_encoding")
}

// openWalsender connects for replication. The session's settings decide the
// text of every value in the stream.
func openWalsender(ctx context.Context, config Config, serverEncoding string) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(config.URL)
	if err != nil {
		return nil, fmt.Errorf("parse source URL: %w", err)
	}
	prepare(cfg, config.Name)
	cfg.RuntimeParams["replication"] = "database"
	cfg.RuntimeParams["DateStyle"] = "ISO, YMD"
	cfg.RuntimeParams["IntervalStyle"] = "iso_8601"
	cfg.RuntimeParams["TimeZone"] = "UTC"
	cfg.RuntimeParams["extra_float_digits"] = "1"
	cfg.RuntimeParams["bytea_output"] = "hex"
	cfg.RuntimeParams["statement_timeout"] = "0"
	cfg.RuntimeParams["lock_timeout"] = "0"
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	cfg.RuntimeParams["client_encoding"] = "UTF8"
	if serverEncoding == "SQL_ASCII" {
		// With UTF8 the server would check every value, and end the stream for
		// ever at the first that is none.
		cfg.RuntimeParams["client_encoding"] = "SQL_ASCII"
	}
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, readBuffer), w)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to source for replication: %w", err)
	}
	return conn, nil
}

// prepare sets what both connections have in common.
func prepare(cfg *pgconn.Config, name string) {
	cfg.RuntimeParams["application_name"] = applicationName(name)
	dialer := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         boundUnacknowledged,
	}
	cfg.DialFunc = dialer.DialContext
}

func applicationName(name string) string { return "rowcall/" + name }

// closeConn ends a connection, whatever state it is in, and waits for it.
func closeConn(conn *pgconn.PgConn) {
	// Not derived from a caller's context: the connection is closed after that
	// has ended, too, and within a second.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) //nolint:forbidigo // see above
	defer cancel()
	// The farewell is bounded by ctx; an error of it changes nothing.
	_ = conn.Close(ctx)
	<-conn.CleanupDone()
}

// isTimeout reports whether a read came to its deadline, after which it may be
// repeated: what had arrived is kept.
func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout()
}
