package subscriptions_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/subscriptions"
)

func TestDurationsReadGoFormAndDays(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "15s": 15 * time.Second, "100ms": 100 * time.Millisecond, "1h30m": 90 * time.Minute,
		"1.5h": 90 * time.Minute, "1d": 24 * time.Hour, "30d": 720 * time.Hour, "1d12h": 36 * time.Hour,
		"0d": 0, "-1d12h": -36 * time.Hour, "+2d": 48 * time.Hour, "-5s": -5 * time.Second, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := subscriptions.ParseDuration(text); err != nil || got.D() != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "d", "15", "s", "1.5d", "12h1d", "1d-2h", "1d+2h", "1d0", "1dd", "1d1d", "-", "--1d", "+-1d",
		"106752d", "106751d24h", "99999999999999999999d", "1 d", "1D", "infinity", "1d ", "0x1d",
	} {
		if got, err := subscriptions.ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		}
	}
}

func TestDurationsPrintAsTheContractWritesThem(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"0s": 0, "15s": 15 * time.Second, "100ms": 100 * time.Millisecond, "1m": time.Minute, "10m": 10 * time.Minute,
		"1h": time.Hour, "1h30m": 90 * time.Minute, "1h0m5s": time.Hour + 5*time.Second, "24h": 24 * time.Hour,
		"72h": 72 * time.Hour, "168h": 168 * time.Hour, "8d": 192 * time.Hour, "30d": 720 * time.Hour,
		"732h": 732 * time.Hour, "-30d": -720 * time.Hour, "-15s": -15 * time.Second,
	} {
		if got := subscriptions.Duration(d).String(); got != want {
			t.Errorf("%v prints as %q, want %q", d, got, want)
		}
	}
}

func TestDurationsReadBackWhatTheyPrint(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(
			rapid.Int64(),
			rapid.Map(rapid.Int64Range(-100_000, 100_000), func(n int64) int64 { return n * int64(24*time.Hour) }),
			rapid.Map(rapid.Int64Range(-1e9, 1e9), func(n int64) int64 { return n * int64(time.Second) }),
			rapid.Just[int64](math.MinInt64),
		).Draw(t, "n")
		b, err := json.Marshal(subscriptions.Duration(n))
		if err != nil {
			t.Fatal(err)
		}
		var got subscriptions.Duration
		if err := json.Unmarshal(b, &got); err != nil || int64(got) != n {
			t.Fatalf("%s reads back as %v, %v", b, got, err)
		}
	})
}

func TestDurationsAreStringsInJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"15", `15`, `true`, `{}`, `"15"`} {
		var d subscriptions.Duration
		if err := json.Unmarshal([]byte(text), &d); err == nil {
			t.Errorf("%s reads as %v", text, d)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, text := range []string{"15s", "30d", "1d12h", "-1d", "1.5h", "1dd", "9223372036854775807ns", "106751d23h47m16.854775807s"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := subscriptions.ParseDuration(text)
		if err != nil {
			return
		}
		again, err := subscriptions.ParseDuration(d.String())
		if err != nil || again != d {
			t.Errorf("%q is %v, which reads back as %v, %v", text, d, again, err)
		}
	})
}
