package store_test

import (
	"strings"
	"testing"

	"github.com/rowcall/rowcall/store"
)

func TestASourceWhoseHeartbeatStaysAwayIsAnnouncedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	source(t, s, "shop")
	other, _ := w.instance("b") // it has announced nothing, as after a restart
	said := func() (n int) {
		t.Helper()
		for _, by := range []*store.Store{s, s, other} {
			if err := by.AnnounceLag(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, e := range readAll(t, s, 1) {
			if e.Type == "rowcall.source.lagging" && strings.Contains(string(e.Data), `"source":"shop"`) {
				n++
			}
		}
		return n
	}
	w.exec(`UPDATE rowcall.sources SET heartbeat_at = now() - interval '30 seconds', state = 'streaming'`)
	if n := said(); n != 0 {
		t.Errorf("%d notices of a heartbeat half a minute old", n)
	}
	w.exec(`UPDATE rowcall.sources SET heartbeat_at = now() - interval '2 minutes'`)
	if n := said(); n != 1 {
		t.Errorf("%d notices, want 1", n)
	}
	w.exec(`UPDATE rowcall.sources SET heartbeat_at = now() - interval '90 seconds'`) // it came back, and stays away again
	if n := said(); n != 2 {
		t.Errorf("%d notices, want 2", n)
	}
}
