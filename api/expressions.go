package api

import (
	"context"
	"slices"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// knownTables are the captured tables, read once somebody asks.
type knownTables struct {
	read   bool
	tables []subscriptions.TableTypes
}

func (k *knownTables) get(ctx context.Context, s *store.Store) ([]subscriptions.TableTypes, error) {
	if k.read {
		return k.tables, nil
	}
	tables, err := s.Tables(ctx)
	if err == nil {
		k.tables, k.read = tables, true
	}
	return tables, err
}

// checkExpressions judges a spec's expressions for the tables that it matches.
func (a *API) checkExpressions(ctx context.Context, spec *subscriptions.Spec) (warnings []string, err error) {
	if !spec.HasExpressions() {
		return []string{}, nil
	}
	tables, err := a.store.Tables(ctx)
	if err != nil {
		return nil, err
	}
	warnings, err = a.programs.Check(spec, tables)
	return append([]string{}, warnings...), err
}

// warnings are what is to be said of a subscription that is there: that its
// configuration has the last word, and what its expressions fail on, faults too,
// for tables change.
func (a *API) warnings(ctx context.Context, known *knownTables, sub *subscriptions.Subscription, health store.EndpointHealth) ([]string, error) {
	declared := declaredWarning(sub)
	if !sub.HasExpressions() {
		return append([]string{}, declared...), nil
	}
	tables, err := known.get(ctx, a.store)
	if err != nil {
		return nil, err
	}
	warnings, err := a.programs.Check(&sub.Spec, tables)
	if err != nil {
		warnings = []string{err.Error()}
	}
	warnings = append(declared, warnings...)
	if health.HoldError != "" && health.HoldVersion == sub.Version {
		warnings = append([]string{"events are held until it is edited, for on most of them it fails: " + health.HoldError}, warnings...)
	}
	return append([]string{}, warnings...), nil
}

// sameExpressions reports whether two specs are judged alike.
func sameExpressions(a, b *subscriptions.Spec) bool {
	same := func(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
	return same(a.Filter, b.Filter) && same(a.Transform, b.Transform) && same(a.OrderingKey, b.OrderingKey) &&
		slices.Equal(a.Events, b.Events)
}
