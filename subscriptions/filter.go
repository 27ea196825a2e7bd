package subscriptions

import (
	"context"
	"errors"

	"cel.dev/cel-go/common/types"
)

// Filter says which events a subscription wants, beyond their type. It is safe
// for concurrent use.
type Filter struct{ e *expression }

// Filter makes the filter of a subscription as it is stored. A fault of its text
// is the error of every Match.
func (p *Programs) Filter(source string) *Filter { return &Filter{p.expression(exprFilter, source)} }

// CompileFilter judges a filter as a person writes it, for the tables whose
// events the subscription's patterns match now; none where they match no
// table's. Its error says what is wrong, where and the remedy, and fits behind
// the field's name. Warnings are for events that will fail.
func CompileFilter(source string, tables []TableTypes) (f *Filter, warnings []string, err error) {
	f = NewPrograms().Filter(source)
	if warnings, err = f.e.check(tables); err != nil {
		return nil, nil, err
	}
	return f, warnings, nil
}

// Match reports whether the filter wants an event. Its error is an *EvalError,
// or that of ctx; then there is no answer.
func (f *Filter) Match(ctx context.Context, d *Decoded) (bool, error) {
	p, err := f.e.program(d.table)
	if err != nil {
		return false, err
	}
	v, err := p.eval(ctx, d)
	if err != nil {
		return false, err
	}
	matched, ok := v.(types.Bool)
	if !ok {
		return false, &EvalError{Field: string(exprFilter), Err: errors.New("it must be true or false, and is " + v.Type().TypeName())}
	}
	return bool(matched), nil
}
