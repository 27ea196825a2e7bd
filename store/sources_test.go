package store_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rowcall/rowcall/store"
)

func TestASourceIsMadeWhenItIsFirstClaimed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	if _, err := s.Source(t.Context(), "shop"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("error %v, want not found", err)
	}
	first, src, err := s.ClaimSource(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	want := store.Source{ID: first.ID, Name: "shop", Kind: "postgres", State: store.SourceStarting}
	diff(t, "source", want, src, cmpopts.IgnoreFields(store.Source{}, "UpdatedAt"))
	second, _, err := s.ClaimSource(t.Context(), "shop")
	if err != nil || second.ID != first.ID || second.Epoch != first.Epoch+1 {
		t.Fatalf("claimed %+v after %+v, error %v", second, first, err)
	}
	other, _, err := s.ClaimSource(t.Context(), "billing")
	if err != nil || other.ID == first.ID {
		t.Fatalf("claimed %+v after %+v, error %v", other, first, err)
	}
	all, err := s.Sources(t.Context())
	if err != nil || len(all) != 2 || all[0].Name != "billing" || all[1].Name != "shop" {
		t.Fatalf("sources %v, error %v", all, err)
	}
}

func TestASourceChangesHandsOnlyWhenItsOwnerIsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, leave := w.instance("a")
	old := source(t, first, "shop")
	mustAppend(t, first, old, batch(100, 3))
	second, _ := w.instance("b")
	// It learns that without a lock: it asks time and again, and an append must not
	// wait for who stands by, nor that for an append.
	appending, err := w.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appending.Exec(t.Context(), `SELECT FROM rowcall.checkpoints, rowcall.sources FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	if _, _, err := second.ClaimSource(t.Context(), "shop"); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("error %v, want conflict", err)
	}
	if err := appending.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, first, old, batch(200, 3))
	leave()
	w.expire("a")
	taken, src, err := second.ClaimSource(t.Context(), "shop")
	if err != nil || taken.Epoch != old.Epoch+1 || src.Checkpoint.Commit != 200 || src.Checkpoint.End != 208 {
		t.Fatalf("claimed %+v with %+v, error %v", taken, src.Checkpoint, err)
	}
	if _, err := first.Append(t.Context(), old, batch(300, 1)); err == nil {
		t.Fatal("the former owner appends")
	}
	if at := mustAppend(t, second, taken, batch(300, 1)); at != 7 {
		t.Fatalf("appended at %d", at)
	}
}

func TestWhatIsWrittenForASourceIsFencedByItsEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	old := source(t, s, "shop")
	now := source(t, s, "shop")
	writes := map[string]func(c store.SourceClaim) error{
		"identity": func(c store.SourceClaim) error {
			return s.SetSourceIdentity(t.Context(), c, store.Source{SystemID: "7", Slot: "rowcall_shop"})
		},
		"state": func(c store.SourceClaim) error {
			return s.SetSourceState(t.Context(), c, store.SourceWaiting, "down", "wait")
		},
		"progress": func(c store.SourceClaim) error {
			return s.SetSourceProgress(t.Context(), c, store.SourceProgress{LagBytes: 5, WALStatus: "reserved"})
		},
		"relations": func(c store.SourceClaim) error {
			return s.SetRelations(t.Context(), c, []store.Relation{{Schema: "public", Name: "orders", Identity: "default", Captured: true}})
		},
		"gap": func(c store.SourceClaim) error {
			return s.RecordGap(t.Context(), c, store.Gap{Reason: "slot lost", From: 5, To: 9}, store.Checkpoint{End: 9})
		},
	}
	before, err := s.Source(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range writes {
		if err := write(old); !errors.Is(err, store.ErrFenced) {
			t.Errorf("%s: error %v, want fenced", name, err)
		}
	}
	after, err := s.Source(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "source", before, after)
	for name, write := range writes {
		if err := write(now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASourceIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	c := source(t, s, "shop")
	beat := micro(time.Now())
	want := store.Source{
		ID: c.ID, Name: "shop", Kind: "postgres", State: store.SourceRefused, Reason: "no\uFFFDgrant", Hint: "GRANT",
		Generation: 3, SystemID: "7300000000000000001", Timeline: 2, Slot: "rowcall_shop", Publication: "rowcall_shop", Intent: true,
		HeartbeatAt: beat, LagBytes: 1 << 40, WALStatus: "extended",
		Relations: []store.Relation{
			{Schema: "public", Name: `odd "name", {x}\`, Identity: "index", Captured: true, Key: []string{`a"b`, `c\d`, "e,f", "NULL", "", " "}},
			{Schema: "public", Name: "plain", Identity: "nothing", Reason: "no key", Remedy: "ALTER TABLE …"},
		},
	}
	set := func(rs []store.Relation, p store.SourceProgress) {
		t.Helper()
		err := errors.Join(
			s.SetSourceIdentity(t.Context(), c, want),
			s.SetSourceState(t.Context(), c, store.SourceRefused, "no\x00grant", "GRANT"),
			s.SetSourceProgress(t.Context(), c, p),
			s.SetRelations(t.Context(), c, rs),
		)
		if err != nil {
			t.Fatal(err)
		}
	}
	set([]store.Relation{{Schema: "public", Name: "gone"}, want.Relations[1]}, store.SourceProgress{HeartbeatAt: beat})
	// Relations are replaced; a progress without heartbeat leaves the last one.
	set(want.Relations, store.SourceProgress{LagBytes: 1 << 40, WALStatus: "extended"})
	got, err := s.Source(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "source", want, got, cmpopts.IgnoreFields(store.Source{}, "UpdatedAt"), cmpopts.EquateEmpty())
}

func TestAGapStaysUntilAPersonAcceptsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	c := source(t, s, "shop")
	mustAppend(t, s, c, batch(100, 3))
	gap := store.Gap{Reason: "the slot is gone", From: 0x108, To: 0x2_0000_0001}
	next := store.Checkpoint{Commit: gap.To, End: gap.To}
	for range 2 { // once more, as after a COMMIT in doubt
		w.says(store.TopicGaps, func() {
			if err := s.RecordGap(t.Context(), c, gap, next); err != nil {
				t.Fatal(err)
			}
			w.exec(`SELECT pg_notify('rowcall', 'gaps')`) // the second says nothing
		})
	}
	markers := func() []store.Offset {
		t.Helper()
		open, err := s.OpenGaps(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return open
	}
	diff(t, "markers", []store.Offset{5}, markers())

	src, err := s.Source(t.Context(), "shop")
	if err != nil || src.Hint == "" {
		t.Fatalf("%+v, error %v", src, err)
	}

	// The marker is in the log, for a reader of the ring and one of the table.
	other, _ := w.instance("b")
	for _, reader := range []*store.Store{s, other} {
		events := readAll(t, reader, 4)
		if len(events) != 2 {
			t.Fatalf("%d events behind the gap, want the notice and the marker", len(events))
		}
		// Lanes hold at the marker: the notice comes before it.
		if n := events[0]; n.Kind != store.KindNotice || n.Type != "rowcall.source.gap" || n.Subject != "shop" || n.PublicID == "" || n.Source != "/sources/shop" {
			t.Errorf("the notice is %+v", n)
		}
		e := events[1]
		var data map[string]string
		if err := json.Unmarshal(e.Data, &data); err != nil {
			t.Fatal(err)
		}
		diff(t, "marker", map[string]string{"source": "shop", "reason": gap.Reason, "from": "0/108", "to": "2/1", "hint": src.Hint}, data)
		if e.Kind != store.KindGap || e.Type != "rowcall.source.gap" || e.Key != e.Type || e.Source != "/sources/shop" {
			t.Errorf("the marker is %+v", e)
		}
	}
	check := func(state store.SourceState, gaps ...store.Gap) {
		t.Helper()
		src, err := s.Source(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "gaps", gaps, src.Gaps, cmpopts.IgnoreFields(store.Gap{}, "ID", "At"))
		if src.State != state || src.Checkpoint.End != gap.To || (state == store.SourceGap) != (src.Reason != "") {
			t.Fatalf("the source is %s (%s), checkpoint %+v; want it %s", src.State, src.Reason, src.Checkpoint, state)
		}
	}
	recorded := gap
	recorded.Marker = 5
	check(store.SourceGap, recorded)
	if at := mustAppend(t, s, c, batch(gap.To+1, 2)); at != 6 {
		t.Fatalf("appended at %d", at)
	}
	gap.To++
	for _, state := range []store.SourceState{store.SourceStreaming, store.SourceWaiting, store.SourceStarting} {
		if err := s.SetSourceState(t.Context(), c, state, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	gap.To += 8
	check(store.SourceGap, recorded)

	w.says(store.TopicGaps, func() {
		if n, err := s.AcceptGaps(t.Context(), "shop", "ann"); err != nil || n != 1 {
			t.Fatalf("accepted %d, error %v", n, err)
		}
	})
	diff(t, "markers", []store.Offset(nil), markers(), cmpopts.EquateEmpty())
	check(store.SourceStarting)
	if who := one[string](w, `SELECT accepted_by FROM rowcall.gaps WHERE accepted_at IS NOT NULL`); who != "ann" {
		t.Errorf("accepted by %s", who)
	}
	if err := s.SetSourceState(t.Context(), c, store.SourceStreaming, "", ""); err != nil {
		t.Fatal(err)
	}
	check(store.SourceStreaming)
	if n, err := s.AcceptGaps(t.Context(), "shop", "ann"); err != nil || n != 0 {
		t.Fatalf("accepted %d, error %v", n, err)
	}
	check(store.SourceStreaming)
	if _, err := s.AcceptGaps(t.Context(), "attic", "ann"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("error %v, want not found", err)
	}
}

func TestARefusalShowsEvenWhileAGapIsOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	c := source(t, s, "shop")
	if err := s.RecordGap(t.Context(), c, store.Gap{Reason: "x"}, store.Checkpoint{}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetSourceState(t.Context(), c, store.SourceRefused, "another system", "point it back"); err != nil {
		t.Fatal(err)
	}
	src, err := s.Source(t.Context(), "shop")
	if err != nil || src.State != store.SourceRefused || src.Reason != "another system" || len(src.Gaps) != 1 {
		t.Fatalf("the source is %+v, error %v", src, err)
	}
}
