package subscriptions

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const redacted = "[redacted]"

// signingPrefix marks a symmetric signing secret in Standard Webhooks 1.0.
const signingPrefix = "whsec_"

// Secret is a string that never prints itself: every form of output says
// [redacted]. Reveal gives the text. The zero value holds no text. Secrets
// cannot be compared with ==; use Equal.
type Secret struct {
	_ [0]func()

	// A pointer, because fmt calls no methods on the unexported fields of
	// others: a Secret inside them prints as an address, not as its text.
	text *string
}

// NewSecret wraps a text. An empty text gives the zero Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text. Call it only where the secret is used.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.text == nil }

// Equal compares the texts in time that depends on their lengths only.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

func (s Secret) String() string { return redacted }

// GoString keeps %#v from showing the text.
func (s Secret) GoString() string { return redacted }

// Format answers every verb, since those that do not fit a Stringer, such as
// %d, would print the fields.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText never shows the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText reads the text from a setting.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = NewSecret(string(b))
	return nil
}

// MarshalJSON never shows the text.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// UnmarshalJSON reads the text of a write-only member. Its error never holds
// what was read.
func (s *Secret) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return errors.New("secret must be a JSON string")
	}
	*s = NewSecret(text)
	return nil
}

// NewSigningSecret makes a fresh signing secret in the form of Standard
// Webhooks 1.0: "whsec_" and the base64 of 32 random bytes.
func NewSigningSecret() Secret {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails: the runtime ends the process instead
	return NewSecret(signingPrefix + base64.StdEncoding.EncodeToString(key[:]))
}

// SigningKey returns the HMAC key that a signing secret stands for. It takes
// keys of 24 to 64 bytes, the bounds of Standard Webhooks 1.0. Its error never
// holds the secret.
func SigningKey(s Secret) ([]byte, error) {
	text, ok := strings.CutPrefix(s.Reveal(), signingPrefix)
	if !ok {
		return nil, errors.New("decode signing secret: it must start with " + signingPrefix)
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("decode signing secret: what follows " + signingPrefix + " must be base64 with padding")
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("decode signing secret: the key has %d bytes, it must have 24 to 64", len(key))
	}
	return key, nil
}
