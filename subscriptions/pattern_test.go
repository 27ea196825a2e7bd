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
		"public.Weird%2EName.inserted", "public.%2A.inserted", "public.a%25b.*", "public.größe.*", "a_b.c-d.$e", "public.a%20b.*",
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
		"public.Weird Name.*":    "must have %20 in the place of ' '",
		"a/b":                    "must have %2F in the place of '/'",
		"a\nb":                   "must have %0A",
		"a%":                     "ends within a percent-encoding",
		"a%2":                    "ends within a percent-encoding",
		"a%2.b":                  "upper-case hex digits",
		"a%2e":                   "upper-case hex digits",
		"a%zz":                   "upper-case hex digits",
		"a%41":                   "has %41 where the character itself must stand",
		"a%5F":                   "has %5F where the character itself must stand",
		"a%C3%9F":                "has %C3 where the character itself must stand",
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
		name := rapid.StringN(1, 20, 80).Draw(t, "name")
		other := rapid.StringN(1, 20, 80).Draw(t, "other")
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
