package subscriptions_test

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/subscriptions"
)

func TestSecretNeverShowsItself(t *testing.T) {
	t.Parallel()
	secret := subscriptions.NewSecret(canary)
	hidden := struct{ inner subscriptions.Secret }{secret}
	list := []subscriptions.Secret{secret}
	auth := subscriptions.Auth{Type: "bearer", Token: secret}
	for _, value := range []any{secret, &secret, hidden, &hidden, list, auth, &auth, map[string]any{"k": secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%q", "%s", "%d", "%x", "%X", "%t", "%T %v"} {
			format, args := verb, []any{value}
			if verb == "%T %v" {
				args = []any{value, value}
			}
			out := fmt.Sprintf(format, args...)
			if strings.Contains(out, canary) || strings.Contains(strings.ToLower(out), fmt.Sprintf("%x", canary)) {
				t.Errorf("%s of %T shows the secret: %s", verb, value, out)
			}
		}
		if stringer, ok := value.(interface{ GoString() string }); ok && strings.Contains(stringer.GoString(), canary) {
			t.Errorf("GoString of %T shows the secret", value)
		}
		if marshaler, ok := value.(encoding.TextMarshaler); ok {
			if b, err := marshaler.MarshalText(); err != nil || bytes.Contains(b, []byte(canary)) {
				t.Errorf("text of %T shows the secret: %s, %v", value, b, err)
			}
		}
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(canary)) {
			t.Errorf("JSON of %T shows the secret: %s", value, b)
		}
		var log bytes.Buffer
		logger := zerolog.New(&log)
		logger.Info().Interface("a", value).Any("b", value).Stringer("c", secret).Msgf("%v", value)
		if strings.Contains(log.String(), canary) || log.Len() == 0 {
			t.Errorf("log of %T shows the secret: %s", value, log.String())
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%q", "%s", "%d", "%x", "%10.3v"} {
		if out := fmt.Sprintf(verb, secret); out != "[redacted]" {
			t.Errorf("%s prints %s", verb, out)
		}
	}
	if secret.Reveal() != canary {
		t.Errorf("Reveal() = %q", secret.Reveal())
	}
}

func TestSecretReadsFromJSONWithoutEchoingFaults(t *testing.T) {
	t.Parallel()
	var secret subscriptions.Secret
	if err := json.Unmarshal([]byte(`"pa\"ss"`), &secret); err != nil || secret.Reveal() != `pa"ss` {
		t.Errorf("got %q, %v", secret.Reveal(), err)
	}
	for _, text := range []string{`4711123`, `{"canary":4711123}`, `["4711123"]`} {
		if err := json.Unmarshal([]byte(text), &secret); err == nil || strings.Contains(err.Error(), "4711123") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestSecretsCompareByText(t *testing.T) {
	t.Parallel()
	a, b := subscriptions.NewSecret("a"), subscriptions.NewSecret("a")
	if !a.Equal(b) || a.Equal(subscriptions.NewSecret("b")) || a.Equal(subscriptions.Secret{}) {
		t.Error("Equal does not compare texts")
	}
	if !subscriptions.NewSecret("").IsZero() || a.IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestSigningSecretsAreStandardWebhooksSecrets(t *testing.T) {
	t.Parallel()
	first, second := subscriptions.NewSigningSecret(), subscriptions.NewSigningSecret()
	if first.Equal(second) {
		t.Fatal("two secrets are the same")
	}
	text, ok := strings.CutPrefix(first.Reveal(), "whsec_")
	want, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(want) != 32 {
		t.Fatalf("not whsec_ and base64 of 32 bytes: %v, %v, %d", ok, err, len(want))
	}
	key, err := subscriptions.SigningKey(first)
	if err != nil || !bytes.Equal(key, want) {
		t.Errorf("SigningKey = %x, %v; want %x", key, err, want)
	}
}

func TestSigningKeyRefusesWhatIsNoSecretWithoutEchoingIt(t *testing.T) {
	t.Parallel()
	long := base64.StdEncoding.EncodeToString(make([]byte, 65))
	for _, text := range []string{"", "whsec_", "canary", "whsec_canary!", "whsec_Y2FuYXJ5", "whsec_" + long} {
		key, err := subscriptions.SigningKey(subscriptions.NewSecret(text))
		if err == nil {
			t.Errorf("%q gives %x", text, key)
			continue
		}
		if rest := strings.TrimPrefix(text, "whsec_"); rest != "" && strings.Contains(err.Error(), rest) {
			t.Errorf("error echoes the secret: %v", err)
		}
	}
}
