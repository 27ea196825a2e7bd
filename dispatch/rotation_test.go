package dispatch_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/subscriptions"
)

func publicKey(t *testing.T, secret string) string {
	t.Helper()
	key, err := subscriptions.PublicKey(subscriptions.NewSecret(secret))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestEachSecretMakesTheSignaturesThatAreAskedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signing  []string
		versions string
	}{
		"v1":   {[]string{"v1"}, "v1 v1"},
		"v1a":  {[]string{"v1a"}, "v1a v1a"},
		"both": {[]string{"v1a", "v1"}, "v1 v1a v1 v1a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receiver, address := startEndpoint(t)
			sub := testSubscription(address)
			sub.Signing = c.signing
			sub.Secrets = append(sub.Secrets, subscriptions.NewSecret(otherSecret))
			delivered(t, newSender(t), newTarget(t, sub), testEvent(), testEvent())
			for _, got := range receiver.all() {
				var versions []string
				for i, part := range strings.Fields(got.header.Get("Webhook-Signature")) {
					version, text, _ := strings.Cut(part, ",")
					versions = append(versions, version)
					if version != "v1a" {
						continue
					}
					secret := []string{testSecret, otherSecret}[i*2/len(strings.Fields(got.header.Get("Webhook-Signature")))]
					raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(publicKey(t, secret), "whpk_"))
					if err != nil {
						t.Fatal(err)
					}
					signature, err := base64.StdEncoding.DecodeString(text)
					content := got.header.Get("Webhook-Id") + "." + got.header.Get("Webhook-Timestamp") + "." + got.body
					if err != nil || !ed25519.Verify(raw, []byte(content), signature) {
						t.Errorf("signature %d is not of the content, with the key of its secret: %v", i, err)
					}
				}
				if strings.Join(versions, " ") != c.versions {
					t.Errorf("signatures %q, want %q", versions, c.versions)
				}
				for _, secret := range []string{testSecret, otherSecret} {
					reference, err := standardwebhooks.NewWebhook(secret)
					if err != nil {
						t.Fatal(err)
					}
					if err := reference.Verify([]byte(got.body), got.header); (err == nil) != strings.Contains(c.versions+" ", "v1 ") {
						t.Errorf("reference library: %v", err)
					}
					err = dispatch.Verify(publicKey(t, secret), got.header, []byte(got.body), time.Now())
					if (err == nil) != strings.Contains(c.versions, "v1a") {
						t.Errorf("Verify with the public key: %v", err)
					}
					if dispatch.Verify(publicKey(t, secret), got.header, []byte(got.body+" "), time.Now()) == nil {
						t.Error("another body is taken")
					}
				}
			}
		})
	}
}

func TestAPublicKeyThatIsNoneIsAnError(t *testing.T) {
	t.Parallel()
	if err := dispatch.Verify("whpk_AAAA", http.Header{}, nil, time.Now()); err == nil || strings.Contains(err.Error(), "AAAA") {
		t.Errorf("error %v", err)
	}
}

func TestASecretStopsSigningWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var header http.Header
		sender := dispatch.NewSender(roundTripper(func(req *http.Request) (*http.Response, error) {
			header = req.Header.Clone()
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		}), "test")
		sub := testSubscription("https://example.com/")
		sub.Secrets = append(sub.Secrets, subscriptions.NewSecret(otherSecret))
		sub.PreviousEnds = time.Now().Add(24 * time.Hour)
		target := newTarget(t, sub) // one for all: no restart is needed
		body := dispatch.AppendCloudEvent(nil, testEvent())
		for _, c := range []struct {
			wait time.Duration
			old  bool
		}{{0, true}, {24*time.Hour - 1, true}, {1, false}, {time.Hour, false}} {
			time.Sleep(c.wait)
			delivered(t, sender, target, testEvent())
			if err := dispatch.Verify(testSecret, header, body, time.Now()); err != nil {
				t.Error(err)
			}
			if err := dispatch.Verify(otherSecret, header, body, time.Now()); (err == nil) != c.old {
				t.Errorf("after %v more: the secret before: %v", c.wait, err)
			}
		}
	})
}
