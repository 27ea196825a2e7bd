package web

import (
	"testing"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

func TestARibbonSaysHowTheLastDayWent(t *testing.T) {
	t.Parallel()
	start := time.Date(2027, 1, 2, 3, 15, 0, 0, time.UTC)
	now := start.Add(24*time.Hour - 5*time.Minute)
	// of has tries in each quarter of some hours.
	of := func(hours map[int][2]int64) *client.DayTries {
		d := &client.DayTries{From: start, Delivered: make([]int64, 96), Failed: make([]int64, 96)}
		for hour, tries := range hours {
			for i := 4 * hour; i < 4*hour+4; i++ {
				d.Delivered[i], d.Failed[i] = tries[0], tries[1]
			}
		}
		return d
	}
	all := map[int][2]int64{}
	for hour := range 24 {
		all[hour] = [2]int64{7, 0}
	}
	failures := of(map[int][2]int64{4: {0, 2}})
	failures.Delivered = nil
	type bands = [][3]any // state, X, Wid
	for name, c := range map[string]struct {
		condition string
		since     time.Duration // before now; 0: not known
		day       *client.DayTries
		want      string
		bands     bands
	}{
		"not asked for": {"healthy", 0, nil, "–", nil},
		"nothing sent":  {"healthy", 0, of(nil), "nothing sent", bands{{"nothing sent", 0, 960}}},
		"all went":      {"healthy", 0, of(all), "all delivered", bands{{"all delivered", 0, 960}}},
		"an outage, and one event that was refused": {
			"healthy", 0, of(map[int][2]int64{1: {5, 0}, 2: {0, 3}, 3: {5, 0}, 4: {5, 1}}),
			"none delivered for 1 h, some failed for 1 h, all delivered for 2 h, nothing sent for 19 h",
			bands{{"nothing sent", 0, 40}, {"all delivered", 40, 40}, {"none delivered", 80, 40}, {"all delivered", 120, 40}, {"some failed", 160, 40}, {"nothing sent", 200, 760}},
		},
		"parked for ten hours and five minutes": {
			"parked", 10*time.Hour + 5*time.Minute, of(all), "parked for 10 h, all delivered for 13 h",
			bands{{"all delivered", 0, 553}, {"parked", 553, 407}},
		},
		"asked again, parked for two days": {"probing", 48 * time.Hour, of(all), "parked", bands{{"parked", 0, 960}}},
		"recovering for a moment, which is seen": {
			"recovering", time.Second, of(all), "recovering for 1 s, all delivered for 23 h",
			bands{{"all delivered", 0, 956}, {"recovering", 950, 10}},
		},
		"only failures are kept": {
			"healthy", 0, failures, "tries failed for 1 h, not known for 22 h",
			bands{{"not known", 0, 160}, {"tries failed", 160, 40}, {"not known", 200, 760}},
		},
	} {
		row := client.BoardRow{Condition: c.condition, Day: c.day}
		if c.since > 0 {
			row.Since = new(now.Add(-c.since))
		}
		got := ribbonOf(&row, now)
		if got.Text != c.want || len(got.Bands) != len(c.bands) {
			t.Errorf("%s: %d bands, %q; want %d, %q", name, len(got.Bands), got.Text, len(c.bands), c.want)
			continue
		}
		for i, b := range got.Bands {
			if is := [3]any{b.State.Word, b.X, b.Wid}; is != c.bands[i] {
				t.Errorf("%s: band %d is %v, want %v", name, i, is, c.bands[i])
			}
		}
	}
	// Quarters that went alike are counted together, and what is drawn as parked is not
	// said to have been delivered.
	row := client.BoardRow{Condition: "parked", Since: new(start.Add(65 * time.Minute)), Day: of(map[int][2]int64{0: {1, 2}, 1: {3, 4}})}
	got := ribbonOf(&row, now).Bands
	if len(got) != 2 || *got[0].Delivered != 4+3 || *got[0].Failed != 8+4 || got[0].For() != 65*time.Minute {
		t.Errorf("%+v", got)
	}
}
