package subscriptions_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/subscriptions"
)

func window(t *testing.T, cron string, length time.Duration) subscriptions.Openings {
	t.Helper()
	o, err := subscriptions.ParseWindow(subscriptions.Window{Cron: cron, For: subscriptions.Duration(length)})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestAWindowIsOpenFromItsTimesForItsLength(t *testing.T) {
	t.Parallel()
	at := func(text string) time.Time {
		t.Helper()
		when, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for name, c := range map[string]struct {
		cron       string
		length     time.Duration
		now, until string
		open       bool
	}{
		"before it opens":                      {"0 2 * * *", 4 * time.Hour, "2026-03-01T01:59:59.999Z", "2026-03-01T02:00:00Z", false},
		"at its opening":                       {"0 2 * * *", 4 * time.Hour, "2026-03-01T02:00:00Z", "2026-03-01T06:00:00Z", true},
		"within":                               {"0 2 * * *", 4 * time.Hour, "2026-03-01T05:59:59.999Z", "2026-03-01T06:00:00Z", true},
		"at its closing":                       {"0 2 * * *", 4 * time.Hour, "2026-03-01T06:00:00Z", "2026-03-02T02:00:00Z", false},
		"over midnight":                        {"0 22 * * *", 4 * time.Hour, "2026-03-02T01:30:00Z", "2026-03-02T02:00:00Z", true},
		"in another zone":                      {"0 2 * * *", time.Hour, "2026-03-01T03:30:00+01:00", "2026-03-01T03:00:00Z", true},
		"on a day without one":                 {"0 9 * * 1-5", 8 * time.Hour, "2026-11-21T12:00:00Z", "2026-11-23T09:00:00Z", false}, // a Saturday
		"where one opening follows another":    {"0 0 * * 6,0", 24 * time.Hour, "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z", true},
		"of a week":                            {"0 0 1 * *", 7 * 24 * time.Hour, "2026-11-07T23:59:59Z", "2026-11-08T00:00:00Z", true},
		"in a leap year's month that is short": {"0 0 29 2 *", time.Hour, "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open, until := window(t, c.cron, c.length).At(at(c.now))
			if open != c.open || !until.Equal(at(c.until)) {
				t.Errorf("open %v until %v, want %v until %v", open, until, c.open, c.until)
			}
		})
	}
}

// What At says holds until the moment that it names.
func TestAWindowStaysAsItIsUntilTheTimeThatItNames(t *testing.T) {
	t.Parallel()
	windows := []subscriptions.Openings{
		window(t, "0 2 * * *", 4*time.Hour), window(t, "*/15 8-18 * * 1-5", 5*time.Minute), window(t, "0 0 * * 6,0", 24*time.Hour),
		window(t, "30 4 1,15 * *", 7*24*time.Hour), window(t, "59 23 31 12 *", 2*time.Minute),
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		o := windows[rapid.IntRange(0, len(windows)-1).Draw(t, "window")]
		now := start.Add(time.Duration(rapid.Int64Range(0, int64(3*365*24*time.Hour)).Draw(t, "now")))
		open, until := o.At(now)
		if !until.After(now) {
			t.Fatalf("at %v it says until %v", now, until)
		}
		between := now.Add(time.Duration(rapid.Int64Range(0, int64(until.Sub(now))-1).Draw(t, "between")))
		if then, later := o.At(between); then != open || later.Before(until) && !open {
			t.Fatalf("at %v it is %v until %v, at %v it is %v until %v", now, open, until, between, then, later)
		}
		if then, _ := o.At(until); then == open && !open {
			t.Fatalf("it does not open at %v, as it said", until)
		}
	})
}

func TestWindowsThatNeverCloseOrOverlapAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cron, length, want string
	}{
		"every day for a while":         {"0 2 * * *", "4h", ""},
		"every day but for a minute":    {"0 0 * * *", "23h59m", ""},
		"both days of the weekend":      {"0 0 * * 6,0", "24h", ""},
		"in four years":                 {"0 0 29 2 *", "24h", ""},
		"every minute":                  {"* * * * *", "1m", "window.for: must be shorter: a window that never closes is none, and null says so"},
		"every day":                     {"@daily", "24h", "window.for: must be shorter: a window that never closes is none, and null says so"},
		"every day for longer":          {"@daily", "25h", "window.for: must not be longer than the time between two openings"},
		"overlapping now and then":      {"0 2,9 * * *", "8h", "window.for: must not be longer than the time between two openings"},
		"too short":                     {"0 2 * * *", "59s", "window.for: must be from 1m to 168h"},
		"too long":                      {"0 2 1 1 *", "169h", "window.for: must be from 1m to 168h"},
		"never":                         {"0 0 30 2 *", "1h", "window.cron: must name a time that comes, unlike 30 February"},
		"in some zone":                  {"TZ=Europe/Berlin 0 2 * * *", "1h", "window.cron: must not name a time zone: it is in UTC"},
		"with an expression for a bomb": {strings.Repeat("*/1,", 49) + " * * * *", "1h", `window.cron: must be a cron expression of five fields in UTC such as "0 2 * * *"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			length, err := subscriptions.ParseDuration(c.length)
			if err != nil {
				t.Fatal(err)
			}
			got := faultsOf(t, func(s *subscriptions.Spec) { s.Window = &subscriptions.Window{Cron: c.cron, For: length} })
			if c.want == "" && len(got) != 0 || c.want != "" && (len(got) != 1 || got[0] != c.want) {
				t.Errorf("%v, want %q", got, c.want)
			}
		})
	}
}

// The dearest expression to judge is one with an opening each minute.
func BenchmarkJudgeWindow(b *testing.B) {
	s := subscriptions.Spec{Name: "x", Events: []string{"a.b"}, Window: &subscriptions.Window{Cron: "* * 1-30 * *", For: subscriptions.Duration(time.Minute)}}
	for b.Loop() {
		_ = s.Validate()
	}
}
