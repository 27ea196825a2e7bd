package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
)

const (
	oldestVersion   = 130000
	messagesVersion = 140000 // pgoutput sends logical messages from here on
	// smallWALKeep: with less, an hour's outage of ours may invalidate the slot.
	smallWALKeep = 1 << 30
	largeSkew    = 2 * time.Second
)

// Finding is one thing that Check found.
type Finding struct {
	Level  string // ok, warning, fault
	What   string
	Remedy string // SQL or a setting; empty when ok
}

// findings collects; its first fault is what refuses the source.
type findings []Finding

func (f *findings) ok(format string, args ...any) {
	*f = append(*f, Finding{Level: "ok", What: fmt.Sprintf(format, args...)})
}

func (f *findings) warn(remedy, format string, args ...any) {
	*f = append(*f, Finding{Level: "warning", What: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (f *findings) fault(remedy, format string, args ...any) {
	*f = append(*f, Finding{Level: "fault", What: fmt.Sprintf(format, args...), Remedy: remedy})
}

// refusal is the first fault; nil where there is none.
func (f findings) refusal() *refusal {
	for _, finding := range f {
		if finding.Level == "fault" {
			return &refusal{finding.What, finding.Remedy}
		}
	}
	return nil
}

// failure adds what an error of connecting amounts to.
func (f *findings) failure(err error, what string) {
	if r := classify(err); r != nil {
		f.fault(r.hint, "%s", r.reason)
		return
	}
	f.fault("start the database, or correct the address in ROWCALL_SOURCE_URL", "%s: %s", what, explain(err))
}

// Check explains, without creating anything, whether the source is fit: what
// stands against capturing (fault), what deserves care (warning), and what is as
// it should be (ok), each with its remedy. It returns as well the tables that
// Config.Tables names, nil where they cannot be read. A source that cannot be
// reached is a finding; the error is about the configuration alone, or ctx.
func Check(ctx context.Context, config Config) ([]Finding, []store.Relation, error) {
	config, patterns, err := config.validate()
	if err != nil {
		return nil, nil, err
	}
	var f findings
	c, err := openOrdinary(ctx, config)
	if err != nil {
		f.failure(err, "the source cannot be reached")
		return f, nil, context.Cause(ctx)
	}
	defer c.close()
	facts, err := c.facts(ctx, config.Name)
	if err != nil {
		f.failure(err, "the source's settings cannot be read")
		return f, nil, context.Cause(ctx)
	}
	facts.examine(&f)
	if f.refusal() == nil {
		f.ok("%s, wal_level %s, role %s", facts.versionText, facts.walLevel, facts.role)
		wal, err := openWalsender(ctx, config, c.serverEncoding())
		if err != nil {
			f.failure(err, "a replication connection cannot be opened")
		} else {
			f.ok("a replication connection opens")
			closeConn(wal)
		}
	}
	facts.advise(&f)
	tables, err := c.checkTables(ctx, &f, config.Name, patterns, facts)
	if err != nil {
		f.failure(err, "the source's tables cannot be read")
	}
	return f, tables, context.Cause(ctx)
}

// checkTables reports on publication and tables, which it returns.
func (c *ordinary) checkTables(ctx context.Context, f *findings, name string, patterns []tablePattern, facts sourceFacts) ([]store.Relation, error) {
	p, err := c.findPublication(ctx, slotName(name), facts.version)
	if err != nil {
		return nil, err
	}
	if r := p.refusal(slotName(name)); r != nil {
		f.fault(r.hint, "%s", r.reason)
	}
	if p.oid == 0 && !facts.mayCreate {
		f.fault("GRANT CREATE ON DATABASE "+quote(facts.database)+" TO "+quote(facts.role)+";",
			"role %s may not create the publication in database %s", facts.role, facts.database)
	}
	tables, err := c.tables(ctx, slotName(name), patterns)
	if err != nil {
		return nil, err
	}
	s := choose(tables, patterns, facts.version)
	for _, t := range s.add {
		if !t.owned || p.oid != 0 && !p.owned {
			s.note(t, false, "role "+facts.role+" does not own it (its owner is "+t.owner+"), so it cannot add it to the publication",
				"ALTER TABLE "+t.String()+" OWNER TO "+quote(facts.role)+"; -- or, once the publication exists, as an administrator: ALTER PUBLICATION "+quote(slotName(name))+" ADD TABLE "+t.String()+";")
		}
	}
	captured := 0
	for _, r := range s.relations {
		if r.Captured {
			captured++
			continue
		}
		f.warn(r.Remedy, "table %s.%s is left out: %s", r.Schema, r.Name, r.Reason)
	}
	switch captured {
	case 0:
		f.warn("create tables, or correct ROWCALL_SOURCE_TABLES", "no table that can be captured matches %s", joinPatterns(patterns))
	case 1:
		f.ok("1 table would be captured")
	default:
		f.ok("%d tables would be captured", captured)
	}
	return s.relations, nil
}

func joinPatterns(patterns []tablePattern) string {
	var names []string
	for _, p := range patterns {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}

// sourceFacts is what the server says of itself.
type sourceFacts struct {
	version       int
	versionText   string
	walLevel      string
	encoding      string
	standby       bool
	replication   bool
	superuser     bool
	mayCreate     bool
	role          string
	database      string
	pid           int32 // of the backend, as it says itself
	pidAnnounced  uint32
	slotsMax      int
	slotsUsed     int
	slotExists    bool
	sendersMax    int
	sendersUsed   int
	walKeep       int64 // max_slot_wal_keep_size in bytes; -1: unlimited
	senderTimeout time.Duration
	skew          time.Duration // the source's clock minus ours
	openFor       time.Duration // the oldest transaction that writes
	openPID       int32
}

const factsSQL = `
SELECT current_setting('server_version_num')::int, split_part(version(), ' on ', 1), current_setting('wal_level'),
       current_setting('server_encoding'), pg_is_in_recovery(),
       r.rolreplication OR EXISTS (SELECT FROM pg_roles m WHERE m.rolname IN ('rds_replication', 'cloudsqlreplica')
                                   AND pg_has_role(r.oid, m.oid, 'MEMBER')),
       r.rolsuper, has_database_privilege(current_database(), 'CREATE'), current_user::text, current_database()::text, pg_backend_pid(),
       current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots),
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1),
       current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_stat_replication),
       (SELECT CASE WHEN setting = '-1' THEN -1 ELSE setting::bigint << 20 END FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
       (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout'),
       clock_timestamp(),
       coalesce((SELECT extract(epoch FROM clock_timestamp() - min(xact_start))::bigint FROM pg_stat_activity WHERE backend_xid IS NOT NULL), 0),
       coalesce((SELECT pid FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start LIMIT 1), 0)
FROM pg_roles r WHERE r.rolname = current_user`

// facts asks the server everything that decides whether it is fit.
func (c *ordinary) facts(ctx context.Context, name string) (s sourceFacts, err error) {
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var (
			timeoutMS, openSeconds int64
			clock                  time.Time
		)
		before := time.Now()
		err := conn.QueryRow(ctx, factsSQL, slotName(name)).Scan(&s.version, &s.versionText, &s.walLevel, &s.encoding, &s.standby,
			&s.replication, &s.superuser, &s.mayCreate, &s.role, &s.database, &s.pid,
			&s.slotsMax, &s.slotsUsed, &s.slotExists, &s.sendersMax, &s.sendersUsed,
			&s.walKeep, &timeoutMS, &clock, &openSeconds, &s.openPID)
		if err != nil {
			return err
		}
		took := time.Since(before)
		s.skew = clock.Sub(before.Add(took / 2))
		if s.skew.Abs() < took { // not known any better
			s.skew = 0
		}
		s.senderTimeout = time.Duration(timeoutMS) * time.Millisecond
		s.openFor = time.Duration(openSeconds) * time.Second
		s.pidAnnounced = conn.PgConn().PID()
		return nil
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return s, errors.New("read settings of source: the role has no row in pg_roles")
	}
	if err != nil {
		return s, fmt.Errorf("read settings of source: %w", err)
	}
	return s, nil
}

// examine adds what makes the source unfit. It is what capturing asks, too.
func (s sourceFacts) examine(f *findings) {
	if uint32(s.pid) != s.pidAnnounced {
		f.fault("let ROWCALL_SOURCE_URL name the database server itself: replication does not pass a pooler",
			"a connection pooler stands before the source (backend %d speaks as %d)", s.pid, s.pidAnnounced)
	}
	if s.version < oldestVersion {
		f.fault("upgrade the source", "%s is too old: PostgreSQL 13 is the oldest that works", s.versionText)
	}
	if s.standby {
		f.fault("let ROWCALL_SOURCE_URL name the primary (with several hosts: target_session_attrs=read-write)",
			"the source is a standby: changes are captured from the primary")
	}
	if s.walLevel != "logical" {
		f.fault("ALTER SYSTEM SET wal_level = 'logical'; -- and restart the source", "wal_level is %s, and must be logical", s.walLevel)
	}
	if !s.replication && !s.superuser {
		f.fault("ALTER ROLE "+quote(s.role)+" REPLICATION;", "role %s has no right to replicate", s.role)
	}
	if !s.slotExists && s.slotsUsed >= s.slotsMax {
		f.fault("ALTER SYSTEM SET max_replication_slots = "+strconv.Itoa(s.slotsMax+5)+"; -- and restart the source; or drop a slot that nobody uses",
			"no replication slot is left: all %d are in use", s.slotsMax)
	}
	if s.sendersMax == 0 {
		f.fault("ALTER SYSTEM SET max_wal_senders = 10; -- and restart the source", "max_wal_senders is 0")
	}
}

// advise adds what works, but deserves care.
func (s sourceFacts) advise(f *findings) {
	if s.version >= oldestVersion && s.version < messagesVersion {
		f.warn("upgrade the source", "%s does not stream logical messages: pg_logical_emit_message makes no events", s.versionText)
	}
	if s.superuser {
		f.warn("CREATE ROLE … LOGIN REPLICATION; and give it the tables", "role %s is a superuser: REPLICATION and ownership of the tables are enough", s.role)
	}
	if s.sendersUsed >= s.sendersMax {
		f.warn("ALTER SYSTEM SET max_wal_senders = "+strconv.Itoa(s.sendersMax+5)+"; -- and restart the source",
			"all %d WAL senders are in use", s.sendersMax)
	}
	switch {
	case s.walKeep < 0:
		f.warn("ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; -- what the disk can spare; SELECT pg_reload_conf();",
			"max_slot_wal_keep_size is unlimited: while rowcall is down, its slot keeps WAL until the source's disk is full")
	case s.walKeep < smallWALKeep:
		f.warn("ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();",
			"max_slot_wal_keep_size is %d MiB: a short outage of rowcall may invalidate its slot, and that is a gap", s.walKeep>>20)
	}
	switch {
	case s.senderTimeout == 0:
		f.warn("ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();",
			"wal_sender_timeout is off: after a cut connection the slot stays taken")
	case s.senderTimeout < 5*time.Second:
		f.warn("ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();",
			"wal_sender_timeout is %s: a short stall cuts the stream", s.senderTimeout)
	}
	if s.skew.Abs() > largeSkew {
		f.warn("let both machines follow a time server", "the source's clock is off by %s against ours: lag and event times mislead", s.skew.Round(time.Millisecond))
	}
	if s.encoding == "SQL_ASCII" {
		f.warn("", "the database's encoding is SQL_ASCII: text that is not UTF-8 is replaced, with the bytes beside it")
	}
	if !s.slotExists && s.openFor > 10*time.Second {
		f.warn(fmt.Sprintf("SELECT pg_terminate_backend(%d); -- if it was forgotten", s.openPID),
			"a transaction of pid %d has been open for %s: the slot cannot be created before it ends", s.openPID, s.openFor)
	}
}

// lagOf is what progress tells the operator; bytes below zero are none.
func lagOf(end, confirmed store.LSN) int64 {
	if end <= confirmed {
		return 0
	}
	return int64(end - confirmed)
}
