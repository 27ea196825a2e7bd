package postgres

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowcall/rowcall/store"
)

// pulse keeps the heartbeats that are out. It is safe for concurrent use.
type pulse struct {
	prefix  string // of the content: which source it is for
	version int

	mu       sync.Mutex
	sent     time.Time // the newest that was sent
	sentLSN  store.LSN
	out      time.Time // the oldest that has not come back; zero: all have
	backAt   time.Time // when one came back last
	reported time.Time // the backAt that was saved
	problem  string    // why none can be sent; empty: they can
	hint     string    // what helps against that
}

// content is what the next heartbeat says.
func (p *pulse) content(now time.Time) string {
	return p.prefix + strconv.FormatInt(now.UnixNano(), 10)
}

func (p *pulse) gone(at time.Time, lsn store.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problem, p.hint = "", ""
	p.sent, p.sentLSN = at, lsn
	if p.out.IsZero() && p.backAt.Before(at) {
		p.out = at
	}
}

// failed notes that the source refused to write one.
func (p *pulse) failed(err *pgconn.PgError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problem = describe(err)
	switch err.Code {
	case stateNoPrivilege:
		p.hint = "GRANT EXECUTE ON FUNCTION " + emitSignature(p.version) + " TO the_role;"
	case stateReadOnly:
		p.hint = "let the source take writes again, or let ROWCALL_SOURCE_URL name its primary"
	case stateDiskFull:
		p.hint = "free room on the source's disks"
	default:
		p.hint = "it is tried again with the next heartbeat; until one is written the slot may keep WAL that nobody needs"
	}
}

// came notes a heartbeat that came back through the slot.
func (p *pulse) came(content string) {
	ns, err := strconv.ParseInt(strings.TrimPrefix(content, p.prefix), 10, 64)
	if err != nil {
		return // somebody else's, in our form
	}
	p.back(time.Unix(0, ns))
}

// passed notes a transaction's end. A server that does not stream messages
// shows a heartbeat only as a transaction without changes.
func (p *pulse) passed(end store.LSN) {
	if p.version >= messagesVersion {
		return
	}
	p.mu.Lock()
	sent, due := p.sent, p.sentLSN != 0 && end >= p.sentLSN
	p.mu.Unlock()
	if due {
		p.back(sent)
	}
}

func (p *pulse) back(sent time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backAt = time.Now()
	if sent.Before(p.sent) {
		p.out = p.sent // of those still out the newest is known: a late one shows late
	} else {
		p.out = time.Time{}
	}
}

// age is how long the oldest heartbeat is out.
func (p *pulse) age(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.IsZero() {
		return 0
	}
	return now.Sub(p.out)
}

// fresh is when a heartbeat came back, once for each.
func (p *pulse) fresh() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.backAt.Equal(p.reported) {
		return time.Time{}
	}
	p.reported = p.backAt
	return p.backAt
}

// trouble is what is wrong with the heartbeats, and what would help.
func (p *pulse) trouble(now time.Time, patience time.Duration) (reason, hint string) {
	p.mu.Lock()
	problem, help := p.problem, p.hint
	p.mu.Unlock()
	if problem != "" {
		return "no heartbeat can be written to the source: " + problem, help
	}
	if age := p.age(now); age > patience {
		return "a heartbeat has not come back through the slot for " + age.Round(time.Second).String(),
			"the slot is far behind, or its transactions are not decoded: see rowcall_source_lag_bytes, and long transactions in pg_stat_activity"
	}
	return "", ""
}

// emitSignature names the function that writes a message, as GRANT wants it.
func emitSignature(version int) string {
	if version >= 170000 {
		return "pg_logical_emit_message(boolean, text, text, boolean)"
	}
	return "pg_logical_emit_message(boolean, text, text)"
}
