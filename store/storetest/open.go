package storetest

import (
	"cmp"
	"context"
	"errors"
	"testing"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Open opens a store on a new migrated database, with a key of its own, and
// runs it: the lease is held when it returns. It is stopped and closed when the
// test ends.
func Open(t testing.TB) *store.Store {
	t.Helper()
	return OpenWith(t, store.Config{})
}

// OpenWith is Open with settings: what is zero of URL, Instance, Cipher and
// Logger is filled in.
func OpenWith(t testing.TB, config store.Config) *store.Store {
	t.Helper()
	s := OpenIdle(t, config)
	stop := Run(t, s)
	t.Cleanup(stop)
	if _, err := s.Lease(t.Context()); err != nil {
		t.Fatalf("acquire lease: %v", err)
	}
	return s
}

// OpenIdle opens a store and does not run it: it has no lease, and hears of no
// changes. It is closed when the test ends.
func OpenIdle(t testing.TB, config store.Config) *store.Store {
	t.Helper()
	if config.URL == "" {
		config.URL = URL(t)
	}
	config.Instance = cmp.Or(config.Instance, "test")
	if config.Cipher == nil {
		config.Cipher = Cipher(t)
	}
	config.Logger = zerolog.New(zerolog.NewTestWriter(t)).With().Str("instance", config.Instance).Logger()
	s, err := store.Open(t.Context(), config)
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Run starts the store's Run. The function that it returns ends it and waits
// for that; it may be called twice.
func Run(t testing.TB, s *store.Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx); close(done) }()
	return func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("run store: %v", err)
		}
	}
}

// Cipher is a cipher with a key of its own. Stores on one database share one.
func Cipher(t testing.TB) *subscriptions.Cipher {
	t.Helper()
	c, err := subscriptions.NewCipher(subscriptions.NewMasterKey())
	if err != nil {
		t.Fatalf("make cipher: %v", err)
	}
	return c
}
