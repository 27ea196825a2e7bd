package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowcall/rowcall/store"
)

// lookEvery is how often publication, tables and slot are looked at, at least.
const lookEvery = 10 * time.Second

var (
	errPublication = errors.New("the publication has changed")
	errSlotGone    = errors.New("the slot is gone")
	errSlotLost    = errors.New("the slot was invalidated")
)

// watched is what the last look found.
type watched struct {
	publication publication
	tables      selection
	gap         string // reason of the newest gap that nobody accepted; empty: none
}

// watch writes heartbeats and looks after everything that the stream does not
// say: tables that come and go, the publication, the slot's health.
func (s *session) watch(ctx context.Context) error {
	changes, stop := s.ownership.Changes()
	defer stop()
	every := min(s.config.Heartbeat, lookEvery)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var beat time.Time
	for {
		now := time.Now()
		if now.Sub(beat) >= s.config.Heartbeat-every/2 {
			beat = now
			if err := s.beat(ctx, now); err != nil {
				return err
			}
		}
		if err := s.look(ctx); err != nil {
			return err
		}
		if err := s.progress(ctx, now); err != nil {
			return err
		}
		s.lookForGaps(ctx)
		s.tell(ctx, now)
		for again := true; again; {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-ticker.C:
				again = false
			case topic := <-changes:
				if topic == store.TopicGaps {
					s.lookForGaps(ctx)
					s.tell(ctx, time.Now())
				}
			}
		}
	}
}

const beatSQL = `SELECT pg_logical_emit_message(true, $1, $2)::text`

// beat sends a heartbeat. It is transactional: only then does the server move
// what it retains.
func (s *session) beat(ctx context.Context, now time.Time) error {
	err := s.ordinary.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var at string
		if err := conn.QueryRow(ctx, beatSQL, heartbeatPrefix, s.pulse.content(now)).Scan(&at); err != nil {
			return err
		}
		lsn, err := store.ParseLSN(at)
		s.pulse.gone(now, lsn)
		return err
	})
	if err == nil {
		return nil
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && !s.ordinary.closed() {
		s.pulse.failed(pgErr)
		return nil
	}
	return fmt.Errorf("write heartbeat: %w", err)
}

// look compares publication and tables with what they were.
func (s *session) look(ctx context.Context) error {
	name := slotName(s.config.Name)
	p, err := s.ordinary.findPublication(ctx, name, s.facts.version)
	if err != nil {
		return err
	}
	if r := p.refusal(name); r != nil {
		return r
	}
	if p.oid != s.watched.publication.oid {
		s.damage.stuck = true
		return errPublication
	}
	tables, err := s.ordinary.tables(ctx, name, s.patterns)
	if err != nil {
		return err
	}
	chosen := choose(tables, s.patterns, s.facts.version)
	var removed []string
	for _, t := range chosen.add {
		if _, was := s.watched.tables.members[t.oid]; was {
			removed = append(removed, t.String())
		}
	}
	if damage := damageOf(p, removed); damage != "" {
		s.damage.damage = damage
		return errPublication
	}
	if len(chosen.add)+len(chosen.remove) > 0 {
		if err := s.ordinary.tend(ctx, name, p, &chosen); err != nil {
			return err
		}
	}
	if slices.EqualFunc(chosen.relations, s.watched.tables.relations, equalRelation) {
		s.watched.tables = chosen
		return nil
	}
	for oid, table := range chosen.members {
		if _, was := s.watched.tables.members[oid]; !was {
			s.log.Info().Str("table", table).Msg("table captured from now on")
		}
	}
	for _, r := range chosen.relations {
		if !r.Captured && !slices.ContainsFunc(s.watched.tables.relations, func(was store.Relation) bool { return equalRelation(r, was) }) {
			s.log.Warn().Str("table", r.Schema+"."+r.Name).Str("reason", r.Reason).Str("hint", r.Remedy).Msg("table left out")
		}
	}
	if err := s.registry.SetRelations(ctx, s.claim, chosen.relations); err != nil {
		return s.unlessAway(err)
	}
	s.watched.tables = chosen
	return nil
}

func equalRelation(a, b store.Relation) bool {
	return a.Schema == b.Schema && a.Name == b.Name && a.Identity == b.Identity && a.Captured == b.Captured &&
		a.Reason == b.Reason && a.Remedy == b.Remedy && slices.Equal(a.Key, b.Key) && slices.Equal(a.Columns, b.Columns)
}

// unlessAway lets errors of a store that is away pass: the appender decides
// what that means.
func (s *session) unlessAway(err error) error {
	if err == nil || store.Unavailable(err) {
		return nil
	}
	return &logFailure{err}
}

const progressSQL = `
SELECT pg_current_wal_lsn()::text, coalesce(wal_status, '') FROM pg_replication_slots WHERE slot_name = $1`

// progress measures the lag and saves it.
func (s *session) progress(ctx context.Context, now time.Time) error {
	var end, status string
	err := s.ordinary.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, progressSQL, slotName(s.config.Name)).Scan(&end, &status)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return errSlotGone
	}
	if err != nil {
		return fmt.Errorf("look up lag: %w", err)
	}
	if status == walLost {
		return errSlotLost
	}
	lsn, err := store.ParseLSN(end)
	if err != nil {
		return fmt.Errorf("look up lag: %w", err)
	}
	p := store.SourceProgress{
		HeartbeatAt: s.pulse.fresh(),
		LagBytes:    lagOf(lsn, store.LSN(s.durable.Load())),
		WALStatus:   status,
	}
	s.metrics.lagBytes.Set(float64(p.LagBytes))
	s.metrics.lagSeconds.Set(max(time.Duration(s.lag.Load()), s.pulse.age(now)).Seconds())
	if status != s.walStatus && (status == "extended" || status == "unreserved") {
		s.log.Warn().Str("status", status).Int64("lag", p.LagBytes).Msg("slot keeps more WAL than the source wants to")
	}
	s.walStatus = status
	return s.unlessAway(s.registry.SetSourceProgress(ctx, s.claim, p))
}

// lookForGaps asks the store whether a gap is open: that state stays until a
// person accepts it.
func (s *session) lookForGaps(ctx context.Context) {
	src, err := s.ownership.Source(ctx, s.config.Name)
	if err != nil {
		return // what was known stays
	}
	s.watched.gap = ""
	if n := len(src.Gaps); n > 0 {
		s.watched.gap = src.Gaps[n-1].Reason
	}
	// Whoever accepts a gap, or records one, sets the state by its own hand.
	if src.State != s.shown.state {
		s.shown = shownState{}
	}
}

// tell shows the state that all of this amounts to.
func (s *session) tell(ctx context.Context, now time.Time) {
	state := store.SourceStreaming
	reason, hint := s.pulse.trouble(now, max(3*s.config.Heartbeat, 30*time.Second))
	if s.watched.gap != "" {
		state = store.SourceGap
		if reason != "" {
			reason = "; " + reason
		}
		reason, hint = s.watched.gap+reason, store.GapHint(s.config.Name)
	}
	if !s.troubled.IsZero() {
		s.log.Info().Dur("dur", now.Sub(s.troubled)).Msg("source streams again")
		s.troubled = time.Time{}
	}
	s.show(ctx, state, reason, hint)
}
