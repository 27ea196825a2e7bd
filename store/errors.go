package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrFenced: another instance, or a later life of this one, has taken over
	// what the call wrote for. Stop, claim again.
	ErrFenced = errors.New("fenced: another owner has taken over")
	// ErrNotFound: no such row.
	ErrNotFound = errors.New("not found")
	// ErrGone: the log had the events that the call is about, and has dropped them.
	ErrGone = errors.New("the log has dropped it")
	// ErrConflict: a row like it exists, or the row is not in the state that the call leaves.
	ErrConflict = errors.New("conflict")
	// ErrTooMany: as many of the kind as there may be are there.
	ErrTooMany = errors.New("too many")
	// ErrSchema: the schema is not the one this binary was made for.
	ErrSchema = errors.New("schema version")
	// ErrNewer is an ErrSchema: a newer rowcall has made it.
	ErrNewer = fmt.Errorf("newer %w", ErrSchema)
	// ErrRegressed: the log is shorter than it was, so what is in memory is of
	// events that are lost. Nothing is written any more; only a new start helps.
	ErrRegressed = errors.New("the log has lost events that it had: its database was restored, or a standby took over that did not have all; " +
		"rowcall ends, and starts anew from what is there")
	// ErrKey: ROWCALL_SECRET_KEY is not the key that the stored secrets were sealed with.
	ErrKey = errors.New("wrong secret key")
)

// Unavailable reports whether the store could not be reached, was shutting
// down, read-only, out of space or out of connections, or did not answer in
// time: trying again later may succeed, and nothing in the call was at fault.
// A caller that cancelled its own context is told so, not this.
func Unavailable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	// Not even a refused password is the call's fault.
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return unavailableCode(pg.Code)
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, lost := range []error{
		errNoLease, errCrowded,
		context.DeadlineExceeded, os.ErrDeadlineExceeded,
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
		syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNREFUSED,
	} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return pgconn.SafeToRetry(err) // the connection was found closed
}

// unavailableCode sorts SQLSTATEs: those that speak of the server's condition.
func unavailableCode(code string) bool {
	switch code {
	case "25006", // read-only: a standby, or told to be
		"25P03", "25P04", // our transaction idled or ran too long
		"40001", "40P01", // serialization failure, deadlock
		"55P03", "57014": // waited too long for a lock, ran too long
		return true
	}
	for _, class := range []string{
		"08",  // connection exceptions
		"53",  // insufficient resources: disk full, out of memory, too many connections
		"57P", // shutting down, crashed, starting up, idle session ended
		"58",  // system errors: I/O
		"F0",  // configuration file errors
		"XX001" /* data corrupted */, "XX002",
	} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}
