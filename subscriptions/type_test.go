package subscriptions_test

import (
	"strings"
	"testing"

	"github.com/rowcall/rowcall/subscriptions"
)

func TestATypeThatIsPublishedIsAPatternWithoutWildcards(t *testing.T) {
	t.Parallel()
	for text, fault := range map[string]string{
		"user.signed_up":               "",
		"order":                        "",
		"com.example%2Fv2.Ünïcode":     "",
		strings.Repeat("a", 255):       "",
		"rowcalls.x":                   "",
		"":                             "empty",
		strings.Repeat("a", 256):       "255",
		"a..b":                         "empty segments",
		".a":                           "empty segments",
		"a.*":                          "%2A",
		"a.**":                         "%2A",
		"com.example/v2":               `"example%2Fv2"`,
		"a b":                          `"a%20b"`,
		"a.b%":                         "hex digits",
		"a\x00":                        "%00",
		"\xff":                         "UTF-8",
		"rowcall":                      "rowcall's own",
		"rowcall.subscription.parked":  "rowcall's own",
		"rowcall.a.very.new.type.of.x": "rowcall's own",
	} {
		err := subscriptions.CheckType(text)
		if (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
			t.Errorf("%q: %v, want %q", text, err, fault)
		}
		if err == nil && subscriptions.CheckPattern(text) != nil {
			t.Errorf("%q is no pattern: nobody could subscribe to it alone", text)
		}
	}
}
