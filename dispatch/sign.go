package dispatch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"
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

// secretPrefix marks a signing secret; the rest is its bytes in base64.
const secretPrefix = "whsec_"

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

// signer makes Standard Webhooks v1 signatures with every secret of a
// subscription. Not safe for concurrent use: a MAC is state.
type signer struct {
	macs []hash.Hash
	sum  [sha256.Size]byte
}

func newSigner(keys [][]byte) signer {
	macs := make([]hash.Hash, len(keys))
	for i, key := range keys {
		macs[i] = hmac.New(sha256.New, key)
	}
	return signer{macs: macs}
}

// appendTo appends the value of webhook-signature for content, which is
// "<id>.<timestamp>.<body>", to dst: one signature a secret, by spaces.
func (s *signer) appendTo(dst, content []byte) []byte {
	for i, mac := range s.macs {
		if i > 0 {
			dst = append(dst, ' ')
		}
		mac.Reset()
		mac.Write(content)
		dst = append(dst, "v1,"...)
		dst = base64.StdEncoding.AppendEncode(dst, mac.Sum(s.sum[:0]))
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
// v1 signatures in the header was made of body with the secret ("whsec_" and
// base64) and the timestamp is within Tolerance of now. Signatures are compared
// in constant time.
func Verify(secret string, header http.Header, body []byte, now time.Time) error {
	key, err := decodeSecret(secret)
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
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	want := mac.Sum(nil)
	found := false
	for part := range strings.FieldsSeq(header.Get(headerSignature)) {
		version, encoded, _ := strings.Cut(part, ",")
		got, err := base64.StdEncoding.DecodeString(encoded)
		if version == "v1" && err == nil && hmac.Equal(got, want) {
			found = true
		}
	}
	if !found {
		return ErrSignatureMismatch
	}
	return nil
}
