package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// balanceOf is the balance of a subscription, which must add up, and be the same
// where all are asked for.
func balanceOf(t *testing.T, s *store.Store, id subscriptions.ID) store.Balance {
	t.Helper()
	b, err := s.Balance(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if sum := b.Delivered + b.Filtered + b.Discarded + b.Dropped + b.Compacted + b.Expired + b.Retrying + b.Blocked + b.Dead +
		b.DeadRanges + b.Waiting + b.Unaccounted; sum != b.Matched || !b.Exact {
		t.Errorf("%d of %d: %+v", sum, b.Matched, b)
	}
	s.ForgetBalances()
	all, err := s.Balances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range all {
		if of.Subscription == id {
			diff(t, "balance among all", b, of)
		}
	}
	return b
}

// The log says how many events a subscription wants, its lane what became of
// them: the two agree whatever becomes of them, and differ where one is lost.
func TestABalanceTellsALossFromWhatIsOwed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.Retention = 100 * 365 * 24 * time.Hour
	s, leave := w.instance("a")
	random := rand.New(rand.NewPCG(3, 4))
	shop := source(t, s, "shop")
	lsn := store.LSN(0)
	grow := func(n int) {
		t.Helper()
		lsn++
		mustAppend(t, s, shop, mixed(random, lsn, n))
	}
	count := func(where string, args ...any) int64 {
		t.Helper()
		return one[int64](w, `SELECT count(*) FROM rowcall.events WHERE kind <> 6 AND type IN ('public.t1.updated', 'public.t3.updated') AND `+where, args...)
	}
	grow(20_000) // the subscription begins in the midst of a block
	sub := &subscriptions.Subscription{
		ID:      subscriptions.NewID(),
		Spec:    subscriptions.Spec{Name: "x", Events: []string{"public.t1.*", "public.t3.*"}, Endpoint: subscriptions.Endpoint{URL: "https://example.com"}},
		Secrets: []subscriptions.Secret{subscriptions.NewSigningSecret()},
	}
	if err := s.CreateSubscription(t.Context(), sub, store.Start{Offset: 17_000}); err != nil {
		t.Fatal(err)
	}
	if b := balanceOf(t, s, sub.ID); b.Matched != 0 {
		t.Errorf("before its lane was opened: %+v", b)
	}
	lane := claim(t, s)["x"]
	grow(30_000)
	if b := balanceOf(t, s, sub.ID); b.Waiting != count(`"offset" >= 17000`) || b.Matched != b.Waiting {
		t.Errorf("nothing was sent: %+v", b)
	}
	// Up to 40,000 all is settled, and above it two ranges.
	at := one[store.Offset](w, `SELECT min("offset") FROM rowcall.events WHERE "offset" > 18000 AND type = 'public.t1.updated'`)
	passed := count(`"offset" >= 17000 AND "offset" < 40000`) + count(`("offset" >= 41000 AND "offset" < 42000 OR "offset" >= 49990)`)
	set := store.LaneSettlement{
		Lane: lane.ID, Epoch: lane.Epoch, Cursor: 40_000, Ahead: []store.OffsetRange{{From: 41_000, Past: 42_000}, {From: 49_990, Past: 50_100}},
		Upsert: []store.Delivery{{Offset: at, State: store.Retrying}},
		Counts: store.Counts{Delivered: passed - 1 - 2 - 3 - 4, Discarded: 2, Compacted: 3, Overflowed: 4},
	}
	settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{set}})
	settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{set}}) // in doubt
	total := count(`"offset" >= 17000`)
	want := store.Balance{
		Lane: lane.ID, Subscription: sub.ID, Sources: []string{"shop"}, Matched: total, Delivered: set.Counts.Delivered, Discarded: 2, Compacted: 3,
		Retrying: 1, Waiting: total - passed + 4, Exact: true,
	}
	diff(t, "balance", want, balanceOf(t, s, sub.ID))

	// A range that is given up, and discarded.
	ended, err := s.EndHold(t.Context(), store.HoldEnd{Lane: lane.ID, Epoch: lane.Epoch, Past: 45_000, Reason: "hold_limit_age"})
	if err != nil {
		t.Fatal(err)
	}
	want.Waiting, want.DeadRanges = want.Waiting-ended.Events.Events, ended.Events.Events
	diff(t, "balance", want, balanceOf(t, s, sub.ID))
	if err := s.DiscardDeadRange(t.Context(), one[int64](w, `SELECT id FROM rowcall.dead_ranges`)); err != nil {
		t.Fatal(err)
	}
	want.DeadRanges, want.Discarded = 0, want.Discarded+ended.Events.Events
	diff(t, "balance", want, balanceOf(t, s, sub.ID))

	// Another life, and an edit: what passed stays what it was.
	leave()
	w.expire("a")
	s, leave = w.instance("b")
	defer leave()
	lane = claim(t, s)["x"]
	diff(t, "counts", set.Counts, lane.Counts)
	diff(t, "balance", want, balanceOf(t, s, sub.ID))
	sub.Events = []string{"public.t1.*"}
	if err := s.UpdateSubscription(t.Context(), sub, 1); err != nil {
		t.Fatal(err)
	}
	diff(t, "balance of a lane that has not taken up the edit", want, balanceOf(t, s, sub.ID))
	if lane = claim(t, s)["x"]; lane.Cursor != 45_000 {
		t.Fatalf("cursor %d", lane.Cursor)
	}
	left := one[int64](w, `SELECT count(*) FROM rowcall.events WHERE kind <> 6 AND type = 'public.t1.updated' AND "offset" >= 45000 AND "offset" < 49990`)
	want.Matched += left + 4 - want.Waiting
	want.Waiting = left + 4
	diff(t, "balance", want, balanceOf(t, s, sub.ID))

	// Two that its lane passed and forgot.
	set.Cursor, set.Epoch, set.Upsert, set.Ahead = s.Head(), lane.Epoch, nil, nil
	set.Counts.Delivered += left - 2
	settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{set}})
	want.Waiting, want.Delivered, want.Unaccounted = 4, want.Delivered+left-2, 2
	diff(t, "balance", want, balanceOf(t, s, sub.ID))

	// With a filter, what is missing counts as left out; without it again, stays so.
	for i, filter := range []*string{new("true"), nil} {
		sub.Filter = filter
		if err := s.UpdateSubscription(t.Context(), sub, int64(2+i)); err != nil {
			t.Fatal(err)
		}
		lane = claim(t, s)["x"]
		if filter == nil {
			continue
		}
		grow(1000)
		fresh := s.Head() - lane.Cursor
		set.Cursor = s.Head()
		settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{set}})
		of := one[int64](w, `SELECT count(*) FROM rowcall.events WHERE kind <> 6 AND type = 'public.t1.updated' AND "offset" >= $1`, int64(s.Head()-fresh))
		want.Matched, want.Filtered, want.Unaccounted = want.Matched+of, of+2, 0
	}
	diff(t, "balance", want, balanceOf(t, s, sub.ID))
}

// Retention drops what the log counted, and no balance changes.
func TestBalancesOutliveTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.Retention = 100 * 365 * 24 * time.Hour // nothing goes before the test says so
	s, _ := w.instance("a")
	s.SetSpans(5000, 5000)
	random := rand.New(rand.NewPCG(5, 6))
	shop := source(t, s, "shop")
	for lsn := range store.LSN(10) {
		mustAppend(t, s, shop, mixed(random, lsn+1, 4000))
	}
	ids := map[string]subscriptions.ID{}
	for i := range 12 { // more lanes, each at a place of its own, than are counted where all are asked for
		name := fmt.Sprint(i)
		ids[name] = subscribe(t, s, name, store.Start{Offset: store.Offset(1 + i*1000)}).ID
	}
	lanes := claim(t, s)
	for _, l := range lanes {
		to := l.Cursor + 20_000
		events := one[int64](w, `SELECT count(*) FROM rowcall.events WHERE kind <> 6 AND "offset" >= $1 AND "offset" < $2`, int64(l.Cursor), int64(to))
		settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{Lane: l.ID, Epoch: l.Epoch, Cursor: to, Counts: store.Counts{Delivered: events}}}})
	}
	was := map[string]store.Balance{}
	for name, id := range ids {
		b, err := s.Balance(t.Context(), id)
		if err != nil || b.Unaccounted != 0 || !b.Exact {
			t.Errorf("%s: %+v, error %v", name, b, err)
		}
		was[name] = b
	}
	w.exec(`INSERT INTO rowcall.log_times SELECT now() - interval '200 years', next FROM rowcall.log_head`)
	if err := s.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if oldest, err := s.Oldest(t.Context()); err != nil || oldest < 16384 {
		t.Fatalf("oldest %d, error %v: the test shows nothing", oldest, err)
	}
	for name, id := range ids {
		b, err := s.Balance(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, name, was[name], b)
	}
	all, err := s.Balances(t.Context())
	if err != nil || len(all) != 12 {
		t.Fatalf("%d balances, error %v", len(all), err)
	}
	var sum, want store.Balance
	exact := 0
	for _, b := range all {
		sum = sum.Plus(b)
		if b.Exact {
			exact++
		}
	}
	for _, b := range was {
		want = want.Plus(b)
	}
	diff(t, "the sum", want, sum, cmpopts.IgnoreFields(store.Balance{}, "Exact"))
	if exact == 0 || exact == 12 {
		t.Errorf("%d of 12 were counted", exact)
	}
}
