package store

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// connectTimeout bounds one try to connect.
	connectTimeout = 10 * time.Second
	// answerTimeout is how long the server may keep silent after we asked
	// something of a pooled connection. It is above statementTimeout: where the
	// server can speak, it tells first.
	answerTimeout    = 45 * time.Second
	statementTimeout = "30s"
	lockTimeout      = "10s"
	idleTimeout      = "30s" // in a transaction
	// deadPeer is when a peer that acknowledges nothing is given up, on both ends.
	deadPeer = 15 * time.Second
)

// dial connects with keepalives, so that a peer that is gone without a word is
// noticed on an idle connection too.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         connectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 2},
		Control:         setUserTimeout,
	}
	return d.DialContext(ctx, network, address)
}

// dialBounded is dial for the pool: a server that is silent for answerTimeout
// after a request breaks the connection. Without it, one that hangs with its
// socket open (a frozen machine behind a proxy, a stopped backend) would hold
// whoever forgot a deadline.
func dialBounded(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &boundedConn{Conn: conn}, nil
}

type boundedConn struct {
	net.Conn
	closing atomic.Bool
}

func (c *boundedConn) Write(p []byte) (int, error) {
	if !c.closing.Load() {
		if err := c.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// beforeClose gives the server a second to take leave of a pooled connection:
// one that hangs must not hold up our own end.
func beforeClose(c *pgx.Conn) {
	conn := c.PgConn().Conn()
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if bounded, ok := conn.(*boundedConn); ok {
		bounded.closing.Store(true)
		_ = bounded.SetDeadline(time.Now().Add(time.Second))
	}
}

// harden gives a connection of our own the session settings that all have.
func harden(config *pgconn.Config) {
	config.DialFunc = dial
	config.ConnectTimeout = connectTimeout
	if config.RuntimeParams == nil {
		config.RuntimeParams = map[string]string{}
	}
	for name, value := range map[string]string{
		"application_name":                    "rowcall",
		"timezone":                            "UTC",
		"statement_timeout":                   statementTimeout,
		"lock_timeout":                        lockTimeout,
		"idle_in_transaction_session_timeout": idleTimeout,
		"tcp_user_timeout":                    "15s",
		"tcp_keepalives_idle":                 "5",
		"tcp_keepalives_interval":             "5",
		"tcp_keepalives_count":                "2",
		// A role or database may say off: acknowledged appends would vanish in a
		// crash. What a session asks for at its start wins over both.
		"synchronous_commit": "on",
	} {
		config.RuntimeParams[name] = value
	}
}
