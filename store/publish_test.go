package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/pgtemp"
	"github.com/rowcall/rowcall/store/storetest"
)

// published is an event with an id of its publisher's.
func published(id string) store.Published {
	return store.Published{ID: id, Type: "user.signed_up", Key: "user.signed_up/7", Data: fmt.Appendf(nil, `{"id":%q}`, id)}
}

func mustPublish(t testing.TB, s *store.Store, events ...store.Published) []store.Receipt {
	t.Helper()
	receipts, err := s.Publish(t.Context(), events)
	if err != nil {
		t.Fatal(err)
	}
	if len(receipts) != len(events) {
		t.Fatalf("%d receipts for %d events", len(receipts), len(events))
	}
	return receipts
}

func TestWhatIsPublishedIsReadFromTheRingAndFromTheTableAlike(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	s := storetest.OpenWith(t, config)
	claim := source(t, s, "shop")
	mustAppend(t, s, claim, batch(1, 2))
	given := store.Given{
		Source: "https://example.com/users", Time: "2026-11-20T12:00:00.5Z",
		Extensions: []store.Extension{{Name: "traceparent", Value: []byte(`"00-a-b-01"`)}, {Name: "weight", Value: []byte(`7`)}},
	}
	receipts := mustPublish(t, s,
		store.Published{ID: "a", Type: "user.signed_up", Key: "k", Subject: "s", Given: given, Data: []byte(`{"n": 1}`)},
		store.Published{Type: "user.left", Data: []byte(`null`)},
		store.Published{Notice: true, ID: "n-1", Type: "rowcall.subscription.parked", Data: []byte(`{}`)},
	)
	mustAppend(t, s, claim, batch(2, 1))
	mustPublish(t, s, published("b"))
	for i, r := range receipts {
		if r.Offset != store.Offset(3+i) || r.Duplicate {
			t.Errorf("receipt %d is %+v", i, r)
		}
	}
	want := readAll(t, s, 1) // from the ring
	if len(want) != 7 {
		t.Fatalf("%d events in the log, want 7", len(want))
	}
	a, left, notice := want[2], want[3], want[4]
	if a.Source != given.Source || a.PublicID != "a" || a.Key != "k" || a.Kind != store.KindPublished || string(a.Data) != `{"n": 1}` {
		t.Errorf("the first is %+v", a)
	}
	if left.Source != "/sources/http" || left.PublicID != receipts[1].ID || left.Key != left.PublicID || len(left.PublicID) != 36 {
		t.Errorf("the second is %+v", left)
	}
	if notice.Source != "/sources/rowcall" || notice.Kind != store.KindNotice {
		t.Errorf("the notice is %+v", notice)
	}
	config.Instance = "reader"
	got := readAll(t, storetest.OpenWith(t, config), 1) // from the table
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(store.Given{})); diff != "" {
		t.Errorf("ring and table differ (-ring +table):\n%s", diff)
	}
	byWebhookID, err := s.EventByID(t.Context(), fmt.Sprintf("e-%x", store.PublishedID(a.Source, "a")))
	if err != nil || byWebhookID.Offset != 3 {
		t.Errorf("by webhook-id: %+v, %v", byWebhookID, err)
	}
}

func TestAnEventThatIsPublishedAgainIsNotAppendedAgain(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	s := storetest.OpenWith(t, config)
	config.Instance = "other"
	other := storetest.OpenWith(t, config)
	first := mustPublish(t, s, published("a"), published("b"))
	again := mustPublish(t, other, published("c"), published("b"), published("c"), published("a"))
	want := []store.Receipt{{ID: "c", Offset: 3}, {ID: "b", Offset: 2, Duplicate: true}, {ID: "c", Offset: 3, Duplicate: true}, {ID: "a", Offset: 1, Duplicate: true}}
	if diff := cmp.Diff(want, again); diff != "" || first[0].Duplicate || first[1].Duplicate {
		t.Errorf("first %+v, then (-want +got):\n%s", first, diff)
	}
	elsewhere := published("a")
	elsewhere.Given.Source = "/elsewhere"
	if r := mustPublish(t, s, elsewhere); r[0].Duplicate || r[0].Offset != 4 {
		t.Errorf("the same id from another source: %+v", r)
	}
	if n := len(readAll(t, s, 1)); n != 4 {
		t.Errorf("%d events in the log, want 4", n)
	}
}

func TestOfManyWhoPublishTheSameAtOnceOneIsFirst(t *testing.T) {
	t.Parallel()
	url, cipher := storetest.URL(t), storetest.Cipher(t)
	stores := make([]*store.Store, 3)
	for i := range stores {
		stores[i] = storetest.OpenWith(t, store.Config{URL: url, Cipher: cipher, Instance: fmt.Sprint("i", i)})
	}
	claim := source(t, stores[0], "shop")
	const ids, callers = 40, 12
	var mu sync.Mutex
	firsts, at := map[string]int{}, map[string]store.Offset{}
	var wg sync.WaitGroup
	wg.Go(func() { // capture appends meanwhile
		for lsn := range store.LSN(60) {
			if _, err := stores[0].Append(t.Context(), claim, batch(lsn+1, 3)); err != nil {
				t.Errorf("append: %v", err)
			}
		}
	})
	for c := range callers {
		wg.Go(func() {
			for i := range ids {
				receipts, err := stores[c%len(stores)].Publish(t.Context(), []store.Published{published(fmt.Sprint(i)), {Type: "other", Data: []byte(`{}`)}})
				if err != nil {
					t.Errorf("publish: %v", err)
					return
				}
				mu.Lock()
				if r := receipts[0]; at[r.ID] != 0 && at[r.ID] != r.Offset {
					t.Errorf("%s is at %d and at %d", r.ID, at[r.ID], r.Offset)
				} else if at[r.ID] = r.Offset; !r.Duplicate {
					firsts[r.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i := range ids {
		if n := firsts[fmt.Sprint(i)]; n != 1 {
			t.Errorf("id %d: %d callers were told that they were first", i, n)
		}
	}
	const want = 60*3 + ids + callers*ids
	wait(t, "all instances have heard of the last append", func() bool { return stores[1].Head() > want })
	events := readAll(t, stores[1], 1)
	if len(events) != want {
		t.Errorf("%d events in the log, want %d", len(events), want)
	}
	for i, e := range events {
		if e.Offset != store.Offset(i+1) {
			t.Fatalf("offset %d in place %d", e.Offset, i+1)
		}
		if want, ok := at[e.PublicID]; ok && want != e.Offset {
			t.Errorf("%s is at %d, its receipts say %d", e.PublicID, e.Offset, want)
		}
	}
}

func TestWhatWasPublishedWhileTheCommitWasInDoubtIsInTheLogOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		committed bool
	}{{"the server got the COMMIT", true}, {"the COMMIT was lost", false}} {
		for _, id := range []string{"given", ""} {
			t.Run(test.name+", id "+id, func(t *testing.T) {
				t.Parallel()
				proxy, url := newProxy(t, storetest.URL(t))
				s := storetest.OpenWith(t, store.Config{URL: url})
				mustPublish(t, s, published("before"))
				proxy.cutAt("\x00commit\x00", test.committed)
				receipts := mustPublish(t, s, published(id))
				<-proxy.cuts
				mustPublish(t, s, published("after"))
				events := readAll(t, s, 1)
				if len(events) != 3 || events[1].PublicID != receipts[0].ID || receipts[0].Offset != 2 || receipts[0].Duplicate {
					t.Fatalf("receipt %+v, log %+v", receipts[0], events)
				}
			})
		}
	}
}

func TestPublishingGoesOverANewConnectionWhereTheOldOneDied(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *proxy, string){
		"the network cut it": func(_ *testing.T, proxy *proxy, _ string) { proxy.cutAll() },
		"the server ended it": func(t *testing.T, _ *proxy, url string) {
			conn := connect(t, url)
			pid := scan[int](t, conn, `SELECT appender_pid FROM rowcall.leases`)
			exec(t, conn, `SELECT pg_terminate_backend($1)`, pid)
			wait(t, "the server has ended it", func() bool {
				return scan[int](t, conn, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid) == 0
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := storetest.URL(t)
			proxy, through := newProxy(t, url)
			s := storetest.OpenWith(t, store.Config{URL: through})
			mustPublish(t, s, published("before"))
			for i, id := range []string{"given", "", "given"} {
				end(t, proxy, url)
				receipts, err := s.Publish(t.Context(), []store.Published{published(id)})
				if err != nil {
					t.Fatalf("id %q: %v", id, err)
				}
				if want := []store.Offset{2, 3, 2}[i]; receipts[0].Offset != want || receipts[0].Duplicate != (i == 2) {
					t.Errorf("try %d: receipt %+v", i, receipts[0])
				}
			}
			if n := len(readAll(t, s, 1)); n != 3 {
				t.Errorf("%d events, want 3", n)
			}
		})
	}
}

func TestPublishingToAStoreThatIsDownSaysSoAtOnceAndGoesOnLater(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	s := storetest.OpenWith(t, store.Config{URL: storetest.Migrated(t, cluster)})
	mustPublish(t, s, published("a"))
	if err := cluster.Stop(t.Context(), pgtemp.Immediate); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(soon(t), []store.Published{published("b")}); !store.Unavailable(err) {
		t.Fatalf("publish while the store is down: %v, want unavailable", err)
	}
	if err := cluster.Restart(t.Context(), pgtemp.Immediate); err != nil {
		t.Fatal(err)
	}
	wait(t, "events can be published again", func() bool {
		_, err := s.Publish(t.Context(), []store.Published{published("b")})
		if err != nil && !store.Unavailable(err) {
			t.Fatal(err)
		}
		return err == nil
	})
	if n := len(readAll(t, s, 1)); n != 2 {
		t.Fatalf("%d events, want 2", n)
	}
}

func TestAnInstanceWithoutALeasePublishesNothing(t *testing.T) {
	t.Parallel()
	url, cipher := storetest.URL(t), storetest.Cipher(t)
	idle := storetest.OpenIdle(t, store.Config{URL: url, Cipher: cipher})
	if _, err := idle.Publish(t.Context(), []store.Published{published("a")}); !store.Unavailable(err) {
		t.Fatalf("without a lease: %v, want unavailable", err)
	}
	// Its next life has the lease: this one wakes up and is fenced.
	former := storetest.OpenIdle(t, store.Config{URL: url, Cipher: cipher, LeaseTTL: time.Hour})
	kill := storetest.Run(t, former)
	lease(t, former)
	mustPublish(t, former, published("b"))
	kill()
	next := storetest.OpenWith(t, store.Config{URL: url, Cipher: cipher})
	if _, err := former.Publish(t.Context(), []store.Published{published("c")}); !store.Unavailable(err) {
		t.Fatalf("under a lease that was lost: %v, want unavailable", err)
	}
	if n := len(readAll(t, next, 1)); n != 1 {
		t.Fatalf("%d events, want 1", n)
	}
}

func TestMemoryOfWhatWaitsToBePublishedIsBounded(t *testing.T) {
	t.Parallel()
	proxy, url := newProxy(t, storetest.URL(t))
	s := storetest.OpenWith(t, store.Config{URL: url})
	mustPublish(t, s, published("a"))
	proxy.freeze()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	large := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	results := make(chan error, 64)
	var wg sync.WaitGroup
	for range cap(results) {
		wg.Go(func() {
			_, err := s.Publish(ctx, []store.Published{{Type: "large", Data: large}})
			results <- err
		})
	}
	// Those for whom there is no room are told at once, while the others wait.
	for range 20 {
		if err := <-results; !store.Unavailable(err) {
			t.Errorf("crowded: %v, want unavailable", err)
		}
	}
	cancel()
	proxy.thaw()
	wg.Wait()
	close(results)
	for err := range results {
		if err != nil && !errors.Is(err, context.Canceled) && !store.Unavailable(err) {
			t.Errorf("after a cancel: %v", err)
		}
	}
	mustPublish(t, s, published("b")) // and there is room again
}

func TestIdsOfPublishedEventsAreForgottenAfterAWeek(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	s := storetest.OpenWith(t, store.Config{URL: url})
	mustPublish(t, s, published("a"), published("b"))
	conn := connect(t, url)
	if _, err := conn.Exec(t.Context(), `UPDATE rowcall.published_ids SET at = now() - interval '7 days 1 second' WHERE "offset" = 1`); err != nil {
		t.Fatal(err)
	}
	if err := s.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	receipts := mustPublish(t, s, published("a"), published("b"))
	if receipts[0].Duplicate || !receipts[1].Duplicate {
		t.Fatalf("receipts %+v", receipts)
	}
}

func TestANameOfPublishedEventsIsNoSourceToCapture(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	mustPublish(t, s, published("a"))
	if _, _, err := s.ClaimSource(t.Context(), "http"); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("claim: %v, want ErrConflict", err)
	}
	src, err := s.Source(t.Context(), "http")
	if err != nil || src.Kind != "http" || src.State != store.SourceStreaming {
		t.Fatalf("source %+v, %v", src, err)
	}
}

func TestATypeOfNoticesIsForNoticesAlone(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	for _, e := range []store.Published{
		{Type: "rowcall.mine", Data: []byte(`{}`)},
		{Notice: true, Type: "mine", Data: []byte(`{}`)},
		{Type: "a\x00b", Data: []byte(`{}`)},
		{Type: "a", Key: "\xff", Data: []byte(`{}`)},
	} {
		if _, err := s.Publish(t.Context(), []store.Published{e}); err == nil || store.Unavailable(err) {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

func TestAPublishedEventThatTheLogHasDroppedIsKeptWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, x, y := owed(t, w)
	event := published("a")
	event.Given = store.Given{Source: "/elsewhere", Time: "2026-11-20T12:00:00Z", Extensions: []store.Extension{{Name: "x", Value: []byte(`"y"`)}}}
	at := mustPublish(t, s, event)[0].Offset
	want, err := s.Event(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	dead := []store.Delivery{{Offset: at, State: store.Dead, Keys: []string{}, Reason: "rejected"}}
	for _, l := range []store.Lane{x, y} {
		settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{Lane: l.ID, Epoch: l.Epoch, Cursor: at + 1, Upsert: dead}}})
	}
	if err := s.LeavePartition(t.Context(), 1, at+1); err != nil {
		t.Fatal(err)
	}
	w.exec(`DELETE FROM rowcall.events`)
	other, _ := w.instance("reader")
	d, err := other.Delivery(t.Context(), x.ID, at)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, d.Event, cmpopts.IgnoreUnexported(store.Given{})); diff != "" || want.Given == nil {
		t.Errorf("in the log and kept (-log +kept):\n%s", diff)
	}
}
