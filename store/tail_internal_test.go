package store

import (
	"regexp"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/subscriptions"
)

func TestAPatternSelectsTheSameTypesInSQL(t *testing.T) {
	t.Parallel()
	types := strings.Fields(`a a.b a.b.c a.b.c.d x.b.c aXb a.b%2Ec.d rowcall.test rowcall.delivery.dead a.rowcall.b p.ünï.x`)
	for _, pattern := range strings.Fields(`** * *.* *.b.c a.* a.** a.b.c rowcall.** rowcall.* rowcall.delivery.dead a.b%2Ec.* *.rowcall.** p.ünï.*`) {
		text := patternRegexp(pattern)
		// Go has no look-ahead.
		notices := !strings.Contains(text, `(?!rowcall\.)`)
		form := regexp.MustCompile(strings.Replace(text, `(?!rowcall\.)`, "", 1))
		set := subscriptions.NewSet([][]string{{pattern}})
		for _, typ := range types {
			got := form.MatchString(typ) && (notices || !strings.HasPrefix(typ, "rowcall."))
			if want := len(set.Match(typ)) > 0; got != want {
				t.Errorf("%s on %s: %t, want %t", pattern, typ, got, want)
			}
		}
	}
}
