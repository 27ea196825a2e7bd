package api

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/rowcall/rowcall/store"
)

const (
	keyCacheAge  = 5 * time.Second // a revoked key works no longer than this
	keyCacheSize = 1_000
	keyLookups   = 4               // at once: a flood of wrong keys takes no more connections than this
	keyTimeout   = 5 * time.Second // of a look-up, its wait included
)

// keyStore is what the authenticator needs of the store.
type keyStore interface {
	APIKeyByHash(ctx context.Context, hash []byte) (store.APIKey, error)
}

// authenticator turns the text of a key into the key that the store knows. A
// key that was found is remembered for keyCacheAge. It is safe for concurrent use.
type authenticator struct {
	store    keyStore
	failures failures
	lookups  chan struct{}
	rules    string // by which people were given what they may do, or have no session

	// onBurst hears of the failure that makes an address or a key wait.
	onBurst func(ctx context.Context, object string, remote netip.Addr, wait time.Duration)

	mu    sync.Mutex
	cache map[[32]byte]cachedKey
}

type cachedKey struct {
	key   store.APIKey
	until time.Time
}

func newAuthenticator(st keyStore) *authenticator {
	return &authenticator{
		store: st, lookups: make(chan struct{}, keyLookups), cache: map[[32]byte]cachedKey{},
		onBurst: func(context.Context, string, netip.Addr, time.Duration) {},
	}
}

// find returns the key with this text. store.ErrNotFound and ErrKeyForm mean
// that there is none; any other error that it could not be known.
func (a *authenticator) find(ctx context.Context, text string) (store.APIKey, error) {
	hash, err := HashKey(text)
	if err != nil {
		return store.APIKey{}, err
	}
	now := time.Now()
	a.mu.Lock()
	cached, ok := a.cache[[32]byte(hash)]
	a.mu.Unlock()
	if !ok || !now.Before(cached.until) {
		if cached.key, err = a.lookUp(ctx, hash); err != nil {
			return store.APIKey{}, err
		}
		a.remember([32]byte(hash), cachedKey{cached.key, now.Add(keyCacheAge)})
	}
	if subtle.ConstantTimeCompare(cached.key.Hash, hash) != 1 {
		return store.APIKey{}, store.ErrNotFound
	}
	if cached.key.Person != "" && cached.key.Rules != a.rules {
		return store.APIKey{}, store.ErrNotFound
	}
	if expires := cached.key.ExpiresAt; !expires.IsZero() && !now.Before(expires) {
		return store.APIKey{}, store.ErrNotFound
	}
	return cached.key, nil
}

func (a *authenticator) lookUp(ctx context.Context, hash []byte) (store.APIKey, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	select {
	case a.lookups <- struct{}{}:
	case <-ctx.Done():
		return store.APIKey{}, ctx.Err()
	}
	defer func() { <-a.lookups }()
	return a.store.APIKeyByHash(ctx, hash)
}

func (a *authenticator) remember(hash [32]byte, key cachedKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.cache) >= keyCacheSize {
		clear(a.cache)
	}
	a.cache[hash] = key
}

// forget drops what is remembered of a key, so that its end counts at once.
func (a *authenticator) forget(hash []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.cache, [32]byte(hash))
}

// forgetAll drops what is remembered of a key, if one is given, and of all
// sessions: those of the key are not told from others.
func (a *authenticator) forgetAll(hash []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for known, cached := range a.cache {
		if cached.key.Parent != "" || len(hash) > 0 && known == [32]byte(hash) {
			delete(a.cache, known)
		}
	}
}

// fail counts a failed sign-in and returns the problem to answer with. Only
// failures are ever held back: whoever shares an address with an attacker gets
// in with a valid key.
func (a *authenticator) fail(ctx context.Context, address netip.Addr, text, detail string) *problem {
	if wait := a.failed(ctx, address, text); wait > 0 {
		return newProblem(problemRateLimited, "too many failed sign-ins; a valid key still works").
			with("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	return newProblem(problemUnauthorized, detail).with("WWW-Authenticate", `Bearer realm="rowcall"`)
}

// failed counts a failed sign-in by address and by key, and returns how long
// whoever tries is to wait.
func (a *authenticator) failed(ctx context.Context, address netip.Addr, text string) time.Duration {
	now, from := time.Now(), network(address)
	wait, began := a.failures.add("address "+from, now)
	if began {
		a.onBurst(ctx, "address/"+from, address, wait)
	}
	if id := keyID(text); id != "" {
		other, began := a.failures.add("key "+id, now)
		if began && wait == 0 { // of keys that are made up in a burst, the address tells
			a.onBurst(ctx, "key/"+id, address, other)
		}
		wait = max(wait, other)
	}
	return wait
}

// network is the address that failures are counted by: one IPv4 address, or the
// /64 that one IPv6 host has to itself.
func network(address netip.Addr) string {
	address = address.Unmap()
	if address.Is6() {
		if prefix, err := address.WithZone("").Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return address.String()
}

// callerKey is the context's key of the caller.
type callerKey struct{}

// caller is who makes a request, as it stands in records: the key's id, also
// where it came by a session.
func caller(ctx context.Context) string {
	key := callersKey(ctx)
	return cmp.Or(key.Parent, key.ID)
}

func callersKey(ctx context.Context) store.APIKey {
	key, _ := ctx.Value(callerKey{}).(store.APIKey)
	return key
}

// allows reports whether a key may do what a scope stands for.
func allows(key store.APIKey, scope Scope) bool {
	return slices.Contains(key.Scopes, string(ScopeAdmin)) || slices.Contains(key.Scopes, string(scope))
}

// authorize lets a request on whose key is valid and holds the scope.
func (a *API) authorize(scope Scope, labels bool) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, _ := humachi.Unwrap(ctx)
		// The peer's own address: headers that claim another one are not believed.
		peer, _ := netip.ParseAddrPort(r.RemoteAddr)
		headers := r.Header.Values("Authorization")
		if len(headers) == 0 {
			// Nothing was tried, so nothing is counted.
			refuse(ctx, newProblem(problemUnauthorized, "send Authorization: Bearer <key>").with("WWW-Authenticate", `Bearer realm="rowcall"`))
			return
		}
		scheme, text, _ := strings.Cut(headers[0], " ")
		if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") {
			refuse(ctx, a.auth.fail(r.Context(), peer.Addr(), "", "send one Authorization: Bearer <key>"))
			return
		}
		key, err := a.auth.find(r.Context(), text)
		if err == nil && !a.withinRate(ctx, key) {
			return
		}
		switch {
		case errors.Is(err, ErrKeyForm):
			refuse(ctx, a.auth.fail(r.Context(), peer.Addr(), text, "the key is mistyped or cut off: its form or checksum is wrong"))
		case errors.Is(err, store.ErrNotFound):
			refuse(ctx, a.auth.fail(r.Context(), peer.Addr(), text, "the key is not known, was revoked, or has expired"))
		case err != nil:
			refuse(ctx, a.problemOf(r.Context(), "sign-in", err))
		case !allows(key, scope):
			refuse(ctx, newProblem(problemForbidden, "the route needs a key with scope "+string(scope)))
		case len(key.Labels) > 0 && !labels:
			refuse(ctx, newProblem(problemForbidden, "the key is restricted to some subscriptions by its labels, and the route is not about these alone: it needs a key without labels"))
		default:
			ctx = huma.WithValue(ctx, remoteKey{}, peer.Addr().Unmap().String())
			next(huma.WithValue(ctx, callerKey{}, key))
		}
	}
}

// keyOf is the key of a request that was let in, as it is now.
func (a *API) keyOf(r *http.Request) (store.APIKey, error) {
	_, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return a.auth.find(r.Context(), text)
}

// isRefusal reports whether an error of find means that there is no such key.
func isRefusal(err error) bool {
	return errors.Is(err, ErrKeyForm) || errors.Is(err, store.ErrNotFound)
}

// withinRate counts a request of a key, says in the answer what is left, and
// refuses it where that is nothing.
func (a *API) withinRate(ctx huma.Context, key store.APIKey) bool {
	if a.rates == nil {
		return true
	}
	wait, left := a.rates.take(cmp.Or(key.Parent, key.ID), time.Now())
	a.rates.headers(ctx.SetHeader, left)
	if wait > 0 {
		refuse(ctx, newProblem(problemRateLimited, "the key asks more often than it may: ROWCALL_API_RATE says how often").with("Retry-After", seconds(wait)))
		return false
	}
	return true
}
