package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/pgtemp"
	"github.com/rowcall/rowcall/store/storetest"
)

// soon gives a call as long as a caller would.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAStoreThatCrashesIsResumedFromByItself(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	s := storetest.OpenWith(t, store.Config{URL: storetest.Migrated(t, cluster), LeaseTTL: 2 * time.Second})
	claim := source(t, s, "shop")
	mustAppend(t, s, claim, batch(1, 3))
	if err := cluster.Stop(t.Context(), pgtemp.Immediate); err != nil {
		t.Fatal(err)
	}
	b := batch(2, 2)
	if _, err := s.Append(soon(t), claim, b); !store.Unavailable(err) {
		t.Fatalf("append while the store is down: %v, want unavailable", err)
	}
	topics, stop := s.Changes()
	defer stop()
	if err := s.Ping(soon(t)); !store.Unavailable(err) {
		t.Fatalf("ping while the store is down: %v, want unavailable", err)
	}
	// What the ring holds can be read all the same.
	if page, err := s.Read(soon(t), 1, 10, 1<<20); err != nil || len(page) != 3 {
		t.Fatalf("read %d events, error %v", len(page), err)
	}
	wait(t, "the lease has run out", func() bool { return time.Now().After(s.LeaseDeadline()) })
	if err := cluster.Restart(t.Context(), pgtemp.Immediate); err != nil {
		t.Fatal(err)
	}
	if at := mustAppend(t, s, claim, b); at != 4 {
		t.Fatalf("appended at %d, want 4", at)
	}
	for range 3 { // every topic, for what was said meanwhile is lost
		select {
		case <-topics:
		case <-time.After(30 * time.Second):
			t.Fatal("no topic after the listening connection was lost")
		}
	}
	wait(t, "the lease is renewed", func() bool { return time.Now().Before(s.LeaseDeadline()) })
	if l := lease(t, s); l.Epoch != 1 {
		t.Fatalf("epoch %d: the lease was lost, though nobody took it", l.Epoch)
	}
}

func TestAReadOnlyStoreIsUnavailableUntilItTakesWritesAgain(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	url := storetest.Migrated(t, cluster)
	s := storetest.OpenWith(t, store.Config{URL: url})
	claim := source(t, s, "shop")
	mustAppend(t, s, claim, batch(1, 1))
	admin := connect(t, url)
	readOnly := func(on string) {
		t.Helper()
		for _, sql := range []string{
			`SET default_transaction_read_only = off`,
			`ALTER SYSTEM SET default_transaction_read_only = ` + on, `SELECT pg_reload_conf()`,
		} {
			if _, err := admin.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	readOnly("on")
	wait(t, "the store says that it takes no writes", func() bool { return store.Unavailable(s.Ping(t.Context())) })
	b := batch(2, 1)
	wait(t, "an append is refused", func() bool {
		_, err := s.Append(t.Context(), claim, b)
		if err != nil && !store.Unavailable(err) {
			t.Fatalf("append: %v, want unavailable", err)
		}
		return err != nil
	})
	readOnly("off")
	wait(t, "the store works again", func() bool { return s.Ping(t.Context()) == nil })
	wait(t, "an append goes through", func() bool {
		_, err := s.Append(t.Context(), claim, b)
		return err == nil
	})
	events := readAll(t, s, 1)
	if last := events[len(events)-1]; last.LSN != 2 {
		t.Fatalf("the last event is %+v", last)
	}
}

func TestAStoreThatHangsCostsACallNoMoreThanItsDeadline(t *testing.T) {
	t.Parallel()
	proxy, url := newProxy(t, storetest.URL(t))
	s := storetest.OpenWith(t, store.Config{URL: url})
	claim := source(t, s, "shop")
	mustAppend(t, s, claim, batch(1, 1))
	proxy.freeze()
	b := batch(2, 1)
	began := time.Now()
	for range 2 { // over the old connection, and while making a new one
		if _, err := s.Append(soon(t), claim, b); !store.Unavailable(err) {
			t.Fatalf("append: %v, want unavailable", err)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Fatalf("two appends with a deadline of 2 s took %v", took)
	}
	proxy.thaw()
	if at := mustAppend(t, s, claim, b); at != 2 {
		t.Fatalf("appended at %d, want 2", at)
	}
}

// restorable is a database of its own to which a snapshot can be restored while
// nobody gets to it: what a restored backup, or a standby that was behind, is.
func restorable(t *testing.T) (proxy *proxy, url string, snapshot, restore func()) {
	t.Helper()
	cluster := storetest.Cluster(t, nil)
	storetest.Migrated(t, cluster)
	admin := connect(t, cluster.URL("template1"))
	exec(t, admin, `ALTER DATABASE postgres RENAME TO rows`)
	proxy, url = newProxy(t, cluster.URL("rows"))
	alone := func(sqls ...string) {
		t.Helper()
		proxy.refuseAll(true)
		for _, sql := range sqls {
			wait(t, "nobody is connected", func() bool {
				proxy.cutAll()
				_, err := admin.Exec(t.Context(), sql)
				return err == nil
			})
		}
		proxy.refuseAll(false)
	}
	return proxy, url, func() { alone(`CREATE DATABASE snapshot TEMPLATE rows`) },
		func() { alone(`DROP DATABASE rows`, `ALTER DATABASE snapshot RENAME TO rows`) }
}

func TestALogThatLostEventsEndsTheStoreBeforeItWritesAnything(t *testing.T) {
	t.Parallel()
	_, url, snapshot, restore := restorable(t)
	config := store.Config{URL: url, Cipher: storetest.Cipher(t)}
	s := storetest.OpenIdle(t, config)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.WithoutCancel(t.Context())) }()
	lease(t, s)
	shop := source(t, s, "shop")
	mustAppend(t, s, shop, batch(1, 3))
	subscribe(t, s, "x", store.Start{Earliest: true})
	x := claim(t, s)["x"]
	settlement := func(cursor store.Offset) store.Settlement {
		return store.Settlement{Lanes: []store.LaneSettlement{{Lane: x.ID, Epoch: x.Epoch, Cursor: cursor}}}
	}
	settle(t, s, settlement(4))
	snapshot()
	wait(t, "two more are appended", func() bool {
		_, err := s.Append(soon(t), shop, batch(2, 2))
		return err == nil
	})
	wait(t, "and settled", func() bool {
		_, _, err := s.Settle(soon(t), settlement(6))
		return err == nil
	})

	restore()
	// The very next calls, whoever looks first: the store's own loops do, too.
	settled := make(chan error, 1)
	go func() {
		_, _, err := s.Settle(soon(t), settlement(6))
		settled <- err
	}()
	wait(t, "the append is refused for good", func() bool {
		_, err := s.Append(soon(t), shop, batch(3, 1))
		if err == nil {
			t.Fatal("an event was appended behind those that are lost")
		}
		return errors.Is(err, store.ErrRegressed)
	})
	if err := <-settled; err == nil {
		t.Error("a cursor was settled above the head of the log")
	}
	if _, _, err := s.Settle(soon(t), settlement(6)); !errors.Is(err, store.ErrFenced) {
		t.Errorf("settle: %v, want fenced", err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, store.ErrRegressed) {
			t.Errorf("run: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the store does not end")
	}
	// The next life goes on from what is there.
	next := storetest.OpenWith(t, config)
	if next.Head() != 4 {
		t.Fatalf("head %d, want 4", next.Head())
	}
	if at := claim(t, next)["x"].Cursor; at != 4 {
		t.Errorf("cursor %d, want 4", at)
	}
}

// A database that is restored row by row leaves connections as they are.
func TestALogThatLostEventsUnderOpenConnectionsEndsTheStore(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t)}
	for _, idle := range []bool{true, false} {
		config.Instance = fmt.Sprint("idle ", idle)
		s := storetest.OpenIdle(t, config)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(context.WithoutCancel(t.Context())) }()
		lease(t, s)
		shop := source(t, s, fmt.Sprintf("shop_%t", idle))
		mustAppend(t, s, shop, batch(1, 3))
		conn := connect(t, config.URL)
		exec(t, conn, `WITH gone AS (UPDATE rowcall.log_head SET next = next - 1 RETURNING next) DELETE FROM rowcall.events USING gone WHERE "offset" >= gone.next`)
		if !idle {
			if _, err := s.Append(soon(t), shop, batch(2, 1)); !errors.Is(err, store.ErrRegressed) {
				t.Errorf("append: %v", err)
			}
		}
		select {
		case err := <-ended:
			if !errors.Is(err, store.ErrRegressed) {
				t.Errorf("run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("the store does not end")
		}
	}
}

// Whoever may connect to the database can say anything.
func TestANotificationIsNoProofThatTheLogHasLostEvents(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	s := storetest.OpenWith(t, store.Config{URL: url}) // and its end is no error
	shop := source(t, s, "shop")
	mustAppend(t, s, shop, batch(1, 3))
	conn := connect(t, url)
	wait(t, "it is heard", func() bool {
		exec(t, conn, `SELECT pg_notify('rowcall', '1000')`)
		return s.Head() == 1000
	})
	if at := mustAppend(t, s, source(t, s, "other"), batch(2, 1)); at != 4 {
		t.Errorf("appended at %d, want 4", at)
	}
	if _, err := s.LogStats(t.Context()); err != nil { // reads the head
		t.Error(err)
	}
}
