package api

import (
	"encoding/base64"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/store"
)

func TestACursorReadsBackAsItsPositionAndOnlyInItsOwnList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list, filters := rapid.String().Draw(t, "list"), rapid.String().Draw(t, "filters")
		want := rapid.SliceOfN(rapid.Int64Min(0), 1, 3).Draw(t, "numbers")
		token := *sealCursor(list, filters, joinNumbers(want...))
		position, err := openCursor(list, filters, token)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		got, err := splitNumbers(position, len(want))
		if err != nil || joinNumbers(got...) != joinNumbers(want...) {
			t.Fatalf("got %v, %v; want %v", got, err, want)
		}
		if _, err := splitNumbers(position, len(want)+1); err == nil {
			t.Fatal("read with one number too many")
		}
		if _, err := openCursor(list+"x", filters, token); err == nil {
			t.Fatal("taken by another list")
		}
		if _, err := openCursor(list, filters+"x", token); err == nil {
			t.Fatal("taken with other filters")
		}
		raw, _ := base64.RawURLEncoding.DecodeString(token)
		raw[rapid.IntRange(0, len(raw)-1).Draw(t, "byte")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		if _, err := openCursor(list, filters, base64.RawURLEncoding.EncodeToString(raw)); err == nil {
			t.Fatal("taken with a bit changed")
		}
	})
}

func TestFiltersThatDifferNeverMakeTheSameText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.String(), 2, 2).Draw(t, "a")
		b := rapid.SliceOfN(rapid.String(), 2, 2).Draw(t, "b")
		same := a[0] == b[0] && a[1] == b[1]
		if (joinFilters(a...) == joinFilters(b...)) != same {
			t.Fatalf("%q and %q", a, b)
		}
	})
}

func FuzzOpenCursor(f *testing.F) {
	f.Add(*sealCursor("events", "", "7"))
	f.Add("AAAA")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		position, err := openCursor("events", "", token)
		if err != nil {
			return
		}
		if token != "" && *sealCursor("events", "", position) != token {
			t.Errorf("cursor %q was taken and reads as %q", token, position)
		}
	})
}

func FuzzParseDeliveryID(f *testing.F) {
	f.Add("dlv_1_42")
	f.Add("dlv_01_42")
	f.Add("dlv_1_-1")
	f.Fuzz(func(t *testing.T, text string) {
		if id, ok := parseDeliveryID(text); ok && id.String() != text {
			t.Errorf("%q reads as %q", text, id)
		}
	})
}

func TestAListLooksLongerWhereItHasFoundNothing(t *testing.T) {
	t.Parallel()
	for since, want := range map[time.Duration]struct{ nothing, some bool }{
		0: {true, true}, 2 * store.ListTime: {true, false}, 2 * emptyTime: {false, false},
	} {
		look := looking{time.Now().Add(-since)}
		if nothing, some := look.left(0) > 0, look.left(1) > 0; nothing != want.nothing || some != want.some {
			t.Errorf("after %s: with nothing %v, with some %v, want %+v", since, nothing, some, want)
		}
		if look.next(0) > store.ListTime {
			t.Errorf("after %s: looks for %s at once", since, look.next(0))
		}
	}
}
