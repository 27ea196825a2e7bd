package store_test

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/rowcall/rowcall/store"
)

func TestOverflowsComeBackToWhoeverTakesTheLaneOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, leave := w.instance("a")
	fill(t, s, 10)
	subscribe(t, s, "x", store.Start{Earliest: true})
	x := claim(t, s)["x"]
	save := func(epoch int64, all ...store.Overflow) []store.LaneID {
		t.Helper()
		fenced, _, err := s.Settle(t.Context(), store.Settlement{Lanes: []store.LaneSettlement{{Lane: x.ID, Epoch: epoch, Cursor: 5, Overflows: all}}})
		if err != nil {
			t.Fatal(err)
		}
		return fenced
	}
	save(x.Epoch, store.Overflow{Key: "public.t/id=2", From: 3}, store.Overflow{Key: "gone", From: 4}, store.Overflow{Key: "nul\x00", From: 5})
	save(x.Epoch, store.Overflow{Key: "public.t/id=2", From: 7}, store.Overflow{Key: "gone"})
	if fenced := save(x.Epoch-1, store.Overflow{Key: "public.t/id=2", From: 9}); len(fenced) != 1 {
		t.Errorf("a settlement of another epoch was not fenced: %v", fenced)
	}
	leave()
	w.expire("a")
	next, _ := w.instance("b")
	lanes, _, err := next.ClaimLanes(t.Context(), nil)
	if err != nil || len(lanes) != 1 {
		t.Fatalf("%d lanes, error %v", len(lanes), err)
	}
	diff(t, "overflows", []store.Overflow{{Key: "nul\uFFFD", From: 5}, {Key: "public.t/id=2", From: 7}}, lanes[0].Overflows)
}

// What is in no index of the source may be longer than one of ours takes.
func TestAKeyOfAnyLengthOverflows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	subscribe(t, s, "x", store.Start{})
	x := claim(t, s)["x"]
	var long [2]string // of bytes that do not compress, unlike at their ends alone
	for i := range long {
		for n := range 300 {
			long[i] += fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, n)))
		}
		long[i] += fmt.Sprint(i)
	}
	save := func(all ...store.Overflow) {
		t.Helper()
		settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{Lane: x.ID, Epoch: x.Epoch, Cursor: 9, Overflows: all}}})
	}
	save(store.Overflow{Key: long[0], From: 3}, store.Overflow{Key: long[1], From: 4})
	save(store.Overflow{Key: long[0], From: 7}, store.Overflow{Key: long[1]})
	if got := one[bool](w, `SELECT count(*) = 1 AND bool_and(key = $1 AND "from" = 7) FROM rowcall.overflows`, long[0]); !got {
		t.Error("the overflows are not what was settled")
	}
}

func TestRetentionKeepsWhatAnOverflowedKeyIsOwed(t *testing.T) {
	t.Parallel()
	a := newAged(t, store.Config{})
	exec(t, a.conn, `INSERT INTO rowcall.overflows (lane, digest, key, "from") VALUES ($1, 'k', 'k', 50)`, a.lanes[0])
	a.retain(t)
	a.wantOldest(t, 1)
	exec(t, a.conn, `DELETE FROM rowcall.overflows`)
	a.retain(t)
	a.wantOldest(t, 401)
}
