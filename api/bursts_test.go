package api_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/rowcall/rowcall/api"
)

// failing signs in with a wrong key.
func (w *world) failing(remote, key string) int {
	w.t.Helper()
	return w.do(request{method: "GET", path: "/v1/subscriptions", key: key, remote: remote}).status
}

func TestABurstOfFailedSignInsIsOneRowOfTheAuditTrail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type row struct{ Actor, Remote, Action, Object, Note string }
	trail := func() []row {
		t.Helper()
		var found struct{ Items []row }
		w.do(request{method: "GET", path: "/v1/audit?actor=anonymous&limit=100", scope: api.ScopeAdmin}).into(t, &found)
		return found.Items
	}
	// One address, many keys, at once: each key too is tried more often than it may.
	var wg sync.WaitGroup
	keys := []string{api.NewKey(), api.NewKey(), "not-a-key-of-anybody"}
	for i := range 40 {
		wg.Go(func() { w.failing("192.0.2.1:1234", keys[i%len(keys)]) })
	}
	wg.Wait()
	got := trail()
	if len(got) != 1 || got[0].Action != "failed-sign-ins" || got[0].Object != "address/192.0.2.1" || got[0].Remote != "192.0.2.1" || !strings.Contains(got[0].Note, "held back for 1m0s") {
		t.Fatalf("after a burst: %+v", got)
	}
	// One key, from everywhere.
	key := api.NewKey()
	for i := range 12 {
		w.failing(fmt.Sprintf("198.51.100.%d:1", i), key)
	}
	if got = trail(); len(got) != 2 || got[0].Object != "key/"+key[3:13] || strings.Contains(fmt.Sprint(got), key[14:]) {
		t.Fatalf("after a key was tried from everywhere: %+v", got)
	}
	// A flood from many addresses fills no table.
	for i := range 20 {
		for range 11 {
			w.failing(fmt.Sprintf("203.0.113.%d:1", i), "not-a-key-of-anybody")
		}
	}
	if got = trail(); len(got) != 10 {
		t.Errorf("%d rows after 22 bursts, want 10", len(got))
	}
	if status := w.do(request{method: "GET", path: "/v1/subscriptions", scope: api.ScopeRead, remote: "192.0.2.1:1"}).status; status != 200 {
		t.Errorf("a valid key from the address: %d", status)
	}
}
