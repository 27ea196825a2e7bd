package api

import (
	"context"
	"slices"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// checkExpressions judges a spec's expressions for the tables that it matches, and
// its patterns: those warn only, for tables and publishers may come later.
func (a *API) checkExpressions(ctx context.Context, spec *subscriptions.Spec) (warnings []string, err error) {
	var from origins
	if err := from.get(ctx, a.store); err != nil {
		return nil, err
	}
	if spec.HasExpressions() {
		if warnings, err = a.programs.Check(spec, from.columns); err != nil {
			return nil, err
		}
	}
	return append(append([]string{}, from.silent(spec.Events)...), warnings...), nil
}

// warnings are what is to be said of a subscription that is there: that its
// configuration has the last word, which patterns nothing can be expected of, and
// what its expressions fail on, faults too, for tables change.
func (a *API) warnings(ctx context.Context, from *origins, sub *subscriptions.Subscription, health store.EndpointHealth) ([]string, error) {
	warnings := append([]string{}, declaredWarning(sub)...)
	if err := from.get(ctx, a.store); err != nil {
		return nil, err
	}
	if health.HoldError != "" && health.HoldVersion == sub.Version && sub.HasExpressions() {
		warnings = slices.Insert(warnings, 0, "events are held until it is edited, for on most of them it fails: "+health.HoldError)
	}
	warnings = append(warnings, from.silent(sub.Events)...)
	if !sub.HasExpressions() {
		return warnings, nil
	}
	fails, err := a.programs.Check(&sub.Spec, from.columns)
	if err != nil {
		fails = []string{err.Error()}
	}
	return append(warnings, fails...), nil
}

// sameExpressions reports whether two specs are judged alike.
func sameExpressions(a, b *subscriptions.Spec) bool {
	same := func(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
	return same(a.Filter, b.Filter) && same(a.Transform, b.Transform) && same(a.OrderingKey, b.OrderingKey) &&
		slices.Equal(a.Events, b.Events)
}
