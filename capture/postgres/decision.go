package postgres

import (
	"fmt"

	"github.com/rowcall/rowcall/store"
)

// serverFacts is who the source says it is.
type serverFacts struct {
	systemID string
	timeline int32
	walEnd   store.LSN // what it has flushed
	fork     store.LSN // where the saved timeline was left for this one; 0: it is no ancestor, or the same
	database string
}

// slotFacts is what the source says of our slot.
type slotFacts struct {
	present   bool
	logical   bool
	plugin    string
	database  string
	status    string // wal_status
	confirmed store.LSN
	activePID int32 // 0: nobody holds it
}

// publicationFacts is what became of our publication since we looked last.
type publicationFacts struct {
	missing bool
	damage  string // changes were left out of the stream for this reason; empty: none that we know of
	stuck   bool   // the slot cannot be decoded past it (PostgreSQL looks the publication up as of each change)
}

type step int

const (
	stepStream  step = iota // go on from the checkpoint
	stepCreate              // first start: create the slot
	stepAdopt               // first start was cut short: the slot is there
	stepSkip                // gap; the slot goes on, from decision.next
	stepReplace             // gap; a new slot
	stepRefuse
)

// decision is what to do before START_REPLICATION.
type decision struct {
	step   step
	reason string // of a gap, or of a refusal
	hint   string // of a refusal
	from   store.LSN
	next   store.LSN // of stepSkip: where the stream goes on
	bump   bool      // another generation begins: LSNs may name other events than before
}

// decide looks at who the source is, what our slot is, and what was saved. The
// first rule that matches wins.
func decide(server serverFacts, slot slotFacts, publication publicationFacts, saved store.Source) decision {
	have := saved.Checkpoint
	durable := max(have.End, have.Commit)
	started := have.End != 0
	known := started && saved.SystemID != ""
	same := saved.SystemID == server.systemID && saved.Timeline == server.timeline
	d := decision{from: have.End, bump: saved.Generation == 0 || started && !same}

	switch {
	case known && saved.SystemID != server.systemID:
		return refuse(fmt.Sprintf("this is another database cluster: its system identifier is %s, the one captured until now has %s", server.systemID, saved.SystemID),
			"let ROWCALL_SOURCE_URL name the old cluster, or give this one another ROWCALL_SOURCE_NAME; if the database was moved or upgraded, run in the store: UPDATE rowcall.sources SET system_id = '' WHERE name = "+literal(saved.Name)+"; what was lost on the way is then a gap")
	case known && server.timeline < saved.Timeline:
		return refuse(fmt.Sprintf("the source went back to timeline %d, after timeline %d: an old primary, or a restored backup", server.timeline, saved.Timeline),
			"let ROWCALL_SOURCE_URL name the primary; if this is the primary now, run in the store: UPDATE rowcall.sources SET system_id = '' WHERE name = "+literal(saved.Name)+";")
	case known && same && server.walEnd < durable:
		return refuse(fmt.Sprintf("the source's WAL ends at %s, before %s, which was captured from it: it was restored or cloned", server.walEnd, durable),
			"let ROWCALL_SOURCE_URL name the right server; if this is the one, run in the store: UPDATE rowcall.sources SET system_id = '' WHERE name = "+literal(saved.Name)+";")
	case slot.present && (!slot.logical || slot.plugin != outputPlugin || slot.database != server.database):
		return refuse(fmt.Sprintf("the slot has our name but is not ours: plugin %q, database %q", slot.plugin, slot.database),
			"drop it if nobody uses it, or give the source another ROWCALL_SOURCE_NAME")
	case !known && started:
		d.step, d.reason = stepReplace, "the source was declared moved or upgraded"
		return d
	case slot.present && !started && !(saved.Intent && saved.SystemID == server.systemID):
		return refuse("a slot of our name exists, but we have not created it: another installation may use it",
			"give this source another ROWCALL_SOURCE_NAME, or drop the slot if nobody uses it")
	case known && !same && durable > server.fork:
		d.reason = fmt.Sprintf("failover to timeline %d, which left timeline %d at %s: events up to %s come from a lost timeline", server.timeline, saved.Timeline, server.fork, durable)
		d.from = server.fork
		if !slot.present || slot.status == walLost || server.fork == 0 {
			d.step = stepReplace
			return d
		}
		d.step, d.next = stepSkip, max(server.fork, slot.confirmed)
		return d
	case slot.status == walLost:
		d.step, d.reason = stepReplace, "the slot was invalidated: the source has removed WAL that was not captured (max_slot_wal_keep_size)"
		if !started {
			d.step = stepCreate
		}
		return d
	case started && publication.missing:
		d.step, d.reason = stepReplace, "the publication was dropped"
		return d
	case started && publication.stuck:
		d.step, d.reason = stepReplace, "the publication was dropped and made anew"
		return d
	case !slot.present && started:
		d.step, d.reason = stepReplace, "the slot is gone"
		return d
	case !slot.present:
		d.step = stepCreate
		return d
	case !started:
		d.step = stepAdopt
		return d
	case slot.confirmed > have.End:
		d.step, d.next = stepSkip, slot.confirmed
		d.reason = fmt.Sprintf("the slot was moved past our checkpoint, to %s, by somebody else, or the store was restored", slot.confirmed)
		return d
	case publication.damage != "":
		d.step, d.next, d.reason = stepSkip, have.End, publication.damage
		return d
	}
	d.step = stepStream
	return d
}

func refuse(reason, hint string) decision {
	return decision{step: stepRefuse, reason: reason, hint: hint}
}
