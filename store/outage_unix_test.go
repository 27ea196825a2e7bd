//go:build unix

package store_test

import (
	"syscall"
	"testing"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

func TestAStoppedServerProcessOfTheAppenderIsLeftForAnother(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	s := storetest.OpenWith(t, store.Config{URL: url})
	claim := source(t, s, "shop")
	mustAppend(t, s, claim, batch(1, 1))
	pid := scan[int](t, connect(t, url), `SELECT appender_pid FROM rowcall.leases`)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	b := batch(2, 1)
	if _, err := s.Append(soon(t), claim, b); !store.Unavailable(err) {
		t.Fatalf("append: %v, want unavailable", err)
	}
	if at := mustAppend(t, s, claim, b); at != 2 {
		t.Fatalf("appended at %d, want 2", at)
	}
}
