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
	dayQuarters   = 96
	// drainMinutes is over how many of them the rate of a drain is taken.
	drainMinutes = 5
	maxLabels    = 100
)

// addRecent fills in how the last hour went, and the last day, of all rows by a
// query each.
func (a *API) addRecent(ctx context.Context, rows []boardRow, now time.Time) error {
	ids := make([]subscriptions.ID, len(rows))
	for i := range rows {
		ids[i] = rows[i].Subscription
	}
	from := now.UTC().Truncate(store.MinuteStep).Add(-store.MinuteStep * (recentMinutes - 1))
	hour, err := a.store.RecentTries(ctx, ids, store.MinuteStep, from)
	if err != nil {
		return err
	}
	day0 := now.UTC().Truncate(store.QuarterStep).Add(-store.QuarterStep * (dayQuarters - 1))
	day, err := a.store.RecentTries(ctx, ids, store.QuarterStep, day0)
	if err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		r.Recent = r.recent(hour[r.Subscription], from, now)
		delivered, failed := series(day[r.Subscription], day0, store.QuarterStep, dayQuarters)
		r.Day = &dayTries{From: day0, Delivered: &delivered, Failed: failed}
		if a.config.FailuresAlone {
			r.Recent.Delivered, r.Recent.DrainSeconds, r.Day.Delivered = nil, nil, nil
		}
	}
	return nil
}

// series has every one of some steps, also where nothing happened.
func series(tries []store.Tries, from time.Time, step time.Duration, steps int) (delivered, failed []int64) {
	delivered, failed = make([]int64, steps), make([]int64, steps)
	for _, t := range tries {
		if n := t.At.Sub(from); n >= 0 && n < step*time.Duration(steps) { // else of a clock that is ahead
			delivered[n/step], failed[n/step] = t.Delivered, t.Failed
		}
	}
	return delivered, failed
}

func (r *boardRow) recent(tries []store.Tries, from, now time.Time) *recentTries {
	delivered, failed := series(tries, from, store.MinuteStep, recentMinutes)
	of := &recentTries{From: from, Delivered: &delivered, Failed: failed}
	since := from.Add(store.MinuteStep * (recentMinutes - drainMinutes))
	var went int64
	for _, t := range tries {
		if !t.At.Before(since) && !t.At.After(now) {
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
