package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestEveryRefusalSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for _, code := range []string{
		stateInvalidPassword, stateInvalidAuth, stateNoDatabase, stateNoPrivilege, stateLimitReached, stateProtocolViolation, stateNotSupported,
	} {
		r := classify(&pgconn.PgError{Code: code, Message: "it is so"})
		if r == nil || r.hint == "" || !strings.Contains(r.reason, "it is so") {
			t.Errorf("%s: %+v", code, r)
		}
	}
	if r := classify(&logFailure{&pgconn.PgError{Code: stateInvalidPassword}}); r != nil {
		t.Errorf("an error of the store refuses the source: %+v", r)
	}
}

func TestTheHintOfAHeartbeatThatCannotBeWrittenIsOfItsReason(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		stateNoPrivilege: "GRANT EXECUTE", stateReadOnly: "take writes", stateDiskFull: "disks", "57014": "tried again",
	} {
		p := pulse{version: 150000}
		p.failed(&pgconn.PgError{Code: code, Message: "it is so"})
		reason, hint := p.trouble(time.Now(), time.Minute)
		if !strings.Contains(reason, "it is so") || !strings.Contains(hint, want) {
			t.Errorf("%s: %q, %q; want a hint with %q", code, reason, hint, want)
		}
		p.gone(time.Now(), 1)
		if reason, hint := p.trouble(time.Now(), time.Minute); reason != "" || hint != "" {
			t.Errorf("after one was written: %q, %q", reason, hint)
		}
	}
}
