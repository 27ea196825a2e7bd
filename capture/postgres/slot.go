package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowcall/rowcall/store"
)

const (
	outputPlugin = "pgoutput"
	walLost      = "lost"
	// slotPatience bounds one try to create a slot: it waits for every
	// transaction that ran before it.
	slotPatience = 60 * time.Second
)

// slotName is also the publication's.
func slotName(source string) string { return "rowcall_" + source }

const slotSQL = `
SELECT slot_type, coalesce(plugin, ''), coalesce(database, ''), coalesce(wal_status, ''),
       coalesce(confirmed_flush_lsn::text, '0/0'), coalesce(active_pid, 0)
FROM pg_replication_slots WHERE slot_name = $1`

// findSlot says what the source knows of a slot.
func (c *ordinary) findSlot(ctx context.Context, name string) (slot slotFacts, err error) {
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var kind, confirmed string
		err := conn.QueryRow(ctx, slotSQL, name).Scan(&kind, &slot.plugin, &slot.database, &slot.status, &confirmed, &slot.activePID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		slot.present, slot.logical = true, kind == "logical"
		slot.confirmed, err = store.ParseLSN(confirmed)
		return err
	})
	if err != nil {
		return slot, fmt.Errorf("look up slot: %w", err)
	}
	return slot, nil
}

// identify asks the walsender who the server is; where the timeline is not the
// saved one, also where that was left.
func identify(ctx context.Context, wal *pgconn.PgConn, saved store.Source) (serverFacts, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	system, err := pglogrepl.IdentifySystem(ctx, wal)
	if err != nil {
		return serverFacts{}, fmt.Errorf("identify system: %w", err)
	}
	facts := serverFacts{
		systemID: system.SystemID,
		timeline: system.Timeline,
		walEnd:   store.LSN(system.XLogPos),
		database: system.DBName,
	}
	if saved.SystemID == facts.systemID && saved.Timeline < facts.timeline {
		history, err := pglogrepl.TimelineHistory(ctx, wal, facts.timeline)
		if err != nil {
			return facts, fmt.Errorf("read timeline history: %w", err)
		}
		facts.fork = forkPoint(string(history.Content), saved.Timeline)
	}
	return facts, nil
}

// forkPoint finds in a timeline history file where a timeline was left; 0 where
// it is no ancestor.
func forkPoint(history string, timeline int32) store.LSN {
	for line := range strings.Lines(history) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != strconv.Itoa(int(timeline)) {
			continue
		}
		if lsn, err := store.ParseLSN(fields[1]); err == nil {
			return lsn
		}
	}
	return 0
}

// createSlot creates the slot and returns its consistent point: the stream has
// every transaction that commits after it. It gives up after slotPatience;
// waiting is called every two seconds with what is waited for.
func createSlot(ctx context.Context, wal *pgconn.PgConn, c *ordinary, name string, waiting func(blocker string)) (store.LSN, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, slotPatience, errors.New("gave up waiting for older transactions"))
	defer cancel()
	blocker := ""
	done := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if found, err := c.blocker(ctx, int32(wal.PID())); err == nil && found != "" {
				blocker = found
				waiting(found)
			}
		}
	}()
	created, err := pglogrepl.CreateReplicationSlot(ctx, wal, quote(name), outputPlugin,
		pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	close(done)
	<-watched
	if err != nil {
		if blocker != "" && ctx.Err() != nil {
			return 0, fmt.Errorf("create slot: it waits for a transaction that was open before: %s", blocker)
		}
		return 0, fmt.Errorf("create slot: %w", err)
	}
	point, err := store.ParseLSN(created.ConsistentPoint)
	if err != nil {
		return 0, fmt.Errorf("create slot: %w", err)
	}
	return point, nil
}

// To a role without pg_monitor, state and xact_start of other roles are null.
const blockerSQL = `
SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.state, ''),
       extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, current_user
FROM unnest(pg_blocking_pids($1)) b(pid) JOIN pg_stat_activity a ON a.pid = b.pid
ORDER BY 4 DESC NULLS LAST LIMIT 1`

const preparedSQL = `
SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::bigint FROM pg_prepared_xacts ORDER BY prepared LIMIT 1`

// blocker says which transaction a backend waits for; empty where none.
func (c *ordinary) blocker(ctx context.Context, pid int32) (text string, err error) {
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var (
			holder           int64
			since            *int64
			app, state, role string
		)
		err := conn.QueryRow(ctx, blockerSQL, pid).Scan(&holder, &app, &state, &since, &role)
		switch {
		case err == nil && since == nil:
			text = fmt.Sprintf("pid %d (%s), open for a time that our role may not see (GRANT pg_monitor TO %s); end it with SELECT pg_terminate_backend(%d);",
				holder, app, quote(role), holder)
			return nil
		case err == nil:
			text = fmt.Sprintf("pid %d (%s, %s), open for %s; end it with SELECT pg_terminate_backend(%d);",
				holder, app, state, time.Duration(*since)*time.Second, holder)
			return nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		var (
			gid string
			age int64
		)
		if err := conn.QueryRow(ctx, preparedSQL).Scan(&gid, &age); err == nil {
			text = fmt.Sprintf("prepared transaction %s, %s old; end it with ROLLBACK PREPARED %s;",
				literal(gid), time.Duration(age)*time.Second, literal(gid))
		} else if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return nil
	})
	return text, err
}

// dropSlot drops a slot that nobody holds; one that is not there is no error.
func (c *ordinary) dropSlot(ctx context.Context, name string) error {
	err := c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", name)
		return err
	})
	if err != nil && sqlState(err) != stateUndefinedObject {
		return fmt.Errorf("drop slot: %w", err)
	}
	return nil
}

// slotHolder is who holds our slot.
type slotHolder struct {
	pid   int32
	app   string
	ours  bool // a former connection of this source, under our role
	since time.Time
}

const holderSQL = `
SELECT a.pid, coalesce(a.application_name, ''), a.application_name = $2 AND a.usename = current_user, a.backend_start
FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = $1`

// holder says who holds the slot; nil where nobody does any more.
func (c *ordinary) holder(ctx context.Context, source string) (*slotHolder, error) {
	var h slotHolder
	err := c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, holderSQL, slotName(source), applicationName(source)).Scan(&h.pid, &h.app, &h.ours, &h.since)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up holder of slot: %w", err)
	}
	return &h, nil
}

// terminate ends a backend of the role that we are.
func (c *ordinary) terminate(ctx context.Context, pid int32) error {
	return c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT pg_terminate_backend($1)", pid)
		return err
	})
}
