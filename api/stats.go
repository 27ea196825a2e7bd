package api

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// stats are what charts and the balance are made of.
type stats struct {
	Captured *int64      `json:"captured" doc:"Events of the log since it began: changes, published events and notices. null: of one subscription, and for a restricted key."`
	Sources  []captured  `json:"sources" doc:"What captured is the sum of, by source; empty where that is null."`
	Balance  balance     `json:"balance" doc:"What became of every event that a subscription wants, each counted as often as subscriptions want it."`
	Totals   boardTotals `json:"totals" doc:"As GET /v1/endpoints has them: what waits, by whether something holds it."`
	Shares   []share     `json:"shares" doc:"What balance and totals are the sum of, by the sources whose events subscriptions have had: each subscription is in one of them. Empty where captured is null."`
	Window   string      `json:"window" enum:"hour,day,week"`
	Step     int         `json:"step_seconds" doc:"Of series: 60, 900 or 7200."`
	Sum      statsSum    `json:"sum" doc:"Of series."`
	Series   []statsStep `json:"series" doc:"Every step of the window, oldest first; the newest has not ended. Some seconds behind."`
}

// captured is what came of a source.
type captured struct {
	Source string `json:"source" doc:"Its name; rowcall: notices; empty: before rowcall told sources apart."`
	Events int64  `json:"events"`
}

// share is the part of the balance that events of some sources, and of no others,
// are in.
type share struct {
	Sources       []string    `json:"sources" doc:"By name; rowcall: notices. Of more than one where subscriptions want events of each. Empty: no event that they want has come yet."`
	Subscriptions int         `json:"subscriptions" doc:"How many there are."`
	Balance       balance     `json:"balance"`
	Totals        boardTotals `json:"totals"`
}

type statsSum struct {
	Captured  *int64   `json:"captured" doc:"Events that came into the log. null: not known, of one subscription, or for a restricted key."`
	Delivered *int64   `json:"delivered" doc:"Events that were accepted, replays included. null: not known, with ROWCALL_ATTEMPTS=failures."`
	Failed    int64    `json:"failed" doc:"Tries that failed."`
	P50       *float64 `json:"p50_ms" doc:"Half of the tries took no longer, to a fifth of it; null: there were none, or it is not known, as delivered."`
	P95       *float64 `json:"p95_ms"`
}

type statsStep struct {
	At        time.Time `json:"at" doc:"When it begins."`
	Captured  *int64    `json:"captured"`
	Delivered *int64    `json:"delivered"`
	Failed    int64     `json:"failed"`
	P50       *float64  `json:"p50_ms"`
	P95       *float64  `json:"p95_ms"`
}

// WindowInput is exported because the framework passes over what is not, when
// embedded.
type WindowInput struct {
	Window string `query:"window" enum:"hour,day,week" default:"hour" doc:"What series is of: the last hour by minutes, day by quarters of an hour, or week by two hours."`
}

type (
	statsInput   struct{ WindowInput }
	statsOfInput struct {
		WindowInput
		ID string `path:"id" doc:"sub_ and 26 letters and digits."`
	}
	statsOutput struct{ Body stats }
)

func (a *API) registerStats(tags []string, one string) {
	handle(a, huma.Operation{
		OperationID: "get-stats", Method: http.MethodGet, Path: "/v1/stats", Tags: []string{"stats"},
		Summary: "Say what became of all events, and how deliveries went lately",
	}, ScopeRead, func(ctx context.Context, in *statsInput) (*statsOutput, error) {
		return a.stats(ctx, in.Window, "")
	})
	handle(a, huma.Operation{
		OperationID: "get-subscription-stats", Method: http.MethodGet, Path: one + "/stats", Tags: tags,
		Summary: "Say what became of a subscription's events, and how deliveries went lately",
	}, ScopeRead, func(ctx context.Context, in *statsOfInput) (*statsOutput, error) {
		sub, err := a.subscription(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return a.stats(ctx, in.Window, sub.ID)
	})
}

// window is the step of a chart and how many there are.
func window(name string) (step time.Duration, steps int) {
	switch name {
	case "day":
		return store.QuarterStep, 96
	case "week":
		return store.ChartStep, 84
	}
	return store.MinuteStep, 60
}

// stats are those of one subscription; of all that the caller sees, where it is
// empty.
func (a *API) stats(ctx context.Context, name string, of subscriptions.ID) (*statsOutput, error) {
	step, steps := window(name)
	from := time.Now().UTC().Truncate(step).Add(-step * time.Duration(steps-1))
	out := stats{Window: name, Step: int(step / time.Second), Sources: []captured{}, Shares: []share{}}
	if err := a.addBalance(ctx, &out, of); err != nil {
		return nil, err
	}
	counts, err := a.store.AttemptCounts(ctx, of, restriction(ctx), step, from)
	if err != nil {
		return nil, err
	}
	var heads []store.Offset
	if of == "" && len(callersKey(ctx).Labels) == 0 {
		at := make([]time.Time, steps)
		for i := range at {
			at[i] = from.Add(step * time.Duration(i))
		}
		if heads, err = a.store.HeadsAt(ctx, at); err != nil {
			return nil, err
		}
		heads = append(heads, a.store.Head())
		if err := a.addCaptured(ctx, &out); err != nil {
			return nil, err
		}
	}
	out.Series = chart(from, step, steps, counts, heads)
	out.Sum = sumOf(counts, heads)
	if a.config.FailuresAlone { // of what failed, none of this can be told
		out.Sum.Delivered, out.Sum.P50, out.Sum.P95 = nil, nil, nil
		for i := range out.Series {
			out.Series[i].Delivered, out.Series[i].P50, out.Series[i].P95 = nil, nil, nil
		}
	}
	return &statsOutput{Body: out}, nil
}

// addCaptured says how much of the log came of which source.
func (a *API) addCaptured(ctx context.Context, out *stats) error {
	found, err := a.store.Captured(ctx)
	if err != nil {
		return err
	}
	out.Captured = new(int64)
	for _, of := range found {
		*out.Captured += of.Events
		out.Sources = append(out.Sources, captured{of.Source, of.Events})
	}
	return nil
}

// addBalance sums what the caller sees.
func (a *API) addBalance(ctx context.Context, out *stats, of subscriptions.ID) error {
	rows, err := a.boardRows(ctx, of)
	if err != nil {
		return err
	}
	seen := map[subscriptions.ID]boardRow{}
	for _, r := range rows {
		if sees(ctx, r.Labels) {
			seen[r.Subscription] = r
		}
	}
	balances, err := a.store.Balances(ctx)
	if err != nil {
		return err
	}
	var sum store.Balance
	parts := map[string]*part{}
	for _, b := range balances {
		row, there := seen[b.Subscription]
		if !there {
			continue
		}
		sum = sum.Plus(b)
		names := strings.Join(b.Sources, "\n")
		if parts[names] == nil {
			parts[names] = &part{sources: b.Sources}
		}
		parts[names].sum = parts[names].sum.Plus(b)
		parts[names].rows = append(parts[names].rows, row)
	}
	out.Totals = totalsOf(slices.Collect(maps.Values(seen)))
	out.Balance = showBalance(sum)
	if of == "" && len(callersKey(ctx).Labels) == 0 {
		out.Shares = sharesOf(parts)
	}
	return nil
}

// part is what a share is made of.
type part struct {
	sources []string
	sum     store.Balance
	rows    []boardRow
}

// sharesOf are in the order of their sources' names: of one each, then of several,
// then of none.
func sharesOf(parts map[string]*part) []share {
	all := make([]share, 0, len(parts))
	for _, p := range parts {
		all = append(all, share{Sources: append([]string{}, p.sources...), Subscriptions: len(p.rows), Balance: showBalance(p.sum), Totals: totalsOf(p.rows)})
	}
	slices.SortFunc(all, func(x, y share) int {
		return cmp.Or(cmp.Compare(uint(len(x.Sources)-1), uint(len(y.Sources)-1)), slices.Compare(x.Sources, y.Sources))
	})
	return all
}

// chart has every step of a window, also where nothing happened.
func chart(from time.Time, step time.Duration, steps int, counts []store.AttemptCount, heads []store.Offset) []statsStep {
	all := make([]statsStep, steps)
	for i := range all {
		all[i].At, all[i].Delivered = from.Add(step*time.Duration(i)), new(int64)
		if heads != nil && heads[i] != 0 {
			all[i].Captured = new(int64(max(0, heads[i+1]-heads[i])))
		}
	}
	for i := range counts {
		c := &counts[i]
		n := int(c.At.Sub(from) / step)
		if n < 0 || n >= steps {
			continue // of a clock that is ahead
		}
		all[n].Delivered, all[n].Failed = &c.Delivered, c.Failed
		all[n].P50, all[n].P95 = quantile(c, 0.5), quantile(c, 0.95)
	}
	return all
}

func sumOf(counts []store.AttemptCount, heads []store.Offset) statsSum {
	all := store.SumAttempts(counts)
	sum := statsSum{Delivered: &all.Delivered, Failed: all.Failed, P50: quantile(&all, 0.5), P95: quantile(&all, 0.95)}
	if len(heads) > 0 && heads[0] != 0 {
		sum.Captured = new(int64(heads[len(heads)-1] - heads[0]))
	}
	return sum
}

func quantile(c *store.AttemptCount, share float64) *float64 {
	if c.Delivered+c.Failed == 0 {
		return nil
	}
	return new(float64(c.Took(share).Microseconds()) / 1000)
}
