package api

import (
	"strings"
	"testing"
)

func TestThePersonOfAListIsWhatItSeems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ name, subject, want string }{
		"as it is":                     {"Ada <ada@example.com>", "1", "Ada <ada@example.com>"},
		"control characters":           {"\x00a\r\nb\x7f", "1", "ab"},
		"turned around":                {"gro.elpmaxe\u202e@ada\u2066", "1", "gro.elpmaxe@ada"},
		"characters that are not seen": {"a\u200bd\ufeffa", "1", "ada"},
		"nothing that is seen":         {" \u202e ", "7\u202e2", "72"},
		"too long":                     {strings.Repeat("ä", 101), "1", strings.Repeat("ä", 100)},
	} {
		if got := personName(Person{Name: c.name, Subject: c.subject}); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
