package store_test

import (
	"context"
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
