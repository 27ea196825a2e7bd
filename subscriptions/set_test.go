package subscriptions_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/subscriptions"
)

// naiveMatch is the rule written down with no thought of speed.
func naiveMatch(pattern, eventType string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(eventType, ".")
	if strings.HasPrefix(eventType, "rowcall.") && p[0] != "rowcall" {
		return false
	}
	for i, segment := range p {
		switch {
		case i >= len(s):
			return false
		case segment == "**":
			return true
		case segment != "*" && segment != s[i]:
			return false
		}
	}
	return len(p) == len(s)
}

func naiveSet(patterns [][]string, eventType string) []int {
	var numbers []int
	for i, list := range patterns {
		if slices.ContainsFunc(list, func(p string) bool { return naiveMatch(p, eventType) }) {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

func TestPatternsMatchAsTheContractSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, eventType string
		want               bool
	}{
		{"public.orders.updated", "public.orders.updated", true},
		{"public.orders.updated", "public.orders.inserted", false},
		{"public.orders.updated", "public.orders.updated.x", false},
		{"public.orders.updated", "public.orders", false},
		{"public.orders.updated", "Public.orders.updated", false},
		{"public.*.updated", "public.orders.updated", true},
		{"public.*.updated", "public.a.b.updated", false},
		{"*", "user", true},
		{"*", "user.created", false},
		{"user.*", "user", false},
		{"**", "user", true},
		{"**", "public.orders.updated", true},
		{"user.**", "user.a.b", true},
		{"user.**", "user", false},
		{"user.**", "users.a", false},
		{"*.*.**", "a.b", false},
		{"*.*.**", "a.b.c.d", true},
		{"public.Weird%2EName.*", "public.Weird%2EName.inserted", true},
		{"public.*.*.*", "public.Weird%2EName.inserted", false},
		// Notices go only where they are named.
		{"**", "rowcall.delivery.dead", false},
		{"*.**", "rowcall.delivery.dead", false},
		{"*.delivery.dead", "rowcall.delivery.dead", false},
		{"rowcall.**", "rowcall.delivery.dead", true},
		{"rowcall.*.dead", "rowcall.delivery.dead", true},
		{"rowcall.delivery.dead", "rowcall.delivery.dead", true},
		{"**", "rowcalls.x", true},
		{"**", "rowcall", true},
	} {
		set := subscriptions.NewSet([][]string{{c.pattern}})
		for _, run := range []string{"found", "cached"} {
			if got := len(set.Match(c.eventType)) == 1; got != c.want {
				t.Errorf("%s: %q takes %q: %v, want %v", run, c.pattern, c.eventType, got, c.want)
			}
		}
		if naiveMatch(c.pattern, c.eventType) != c.want {
			t.Errorf("the naive matcher is wrong about %q, %q", c.pattern, c.eventType)
		}
	}
}

func TestNumbersComeOnceAndRising(t *testing.T) {
	t.Parallel()
	set := subscriptions.NewSet([][]string{{"**", "a.*", "a.b", "a.b"}, {"c"}, {"a.b"}, nil, {"a.**", "*.b"}})
	for range 2 {
		if diff := cmp.Diff([]int{0, 2, 4}, set.Match("a.b")); diff != "" {
			t.Error(diff)
		}
	}
	if got := subscriptions.NewSet(nil).Match("a"); len(got) != 0 {
		t.Errorf("an empty set matches %v", got)
	}
}

func TestAnInvalidPatternMatchesNothingAndHarmsNoOther(t *testing.T) {
	t.Parallel()
	set := subscriptions.NewSet([][]string{{"", "a..b", "**.b", "a*"}, {"**"}})
	for _, eventType := range []string{"", "a..b", "**.b", "a*", "a.b"} {
		if diff := cmp.Diff([]int{1}, set.Match(eventType)); diff != "" {
			t.Errorf("%q: %s", eventType, diff)
		}
	}
}

func TestSetAgreesWithTheNaiveMatcher(t *testing.T) {
	t.Parallel()
	// Few names, so that patterns and types meet often.
	name := rapid.SampledFrom([]string{"a", "b", "c", "rowcall", "x%2Ey"})
	segment := rapid.OneOf(name, rapid.Just("*"))
	join := func(parts []string) string { return strings.Join(parts, ".") }
	pattern := rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(segment, 0, 4).Draw(t, "segments")
		if len(parts) == 0 || rapid.Bool().Draw(t, "open") {
			parts = append(parts, "**")
		}
		return join(parts)
	})
	eventType := rapid.Map(rapid.SliceOfN(rapid.OneOf(name, rapid.Just("")), 0, 6), join)
	rapid.Check(t, func(t *rapid.T) {
		patterns := rapid.SliceOfN(rapid.SliceOfN(pattern, 0, 5), 0, 12).Draw(t, "patterns")
		set := subscriptions.NewSet(patterns)
		for _, s := range rapid.SliceOfN(eventType, 1, 12).Draw(t, "types") {
			want := naiveSet(patterns, s)
			if got := set.Match(s); !slices.Equal(got, want) {
				t.Fatalf("Match(%q) = %v, want %v", s, got, want)
			}
			if got := set.Match(s); !slices.Equal(got, want) {
				t.Fatalf("Match(%q), asked again, = %v, want %v", s, got, want)
			}
		}
	})
}

func TestSetIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	patterns := manyPatterns(200)
	set := subscriptions.NewSet(patterns)
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 500 {
				s := fmt.Sprintf("public.table_%d.inserted", (i*7+worker)%300)
				if got, want := set.Match(s), naiveSet(patterns, s); !slices.Equal(got, want) {
					t.Errorf("Match(%q) = %v, want %v", s, got, want)
				}
			}
		})
	}
	group.Wait()
}

// manyPatterns are n subscriptions, each to a table of its own, every tenth
// with a wildcard too; a type matches one or two of them.
func manyPatterns(n int) [][]string {
	patterns := make([][]string, n)
	for i := range patterns {
		patterns[i] = []string{fmt.Sprintf("public.table_%d.inserted", i), fmt.Sprintf("public.table_%d.updated", i)}
		if i%10 == 0 {
			patterns[i] = append(patterns[i], fmt.Sprintf("tenant_%d.**", i))
		}
	}
	return patterns
}

func TestTenThousandSubscriptionsCompileInUnderASecond(t *testing.T) {
	t.Parallel()
	patterns := manyPatterns(10_000)
	var set *subscriptions.Set
	if took := subscriptions.Took(func() { set = subscriptions.NewSet(patterns) }); took > time.Second {
		t.Errorf("took %v", took)
	}
	if diff := cmp.Diff([]int{9_999}, set.Match("public.table_9999.updated")); diff != "" {
		t.Error(diff)
	}
}

func TestMatchOfAKnownTypeAllocatesNothing(t *testing.T) {
	set := subscriptions.NewSet(manyPatterns(100))
	for _, eventType := range []string{"public.table_5.inserted", "public.nobody.inserted"} {
		set.Match(eventType)
		if n := testing.AllocsPerRun(100, func() { set.Match(eventType) }); n != 0 {
			t.Errorf("%q: %v allocations", eventType, n)
		}
	}
}

func BenchmarkSetMatch(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		set := subscriptions.NewSet(manyPatterns(n))
		b.Run(fmt.Sprintf("cached/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.Match("public.table_7.updated")
			}
		})
		b.Run(fmt.Sprintf("none/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.Match("public.other.updated")
			}
		})
		b.Run(fmt.Sprintf("fresh/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			types := make([]string, 1<<18) // more than the cache holds
			for i := range types {
				types[i] = fmt.Sprintf("tenant_0.order_%d.paid", i)
			}
			for i := 0; b.Loop(); i++ {
				set.Match(types[i%len(types)])
			}
		})
	}
}

func BenchmarkNewSet(b *testing.B) {
	patterns := manyPatterns(10_000)
	for b.Loop() {
		subscriptions.NewSet(patterns)
	}
}
