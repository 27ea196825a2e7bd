package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

func TestUnavailableIsWhatMaySucceedLater(t *testing.T) {
	t.Parallel()
	code := func(code string) error { return &pgconn.PgError{Code: code} }
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{code("57P01"), true},
		{code("57P02"), true},
		{code("57P03"), true},
		{code("57P05"), true},
		{code("08006"), true},
		{code("53100"), true},
		{code("53200"), true},
		{code("53300"), true},
		{code("25006"), true},
		{code("25P03"), true},
		{code("40001"), true},
		{code("40P01"), true},
		{code("55P03"), true},
		{code("57014"), true},
		{code("58030"), true},
		{code("22021"), false},
		{code("23505"), false},
		{code("42501"), false},
		{code("42P01"), false},
		{code("22P02"), false},
		{context.DeadlineExceeded, true},
		{os.ErrDeadlineExceeded, true},
		{context.Canceled, false},
		{io.ErrUnexpectedEOF, true},
		{net.ErrClosed, true},
		{syscall.ECONNRESET, true},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, true},
		{store.ErrFenced, false},
		{store.ErrNotFound, false},
		{errors.New("x"), false},
		{pgx.ErrNoRows, false},
	} {
		err := test.err
		if err != nil {
			err = fmt.Errorf("append: %w", err)
		}
		if got := store.Unavailable(err); got != test.want {
			t.Errorf("Unavailable(%v) = %v, want %v", err, got, test.want)
		}
	}
	_, err := pgx.Connect(t.Context(), "postgres://127.0.0.1:1/x")
	if !store.Unavailable(err) {
		t.Errorf("Unavailable(%v) = false for a server that is not there", err)
	}
}

func TestOpenRefusesADatabaseThatIsNotReady(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.EmptyURL(t), Cipher: storetest.Cipher(t), Instance: "a"}
	if _, err := store.Open(t.Context(), config); !errors.Is(err, store.ErrSchema) {
		t.Fatalf("open an empty database: %v, want ErrSchema", err)
	}
	config.URL = storetest.URL(t)
	s, err := store.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	other := config
	other.Cipher = storetest.Cipher(t)
	if _, err := store.Open(t.Context(), other); !errors.Is(err, store.ErrKey) {
		t.Fatalf("open with another key: %v, want ErrKey", err)
	}
	conn := connect(t, config.URL)
	exec(t, conn, `INSERT INTO rowcall.schema_migrations (version_id, is_applied) VALUES (99999, true)`)
	if _, err := store.Open(t.Context(), config); !errors.Is(err, store.ErrSchema) {
		t.Fatalf("open a newer schema: %v, want ErrSchema", err)
	}
}

func TestConfigNamesEveryFaultAtOnce(t *testing.T) {
	t.Parallel()
	_, err := store.Open(t.Context(), store.Config{Retention: -1})
	for _, field := range []string{"URL", "Instance", "Cipher", "Retention"} {
		if err == nil || !strings.Contains(err.Error(), field+":") {
			t.Errorf("error %q does not name %s", err, field)
		}
	}
	_, err = store.Open(t.Context(), store.Config{URL: "x y", Instance: "a", Cipher: new(subscriptions.Cipher)})
	if err == nil {
		t.Error("a url that is none is accepted")
	}
}
