package api

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const (
	recentMinutes = 60
	// drainMinutes is over how many of them the rate of a drain is taken.
	drainMinutes = 5
	maxLabels    = 100
)

// addRecent fills in how the last hour went, of all rows by one query.
func (a *API) addRecent(ctx context.Context, rows []boardRow, now time.Time) error {
	ids := make([]subscriptions.ID, len(rows))
	for i := range rows {
		ids[i] = rows[i].Subscription
	}
	from := now.UTC().Truncate(store.MinuteStep).Add(-store.MinuteStep * (recentMinutes - 1))
	tries, err := a.store.RecentTries(ctx, ids, store.MinuteStep, from)
	if err != nil {
		return err
	}
	for i := range rows {
		rows[i].Recent = rows[i].recent(tries[rows[i].Subscription], from, now)
		if a.config.FailuresAlone {
			rows[i].Recent.Delivered, rows[i].Recent.DrainSeconds = nil, nil
		}
	}
	return nil
}

func (r *boardRow) recent(tries []store.Tries, from, now time.Time) *recentTries {
	delivered, failed := make([]int64, recentMinutes), make([]int64, recentMinutes)
	of := &recentTries{From: from, Delivered: &delivered, Failed: failed}
	since := from.Add(store.MinuteStep * (recentMinutes - drainMinutes))
	var went int64
	for _, t := range tries {
		n := int(t.At.Sub(from) / store.MinuteStep)
		if n < 0 || n >= recentMinutes {
			continue
		}
		delivered[n], failed[n] = t.Delivered, t.Failed
		if !t.At.Before(since) {
			went += t.Own
		}
	}
	if r.Waiting.Events > 0 && went > 0 && !r.held() {
		of.DrainSeconds = new(now.Sub(since).Seconds() * float64(r.Waiting.Events) / float64(went))
	}
	return of
}

// labelsOf counts who has which label.
func labelsOf(rows []boardRow) []labelUse {
	counts := map[string]int{}
	for i := range rows {
		for key, value := range rows[i].Labels {
			counts[key+"="+value]++
		}
	}
	list := make([]labelUse, 0, len(counts))
	for label, n := range counts {
		list = append(list, labelUse{label, n})
	}
	byName := func(x, y labelUse) int { return cmp.Compare(x.Label, y.Label) }
	slices.SortFunc(list, func(x, y labelUse) int { return cmp.Or(cmp.Compare(y.Count, x.Count), byName(x, y)) })
	list = list[:min(len(list), maxLabels)]
	slices.SortFunc(list, byName)
	return list
}
