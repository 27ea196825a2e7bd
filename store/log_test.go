package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

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

func TestAPageEndsAtItsBytesButHoldsOneEvent(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	s := storetest.OpenWith(t, config)
	claim := source(t, s, "shop")
	// Small ones, many large ones, and one larger than any page.
	sizes := []int{10, 20}
	for range 25 {
		sizes = append(sizes, mib)
	}
	sizes = append(sizes, 4*mib, 30)
	b := &store.Batch{Checkpoint: store.Checkpoint{Commit: 1}}
	for i, size := range sizes {
		e := store.Event{LSN: 1, Ordinal: int64(i), Type: "t", Key: "k"}
		b.End(append(b.Begin(e), bytes.Repeat([]byte{'x'}, size)...))
	}
	mustAppend(t, s, claim, b)
	config.Instance, config.RingBytes = "other", 1
	for name, s := range map[string]*store.Store{"ring": s, "table": storetest.OpenIdle(t, config)} {
		t.Run("from the "+name, func(t *testing.T) {
			// Twice: after the first pages the table is read with more care.
			for range 2 {
				at := store.Offset(1)
				for int(at) <= len(sizes) {
					page, err := s.Read(t.Context(), at, 100, 5*mib/2)
					if err != nil || len(page) == 0 {
						t.Fatalf("read at %d: %d events, error %v", at, len(page), err)
					}
					total := 0
					for i, e := range page {
						if e.Offset != at || len(e.Data) != sizes[at-1] {
							t.Fatalf("event %d of the page at %d is %d with %d bytes", i, at, e.Offset, len(e.Data))
						}
						total += len(e.Data)
						at++
					}
					if total > 5*mib/2 && len(page) > 1 {
						t.Fatalf("a page of %d events has %d bytes", len(page), total)
					}
					if next := int(at); next <= len(sizes) && total+sizes[next-1] <= 5*mib/2 && name == "table" {
						t.Fatalf("a page ends before event %d, which fits", next)
					}
				}
			}
		})
	}
}

func TestARingDropsItsOldestAndReadsThemFromTheTable(t *testing.T) {
	t.Parallel()
	s := storetest.OpenWith(t, store.Config{RingBytes: 20_000})
	claim := source(t, s, "shop")
	for lsn := range store.LSN(200) {
		mustAppend(t, s, claim, batch(lsn+1, 3))
	}
	events := readAll(t, s, 1)
	if len(events) != 600 {
		t.Fatalf("read %d events, want 600", len(events))
	}
	for i, e := range events {
		want := fmt.Sprintf(`{"op":"update","lsn":%d,"ordinal":%d}`, i/3+1, i%3)
		if e.Offset != store.Offset(i+1) || string(e.Data) != want {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
}

func TestWaitReturnsOnceTheEventCanBeRead(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t), Instance: "a"}
	s := storetest.OpenWith(t, config)
	config.Instance = "b"
	other := storetest.OpenWith(t, config)
	claim := source(t, s, "shop")
	for name, reader := range map[string]*store.Store{"the one that appends": s, "another": other} {
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := reader.Wait(short, s.Head()); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%s: wait for an event that nobody appended: %v", name, err)
		}
		cancel()
		next := s.Head()
		got := make(chan error, 1)
		go func() {
			err := reader.Wait(t.Context(), next)
			if err == nil {
				var page []store.Event
				if page, err = reader.Read(t.Context(), next, 1, 1); len(page) != 1 {
					err = errors.Join(err, errors.New("nothing to read"))
				}
			}
			got <- err
		}()
		mustAppend(t, s, claim, batch(store.LSN(next), 1))
		if err := <-got; err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestAnEventIsFoundByItsID(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	s := storetest.OpenWith(t, config)
	claim := source(t, s, "shop")
	mustAppend(t, s, claim, batch(0xABCDEF0123, 4))
	b := &store.Batch{Checkpoint: store.Checkpoint{Commit: 0xABCDEF0124}}
	b.End(append(b.Begin(store.Event{Kind: store.KindNotice, Type: "rowcall.test", Key: "k", PublicID: "01-0000000000000000-7"}), `{}`...))
	mustAppend(t, s, claim, b)
	for id, want := range map[string]store.Offset{
		"01-000000ABCDEF0123-2": 3,
		"01-0000000000000000-7": 5, // its form is ours, and it is not
		"01-000000ABCDEF0123-4": 0,
		"02-000000ABCDEF0123-2": 0,
		"01-000000abcdef0123-2": 0,
		"x":                     0,
		"":                      0,
	} {
		e, err := s.EventByID(t.Context(), id)
		if want == 0 && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %+v, error %v, want ErrNotFound", id, e, err)
		}
		if want != 0 && (err != nil || e.Offset != want || e.ID() != id) {
			t.Errorf("%s: %+v, error %v, want offset %d", id, e, err, want)
		}
	}
}

func TestEventsAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	claim := source(t, s, "shop")
	mustAppend(t, s, claim, batch(1, 10))
	b := &store.Batch{Checkpoint: store.Checkpoint{Commit: 2}}
	for i, e := range []store.Event{
		{Type: "public.orders.inserted", Key: "public.orders/id=3"},
		{Type: "public.orders.updated", Key: "public.orders/id=new", OldKey: "public.orders/id=3"},
		{Type: "rowcall.source.gap", Key: "rowcall.source.gap", Kind: store.KindGap},
	} {
		e.LSN, e.Ordinal = 2, int64(i)
		b.End(append(b.Begin(e), `{}`...))
	}
	mustAppend(t, s, claim, b)
	for _, test := range []struct {
		name   string
		filter store.EventFilter
		limit  int
		want   []store.Offset
	}{
		{"all, without markers", store.EventFilter{}, 3, []store.Offset{12, 11, 10}},
		{"below an offset", store.EventFilter{Past: 3}, 5, []store.Offset{2, 1}},
		{"of a type", store.EventFilter{Type: "public.orders.inserted"}, 5, []store.Offset{11}},
		{"of a key, and those that left it", store.EventFilter{Key: "public.orders/id=3"}, 5, []store.Offset{12, 11, 4}},
	} {
		found, _, err := s.Events(t.Context(), test.filter, test.limit, 1<<20)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		var offsets []store.Offset
		for _, e := range found {
			offsets = append(offsets, e.Offset)
		}
		if diff := cmp.Diff(test.want, offsets); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	// A page ends at its bytes, and says where it goes on.
	var sizes []int
	for past, more := store.Offset(0), true; more; {
		found, next, err := s.Events(t.Context(), store.EventFilter{Past: past}, 5, 80)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, e := range found {
			size += len(e.Data)
		}
		if size > 80 && len(found) > 1 {
			t.Errorf("%d events with %d bytes below %d", len(found), size, past)
		}
		sizes, past, more = append(sizes, len(found)), next, next > 0
	}
	if diff := cmp.Diff([]int{4, 2, 2, 2, 2}, sizes); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	stats, err := s.LogStats(t.Context())
	if err != nil || stats.Oldest != 1 || stats.Head != 14 || stats.Bytes == 0 {
		t.Fatalf("stats %+v, error %v", stats, err)
	}
}
