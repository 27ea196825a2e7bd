package postgres

import (
	"strings"
	"testing"

	"github.com/rowcall/rowcall/store"
)

func TestStartDecision(t *testing.T) {
	t.Parallel()
	server := serverFacts{systemID: "7", timeline: 1, walEnd: 1000, database: "shop"}
	slot := slotFacts{present: true, logical: true, plugin: "pgoutput", database: "shop", status: "reserved", confirmed: 500}
	saved := store.Source{Name: "main", SystemID: "7", Timeline: 1, Generation: 1, Checkpoint: store.Checkpoint{Commit: 490, Ordinal: 3, End: 500}}
	promoted := func(fork store.LSN) func(*serverFacts, *slotFacts, *publicationFacts, *store.Source) {
		return func(server *serverFacts, _ *slotFacts, _ *publicationFacts, _ *store.Source) {
			server.timeline, server.fork = 2, fork
		}
	}
	tests := map[string]struct {
		change func(server *serverFacts, slot *slotFacts, p *publicationFacts, saved *store.Source)
		step   step
		next   store.LSN
		bump   bool
		reason string
	}{
		"all is as it was": {func(*serverFacts, *slotFacts, *publicationFacts, *store.Source) {}, stepStream, 0, false, ""},
		"the slot is behind": {func(_ *serverFacts, slot *slotFacts, _ *publicationFacts, _ *store.Source) {
			slot.confirmed = 300
		}, stepStream, 0, false, ""},
		"the slot is ahead": {func(_ *serverFacts, slot *slotFacts, _ *publicationFacts, _ *store.Source) {
			slot.confirmed = 501
		}, stepSkip, 501, false, "moved past our checkpoint"},
		"another cluster": {func(server *serverFacts, _ *slotFacts, _ *publicationFacts, _ *store.Source) {
			server.systemID = "8"
		}, stepRefuse, 0, false, "another database cluster"},
		"another cluster before anything was captured": {func(server *serverFacts, slot *slotFacts, _ *publicationFacts, saved *store.Source) {
			server.systemID = "8"
			*slot = slotFacts{}
			saved.Checkpoint = store.Checkpoint{}
		}, stepCreate, 0, false, ""},
		"the WAL ends behind the checkpoint": {func(server *serverFacts, _ *slotFacts, _ *publicationFacts, _ *store.Source) {
			server.walEnd = 499
		}, stepRefuse, 0, false, "restored or cloned"},
		"the WAL ends behind a part of a transaction": {func(server *serverFacts, _ *slotFacts, _ *publicationFacts, saved *store.Source) {
			server.walEnd, saved.Checkpoint.Commit = 600, 700
		}, stepRefuse, 0, false, "restored or cloned"},
		"an older timeline": {func(_ *serverFacts, _ *slotFacts, _ *publicationFacts, saved *store.Source) {
			saved.Timeline = 2
		}, stepRefuse, 0, false, "went back to timeline 1"},
		"a failover that lost nothing, with the slot": {promoted(500), stepStream, 0, true, ""},
		"a failover that lost nothing, without the slot": {func(server *serverFacts, slot *slotFacts, p *publicationFacts, saved *store.Source) {
			promoted(500)(server, slot, p, saved)
			*slot = slotFacts{}
		}, stepReplace, 0, true, "slot is gone"},
		"a failover that lost WAL, with the slot": {promoted(400), stepSkip, 500, true, "lost timeline"},
		"a failover that lost WAL, the slot behind": {func(server *serverFacts, slot *slotFacts, p *publicationFacts, saved *store.Source) {
			promoted(400)(server, slot, p, saved)
			slot.confirmed = 300
		}, stepSkip, 400, true, "lost timeline"},
		"a failover that lost WAL, without the slot": {func(server *serverFacts, slot *slotFacts, p *publicationFacts, saved *store.Source) {
			promoted(400)(server, slot, p, saved)
			*slot = slotFacts{}
		}, stepReplace, 0, true, "lost timeline"},
		"a timeline that is no descendant": {promoted(0), stepReplace, 0, true, "lost timeline"},
		"an invalidated slot": {func(_ *serverFacts, slot *slotFacts, _ *publicationFacts, _ *store.Source) {
			slot.status = "lost"
		}, stepReplace, 0, false, "invalidated"},
		"no slot": {func(_ *serverFacts, slot *slotFacts, _ *publicationFacts, _ *store.Source) {
			*slot = slotFacts{}
		}, stepReplace, 0, false, "slot is gone"},
		"a slot of another plugin": {func(_ *serverFacts, slot *slotFacts, _ *publicationFacts, _ *store.Source) {
			slot.plugin = "wal2json"
		}, stepRefuse, 0, false, "not ours"},
		"a slot of another database": {func(_ *serverFacts, slot *slotFacts, _ *publicationFacts, _ *store.Source) {
			slot.database = "other"
		}, stepRefuse, 0, false, "not ours"},
		"the first start": {func(_ *serverFacts, slot *slotFacts, p *publicationFacts, saved *store.Source) {
			*slot, *saved, p.missing = slotFacts{}, store.Source{Name: "main"}, true
		}, stepCreate, 0, true, ""},
		"a first start cut short behind the slot": {func(_ *serverFacts, _ *slotFacts, _ *publicationFacts, saved *store.Source) {
			saved.Intent, saved.Checkpoint = true, store.Checkpoint{}
		}, stepAdopt, 0, false, ""},
		"a slot that we did not create": {func(_ *serverFacts, _ *slotFacts, _ *publicationFacts, saved *store.Source) {
			*saved = store.Source{Name: "main"}
		}, stepRefuse, 0, false, "another installation"},
		"a slot that we meant to create elsewhere": {func(_ *serverFacts, _ *slotFacts, _ *publicationFacts, saved *store.Source) {
			saved.Intent, saved.Checkpoint, saved.SystemID = true, store.Checkpoint{}, "8"
		}, stepRefuse, 0, false, "another installation"},
		"no publication": {func(_ *serverFacts, _ *slotFacts, p *publicationFacts, _ *store.Source) {
			p.missing = true
		}, stepReplace, 0, false, "publication was dropped"},
		"no publication, the slot dropped for it by a start that was cut short": {func(_ *serverFacts, slot *slotFacts, p *publicationFacts, _ *store.Source) {
			*slot, p.missing = slotFacts{}, true
		}, stepReplace, 0, false, "publication was dropped"},
		"a publication made anew": {func(_ *serverFacts, _ *slotFacts, p *publicationFacts, _ *store.Source) {
			p.stuck = true
		}, stepReplace, 0, false, "made anew"},
		"a table taken out": {func(_ *serverFacts, _ *slotFacts, p *publicationFacts, _ *store.Source) {
			p.damage = "tables were taken out"
		}, stepSkip, 500, false, "taken out"},
		"declared moved by the operator": {func(server *serverFacts, _ *slotFacts, _ *publicationFacts, saved *store.Source) {
			server.systemID, saved.SystemID = "8", ""
		}, stepReplace, 0, true, "declared moved"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, slot, saved, p := server, slot, saved, publicationFacts{}
			test.change(&server, &slot, &p, &saved)
			d := decide(server, slot, p, saved)
			if d.step != test.step || d.next != test.next || d.bump != test.bump || !strings.Contains(d.reason, test.reason) ||
				(d.reason == "") != (test.reason == "") {
				t.Errorf("decision %+v, want step %d, next %s, bump %t, reason with %q", d, test.step, test.next, test.bump, test.reason)
			}
			if (d.hint != "") != (d.step == stepRefuse) {
				t.Errorf("hint %q: a refusal has one, and nothing else", d.hint)
			}
		})
	}
}

func TestForkPointIsReadFromTheHistory(t *testing.T) {
	t.Parallel()
	const history = "1\t0/5000098\tno recovery target specified\n\n2\t1/A0\treason with spaces\n"
	for timeline, want := range map[int32]store.LSN{1: 0x5000098, 2: 0x1000000A0, 3: 0} {
		if got := forkPoint(history, timeline); got != want {
			t.Errorf("timeline %d was left at %s, want %s", timeline, got, want)
		}
	}
}
