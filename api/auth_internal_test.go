package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
)

// keyTable is a keyStore in memory.
type keyTable struct {
	mu    sync.Mutex
	keys  map[string]store.APIKey
	err   error
	calls int
	open  int
	most  int
	delay time.Duration
}

func (k *keyTable) APIKeyByHash(ctx context.Context, hash []byte) (store.APIKey, error) {
	k.mu.Lock()
	k.calls++
	k.open++
	k.most = max(k.most, k.open)
	delay := k.delay
	k.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open--
	if ctx.Err() != nil {
		return store.APIKey{}, ctx.Err()
	}
	if k.err != nil {
		return store.APIKey{}, k.err
	}
	key, ok := k.keys[string(hash)]
	if !ok {
		return store.APIKey{}, fmt.Errorf("find key: %w", store.ErrNotFound)
	}
	return key, nil
}

func newKeyTable(t *testing.T, texts ...string) *keyTable {
	t.Helper()
	k := &keyTable{keys: map[string]store.APIKey{}}
	for i, text := range texts {
		hash, err := HashKey(text)
		if err != nil {
			t.Fatal(err)
		}
		k.keys[string(hash)] = store.APIKey{ID: fmt.Sprintf("key_%d", i), Hash: hash, Scopes: []string{"read"}}
	}
	return k
}

func TestARevokedKeyWorksNoLongerThanFiveSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		text := NewKey()
		table := newKeyTable(t, text)
		a := newAuthenticator(table)
		if _, err := a.find(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		clear(table.keys) // revoked
		<-time.After(4 * time.Second)
		if _, err := a.find(t.Context(), text); err != nil || table.calls != 1 {
			t.Errorf("within the age: %v after %d look-ups, want the remembered key", err, table.calls)
		}
		<-time.After(time.Second)
		if _, err := a.find(t.Context(), text); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("5 s after: %v, want not found", err)
		}
	})
}

func TestARememberedKeyEndsWhenItExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		text := NewKey()
		table := newKeyTable(t, text)
		for hash, key := range table.keys {
			key.ExpiresAt = time.Now().Add(2 * time.Second)
			table.keys[hash] = key
		}
		a := newAuthenticator(table)
		if _, err := a.find(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Second)
		if _, err := a.find(t.Context(), text); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestAStoreThatAnswersWithAnotherKeyLetsNobodyIn(t *testing.T) {
	t.Parallel()
	text := NewKey()
	table := newKeyTable(t, text)
	for hash, key := range table.keys {
		key.Hash = []byte("another hash of 32 bytes........")
		table.keys[hash] = key
	}
	if _, err := newAuthenticator(table).find(t.Context(), text); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestAFloodOfWrongKeysTakesFewConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := newKeyTable(t)
		table.delay = 100 * time.Millisecond
		a := newAuthenticator(table)
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() { _, _ = a.find(t.Context(), NewKey()) })
		}
		wg.Wait()
		if table.calls != 40 || table.most > keyLookups {
			t.Errorf("%d look-ups, %d at once; want 40, at most %d at once", table.calls, table.most, keyLookups)
		}
	})
}

func TestAStoreThatHangsEndsASignInInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := newKeyTable(t)
		table.delay = time.Hour
		a, start := newAuthenticator(table), time.Now()
		var wg sync.WaitGroup
		for range 3 * keyLookups { // most of them only wait for their turn
			wg.Go(func() {
				if _, err := a.find(t.Context(), NewKey()); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took != keyTimeout {
			t.Errorf("took %s", took)
		}
	})
}

func TestFailedSignInsAreHeldBackByAddressAndByKey(t *testing.T) {
	t.Parallel()
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	synctest.Test(t, func(t *testing.T) {
		a := newAuthenticator(newKeyTable(t))
		for i := range failuresAllowed {
			if p := a.fail(t.Context(), here, "", ""); p.Status != http.StatusUnauthorized {
				t.Fatalf("failure %d: %d", i+1, p.Status)
			}
		}
		p := a.fail(t.Context(), here, "", "")
		if p.Status != http.StatusTooManyRequests || p.headers.Get("Retry-After") != "60" {
			t.Errorf("failure 11: %d, Retry-After %q", p.Status, p.headers.Get("Retry-After"))
		}
		if p := a.fail(t.Context(), there, "", ""); p.Status != http.StatusUnauthorized {
			t.Errorf("another address: %d", p.Status)
		}
		<-time.After(30 * time.Second)
		if p := a.fail(t.Context(), here, "", ""); p.headers.Get("Retry-After") != "30" {
			t.Errorf("a failure while held back made the wait %q", p.headers.Get("Retry-After"))
		}
		<-time.After(30 * time.Second)
		if p := a.fail(t.Context(), here, "", ""); p.Status != http.StatusUnauthorized {
			t.Errorf("after the wait: %d", p.Status)
		}
		// The wait doubles with every burst, up to 15 minutes.
		var waits []string
		for range 6 {
			for {
				if p := a.fail(t.Context(), here, "", ""); p.Status == http.StatusTooManyRequests {
					waits = append(waits, p.headers.Get("Retry-After"))
					break
				}
			}
			<-time.After(longestBlock)
		}
		if got := fmt.Sprint(waits); got != "[120 240 480 900 900 900]" {
			t.Errorf("waits %s", got)
		}
		// One key tried from everywhere.
		text := NewKey()
		status := 0
		for i := range failuresAllowed + 1 {
			status = a.fail(t.Context(), netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), text, "").Status
		}
		if status != http.StatusTooManyRequests {
			t.Errorf("the 11th failure of one key: %d", status)
		}
	})
}

func TestAnIPv6NetworkCountsAsOneAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8::1", "2001:db8::ffff", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"::ffff:192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
	} {
		same := network(netip.MustParseAddr(c.a)) == network(netip.MustParseAddr(c.b))
		if same != c.same {
			t.Errorf("%s and %s: same %t", c.a, c.b, same)
		}
	}
}

func TestCountedFailuresTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	var f failures
	now := time.Unix(0, 0)
	for i := range maxTracked + 100 {
		f.add(fmt.Sprint(i), now.Add(time.Duration(i)*time.Millisecond))
	}
	if len(f.names) > maxTracked {
		t.Errorf("%d names", len(f.names))
	}
	if _, ok := f.names["0"]; ok {
		t.Error("the oldest was kept")
	}
	if _, ok := f.names[fmt.Sprint(maxTracked+99)]; !ok {
		t.Error("the newest was forgotten")
	}
}

func TestOnlyAdminStandsForOtherScopes(t *testing.T) {
	t.Parallel()
	for _, held := range Scopes() {
		for _, asked := range Scopes() {
			want := held == asked || held == ScopeAdmin
			if got := allows(store.APIKey{Scopes: []string{string(held)}}, asked); got != want {
				t.Errorf("a key with %s on a route for %s: %t", held, asked, got)
			}
		}
		if allows(store.APIKey{}, held) {
			t.Errorf("a key without scopes may %s", held)
		}
	}
}

func TestARowOfTheAuditTrailSaysHowManyBurstsHaveNone(t *testing.T) {
	t.Parallel()
	b, now := newBurstRows(), time.Unix(0, 0)
	rows := 0
	for range burstsAtOnce + 5 {
		if row, without := b.take(now); row {
			rows++
			if without != 0 {
				t.Errorf("%d bursts before the first have no row", without)
			}
		}
	}
	row, without := b.take(now.Add(burstEvery))
	if rows != burstsAtOnce || !row || without != 5 {
		t.Errorf("%d rows at once, then %t for %d more", rows, row, without)
	}
	if row, _ := b.take(now.Add(burstEvery)); row {
		t.Error("two rows in a minute")
	}
}
