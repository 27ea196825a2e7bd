package web

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

func TestALineSaysWhatIsKnownOfTheLastHour(t *testing.T) {
	t.Parallel()
	of := func(n int64) []int64 { return append(make([]int64, 59), n) }
	for name, c := range map[string]struct {
		recent            *client.RecentTries
		want              string
		delivered, failed bool
	}{
		"not asked for":                     {nil, unknown, false, false},
		"nothing":                           {&client.RecentTries{Delivered: of(0), Failed: of(0)}, "nothing sent", false, false},
		"all went":                          {&client.RecentTries{Delivered: of(3), Failed: of(0)}, "3 delivered", true, false},
		"some failed":                       {&client.RecentTries{Delivered: of(3), Failed: of(1)}, "3 delivered, 1 failed", true, true},
		"only failures are kept, of none":   {&client.RecentTries{Failed: of(0)}, unknown, false, false},
		"only failures are kept, and three": {&client.RecentTries{Failed: of(3)}, "3 failed", false, true},
	} {
		if s := sparkOf(c.recent); s.Text != c.want || (s.Delivered != "") != c.delivered || (s.Failed != "") != c.failed {
			t.Errorf("%s: %+v, want %q", name, s, c.want)
		}
	}
}

func TestChartsSayWhatIsNotKeptInPlaceOfZero(t *testing.T) {
	t.Parallel()
	now := time.Date(2027, 1, 2, 3, 4, 30, 0, time.UTC)
	s := &client.Stats{Step: 60, Sum: client.StatsSum{Failed: 3}, Series: []client.StatsStep{
		{At: now.Add(-time.Minute), StatsSum: client.StatsSum{Failed: 3}}, {At: now},
	}}
	for _, c := range charts(s, now) {
		if c.Main != unknown || c.Solid != "" || strings.Contains(c.More, "0") || strings.Contains(c.More, "100") {
			t.Errorf("%s: %q, %q", c.Title, c.Main, c.More)
		}
		for _, row := range c.Values {
			if slices.ContainsFunc(row.Texts, func(text string) bool { return text != unknown }) {
				t.Errorf("%s: %+v", c.Title, row)
			}
		}
	}
	s.Sum.Delivered, s.Series[0].Delivered, s.Series[1].Delivered = new(int64(1)), new(int64(1)), new(int64)
	if all := charts(s, now); all[0].Main != "1" || all[2].Main != "75 %" {
		t.Errorf("%q and %q", all[0].Main, all[2].Main)
	}
}
