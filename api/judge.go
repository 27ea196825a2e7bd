package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// DeclarationFault is what is wrong with one declaration.
type DeclarationFault struct {
	Index int    // in the list that was declared
	Owner string // whose the subscription is, where that is what is wrong
	subscriptions.FieldError
}

// ownedBy says that a name is declared elsewhere.
func ownedBy(owner string) subscriptions.FieldError {
	return subscriptions.FieldError{Field: "name", Message: fmt.Sprintf("is declared by owner %q already", owner)}
}

// DeclarationFaults are all that is wrong with a list of declarations.
type DeclarationFaults []DeclarationFault

func (e DeclarationFaults) Error() string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = fmt.Sprintf("subscriptions[%d].%s", i, f.FieldError.Error())
	}
	return strings.Join(parts, "; ")
}

// Existing is what declarations are judged in view of. A *store.Store is one.
type Existing interface {
	Subscriptions(ctx context.Context, filter store.SubscriptionFilter, limit int) ([]subscriptions.Subscription, error)
	Tables(ctx context.Context) ([]subscriptions.TableTypes, error)
}

// JudgeDeclarations is what Declare would refuse, as DeclarationFaults, or an error
// of there. It changes nothing.
func JudgeDeclarations(ctx context.Context, there Existing, urls URLChecker, owner string, declared []Declaration) error {
	var faults DeclarationFaults
	programs := subscriptions.NewPrograms()
	for i := range declared {
		found, err := judgeDeclaration(ctx, there, urls, programs, owner, &declared[i])
		if err != nil {
			return fmt.Errorf("declare subscription %q: %w", declared[i].Spec.Name, err)
		}
		for _, f := range found {
			f.Index = i
			faults = append(faults, f)
		}
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// judgeSpec says all that is wrong with a spec that was read, with what of it could be
// read where err is why not all could: which URLs may not be called, and what is wrong
// with its expressions, where they are to be looked at.
func (a *API) judgeSpec(ctx context.Context, spec *subscriptions.Spec, err error, expressions bool) (warnings []string, _ error) {
	faults, ok := errors.AsType[subscriptions.FieldErrors](err)
	if err != nil && !ok {
		return nil, err
	}
	named := func(fields ...string) bool {
		return slices.ContainsFunc(faults, func(f subscriptions.FieldError) bool {
			return slices.ContainsFunc(fields, func(field string) bool {
				return f.Field == "" || f.Field == field || strings.HasPrefix(f.Field, field+"[") || strings.HasPrefix(f.Field, field+".")
			})
		})
	}
	errs := []error{err}
	if spec.Endpoint.URL != "" && !named("endpoint.url", "endpoint.auth") {
		errs = append(errs, checkURLs(a.config.URLs, *spec))
	}
	if expressions && !named("events", "filter", "transform", "ordering_key") {
		var expressionErr error
		warnings, expressionErr = a.checkExpressions(ctx, spec)
		errs = append(errs, expressionErr)
	}
	return warnings, joinFields(errs...)
}

func judgeDeclaration(ctx context.Context, there Existing, urls URLChecker, programs *subscriptions.Programs, owner string, d *Declaration) (DeclarationFaults, error) {
	var found DeclarationFaults
	var faults []error
	sub, exists, err := named(ctx, there, d.Spec.Name)
	if err != nil {
		return nil, err
	}
	if exists && sub.ManagedBy != "" && sub.ManagedBy != owner {
		found = append(found, DeclarationFault{Owner: sub.ManagedBy, FieldError: ownedBy(sub.ManagedBy)})
	}
	faults = append(faults, checkURLs(urls, d.Spec))
	// What is there already is not stopped by tables that have changed since: that is a warning.
	if d.Spec.HasExpressions() && (!exists || !sameExpressions(&sub.Spec, &d.Spec)) {
		tables, err := there.Tables(ctx)
		if err != nil {
			return nil, err
		}
		_, err = programs.Check(&d.Spec, tables)
		faults = append(faults, err)
	}
	all := joinFields(faults...)
	fields, ok := errors.AsType[subscriptions.FieldErrors](all)
	if all != nil && !ok {
		return nil, all
	}
	for _, f := range fields {
		found = append(found, DeclarationFault{FieldError: f})
	}
	return found, nil
}

// named returns the subscription with this name, if there is one.
func named(ctx context.Context, there Existing, name string) (sub subscriptions.Subscription, exists bool, err error) {
	found, err := there.Subscriptions(ctx, store.SubscriptionFilter{Name: name}, 1)
	if err != nil || len(found) == 0 {
		return sub, false, err
	}
	return found[0], true, nil
}
