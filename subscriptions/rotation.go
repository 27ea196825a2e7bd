package subscriptions

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// Bounds of the time for which a rotated secret goes on signing beside the new
// one.
const (
	DefaultOverlap = Duration(day)
	MaxOverlap     = Duration(30 * day)
)

// ErrOverlap says that a secret cannot be rotated yet: three would sign.
var ErrOverlap = errors.New("rotate secret: the one before the last rotation is still active")

// Rotate makes a fresh signing secret the newest. The one before it goes on
// signing for overlap, from 0 to MaxOverlap; with 0 every other ends at once.
//
// At most two are active. While one from the rotation before still is, an
// overlap is refused with ErrOverlap: to end a secret that was promised more
// time would cut off the receivers that count on it.
func (s *Subscription) Rotate(now time.Time, overlap Duration) error {
	s.EndSecrets(now)
	if overlap > 0 && len(s.Secrets) > 1 {
		return ErrOverlap
	}
	s.PreviousEnds = time.Time{}
	secrets := []Secret{NewSigningSecret()}
	if overlap > 0 && len(s.Secrets) > 0 {
		secrets = append(secrets, s.Secrets[0])
		s.PreviousEnds = now.Add(overlap.D()).UTC().Truncate(time.Microsecond) // as it is stored
	}
	s.Secrets = secrets
	return nil
}

// UseSecret makes a secret that is given the newest; it changes nothing where that
// is so. The one before it goes on signing for overlap, from 0 to MaxOverlap, and
// any other ends at once: what is given is what receivers were told of.
func (s *Subscription) UseSecret(secret Secret, now time.Time, overlap Duration) {
	s.EndSecrets(now)
	if len(s.Secrets) > 0 && s.Secrets[0].Equal(secret) {
		return
	}
	s.PreviousEnds = time.Time{}
	secrets := []Secret{secret}
	if overlap > 0 && len(s.Secrets) > 0 {
		secrets = append(secrets, s.Secrets[0])
		s.PreviousEnds = now.Add(overlap.D()).UTC().Truncate(time.Microsecond) // as it is stored
	}
	s.Secrets = secrets
}

// EndSecrets drops the secrets whose time is over.
func (s *Subscription) EndSecrets(now time.Time) {
	if s.PreviousEnds.IsZero() || now.Before(s.PreviousEnds) {
		return
	}
	s.Secrets = s.Secrets[:min(1, len(s.Secrets))]
	s.PreviousEnds = time.Time{}
}

// publicPrefix marks a public key in Standard Webhooks 1.0.
const publicPrefix = "whpk_"

// infoEd25519 separates the ed25519 key from every other use of a secret.
// Changing it changes every public key that receivers hold.
const infoEd25519 = "rowcall webhook signature v1a ed25519, version 1"

// Ed25519Key is the key for v1a signatures of a signing secret, whose bytes are
// key: HKDF-SHA256 of them is its seed. So the two are made, sealed, rotated and
// ended together. Whoever holds the secret can make both signatures, whoever
// holds the public key neither.
func Ed25519Key(key []byte) (ed25519.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, key, nil, infoEd25519, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive ed25519 key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// PublicKey is the text of the public key with which receivers verify v1a
// signatures of a signing secret: "whpk_" and base64. Its error never holds the
// secret.
func PublicKey(s Secret) (string, error) {
	key, err := SigningKey(s)
	if err != nil {
		return "", err
	}
	private, err := Ed25519Key(key)
	if err != nil {
		return "", err
	}
	public, _ := private.Public().(ed25519.PublicKey)
	return publicPrefix + base64.StdEncoding.EncodeToString(public), nil
}

// ParsePublicKey reads what PublicKey writes.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	if len(text) < len(publicPrefix) || text[:len(publicPrefix)] != publicPrefix {
		return nil, errors.New("read public key: it must start with " + publicPrefix)
	}
	key, err := base64.StdEncoding.DecodeString(text[len(publicPrefix):])
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("read public key: what follows %s must be base64 of %d bytes", publicPrefix, ed25519.PublicKeySize)
	}
	return key, nil
}
