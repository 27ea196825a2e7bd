package dispatch

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

// The headers of Standard Webhooks 1.0, in the form net/http keeps them.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// Tolerance is how far a signature's timestamp may be from the receiver's
// clock, either way.
const Tolerance = 5 * time.Minute

// secretPrefix marks a signing secret, publicPrefix a public key; the rest is
// its bytes in base64.
const (
	secretPrefix = "whsec_"
	publicPrefix = "whpk_"
)

// decodeSecret returns the key of a signing secret, "whsec_" and base64.
// The error never shows the secret.
func decodeSecret(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, secretPrefix))
	if err != nil {
		return nil, errors.New("decode signing secret: want whsec_ and base64")
	}
	if len(key) == 0 {
		return nil, errors.New("decode signing secret: it is empty")
	}
	return key, nil
}

// signingKey is what one secret signs with, by the schemes of the subscription.
type signingKey struct {
	hmac    []byte             // v1; nil: not asked for
	ed25519 ed25519.PrivateKey // v1a; nil: not asked for
}

// newSigningKey prepares a secret for the schemes, "v1" and "v1a".
func newSigningKey(secret string, schemes []string) (signingKey, error) {
	var key signingKey
	raw, err := decodeSecret(secret)
	if err != nil {
		return key, err
	}
	for _, scheme := range schemes {
		switch scheme {
		case subscriptions.SignHMAC:
			key.hmac = raw
		case subscriptions.SignEd25519:
			if key.ed25519, err = subscriptions.Ed25519Key(raw); err != nil {
				return key, err
			}
		default:
			return key, fmt.Errorf("signing %q is not supported", scheme)
		}
	}
	return key, nil
}

// signer makes Standard Webhooks signatures with the secrets of a subscription.
// Not safe for concurrent use: a MAC is state.
type signer struct {
	keys []signingKey
	macs []hash.Hash // by key; nil where v1 is not asked for
	sum  [sha256.Size]byte
}

func newSigner(keys []signingKey) signer {
	macs := make([]hash.Hash, len(keys))
	for i, key := range keys {
		if key.hmac != nil {
			macs[i] = hmac.New(sha256.New, key.hmac)
		}
	}
	return signer{keys: keys, macs: macs}
}

// appendTo appends the value of webhook-signature for content, which is
// "<id>.<timestamp>.<body>", to dst: of each of the first n secrets, v1 and
// v1a as asked for, by spaces.
func (s *signer) appendTo(dst, content []byte, n int) []byte {
	start := len(dst)
	for i, mac := range s.macs[:n] {
		if mac != nil {
			if len(dst) > start {
				dst = append(dst, ' ')
			}
			mac.Reset()
			mac.Write(content)
			dst = append(dst, "v1,"...)
			dst = base64.StdEncoding.AppendEncode(dst, mac.Sum(s.sum[:0]))
		}
		if private := s.keys[i].ed25519; private != nil {
			if len(dst) > start {
				dst = append(dst, ' ')
			}
			dst = append(dst, "v1a,"...)
			dst = base64.StdEncoding.AppendEncode(dst, ed25519.Sign(private, content))
		}
	}
	return dst
}

// Errors of Verify.
var (
	ErrSignatureMissing  = errors.New("verify signature: a webhook- header is missing or malformed")
	ErrSignatureTime     = errors.New("verify signature: the timestamp is more than 5 minutes away")
	ErrSignatureMismatch = errors.New("verify signature: none matches")
)

// Verify is what a receiver does with a delivery: it returns nil if one of the
// signatures in the header was made of body and the timestamp is within
// Tolerance of now. The secret is a signing secret ("whsec_" and base64), for
// v1, or a public key ("whpk_" and base64), for v1a. Signatures are compared in
// constant time.
func Verify(secret string, header http.Header, body []byte, now time.Time) error {
	scheme, matches, err := verifier(secret)
	if err != nil {
		return err
	}
	id, timestamp := header.Get(headerID), header.Get(headerTimestamp)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || id == "" || header.Get(headerSignature) == "" {
		return ErrSignatureMissing
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > Tolerance || age < -Tolerance {
		return fmt.Errorf("%w (%s)", ErrSignatureTime, age.Round(time.Second))
	}
	content := slices.Concat([]byte(id+"."+timestamp+"."), body)
	found := false
	for part := range strings.FieldsSeq(header.Get(headerSignature)) {
		version, encoded, _ := strings.Cut(part, ",")
		if version != scheme {
			continue
		}
		got, err := base64.StdEncoding.DecodeString(encoded)
		if err == nil && matches(content, got) {
			found = true
		}
	}
	if !found {
		return ErrSignatureMismatch
	}
	return nil
}

// verifier returns the scheme that a secret or public key is for, and what
// tells whether a signature is of some content.
func verifier(secret string) (scheme string, matches func(content, signature []byte) bool, err error) {
	if strings.HasPrefix(secret, publicPrefix) {
		public, err := subscriptions.ParsePublicKey(secret)
		if err != nil {
			return "", nil, err
		}
		return subscriptions.SignEd25519, func(content, signature []byte) bool {
			return ed25519.Verify(public, content, signature)
		}, nil
	}
	key, err := decodeSecret(secret)
	if err != nil {
		return "", nil, err
	}
	return subscriptions.SignHMAC, func(content, signature []byte) bool {
		mac := hmac.New(sha256.New, key)
		mac.Write(content)
		return hmac.Equal(signature, mac.Sum(nil))
	}, nil
}
