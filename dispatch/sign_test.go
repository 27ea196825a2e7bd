package dispatch_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/subscriptions"
)

const otherSecret = "whsec_b3RoZXJzZWNyZXRvdGhlcnNlY3JldG90aGVyc2VjcmV0MTI="

func TestEverySecretSignsAndTheReferenceLibraryAccepts(t *testing.T) {
	t.Parallel()
	receiver := hooktest.Start(t, hooktest.Config{})
	sub := testSubscription(receiver.URL())
	sub.Secrets = append(sub.Secrets, subscriptions.NewSecret(otherSecret))
	sender, target := newSender(t), newTarget(t, sub)
	for try := range 3 { // the second and third use buffers of the first
		if reply := sender.Try(t.Context(), target, testEvent(), try+1); reply.Err != nil {
			t.Fatal(reply.Err)
		}
	}
	for _, d := range receiver.Deliveries() {
		if n := len(strings.Fields(d.Header.Get("webhook-signature"))); n != 2 {
			t.Fatalf("%d signatures, want one a secret", n)
		}
		for _, secret := range []string{testSecret, otherSecret} {
			reference, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			if err := reference.Verify(d.Body, d.Header); err != nil {
				t.Errorf("reference library: %v", err)
			}
			if err := dispatch.Verify(secret, d.Header, d.Body, time.Now()); err != nil {
				t.Errorf("Verify: %v", err)
			}
		}
	}
}

func TestVerifyAcceptsWhatTheReferenceLibrarySigned(t *testing.T) {
	t.Parallel()
	reference, err := standardwebhooks.NewWebhook(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[a-zA-Z0-9_-]{1,40}`).Draw(t, "id")
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		now := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "now"), 0)
		signature, err := reference.Sign(id, now, body)
		if err != nil {
			t.Fatal(err)
		}
		header := signatureHeader(id, now, signature)
		if err := dispatch.Verify(testSecret, header, body, now); err != nil {
			t.Fatal(err)
		}
	})
}

func signatureHeader(id string, at time.Time, signature string) http.Header {
	return http.Header{
		"Webhook-Id":        {id},
		"Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)},
		"Webhook-Signature": {signature},
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	reference, err := standardwebhooks.NewWebhook(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1795176000, 0)
	body := []byte(`{"a":1}`)
	good, err := reference.Sign("msg", now, body)
	if err != nil {
		t.Fatal(err)
	}
	bare := strings.TrimPrefix(good, "v1,")
	raw, err := base64.StdEncoding.DecodeString(bare)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		secret string
		header http.Header
		body   string
		at     time.Time
		want   error
	}{
		"another body":           {testSecret, signatureHeader("msg", now, good), `{"a":2}`, now, dispatch.ErrSignatureMismatch},
		"another id":             {testSecret, signatureHeader("msh", now, good), string(body), now, dispatch.ErrSignatureMismatch},
		"another timestamp":      {testSecret, signatureHeader("msg", now.Add(time.Second), good), string(body), now, dispatch.ErrSignatureMismatch},
		"another secret":         {otherSecret, signatureHeader("msg", now, good), string(body), now, dispatch.ErrSignatureMismatch},
		"id and body shifted":    {testSecret, signatureHeader("ms", now, good), "g" + string(body), now, dispatch.ErrSignatureMismatch},
		"no version":             {testSecret, signatureHeader("msg", now, bare), string(body), now, dispatch.ErrSignatureMismatch},
		"version v1a":            {testSecret, signatureHeader("msg", now, "v1a,"+bare), string(body), now, dispatch.ErrSignatureMismatch},
		"half a signature":       {testSecret, signatureHeader("msg", now, "v1,"+base64.StdEncoding.EncodeToString(raw[:16])), string(body), now, dispatch.ErrSignatureMismatch},
		"an empty signature":     {testSecret, signatureHeader("msg", now, "v1,"), string(body), now, dispatch.ErrSignatureMismatch},
		"5 minutes and a second": {testSecret, signatureHeader("msg", now, good), string(body), now.Add(5*time.Minute + time.Second), dispatch.ErrSignatureTime},
		"a time from the future": {testSecret, signatureHeader("msg", now, good), string(body), now.Add(-5*time.Minute - time.Second), dispatch.ErrSignatureTime},
		"no id":                  {testSecret, signatureHeader("", now, good), string(body), now, dispatch.ErrSignatureMissing},
		"no signature":           {testSecret, signatureHeader("msg", now, ""), string(body), now, dispatch.ErrSignatureMissing},
		"a timestamp in words":   {testSecret, http.Header{"Webhook-Id": {"msg"}, "Webhook-Timestamp": {"now"}, "Webhook-Signature": {good}}, string(body), now, dispatch.ErrSignatureMissing},
		"no headers":             {testSecret, http.Header{}, string(body), now, dispatch.ErrSignatureMissing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := dispatch.Verify(c.secret, c.header, []byte(c.body), c.at); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	t.Run("every flipped bit of the signature", func(t *testing.T) {
		t.Parallel()
		for bit := range len(raw) * 8 {
			flipped := append([]byte(nil), raw...)
			flipped[bit/8] ^= 1 << (bit % 8)
			header := signatureHeader("msg", now, "v1,"+base64.StdEncoding.EncodeToString(flipped))
			if err := dispatch.Verify(testSecret, header, body, now); err == nil {
				t.Fatalf("bit %d", bit)
			}
		}
	})
	t.Run("but accepts a good one among others, at the edge of the tolerance", func(t *testing.T) {
		t.Parallel()
		header := signatureHeader("msg", now, "v1a,xyz v1,AAAA "+good)
		if err := dispatch.Verify(testSecret, header, body, now.Add(5*time.Minute)); err != nil {
			t.Error(err)
		}
	})
}

func TestNewTargetRefusesASecretThatDoesNotDecodeWithoutShowingIt(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"whsec_not base64!", "", "whsec_", "abc"} {
		sub := testSubscription("https://example.com/")
		sub.Secrets = []subscriptions.Secret{subscriptions.NewSecret(secret)}
		_, err := dispatch.NewTarget(sub)
		if err == nil {
			t.Errorf("secret %q accepted", secret)
		} else if secret != "" && secret != "whsec_" && strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}
