package api

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// A key made by NewKey is rc_<id>_<secret><checksum>: 10 characters that name
// it, 52 for 256 random bits, and 7 for a CRC-32 of all before them, so that a
// typo is told apart from a key that was revoked. All in lower-case letters
// and digits without i, l, o and u.
const (
	keyPrefix   = "rc_"
	keyIDLen    = 10
	keySecret   = 52
	keyChecksum = 7
	keyLen      = len(keyPrefix) + keyIDLen + 1 + keySecret + keyChecksum

	minChosenKey = 20  // characters of a key that somebody made up
	maxKey       = 256 // characters of any
)

// ErrKeyForm: the text is not a key, whatever the store knows.
var ErrKeyForm = errors.New("not the form of a key")

func keyEncoding() *base32.Encoding {
	return base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)
}

// NewKey makes an API key from the system's randomness.
func NewKey() string {
	var random [keyIDLen + 32]byte
	_, _ = rand.Read(random[:]) // never fails: the program ends instead
	id := keyEncoding().EncodeToString(random[:keyIDLen])[:keyIDLen]
	text := keyPrefix + id + "_" + keyEncoding().EncodeToString(random[keyIDLen:])
	return text + checksum(text)
}

func checksum(text string) string {
	return keyEncoding().EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(text))))
}

// HashKey returns the SHA-256 by which the store knows a key. It refuses, with
// ErrKeyForm, a text that begins like a key of NewKey and is not one (a typo),
// and one that cannot be a key at all. A bootstrap key may be chosen by the
// operator: any 20 to 256 printable ASCII characters without a space.
func HashKey(text string) ([]byte, error) {
	switch {
	case strings.HasPrefix(text, keyPrefix):
		if len(text) != keyLen || keyID(text) == "" || checksum(text[:keyLen-keyChecksum]) != text[keyLen-keyChecksum:] {
			return nil, fmt.Errorf("%w: the checksum does not match: a character is wrong or missing", ErrKeyForm)
		}
	case len(text) < minChosenKey:
		return nil, fmt.Errorf("%w: want %d characters at least", ErrKeyForm, minChosenKey)
	case len(text) > maxKey:
		return nil, fmt.Errorf("%w: want %d characters at most", ErrKeyForm, maxKey)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, fmt.Errorf("%w: want printable ASCII without spaces", ErrKeyForm)
	}
	hash := sha256.Sum256([]byte(text))
	return hash[:], nil
}

// keyID is the part of a key that names it without telling it; empty for a key
// that somebody chose.
func keyID(text string) string {
	if len(text) < keyLen || !strings.HasPrefix(text, keyPrefix) || text[len(keyPrefix)+keyIDLen] != '_' {
		return ""
	}
	return text[len(keyPrefix) : len(keyPrefix)+keyIDLen]
}
