package subscriptions

import (
	"context"
)

// Transform makes the data that a subscription sends. It is safe for concurrent
// use.
type Transform struct{ e *expression }

// Transform makes the transform of a subscription as it is stored. A fault of
// its text is the error of every Apply.
func (p *Programs) Transform(source string) *Transform {
	return &Transform{p.expression(exprTransform, source)}
}

// CompileTransform judges a transform as CompileFilter judges a filter.
func CompileTransform(source string, tables []TableTypes) (t *Transform, warnings []string, err error) {
	t = NewPrograms().Transform(source)
	if warnings, err = t.e.check(tables); err != nil {
		return nil, nil, err
	}
	return t, warnings, nil
}

// Apply returns the JSON that replaces data. The same event gives the same
// bytes every time: members of objects that the transform makes stand in the
// order of their names. What it hands on without computing is as it was in
// data, byte for byte. Its error is an *EvalError, or that of ctx.
func (t *Transform) Apply(ctx context.Context, d *Decoded) ([]byte, error) {
	p, err := t.e.program(d.table)
	if err != nil {
		return nil, err
	}
	v, err := p.eval(ctx, d)
	if err != nil {
		return nil, err
	}
	r := renderer{most: d.size + maxGrowth}
	if err := r.value(v, 0); err != nil {
		return nil, &EvalError{Field: string(exprTransform), Err: err}
	}
	return r.dst, nil
}
