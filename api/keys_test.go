package api_test

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/api"
)

func TestAKeyThatWasMadeIsKnownByTheHashOfItsText(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		key := api.NewKey()
		if seen[key] {
			t.Fatalf("made twice")
		}
		seen[key] = true
		hash, err := api.HashKey(key)
		if err != nil {
			t.Fatalf("hash: %v", err)
		}
		if want := sha256.Sum256([]byte(key)); string(hash) != string(want[:]) {
			t.Fatal("hash is not the SHA-256 of the text")
		}
		id, secret, ok := strings.Cut(strings.TrimPrefix(key, "rc_"), "_")
		if !ok || len(id) != 10 || len(secret) != 52+7 || !strings.HasPrefix(key, "rc_") {
			t.Fatalf("form of the key: %d and %d characters", len(id), len(secret))
		}
	}
}

func TestATypoInAKeyIsToldFromAnUnknownKey(t *testing.T) {
	t.Parallel()
	key := api.NewKey()
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCXYZ_-. "
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(3, len(key)-1).Draw(t, "at")
		other := alphabet[rapid.IntRange(0, len(alphabet)-1).Draw(t, "char")]
		wrong := key[:at] + string(other) + key[at+1:]
		if wrong == key {
			return
		}
		if _, err := api.HashKey(wrong); !errors.Is(err, api.ErrKeyForm) {
			t.Fatalf("character %d: %v", at, err)
		}
	})
	for _, wrong := range []string{key[:len(key)-1], key + "0", "rc_", "rc_" + strings.Repeat("0", 70)} {
		if _, err := api.HashKey(wrong); !errors.Is(err, api.ErrKeyForm) {
			t.Errorf("%d characters: %v", len(wrong), err)
		}
	}
}

func TestAnOperatorMayChooseAnyKeyOfTwentyPrintableCharacters(t *testing.T) {
	t.Parallel()
	for key, good := range map[string]bool{
		strings.Repeat("a", 19):          false,
		strings.Repeat("a", 20):          true,
		"correct-horse-battery-staple":   true,
		strings.Repeat("~", 256):         true,
		strings.Repeat("~", 257):         false,
		"twenty characters with spaces":  false,
		"ünïcödé-is-not-for-a-header":    false,
		"a-line\r\nX-Admin: true-------": false,
		"":                               false,
	} {
		_, err := api.HashKey(key)
		if good != (err == nil) || !good && !errors.Is(err, api.ErrKeyForm) {
			t.Errorf("%q: %v", key, err)
		}
		if err != nil && key != "" && strings.Contains(err.Error(), key) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
}
