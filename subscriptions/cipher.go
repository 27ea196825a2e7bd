package subscriptions

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	masterKeyPrefix = "rck_"
	masterKeyBytes  = 32

	// Changing an info string makes everything sealed before unreadable.
	infoSeal  = "rowcall secrets at rest, version 1"
	infoKeyID = "rowcall master key id"

	sealVersion = 1
	keyIDBytes  = 4
)

// NewMasterKey makes a master key as `rowcall keygen` prints it: "rck_" and 32
// random bytes in base64url without padding.
func NewMasterKey() string {
	var key [masterKeyBytes]byte
	_, _ = rand.Read(key[:]) // never fails: the runtime ends the process instead
	return masterKeyPrefix + base64.RawURLEncoding.EncodeToString(key[:])
}

// Cipher encrypts what must rest encrypted in the store. It is safe for
// concurrent use.
//
// A sealed value is one byte of version, four bytes that name the master key,
// a random nonce of 12 bytes, and the AES-256-GCM text with its tag. The name
// of the key is derived from it one way; it lets a later version hold several
// keys and lets this one say that a key is the wrong one rather than that a
// value is damaged.
type Cipher struct {
	aead   cipher.AEAD
	header []byte // version and key id
}

// NewCipher makes a Cipher of a master key as `rowcall keygen` prints it. White
// space around it is ignored, since files end in newlines. Its errors never
// hold the key.
func NewCipher(masterKey string) (*Cipher, error) {
	master, err := parseMasterKey(strings.TrimSpace(masterKey))
	if err != nil {
		return nil, fmt.Errorf("read ROWCALL_SECRET_KEY: %w; `rowcall keygen` prints a fresh key", err)
	}
	key, err := hkdf.Key(sha256.New, master, nil, infoSeal, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	id, err := hkdf.Key(sha256.New, master, nil, infoKeyID, keyIDBytes)
	if err != nil {
		return nil, fmt.Errorf("derive key id: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make block cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return &Cipher{aead: aead, header: append([]byte{sealVersion}, id...)}, nil
}

func parseMasterKey(text string) ([]byte, error) {
	if text == "" {
		return nil, errors.New("it is empty")
	}
	rest, ok := strings.CutPrefix(text, masterKeyPrefix)
	if !ok {
		return nil, errors.New("it must start with " + masterKeyPrefix)
	}
	// The length is checked on the text too: the decoder skips line breaks.
	if want := base64.RawURLEncoding.EncodedLen(masterKeyBytes); len(rest) != want {
		return nil, fmt.Errorf("it has %d characters after %s, it must have %d", len(rest), masterKeyPrefix, want)
	}
	master, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || len(master) != masterKeyBytes {
		return nil, errors.New("what follows " + masterKeyPrefix + " must be base64url of 32 bytes")
	}
	return master, nil
}

// Seal encrypts plain for one place in the store, which place names
// ("subscriptions/sub_…/secrets"): a sealed value moved elsewhere does not open.
// Sealing the same text twice gives different bytes.
func (c *Cipher) Seal(plain []byte, place string) []byte {
	sealed := make([]byte, len(c.header), len(c.header)+len(plain)+c.aead.Overhead())
	copy(sealed, c.header)
	return c.aead.Seal(sealed, nil, plain, c.bind(place))
}

// Open reverses Seal. It fails when the value was sealed with another master
// key or for another place, or was changed since.
func (c *Cipher) Open(sealed []byte, place string) ([]byte, error) {
	if len(sealed) < len(c.header) {
		return nil, fmt.Errorf("open %s: sealed value is cut short", place)
	}
	header, rest := sealed[:len(c.header)], sealed[len(c.header):]
	if header[0] != sealVersion {
		return nil, fmt.Errorf("open %s: sealed by another version of rowcall (form %d)", place, header[0])
	}
	if !bytes.Equal(header, c.header) {
		return nil, fmt.Errorf("open %s: sealed with another master key; set ROWCALL_SECRET_KEY to the key the store was written with", place)
	}
	plain, err := c.aead.Open(nil, nil, rest, c.bind(place))
	if err != nil {
		return nil, fmt.Errorf("open %s: sealed value was changed or belongs elsewhere", place)
	}
	return plain, nil
}

// bind is the additional data: the header too, so that neither can be swapped.
func (c *Cipher) bind(place string) []byte { return slices.Concat(c.header, []byte(place)) }
