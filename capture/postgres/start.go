package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowcall/rowcall/store"
)

// evictAgain is how often a former connection of ours that holds the slot is
// ended, at most: two installations that both think the slot theirs must not
// spend their time ending each other.
const evictAgain = time.Minute

// once claims the source, connects, decides how to go on, and streams until
// something ends it: always with an error.
func (c *Capture) once(ctx context.Context) error {
	if _, err := c.ownership.Lease(ctx); err != nil {
		return &logFailure{err}
	}
	claim, saved, err := c.ownership.ClaimSource(ctx, c.config.Name)
	if errors.Is(err, store.ErrConflict) {
		return err
	}
	if err != nil {
		return &logFailure{fmt.Errorf("claim source: %w", err)}
	}
	c.claim, c.elsewhere = claim, false
	if c.shown.state == "" {
		c.show(ctx, store.SourceStarting, "", "")
	}

	cat, err := openOrdinary(ctx, c.config)
	if err != nil {
		return err
	}
	defer cat.close()
	facts, err := cat.facts(ctx, c.config.Name)
	if err != nil {
		return err
	}
	var found findings
	facts.examine(&found)
	if r := found.refusal(); r != nil {
		return r
	}
	wal, err := openWalsender(ctx, c.config, cat.serverEncoding())
	if err != nil {
		return err
	}
	defer closeConn(wal)

	s, err := c.begin(ctx, cat, wal, facts, saved)
	if err != nil {
		return err
	}
	return s.run(ctx)
}

// begin brings publication, slot and checkpoint into a state from which to
// stream, by the start decision, and starts replication.
func (c *Capture) begin(ctx context.Context, cat *ordinary, wal *pgconn.PgConn, facts sourceFacts, saved store.Source) (*session, error) {
	name := slotName(c.config.Name)
	server, err := identify(ctx, wal, saved)
	if err != nil {
		return nil, err
	}
	slot, err := cat.findSlot(ctx, name)
	if err != nil {
		return nil, err
	}
	pub, err := cat.findPublication(ctx, name, facts.version)
	if err != nil {
		return nil, err
	}
	if r := pub.refusal(name); r != nil {
		return nil, r
	}
	tables, err := cat.tables(ctx, name, c.patterns)
	if err != nil {
		return nil, err
	}
	chosen := choose(tables, c.patterns, facts.version)
	d := decide(server, slot, c.publicationFacts(pub, saved, chosen), saved)
	if d.step == stepRefuse {
		return nil, &refusal{d.reason, d.hint}
	}
	if err := c.free(ctx, cat, slot); err != nil {
		return nil, err
	}
	identity := store.Source{
		SystemID: server.systemID, Timeline: server.timeline,
		Generation: saved.Generation, Slot: name, Publication: name,
	}
	if d.bump {
		identity.Generation = nextGeneration(c.claim.ID, saved.Generation)
	}
	have, err := c.prepare(ctx, cat, d, slot, saved)
	if err != nil {
		return nil, err
	}
	if err := cat.tend(ctx, name, pub, &chosen); err != nil {
		return nil, err
	}
	if err := c.registry.SetRelations(ctx, c.claim, chosen.relations); err != nil {
		return nil, &logFailure{fmt.Errorf("save tables: %w", err)}
	}
	if have, err = c.settle(ctx, cat, wal, d, have, identity); err != nil {
		return nil, err
	}
	c.damage = publicationFacts{}
	if pub, err = cat.findPublication(ctx, name, facts.version); err != nil {
		return nil, err
	}
	if err := startReplication(ctx, wal, name, have.End, facts.version); err != nil {
		return nil, err
	}
	c.log.Info().Str("slot", name).Stringer("lsn", have.End).Int32("generation", identity.Generation).
		Int("tables", len(chosen.members)).Msg("source streaming")
	return newSession(ctx, c, cat, wal, facts, identity, have, watched{publication: pub, tables: chosen}), nil
}

// generationsPerSource is how many generations a source has to itself: ids of
// events name the generation and not the source, and no two events of one log may
// have the same id, though LSNs of different servers meet.
const generationsPerSource = 10_000

// nextGeneration is the generation after the one that is saved; 0: the source is new.
func nextGeneration(id store.SourceID, saved int32) int32 {
	if saved != 0 {
		return saved + 1
	}
	return (int32(id)-1)%(math.MaxInt32/generationsPerSource)*generationsPerSource + 1
}

// publicationFacts compares the publication with what was captured last.
func (c *Capture) publicationFacts(p publication, saved store.Source, chosen selection) publicationFacts {
	facts := c.damage
	facts.missing = p.oid == 0
	if facts.damage == "" && !facts.missing {
		facts.damage = damageOf(p, lost(saved.Relations, chosen.add))
	}
	return facts
}

// damageOf says what of the publication lets changes go by; empty: nothing.
func damageOf(p publication, removed []string) string {
	switch {
	case len(removed) > 0:
		return "tables were taken out of the publication: " + strings.Join(removed, ", ")
	case !p.complete:
		return "the publication was narrowed: it left out operations"
	}
	return ""
}

// free makes sure that nobody holds the slot. A former connection of ours is
// ended: the store says that we are the one to capture.
func (c *Capture) free(ctx context.Context, cat *ordinary, slot slotFacts) error {
	if slot.activePID == 0 {
		return nil
	}
	h, err := cat.holder(ctx, c.config.Name)
	if err != nil || h == nil {
		return err
	}
	if h.ours && time.Since(c.evictedAt) > evictAgain {
		c.evictedAt = time.Now()
		c.log.Info().Int32("pid", h.pid).Time("since", h.since).Msg("former connection ended")
		if err := cat.terminate(ctx, h.pid); err != nil {
			return fmt.Errorf("end former connection: %w", err)
		}
	}
	return fmt.Errorf("the slot is in use by pid %d (%s), connected since %s", h.pid, h.app, h.since.UTC().Format(time.RFC3339))
}

// prepare makes what the decision was made of durable before the publication is
// mended, which covers it up: a gap is recorded, and a slot that is of no use is
// dropped. It returns the checkpoint to go on from, without its End where that
// is the point of a slot to be created.
func (c *Capture) prepare(ctx context.Context, cat *ordinary, d decision, slot slotFacts, saved store.Source) (store.Checkpoint, error) {
	next := saved.Checkpoint
	if d.bump && d.step != stepStream {
		next = store.Checkpoint{} // LSNs start anew: nothing that comes now is in the log
	}
	if d.step == stepSkip || d.step == stepReplace {
		c.log.Error().Str("reason", d.reason).Stringer("from", d.from).Msg("source has a gap")
	}
	switch d.step {
	case stepSkip:
		next.End = d.next
		return next, c.recordGap(ctx, d, next)
	case stepAdopt:
		next.End = slot.confirmed
	case stepReplace:
		// Said before it is mended: that may take long.
		c.show(ctx, store.SourceGap, d.reason, store.GapHint(c.config.Name))
	}
	if slot.present && (d.step == stepCreate || d.step == stepReplace) {
		return next, cat.dropSlot(ctx, slotName(c.config.Name))
	}
	return next, nil
}

// recordGap records the gap of a decision, with the checkpoint behind it.
func (c *Capture) recordGap(ctx context.Context, d decision, next store.Checkpoint) error {
	gap := store.Gap{At: time.Now(), Reason: d.reason, From: d.from, To: next.End}
	if err := c.registry.RecordGap(ctx, c.claim, gap, next); err != nil {
		return &logFailure{fmt.Errorf("record gap: %w", err)}
	}
	c.shown = shownState{}
	return nil
}

// settle carries the rest of the decision out and returns the checkpoint to
// stream from.
//
// Each step leaves, where the process dies behind it, a state that decide leads
// on from without losing anything: an intent before the slot, the checkpoint
// after it, the identity after the gap.
func (c *Capture) settle(ctx context.Context, cat *ordinary, wal *pgconn.PgConn, d decision, next store.Checkpoint, identity store.Source) (store.Checkpoint, error) {
	if d.step == stepCreate || d.step == stepReplace {
		if d.step == stepCreate {
			identity.Intent = true
			if err := c.registry.SetSourceIdentity(ctx, c.claim, identity); err != nil {
				return next, &logFailure{fmt.Errorf("save intent: %w", err)}
			}
		}
		point, err := createSlot(ctx, wal, cat, identity.Slot, func(blocker string) {
			c.log.Warn().Str("blocker", blocker).Msg("slot creation waits for an older transaction")
			state := store.SourceStarting
			if d.step == stepReplace {
				state = store.SourceGap
			}
			c.show(ctx, state, "the slot waits for a transaction that was open before: "+blocker, "")
		})
		if err != nil {
			return next, err
		}
		c.log.Info().Str("slot", identity.Slot).Stringer("lsn", point).Msg("slot created")
		next.End = point
	}

	switch d.step {
	case stepReplace:
		if err := c.recordGap(ctx, d, next); err != nil {
			return next, err
		}
	case stepCreate, stepAdopt:
		if _, err := c.appender.Append(ctx, c.claim, &store.Batch{Checkpoint: next}); err != nil {
			return next, &logFailure{fmt.Errorf("save checkpoint: %w", err)}
		}
	}
	identity.Intent = false
	if err := c.registry.SetSourceIdentity(ctx, c.claim, identity); err != nil {
		return next, &logFailure{fmt.Errorf("save identity: %w", err)}
	}
	return next, nil
}

// startReplication starts the stream at from. pglogrepl puts names into the
// command as they are: they are quoted here.
func startReplication(ctx context.Context, wal *pgconn.PgConn, name string, from store.LSN, version int) error {
	args := []string{"proto_version '1'", "publication_names " + literal(quote(name))}
	if version >= messagesVersion {
		args = append(args, "messages 'true'")
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err := pglogrepl.StartReplication(ctx, wal, quote(name), pglogrepl.LSN(from),
		pglogrepl.StartReplicationOptions{Mode: pglogrepl.LogicalReplication, PluginArgs: args})
	if err != nil {
		return fmt.Errorf("start replication: %w", err)
	}
	return nil
}
