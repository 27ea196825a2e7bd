package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

// writes appends an event of each type.
func writes(t *testing.T, s *store.Store, of store.SourceClaim, lsn store.LSN, types ...string) {
	t.Helper()
	b := &store.Batch{Checkpoint: store.Checkpoint{Commit: lsn, Ordinal: int64(len(types)), End: lsn + 8}}
	for i, kind := range types {
		b.End(b.Begin(store.Event{LSN: lsn, Ordinal: int64(i), Generation: 1, Type: kind, Key: "k"}))
	}
	mustAppend(t, s, of, b)
}

// A subscription has events of the sources that write what it wants, and of those
// that wrote what it wanted before.
func TestABalanceNamesTheSourcesOfItsEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, leave := w.instance("a")
	defer leave()
	config := w.config
	config.Instance, config.RingBytes = "other", 1 // it has nothing in memory
	other := storetest.OpenWith(t, config)
	shop, bank, feed := source(t, s, "shop"), source(t, s, "bank"), source(t, s, "feed")
	ids := map[string]subscriptions.ID{}
	patterns := map[string]string{
		"shop": "public.orders.*", "bank": "public.accounts.*", "both": "public.*.created", "all": "**", "none": "public.nothing.*",
	}
	for name, pattern := range patterns {
		sub := subscribe(t, s, name, store.Start{Earliest: true})
		ids[name] = sub.ID
		sub.Events = []string{pattern}
		if err := s.UpdateSubscription(t.Context(), sub, 1); err != nil {
			t.Fatal(err)
		}
	}
	lanes := claim(t, s)
	names := func(at *store.Store, want map[string][]string) {
		t.Helper()
		at.ForgetBalances()
		all, err := at.Balances(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sources := map[string][]string{}
		for name, id := range ids {
			for _, b := range all {
				if b.Subscription == id {
					sources[name] = b.Sources
				}
			}
		}
		diff(t, "sources", want, sources)
	}
	writes(t, s, shop, 1, "public.orders.created", "public.orders.updated")
	writes(t, s, bank, 2, "public.accounts.created")
	want := map[string][]string{"shop": {"shop"}, "bank": {"bank"}, "both": {"bank", "shop"}, "all": {"bank", "shop"}, "none": nil}
	names(s, want)
	names(other, want)

	// A table of the same name in another database.
	writes(t, s, bank, 3, "public.orders.updated")
	want["shop"] = []string{"bank", "shop"}
	names(s, want)

	// An edit: what was wanted before is in the balance still.
	for _, l := range lanes {
		settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{Lane: l.ID, Epoch: l.Epoch, Cursor: s.Head()}}})
	}
	sub := lanes["bank"].Subscription
	sub.Events = []string{"public.trucks.*"}
	if err := s.UpdateSubscription(t.Context(), &sub, sub.Version); err != nil {
		t.Fatal(err)
	}
	claim(t, s)
	writes(t, s, shop, 4, "public.trucks.created")
	want["bank"] = []string{"bank", "shop"}
	names(s, want)
	names(other, want)

	// One that invents types without end is taken to have any.
	endless := make([]string, 1100)
	for i := range endless {
		endless[i] = fmt.Sprintf("feed.t%d", i)
	}
	writes(t, s, feed, 5, endless[:600]...)
	want["all"] = []string{"bank", "feed", "shop"}
	names(s, want)
	writes(t, s, feed, 6, endless[600:]...)
	for name, of := range want {
		if want[name] = append(of, "feed"); slices.Contains(of, "feed") {
			want[name] = of
		}
		slices.Sort(want[name])
	}
	names(s, want)
	if n := one[int](w, `SELECT count(*) FROM rowcall.source_types t JOIN rowcall.sources s ON s.id = t.source WHERE s.name = 'feed'`); n != 1001 {
		t.Errorf("%d rows of types without end", n)
	}
}
