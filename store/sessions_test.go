package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
)

func TestASessionEndsWithItsKeyItsTimeOrWithoutUse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, sql string
		ends      bool
	}{
		{"in use", `UPDATE rowcall.api_keys SET last_used_at = now() - interval '29 minutes' WHERE parent IS NOT NULL`, false},
		{"without use", `UPDATE rowcall.api_keys SET last_used_at = now() - interval '31 minutes' WHERE parent IS NOT NULL`, true},
		{"its time", `UPDATE rowcall.api_keys SET expires_at = now() WHERE parent IS NOT NULL`, true},
		{"key revoked", `UPDATE rowcall.api_keys SET revoked_at = now() WHERE parent IS NULL`, true},
		{"key expired", `UPDATE rowcall.api_keys SET expires_at = now() WHERE parent IS NULL`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s, _ := w.instance("a")
			if err := s.SetBootstrapKey(t.Context(), hashOf("key")); err != nil {
				t.Fatal(err)
			}
			key, err := s.APIKeyByHash(t.Context(), hashOf("key"))
			if err != nil {
				t.Fatal(err)
			}
			expires, err := s.AddSession(t.Context(), key.ID, hashOf("session"), time.Hour)
			if left := time.Until(expires); err != nil || left < 50*time.Minute || left > 70*time.Minute {
				t.Fatalf("expires in %v, error %v", left, err)
			}
			got, err := s.APIKeyByHash(t.Context(), hashOf("session"))
			if err != nil || got.Parent != key.ID || got.Name != key.Name || len(got.Scopes) != 1 || got.Scopes[0] != "admin" {
				t.Fatalf("session %+v, error %v", got, err)
			}
			if _, err := s.AddSession(t.Context(), got.ID, hashOf("another"), time.Hour); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a session of a session: %v", err)
			}
			w.exec(c.sql)
			_, err = s.APIKeyByHash(t.Context(), hashOf("session"))
			if ended := errors.Is(err, store.ErrNotFound); ended != c.ends {
				t.Errorf("ended %v, want %v (%v)", ended, c.ends, err)
			}
		})
	}
}

func TestSessionsThatEndedAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	if err := s.SetBootstrapKey(t.Context(), hashOf("key")); err != nil {
		t.Fatal(err)
	}
	key, err := s.APIKeyByHash(t.Context(), hashOf("key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := s.AddSession(t.Context(), key.ID, hashOf(name), time.Hour); err != nil {
			t.Fatal(err)
		}
		w.exec(`UPDATE rowcall.api_keys SET last_used_at = now() - interval '2 hours' WHERE parent IS NOT NULL`)
	}
	var n int
	if err := w.conn.QueryRow(t.Context(), `SELECT count(*) FROM rowcall.api_keys WHERE parent IS NOT NULL`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d sessions are kept, want the newest (%v)", n, err)
	}
	if _, err := s.APIKeyByHash(t.Context(), hashOf("key")); err != nil {
		t.Errorf("the key: %v", err)
	}
	if err := s.EndSession(t.Context(), key.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("ending a key as if it were a session: %v", err)
	}
}
