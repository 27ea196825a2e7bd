package subscriptions

import "encoding/json"

// Secret is a string that never prints itself: every form of output says
// [redacted]. Reveal gives the text.
type Secret struct{ text string }

// NewSecret wraps a text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text. Call it only where the secret is used.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.text == "" }

func (s Secret) String() string { return "[redacted]" }

// GoString keeps %#v from showing the text.
func (s Secret) GoString() string { return "[redacted]" }

// MarshalJSON never shows the text.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// UnmarshalJSON reads the text of a write-only member.
func (s *Secret) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &s.text) }

// Cipher encrypts what must rest encrypted in the store.
type Cipher struct{}

// NewCipher makes a Cipher of a master key as `rowcall keygen` prints it.
func NewCipher(masterKey string) (*Cipher, error) { panic("unwritten") }

// Seal encrypts plain for one place in the store, which place names
// ("subscriptions/sub_…/secrets"): a sealed value moved elsewhere does not open.
func (c *Cipher) Seal(plain []byte, place string) []byte { panic("unwritten") }

// Open reverses Seal.
func (c *Cipher) Open(sealed []byte, place string) ([]byte, error) { panic("unwritten") }
