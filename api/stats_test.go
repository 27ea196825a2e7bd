package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/store"
)

func TestStatsAccountForEventsAndShowHowTriesWent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	own, _ := w.subscribe("own", `"labels":{"team":"growth"}`)["id"].(string)
	other, _ := w.subscribe("other")["id"].(string)
	w.write(claim, 0x100, 6, func(int) string { return "{}" })
	lane := w.settle(own, store.Delivery{Offset: 1, State: store.Dead, Keys: []string{"k"}})
	now := time.Now()
	if err := w.store.SaveAttempts(t.Context(), []store.Attempt{
		{At: now, Lane: lane, Offset: 1, Attempt: 1, Duration: 100 * time.Millisecond, Outcome: 1, Status: 500},
		{At: now, Lane: lane, Offset: 2, Attempt: 1, Duration: 3 * time.Millisecond, Status: 200},
		{At: now, Lane: w.laneOf(other), Offset: 2, Attempt: 1, Duration: 3 * time.Millisecond, Status: 200},
	}); err != nil {
		t.Fatal(err)
	}
	c := w.client(api.ScopeRead)
	get := func(ask func() (client.Stats, error), tries int64) client.Stats {
		t.Helper()
		for late := time.After(tailPatience); ; {
			s, err := ask()
			if err != nil {
				t.Fatal(err)
			}
			if *s.Sum.Delivered+s.Sum.Failed == tries {
				return s
			}
			select {
			case <-late:
				t.Fatalf("counted %+v", s.Sum)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	for window, steps := range map[string]int{"": 60, "hour": 60, "day": 96, "week": 84} {
		s := get(func() (client.Stats, error) { return c.Stats(t.Context(), window) }, 3)
		if len(s.Series) != steps || *s.Sum.Delivered != 2 || s.Sum.Failed != 1 || s.Captured == nil || *s.Captured != 6 || s.Sum.Captured == nil || *s.Sum.Captured != 6 {
			t.Errorf("%s: %d steps, %+v, captured %v", window, len(s.Series), s.Sum, s.Captured)
		}
		if len(s.Sources) != 1 || s.Sources[0] != (client.Captured{Source: "shop", Events: 6}) {
			t.Errorf("%s: captured %+v", window, s.Sources)
		}
		if p := s.Sum.P95; p == nil || *p < 80 || *p > 130 || *s.Sum.P50 > 5 {
			t.Errorf("%s: %+v", window, s.Sum)
		}
		if step := s.Series[1].At.Sub(s.Series[0].At); step != time.Duration(s.Step)*time.Second || s.Series[0].P50 != nil {
			t.Errorf("%s: steps of %s, said to be %d s", window, step, s.Step)
		}
		if b := s.Balance; b.Matched != 12 || b.Dead != 1 || s.Totals.Dead != 1 || s.Totals.Conditions["healthy"] != 2 {
			t.Errorf("%s: %+v, %+v", window, b, s.Totals)
		}
	}
	one := get(func() (client.Stats, error) { return c.SubscriptionStats(t.Context(), own, "day") }, 2)
	if one.Balance.Matched != 6 || one.Captured != nil || len(one.Sources) != 0 || len(one.Shares) != 0 || one.Sum.Captured != nil || one.Series[3].Captured != nil {
		t.Errorf("of one: %+v", one)
	}
	// The board says the same of each, and labels of all that is seen.
	board, err := c.Endpoints(t.Context(), client.BoardQuery{Recent: true, Label: "team"})
	if err != nil || len(board.Items) != 1 || len(board.Labels) != 1 || board.Labels[0] != (client.LabelUse{Label: "team=growth", Count: 1}) {
		t.Fatalf("%+v, %v", board, err)
	}
	sum := func(of []int64) (n int64) {
		for _, v := range of {
			n += v
		}
		return n
	}
	if r := board.Items[0].Recent; r == nil || len(r.Delivered) != 60 || len(r.Failed) != 60 || sum(r.Delivered) != 1 || sum(r.Failed) != 1 || r.DrainSeconds != nil {
		t.Errorf("%+v", r)
	}
	if plain, err := c.Endpoints(t.Context(), client.BoardQuery{Label: "team=x"}); err != nil || len(plain.Items) != 0 || len(plain.Labels) != 1 {
		t.Errorf("%+v, %v", plain, err)
	}
	key := w.newKey(`{"name":"growth","scopes":["read"],"labels":{"team":"growth"}}`).Key
	restricted, err := client.New(client.Config{BaseURL: "http://rowcall.test", Key: key, Transport: inProcess{w}})
	if err != nil {
		t.Fatal(err)
	}
	seen := get(func() (client.Stats, error) { return restricted.Stats(t.Context(), "") }, 2)
	if seen.Balance.Matched != 6 || seen.Captured != nil || len(seen.Sources) != 0 || len(seen.Shares) != 0 || seen.Sum.Captured != nil || seen.Totals.Conditions["healthy"] != 1 {
		t.Errorf("by a restricted key: %+v", seen)
	}
	if board, err := restricted.Endpoints(t.Context(), client.BoardQuery{Recent: true}); err != nil || len(board.Items) != 1 || sum(board.Items[0].Recent.Delivered) != 1 {
		t.Errorf("by a restricted key: %+v, %v", board, err)
	}
	w.do(request{method: "GET", path: "/v1/subscriptions/" + other + "/stats", key: key}).problem(t, http.StatusNotFound, "not-found")
	w.do(request{method: "GET", path: "/v1/stats?window=year", scope: api.ScopeRead}).problem(t, http.StatusUnprocessableEntity, "validation")
}

// Where successes are not in the history, nothing is told by their absence.
func TestWithFailuresAloneInTheHistoryWhatWasDeliveredIsNotKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *api.Config) { c.FailuresAlone = true })
	claim, _ := w.claim("shop")
	id, _ := w.subscribe("own")["id"].(string)
	w.write(claim, 0x100, 2, func(int) string { return "{}" })
	if err := w.store.SaveAttempts(t.Context(), []store.Attempt{{At: time.Now(), Lane: w.laneOf(id), Offset: 1, Attempt: 1, Duration: time.Second, Outcome: 1, Status: 500}}); err != nil {
		t.Fatal(err)
	}
	c := w.client(api.ScopeRead)
	var s client.Stats
	for late := time.After(tailPatience); s.Sum.Failed != 1; {
		var err error
		if s, err = c.SubscriptionStats(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
		select {
		case <-late:
			t.Fatalf("counted %+v", s.Sum)
		case <-time.After(50 * time.Millisecond):
		}
	}
	for _, of := range append(s.Series, client.StatsStep{StatsSum: s.Sum}) {
		if of.Delivered != nil || of.P50 != nil || of.P95 != nil {
			t.Fatalf("told of %s: %+v", of.At, of.StatsSum)
		}
	}
	board, err := c.Endpoints(t.Context(), client.BoardQuery{Recent: true})
	if r := board.Items[0].Recent; err != nil || r.Delivered != nil || len(r.Failed) != 60 || r.DrainSeconds != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// The balance is the sum of its shares, each of some sources' events and of no others.
func TestTheBalanceIsSplitBySource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	shop, _ := w.claim("shop")
	bank, _ := w.claim("bank")
	feed, _ := w.claim("feed")
	for name, pattern := range map[string]string{"orders": "public.orders.*", "again": "public.orders.*", "accounts": "bank.accounts.*", "all": "**", "idle": "public.nothing.*"} {
		a := w.do(request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: `{"name":` + quote(name) + `,"events":[` + quote(pattern) + `],"endpoint":{"url":"https://receiver.test/hooks"}}`})
		if a.status != http.StatusCreated {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if _, _, err := w.store.ClaimLanes(t.Context(), nil); err != nil { // opens the books
		t.Fatal(err)
	}
	for claim, kind := range map[store.SourceClaim]string{shop: "public.orders.inserted", bank: "bank.accounts.inserted", feed: "feed.news"} {
		w.append(claim, 0x100, 4, kind, func(int) string { return "{}" })
	}
	s, err := w.client(api.ScopeRead).Stats(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	type brief struct {
		sources       string
		subscriptions int
		matched       int64
	}
	var got []brief
	var matched, waits int64
	for _, of := range s.Shares {
		got = append(got, brief{strings.Join(of.Sources, "+"), of.Subscriptions, of.Balance.Matched})
		matched, waits = matched+of.Balance.Matched, waits+of.Totals.OnTheWay+of.Totals.Held
		if of.Balance.Waiting != of.Balance.Matched {
			t.Errorf("%+v", of)
		}
	}
	want := []brief{{"bank", 1, 4}, {"shop", 2, 8}, {"bank+feed+shop", 1, 12}, {"", 1, 0}}
	if !slices.Equal(got, want) || matched != s.Balance.Matched || waits != s.Totals.OnTheWay+s.Totals.Held || *s.Captured != 12 {
		t.Errorf("%+v, of %+v and %+v", got, s.Balance, s.Totals)
	}
}
