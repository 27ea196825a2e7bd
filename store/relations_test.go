package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

func orders(types ...string) store.Relation {
	r := store.Relation{Schema: "public", Name: "orders", Identity: "full", Key: []string{"c0"}}
	for i, name := range types {
		r.Columns = append(r.Columns, store.Column{Name: fmt.Sprintf("c%d", i), Type: name})
	}
	return r
}

func TestTheSameShapeOfATableIsTheSameVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	version := func(claim store.SourceClaim, r store.Relation) store.RelationVersion {
		t.Helper()
		v, err := s.RelationVersion(t.Context(), claim.ID, r)
		if err != nil || v == 0 {
			t.Fatalf("version %d, error %v", v, err)
		}
		return v
	}
	claim, _, err := s.ClaimSource(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	first := version(claim, orders("int8", "numeric"))
	second := version(claim, orders("int8", "text"))
	if first == second || version(claim, orders("int8", "numeric")) != first {
		t.Fatalf("versions %d and %d", first, second)
	}
	b := &store.Batch{Checkpoint: store.Checkpoint{Commit: 1, Ordinal: 1}}
	e := store.Event{LSN: 1, Type: "public.orders.inserted", Key: "public.orders/c0=1", Relation: first}
	b.End(append(b.Begin(e), `{}`...))
	at, err := s.Append(t.Context(), claim, b)
	if err != nil {
		t.Fatal(err)
	}

	// Another life, which has nothing in memory.
	if claim, _, err = s.ClaimSource(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if past := one[*int64](w, `SELECT past FROM rowcall.relation_versions WHERE version = $1`, int32(first)); past == nil || *past != int64(at)+1 {
		t.Fatalf("events may name the version up to %v, want below %d", past, at+1)
	}
	if again := version(claim, orders("int8", "numeric")); again != first {
		t.Fatalf("after a restart the version is %d, was %d", again, first)
	}
	if past := one[*int64](w, `SELECT past FROM rowcall.relation_versions WHERE version = $1`, int32(first)); past != nil {
		t.Fatalf("a version in use is given up at %d", *past)
	}
	other, _ := w.instance("b")
	events, err := other.Read(t.Context(), at, 1, 1<<20)
	if err != nil || len(events) != 1 || events[0].Relation != first {
		t.Fatalf("read %+v, error %v", events, err)
	}
	seen, err := other.TableTypes(t.Context(), events[0].Relation)
	if err != nil {
		t.Fatal(err)
	}
	want := &subscriptions.TableTypes{
		Schema: "public", Table: "orders", Identity: subscriptions.IdentityFull, Key: []string{"c0"},
		Columns: []subscriptions.Column{{Name: "c0", Class: subscriptions.ClassInt}, {Name: "c1", Class: subscriptions.ClassDouble}},
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	if again, _ := other.TableTypes(t.Context(), first); again != seen {
		t.Error("the same version is another pointer")
	}
	if none, err := other.TableTypes(t.Context(), 0); none != nil || err != nil {
		t.Errorf("no version: %v, error %v", none, err)
	}
	if none, err := other.TableTypes(t.Context(), 4711); none != nil || err != nil {
		t.Errorf("an unknown version: %v, error %v", none, err)
	}
}

func TestAVersionGoesWithTheLastEventThatNamesIt(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	a := newAged(t, config)
	version := func(types ...string) store.RelationVersion {
		t.Helper()
		v, err := a.RelationVersion(t.Context(), a.claim.ID, orders(types...))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	used, given, kept, young := version("int8"), version("text"), version("bool"), version("json")
	retire := func(v store.RelationVersion, past int) {
		exec(t, a.conn, `UPDATE rowcall.relation_versions SET past = $2 WHERE version = $1`, int32(v), past)
	}
	retire(given, 300)
	retire(kept, 300)
	retire(young, 402)
	// A dead letter keeps its event, and with it the event's version.
	exec(t, a.conn, `UPDATE rowcall.events SET relation = $1 WHERE "offset" = 250`, int32(kept))
	exec(t, a.conn, `INSERT INTO rowcall.deliveries (lane, "offset", state, keys) VALUES ($1, 250, 'dead', '{}')`, a.lanes[0])
	a.retain(t)
	a.wantOldest(t, 401)
	left := func(v store.RelationVersion) bool {
		return scan[bool](t, a.conn, `SELECT EXISTS (SELECT FROM rowcall.relation_versions WHERE version = $1)`, int32(v))
	}
	if !left(used) || left(given) || !left(kept) || !left(young) {
		t.Errorf("left: in use %t, given up %t, of a dead letter %t, young %t", left(used), left(given), left(kept), left(young))
	}
	e, err := storetest.OpenIdle(t, config).Event(t.Context(), 250) // whose ring is empty
	if err != nil || e.Relation != kept {
		t.Errorf("the dead letter's event names %v, error %v", e, err)
	}
	if again := version("text"); again == given || again == 0 {
		t.Errorf("a shape that was forgotten has version %d", again)
	}
}

// What deliveries and dead ranges have kept may be as large as the log.
func TestWhetherAVersionIsNamedIsSeenWithoutReadingWhatWasKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE rowcall.kept_1 PARTITION OF rowcall.kept_events FOR VALUES FROM (1) TO (100)`)
	w.exec(`SET enable_seqscan = off`) // nothing is large here
	rows, err := w.conn.Query(t.Context(), `EXPLAIN `+store.DropRelationsSQL)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range plan {
		if strings.Contains(line, "Seq Scan on deliveries") || strings.Contains(line, "Seq Scan on kept") {
			t.Errorf("the plan reads all:\n%s", strings.Join(plan, "\n"))
		}
	}
}
