package subscriptions_test

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

func texts(secrets []subscriptions.Secret) string {
	var all []string
	for _, s := range secrets {
		all = append(all, s.Reveal())
	}
	return strings.Join(all, " ")
}

func TestARotatedSecretSignsOnUntilItsOverlapEnds(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	first := subscriptions.NewSigningSecret()
	sub := subscriptions.Subscription{Secrets: []subscriptions.Secret{first}}
	if err := sub.Rotate(now, subscriptions.DefaultOverlap); err != nil {
		t.Fatal(err)
	}
	second := sub.Secrets[0]
	if len(sub.Secrets) != 2 || second.Equal(first) || !sub.Secrets[1].Equal(first) || !sub.PreviousEnds.Equal(now.Add(24*time.Hour)) {
		t.Fatalf("%d secrets, the last ends at %v", len(sub.Secrets), sub.PreviousEnds)
	}
	if _, err := subscriptions.SigningKey(second); err != nil {
		t.Error(err)
	}

	// A third would be too many, and nothing has changed.
	before := texts(sub.Secrets)
	if err := sub.Rotate(now.Add(24*time.Hour-time.Microsecond), 1); !errors.Is(err, subscriptions.ErrOverlap) || texts(sub.Secrets) != before {
		t.Errorf("rotated within the overlap: %v", err)
	}
	sub.EndSecrets(now.Add(24*time.Hour - time.Microsecond))
	if texts(sub.Secrets) != before {
		t.Error("a secret ended before its time")
	}
	sub.EndSecrets(now.Add(24 * time.Hour))
	if texts(sub.Secrets) != second.Reveal() || !sub.PreviousEnds.IsZero() {
		t.Error("the secret before did not end")
	}
	if err := sub.Rotate(now.Add(25*time.Hour), subscriptions.MaxOverlap); err != nil || len(sub.Secrets) != 2 {
		t.Errorf("%d secrets after the next rotation: %v", len(sub.Secrets), err)
	}
}

func TestARotationWithoutOverlapEndsEverySecretAtOnce(t *testing.T) {
	t.Parallel()
	now := time.Now()
	sub := subscriptions.Subscription{Secrets: []subscriptions.Secret{subscriptions.NewSigningSecret()}}
	if err := sub.Rotate(now, 1000); err != nil {
		t.Fatal(err)
	}
	before := texts(sub.Secrets)
	if err := sub.Rotate(now, 0); err != nil {
		t.Fatal(err)
	}
	if len(sub.Secrets) != 1 || strings.Contains(before, sub.Secrets[0].Reveal()) || !sub.PreviousEnds.IsZero() {
		t.Errorf("%d secrets, the last ends at %v", len(sub.Secrets), sub.PreviousEnds)
	}
	// Of a subscription whose secrets were lost, too.
	lost := subscriptions.Subscription{}
	if err := lost.Rotate(now, subscriptions.DefaultOverlap); err != nil || len(lost.Secrets) != 1 || !lost.PreviousEnds.IsZero() {
		t.Errorf("%d secrets: %v", len(lost.Secrets), err)
	}
}

// The key of a secret must never change: receivers hold the public one. This
// pair was made by HKDF-SHA256 (RFC 5869) and ed25519 (RFC 8032) of another
// implementation.
func TestThePublicKeyOfASecretIsFixed(t *testing.T) {
	t.Parallel()
	got, err := subscriptions.PublicKey(subscriptions.NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="))
	if want := "whpk_AVfjp1YMhkHE15Wr8aXDD09LcINAlGQZuOxXSqvslxk="; err != nil || got != want {
		t.Errorf("public key %s, %v; want %s", got, err, want)
	}
	parsed, err := subscriptions.ParsePublicKey(got)
	if err != nil || len(parsed) != ed25519.PublicKeySize {
		t.Errorf("read back: %v", err)
	}
	for _, bad := range []string{"", "whpk_", "whpk_AAAA", "whsec_" + got[5:], got[5:], got + "=", strings.ToUpper(got)} {
		if _, err := subscriptions.ParsePublicKey(bad); err == nil {
			t.Errorf("%q is taken for a public key", bad)
		}
	}
	if _, err := subscriptions.PublicKey(subscriptions.NewSecret("whsec_" + canary)); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("error %v", err)
	}
}
