package subscriptions

import (
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// jsonArray is a JSON array. It keeps its text, to render as it came.
type jsonArray struct {
	traits.Lister
	d     *Decoded
	raw   []byte
	plain []ref.Val
	raws  [][]byte
	keep  bool
}

func readList(d *Decoded, raw []byte, of Column, depth int) ref.Val {
	if len(raw) > maxDocument || depth == maxNested {
		return types.WrapErr(errTooLarge)
	}
	a := &jsonArray{d: d, raw: raw}
	if err := eachElement(raw, func(b []byte) {
		a.raws = append(a.raws, b)
		a.plain = append(a.plain, columnValue(d, of, b, depth+1))
	}); err != nil {
		return types.NewErr("an array %v", err)
	}
	for _, v := range a.plain {
		if v = opened(v); types.IsError(v) {
			return v
		}
	}
	a.Lister = types.NewRefValList(types.DefaultTypeAdapter, a.plain)
	return a
}

// Equal and Contains see to it that an error of an element is one of theirs.
func (a *jsonArray) Equal(other ref.Val) ref.Val {
	list, ok := other.(traits.Lister)
	if !ok || a.Size() != list.Size() {
		return types.False
	}
	for i := range types.Int(len(a.plain)) {
		if same := types.Equal(a.plain[i], unkept(list.Get(i))); same != types.True {
			return same
		}
	}
	return types.True
}

func (a *jsonArray) Contains(value ref.Val) ref.Val {
	var found ref.Val = types.False
	for _, v := range a.plain {
		switch same := types.Equal(value, v); {
		case same == types.True:
			return same
		case types.IsError(same):
			found = same
		}
	}
	return found
}

func (a *jsonArray) view(keep bool) *jsonArray {
	if a.keep == keep {
		return a
	}
	other := *a
	other.keep = keep
	values := a.plain
	if keep {
		values = make([]ref.Val, len(a.plain))
		for i, v := range a.plain {
			values[i] = keepValue(v, a.raws[i])
		}
	}
	other.Lister = types.NewRefValList(types.DefaultTypeAdapter, values)
	return &other
}
