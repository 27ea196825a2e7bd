package subscriptions_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/subscriptions"
)

func newCipher(t *testing.T, key string) *subscriptions.Cipher {
	t.Helper()
	c, err := subscriptions.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSealedValueOpensAtItsPlace(t *testing.T) {
	t.Parallel()
	key := subscriptions.NewMasterKey()
	c := newCipher(t, key)
	for _, plain := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("long"), 10_000)} {
		sealed := c.Seal(plain, "subscriptions/a/secrets")
		if len(plain) > 1 && bytes.Contains(sealed, plain) {
			t.Error("sealed value holds the text")
		}
		if bytes.Equal(sealed, c.Seal(plain, "subscriptions/a/secrets")) {
			t.Error("sealing twice gives the same bytes")
		}
		// A restart makes another Cipher of the same key, read from a file.
		got, err := newCipher(t, key+"\n").Open(sealed, "subscriptions/a/secrets")
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("Open = %d bytes, %v; want %d", len(got), err, len(plain))
		}
	}
}

func TestSealedValueMovedToAnotherPlaceDoesNotOpen(t *testing.T) {
	t.Parallel()
	c := newCipher(t, subscriptions.NewMasterKey())
	sealed := c.Seal([]byte("text"), "subscriptions/a/secrets")
	for _, place := range []string{"", "subscriptions/b/secrets", "subscriptions/a/secret", "subscriptions/a/secrets/"} {
		if plain, err := c.Open(sealed, place); err == nil {
			t.Errorf("opens at %q: %q", place, plain)
		}
	}
}

func TestSealedValueThatWasChangedDoesNotOpen(t *testing.T) {
	t.Parallel()
	c := newCipher(t, subscriptions.NewMasterKey())
	sealed := c.Seal([]byte("text"), "p")
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 0x40
		if _, err := c.Open(changed, "p"); err == nil {
			t.Errorf("opens with byte %d changed", i)
		}
		if _, err := c.Open(sealed[:i], "p"); err == nil {
			t.Errorf("opens when cut to %d bytes", i)
		}
	}
}

func TestAnotherMasterKeyIsNamedAsTheFault(t *testing.T) {
	t.Parallel()
	sealed := newCipher(t, subscriptions.NewMasterKey()).Seal([]byte("text"), "p")
	_, err := newCipher(t, subscriptions.NewMasterKey()).Open(sealed, "p")
	if err == nil || !strings.Contains(err.Error(), "another master key") || !strings.Contains(err.Error(), "ROWCALL_SECRET_KEY") {
		t.Errorf("error does not name the key: %v", err)
	}
}

// Values sealed by a released version must open for ever.
func TestSealedFormStaysReadable(t *testing.T) {
	t.Parallel()
	const sealedByVersion1 = "01f66ef897c17c52cfd3f71b0d03fecb2ca7222060bd4717dedd490bd01fa84d7f103ed74b9b61a308af21"
	sealed, err := hex.DecodeString(sealedByVersion1)
	if err != nil {
		t.Fatal(err)
	}
	c := newCipher(t, "rck_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
	plain, err := c.Open(sealed, "subscriptions/sub_x/secrets")
	if err != nil || string(plain) != "whsec_text" {
		t.Errorf("Open = %q, %v", plain, err)
	}
}

func TestMasterKeyIsRefusedWithTheRemedyAndWithoutTheKey(t *testing.T) {
	t.Parallel()
	good := subscriptions.NewMasterKey()
	body := strings.TrimPrefix(good, "rck_")
	for name, key := range map[string]string{
		"empty":           "",
		"only spaces":     " \n",
		"no prefix":       body,
		"other prefix":    "rk_" + body,
		"too short":       good[:len(good)-1],
		"too long":        good + "A",
		"padded":          good + "=",
		"line break":      good[:20] + "\n" + good[21:],
		"other alphabet":  good[:len(good)-3] + "+/A",
		"loose last bits": good[:len(good)-1] + "B",
		"twice":           good + "," + good,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := subscriptions.NewCipher(key)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range []string{"ROWCALL_SECRET_KEY", "rowcall keygen"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not name %s: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), body[:10]) {
				t.Errorf("error echoes the key: %v", err)
			}
		})
	}
}
