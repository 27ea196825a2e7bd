package store_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// wait polls until ok.
func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("waited 30 s until %s", what)
		}
	}
}

func lease(t testing.TB, s *store.Store) store.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, err := s.Lease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTheNextLifeOfAKilledInstanceTakesItsLeaseAtOnce(t *testing.T) {
	t.Parallel()
	// No test waits for a lease of an hour to expire.
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t), Instance: "a", LeaseTTL: time.Hour}
	first := storetest.OpenIdle(t, config)
	kill := storetest.Run(t, first)
	if l := lease(t, first); l.Epoch != 1 {
		t.Fatalf("epoch %d, want 1", l.Epoch)
	}
	kill() // its connections are gone, its lease is not released
	if l := lease(t, storetest.OpenWith(t, config)); l.Epoch != 2 {
		t.Fatalf("epoch of the next life %d, want 2", l.Epoch)
	}
}

func TestALeaseIsTakenSoonAfterItsFormerHoldersConnectionHasEnded(t *testing.T) {
	t.Parallel()
	direct := storetest.URL(t)
	proxy, through := newProxy(t, direct)
	config := store.Config{URL: through, Cipher: storetest.Cipher(t), Instance: "a", LeaseTTL: time.Hour}
	lease(t, storetest.OpenWith(t, config))
	proxy.freeze() // the server still sees it
	said := &lines{}
	config.URL, config.Logger = direct, zerolog.New(said)
	next, err := store.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(next.Close)
	t.Cleanup(storetest.Run(t, next))
	wait(t, "it waits for the former holder", func() bool { return said.has("waiting for the lease") })
	db := connect(t, direct)
	if _, err := db.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM rowcall.leases`); err != nil {
		t.Fatal(err)
	}
	if l := lease(t, next); l.Epoch != 2 {
		t.Fatalf("epoch of the next life %d, want 2", l.Epoch)
	}
	proxy.thaw()
}

func TestALeaseOfAnInstanceThatIsStillConnectedIsTakenOnlyWhenItHasExpired(t *testing.T) {
	t.Parallel()
	direct := storetest.URL(t)
	proxy, through := newProxy(t, direct)
	config := store.Config{URL: through, Cipher: storetest.Cipher(t), Instance: "a", LeaseTTL: 2 * time.Second}
	former := storetest.OpenWith(t, config)
	claim := source(t, former, "shop")
	mustAppend(t, former, claim, batch(1, 1))
	proxy.freeze() // as SIGSTOP: its sockets stay open, it renews nothing
	deadline := former.LeaseDeadline()

	config.URL = direct
	next := storetest.OpenWith(t, config)
	if now := time.Now(); now.Before(deadline) {
		t.Fatalf("lease taken %v before its holder's deadline", deadline.Sub(now))
	}
	if l := lease(t, next); l.Epoch != 2 {
		t.Fatalf("epoch %d, want 2", l.Epoch)
	}
	if !former.LeaseDeadline().Equal(deadline) {
		t.Fatal("the former holder renewed its lease while frozen")
	}
	proxy.thaw()
	// It finds out, and waits in its turn.
	wait(t, "the former holder knows that it lost the lease", func() bool { return former.LeaseDeadline().IsZero() })
	if l := lease(t, next); l.Epoch != 2 {
		t.Fatalf("epoch %d, want still 2", l.Epoch)
	}
}

func TestAnAppenderThatIsStuckWithTheHeadOfTheLogIsEndedWhenItsLeaseExpires(t *testing.T) {
	t.Parallel()
	direct := storetest.URL(t)
	proxy, through := newProxy(t, direct)
	config := store.Config{URL: through, Cipher: storetest.Cipher(t), Instance: "stuck", LeaseTTL: time.Second}
	stuck := storetest.OpenWith(t, config)
	claim := source(t, stuck, "a")
	mustAppend(t, stuck, claim, batch(1, 1))
	config.URL, config.Instance = direct, "other"
	other := storetest.OpenWith(t, config)
	claimed := source(t, other, "b")

	// The rest of the append is not sent: its transaction holds the head's lock.
	big := batch(2, 50_000)
	proxy.freezeAt(`"lsn":2,"ordinal":40000`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := stuck.Append(ctx, claim, big)
		done <- err
	}()
	<-proxy.cuts
	began := time.Now()
	if at := mustAppend(t, other, claimed, batch(1, 1)); at != 2 {
		t.Fatalf("appended at %d, want 2", at)
	}
	// Well before the session's own time-outs would have ended it.
	if took := time.Since(began); took > 8*time.Second {
		t.Fatalf("the other instance waited %v", took)
	}
	cancel()
	if err := <-done; err == nil {
		t.Fatal("the stuck append succeeded")
	}
	proxy.thaw()
}

func TestAReleasedLeaseIsFreeAtOnce(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t), Instance: "a", LeaseTTL: time.Hour}
	s := storetest.OpenIdle(t, config)
	stop := storetest.Run(t, s)
	lease(t, s)
	stop()
	if err := s.ReleaseLease(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.LeaseDeadline().IsZero() {
		t.Fatal("a released lease has a deadline")
	}
	if !scan[bool](t, connect(t, config.URL), `SELECT expires_at <= clock_timestamp() FROM rowcall.leases`) {
		t.Fatal("the row has not expired")
	}
}

func TestALeaseIsRenewedBeforeItsDeadline(t *testing.T) {
	t.Parallel()
	s := storetest.OpenWith(t, store.Config{LeaseTTL: 2 * time.Second})
	first := s.LeaseDeadline()
	if rest := time.Until(first); rest > 2*time.Second {
		t.Fatalf("deadline in %v, past the lease's time to live", rest)
	}
	wait(t, "the deadline moves", func() bool { return s.LeaseDeadline().After(first) })
	if time.Now().After(first) {
		t.Fatal("the lease was renewed after its deadline")
	}
}

// lines is what a logger wrote.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func TestWhoLosesItsLeaseSaysToWhom(t *testing.T) {
	t.Parallel()
	const lanes, name = "lease lost: it ran out, and another instance took over the lanes", "lease lost: another process took the name"
	for want, lose := range map[string]func(w *world, second *store.Store) error{
		lanes: func(w *world, second *store.Store) error {
			w.expire("a") // it may be renewed before the other one comes
			_, _, err := second.ClaimLanes(w.t.Context(), nil)
			return err
		},
		name: func(w *world, _ *store.Store) error {
			w.exec(`UPDATE rowcall.leases SET epoch = epoch + 1, pid = 1 WHERE instance = 'a'`)
			return nil
		},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			said := &lines{}
			config := w.config
			config.Instance, config.LeaseTTL, config.Logger = "a", 2*time.Second, zerolog.New(said)
			first, err := store.Open(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(first.Close)
			t.Cleanup(storetest.Run(t, first))
			lease(t, first)
			subscribe(t, first, "x", store.Start{})
			claim(t, first)
			second, _ := w.instance("b")
			wait(t, "it says so", func() bool {
				if err := lose(w, second); err != nil {
					t.Fatal(err)
				}
				return said.has(lanes) || said.has(name)
			})
			if !said.has(want) {
				t.Errorf("it did not say %q", want)
			}
		})
	}
}
