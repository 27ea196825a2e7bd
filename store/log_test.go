package store_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// source claims a source for tests that append.
func source(t testing.TB, s *store.Store, name string) store.SourceClaim {
	t.Helper()
	claim, _, err := s.ClaimSource(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return claim
}

// batch is n events of one transaction.
func batch(lsn store.LSN, n int) *store.Batch {
	b := &store.Batch{Checkpoint: store.Checkpoint{Commit: lsn, Ordinal: int64(n), End: lsn + 8}}
	for i := range n {
		e := store.Event{
			LSN: lsn, Ordinal: int64(i), Time: 1_780_000_000_000_000 + int64(lsn), Generation: 1,
			Kind: store.KindRow, Type: "public.orders.updated", Key: fmt.Sprintf("public.orders/id=%d", i),
		}
		b.End(fmt.Appendf(b.Begin(e), `{"op":"update","lsn":%d,"ordinal":%d}`, lsn, i))
	}
	return b
}

func mustAppend(t testing.TB, s *store.Store, claim store.SourceClaim, b *store.Batch) store.Offset {
	t.Helper()
	at, err := s.Append(t.Context(), claim, b)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// readAll reads the log from an offset to its head.
func readAll(t testing.TB, s *store.Store, from store.Offset) []store.Event {
	t.Helper()
	var all []store.Event
	for {
		page, err := s.Read(t.Context(), from, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		from = page[len(page)-1].Offset + 1
	}
}

func TestWhatIsAppendedIsReadFromTheRingAndFromTheTableAlike(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	s := storetest.OpenWith(t, config)
	claim := source(t, s, "shop")
	want := store.Offset(1)
	for lsn := range store.LSN(20) {
		n := int(lsn)%7 + 1
		if lsn == 12 {
			n = 3000
		}
		if at := mustAppend(t, s, claim, batch(100+lsn, n)); at != want {
			t.Fatalf("appended at %d, want %d", at, want)
		}
		want += store.Offset(n)
	}
	odd := store.Event{
		Time: -1, Kind: store.KindPublished, Type: "user.signed_up", Key: "user.signed_up/é", OldKey: "o", Subject: "s", PublicID: "e-1",
	}
	b := &store.Batch{Checkpoint: store.Checkpoint{Commit: 200}}
	b.End(append(b.Begin(odd), `{}`...))
	mustAppend(t, s, claim, b)

	fromRing := readAll(t, s, 1)
	if len(fromRing) != int(want) {
		t.Fatalf("read %d events, want %d", len(fromRing), want)
	}
	// A store that only looks has nothing in its ring.
	config.Instance = "other"
	fromTable := readAll(t, storetest.OpenIdle(t, config), 1)
	if diff := cmp.Diff(fromRing, fromTable); diff != "" {
		t.Fatalf("ring and table differ (-ring +table):\n%s", diff)
	}
	for i, e := range fromTable {
		if e.Offset != store.Offset(i+1) || e.Source != "/sources/shop" {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
}
