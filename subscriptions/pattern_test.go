package subscriptions_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/subscriptions"
)

func TestPatternsOfTheContractAreTaken(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{
		"public.orders.updated", "public.*.deleted", "user.*", "user.**", "*", "**", "*.*.**", "rowcall.**", "rowcall.delivery.dead",
		"public.Weird%2EName.inserted", "public.%2A.inserted", "public.a%25b.*", "public.größe.*", "a_b.c-d.$e", "public.a%20b.*", "public.a%E4b.*",
		strings.Repeat("a", 255),
	} {
		if err := subscriptions.CheckPattern(pattern); err != nil {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

func TestPatternsThatCouldOnlyMisleadAreRefused(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"":                       "must not be empty",
		".":                      "empty segments",
		"a..b":                   "empty segments",
		".a":                     "empty segments",
		"a.":                     "empty segments",
		"**.a":                   `"**" only as its last segment`,
		"a.**.b":                 `"**" only as its last segment`,
		"ord*":                   `"*" only as a whole segment`,
		"a.***":                  `"*" only as a whole segment`,
		"public.Weird Name.*":    `must have "Weird Name" written "Weird%20Name"`,
		"a/b":                    `must have "a/b" written "a%2Fb"`,
		"a\nb":                   `must have "a\nb" written "a%0Ab"`,
		"a%":                     "two hex digits after each %",
		"a%2":                    "two hex digits after each %",
		"a%2.b":                  "two hex digits after each %",
		"a%2e":                   `must have "a%2e" written "a%2E"`,
		"a%zz":                   "the character itself is written %25",
		"a%41":                   `must have "a%41" written "aA"`,
		"a%5F":                   `must have "a%5F" written "a_"`,
		"a%C3%9F":                `must have "a%C3%9F" written "aß"`,
		"a\xff":                  "valid UTF-8",
		strings.Repeat("a", 256): "at most 255 bytes",
	} {
		if err := subscriptions.CheckPattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", pattern, err, want)
		}
	}
}

func TestNamesAreEncodedByByte(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"orders": "orders", "Weird.Name": "Weird%2EName", "a b": "a%20b", "50%": "50%25", "*": "%2A", "$a_b-c": "$a_b-c",
		"größe": "größe", "a\x00\x7f": "a%00%7F", "a/b,c=d": "a%2Fb%2Cc%3Dd", "": "", "é.é": "é%2Eé",
		"a\xe4b": "a%E4b", "\xc3": "%C3", "\ufffd": "\ufffd",
	} {
		if got := subscriptions.EncodeName(name); got != want {
			t.Errorf("EncodeName(%q) = %q, want %q", name, got, want)
		}
		if got := string(subscriptions.AppendName([]byte("x."), name)); got != "x."+want {
			t.Errorf("AppendName(%q) = %q, want %q", name, got, "x."+want)
		}
	}
}

func TestEveryEncodedNameIsAPatternForItself(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.OneOf(rapid.StringN(1, 20, 80), rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 20), func(b []byte) string { return string(b) }))
		name := names.Draw(t, "name")
		other := names.Draw(t, "other")
		encoded := subscriptions.EncodeName(name)
		if err := subscriptions.CheckPattern(encoded); err != nil {
			t.Fatalf("%q becomes %q: %v", name, encoded, err)
		}
		if (encoded == subscriptions.EncodeName(other)) != (name == other) {
			t.Fatalf("%q and %q share a form", name, other)
		}
		set := subscriptions.NewSet([][]string{{"public." + encoded + ".*"}})
		if len(set.Match("public."+encoded+".inserted")) != 1 {
			t.Fatalf("%q does not match itself", encoded)
		}
	})
}

func FuzzCheckPattern(f *testing.F) {
	for _, pattern := range []string{"a.*.**", "**", "a%2Eb", "a%", "rowcall.**", "größe.*"} {
		f.Add(pattern, "a.b.c")
	}
	f.Fuzz(func(t *testing.T, pattern, eventType string) {
		valid := subscriptions.CheckPattern(pattern) == nil
		set := subscriptions.NewSet([][]string{{pattern}})
		got := len(set.Match(eventType)) == 1
		if want := valid && naiveMatch(pattern, eventType); got != want {
			t.Errorf("pattern %q, valid %v, type %q: %v, want %v", pattern, valid, eventType, got, want)
		}
		// Without wildcards a valid pattern is a type, and takes that one.
		if valid && !strings.Contains(pattern, "*") && len(set.Match(pattern)) != 1 {
			t.Errorf("%q does not match itself", pattern)
		}
	})
}
