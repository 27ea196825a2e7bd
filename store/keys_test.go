package store_test

import (
	"crypto/sha256"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rowcall/rowcall/store"
)

func hashOf(key string) []byte {
	h := sha256.Sum256([]byte(key))
	return h[:]
}

func TestThereIsOneBootstrapKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	has := func(want bool) {
		t.Helper()
		if got, err := s.HasBootstrapKey(t.Context()); err != nil || got != want {
			t.Fatalf("has bootstrap key: %v, error %v", got, err)
		}
	}
	valid := func(want ...string) {
		t.Helper()
		var got []string
		for _, key := range []string{"one", "two", "three"} {
			if k, err := s.APIKeyByHash(t.Context(), hashOf(key)); err == nil {
				got = append(got, key)
				diff(t, "key", store.APIKey{Name: "bootstrap", Hash: hashOf(key), Scopes: []string{"admin"}, Bootstrap: true}, k,
					cmpopts.IgnoreFields(store.APIKey{}, "ID", "CreatedAt", "LastUsedAt"))
			} else if !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
		}
		diff(t, "valid keys", want, got)
	}
	has(false)
	valid()
	for _, key := range []string{"one", "one", "two", "three", "one"} {
		if err := s.SetBootstrapKey(t.Context(), hashOf(key)); err != nil {
			t.Fatal(err)
		}
		has(true)
		valid(key)
	}
	// A key that was a restricted one, or a session, is the bootstrap key whole.
	w.exec(`INSERT INTO rowcall.api_keys (id, name, hash, scopes, labels) VALUES ('k', 'bootstrap', $1, '{read}', '{"team":"growth"}')`, hashOf("restricted"))
	w.exec(`INSERT INTO rowcall.api_keys (id, name, hash, scopes, parent, expires_at) VALUES ('ses_1', 'bootstrap', $1, '{read}', 'k', now())`, hashOf("session"))
	for _, key := range []string{"restricted", "session"} {
		if err := s.SetBootstrapKey(t.Context(), hashOf(key)); err != nil {
			t.Fatal(err)
		}
		got, err := s.APIKeyByHash(t.Context(), hashOf(key))
		if err != nil {
			t.Fatal(err)
		}
		diff(t, key, store.APIKey{Name: "bootstrap", Hash: hashOf(key), Scopes: []string{"admin"}, Bootstrap: true}, got,
			cmpopts.IgnoreFields(store.APIKey{}, "ID", "CreatedAt", "LastUsedAt"))
	}
	// Instances that start at once, with different keys, leave one too.
	var wait sync.WaitGroup
	for _, key := range []string{"one", "two", "three"} {
		wait.Go(func() {
			if err := s.SetBootstrapKey(t.Context(), hashOf(key)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := one[int](w, `SELECT count(*) FROM rowcall.api_keys WHERE revoked_at IS NULL`); n != 1 {
		t.Errorf("%d keys are valid", n)
	}
}

func TestAKeyIsFoundWhileItIsValid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	w.exec(`INSERT INTO rowcall.api_keys (id, name, hash, scopes, expires_at, revoked_at) VALUES
('k1', 'valid', $1, '{read,publish}', now() + interval '1 hour', NULL),
('k2', 'expired', $2, '{read}', now() - interval '1 second', NULL),
('k3', 'revoked', $3, '{read}', NULL, now())`, hashOf("1"), hashOf("2"), hashOf("3"))
	got, err := s.APIKeyByHash(t.Context(), hashOf("1"))
	if err != nil || !got.LastUsedAt.IsZero() || time.Until(got.ExpiresAt) < 50*time.Minute || got.CreatedAt.IsZero() {
		t.Fatalf("key %+v, error %v", got, err)
	}
	diff(t, "key", store.APIKey{ID: "k1", Name: "valid", Hash: hashOf("1"), Scopes: []string{"read", "publish"}}, got,
		cmpopts.IgnoreFields(store.APIKey{}, "ExpiresAt", "CreatedAt"))
	// Its use is noted, once a minute.
	first, err := s.APIKeyByHash(t.Context(), hashOf("1"))
	if err != nil || time.Since(first.LastUsedAt).Abs() > time.Minute {
		t.Fatalf("key %+v, error %v", first, err)
	}
	second, err := s.APIKeyByHash(t.Context(), hashOf("1"))
	if err != nil || second.LastUsedAt != first.LastUsedAt {
		t.Fatalf("key %+v after %+v, error %v", second, first, err)
	}
	for _, key := range []string{"2", "3", "4", ""} {
		if _, err := s.APIKeyByHash(t.Context(), hashOf(key)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("key %s: error %v, want not found", key, err)
		}
	}
	// A store that takes no writes locks nobody out.
	w.exec(`UPDATE rowcall.api_keys SET last_used_at = NULL`)
	w.exec(`ALTER TABLE rowcall.api_keys ADD CONSTRAINT unwritable CHECK (last_used_at IS NULL)`)
	if got, err := s.APIKeyByHash(t.Context(), hashOf("1")); err != nil || got.ID != "k1" {
		t.Errorf("key %+v, error %v", got, err)
	}
}
