package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowcall/rowcall/store"
)

// refusal says why a source cannot be captured as it is, and what to do about
// it. Time alone does not heal it.
type refusal struct {
	reason string
	hint   string // SQL, or a setting
}

func (r *refusal) Error() string { return r.reason }

// logFailure is an error of the store, so that its SQLSTATE is not taken for
// one of the source.
type logFailure struct{ err error }

func (f *logFailure) Error() string { return "store: " + f.err.Error() }
func (f *logFailure) Unwrap() error { return f.err }

// SQLSTATEs that decide what happens next.
const (
	stateProtocolViolation = "08P01"
	stateReadOnly          = "25006"
	stateInvalidAuth       = "28000"
	stateInvalidPassword   = "28P01"
	stateNoDatabase        = "3D000"
	stateNoPrivilege       = "42501"
	stateUndefinedObject   = "42704"
	stateDuplicateObject   = "42710"
	stateDiskFull          = "53100"
	stateLimitReached      = "53400"
	stateTooManyClients    = "53300"
	statePrerequisite      = "55000"
	stateInUse             = "55006"
	stateNotSupported      = "0A000"
	stateAdminShutdown     = "57P01"
	stateCannotConnect     = "57P03"
)

func sqlState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// classify splits what needs a person from what passes: it returns the refusal
// that err amounts to, or nil where trying again may help.
func classify(err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	if _, ok := errors.AsType[*logFailure](err); ok {
		return nil
	}
	if reason, remedy := store.Refused(err, "ROWCALL_SOURCE_URL"); reason != "" {
		return &refusal{"no connection to the source: " + reason + ": " + explain(err), remedy}
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return nil
	}
	said := describe(pgErr)
	switch pgErr.Code {
	case stateNoPrivilege:
		return &refusal{
			"the source denies a right: " + said,
			"ALTER ROLE the_role REPLICATION; and give it ownership of the tables, or let an administrator create the publication",
		}
	case stateLimitReached:
		return &refusal{
			"the source has no replication slot left: " + said,
			"raise max_replication_slots (needs a restart of the source), or drop a slot that nobody uses: SELECT slot_name, active FROM pg_replication_slots;",
		}
	case stateProtocolViolation:
		return &refusal{
			"a connection pooler seems to stand before the source: " + said,
			"let ROWCALL_SOURCE_URL name the database server itself: replication does not pass a pooler",
		}
	case stateNotSupported:
		return &refusal{
			"the source cannot do logical replication: " + said,
			"let ROWCALL_SOURCE_URL name the primary of a PostgreSQL that offers logical replication with pgoutput (wal_level = logical)",
		}
	}
	return nil
}

// explain is the reason that people read of an error which is tried again.
func explain(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return describe(pgErr)
	}
	if _, ok := errors.AsType[*logFailure](err); ok {
		return "the store cannot take appends: " + err.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer from the source in time"
	}
	return oneLine(err.Error())
}

// oneLine joins the lines of a text. What several addresses, or the tries with
// and without TLS, have in common is said once.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, " ")
}

// describe is an error of the server in a line.
func describe(pgErr *pgconn.PgError) string {
	return fmt.Sprintf("%s (SQLSTATE %s)", pgErr.Message, pgErr.Code)
}
