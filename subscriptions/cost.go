package subscriptions

import (
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// What an event's values are taken for where an expression is judged before it
// has seen one. They may be larger; then the bound at run time holds.
const (
	assumedList = 32  // elements
	assumedText = 256 // bytes
)

// sizes estimates the cost of expressions, and corrects what CEL makes of it
// when they run.
type sizes struct {
	patterns map[string]int // instructions of the patterns that it matches with
}

func (sizes) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	if node.ComputedSize() != nil {
		return nil
	}
	most := uint64(assumedText)
	switch node.Type().Kind() {
	case types.ListKind, types.MapKind, types.DynKind, types.StructKind:
		most = assumedList
	}
	return &cost.SizeEstimate{Max: most}
}

func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// CallCost charges calls by what they look at: CEL knows that only where it
// knows the types before it runs. A list that is joined costs what is added to
// it, or it would grow twofold a step; JSON that is compared costs its length,
// as it may be read for it, and more where it is deep, since each level is read
// anew; a match costs instructions times bytes.
func (s sizes) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	steps := uint64(1)
	switch function {
	case operators.Conditional, operators.Index, operators.OptIndex, operators.OptSelect, operators.LogicalNot,
		operators.NotStrictlyFalse, plainFunction, "dyn", "type", "size":
		return &steps
	case "matches":
		if len(args) == 2 {
			if pattern, ok := args[1].(types.String); ok {
				steps += matchWork(args[0], s.patterns[string(pattern)]) / 16
			}
		}
		return &steps
	}
	for i, arg := range args {
		switch v := arg.(type) {
		case types.String:
			steps += uint64(len(v)) / 10
		case types.Bytes:
			steps += uint64(len(v)) / 10
		case *jsonObject:
			steps += jsonWork(v.raw)
		case *jsonArray:
			if function != operators.Add || i > 0 {
				steps += jsonWork(v.raw)
			}
		case traits.Sizer:
			if n, ok := v.Size().(types.Int); ok && n > 0 && (function != operators.Add || i > 0) {
				steps += uint64(n)
				if list, ok := v.(traits.Lister); ok && function != operators.Add && n <= maxCost {
					steps += workWithin(list, n)
				}
			}
		}
	}
	return &steps
}

// workWithin is what it costs to compare the JSON values in a list of n. That of
// CEL takes an error of theirs for equality: the cost is what ends it.
func workWithin(list traits.Lister, n types.Int) (steps uint64) {
	for i := range n {
		switch v := list.Get(i).(type) {
		case *jsonObject:
			steps += jsonWork(v.raw)
		case *jsonArray:
			steps += jsonWork(v.raw)
		case traits.Lister:
			if m, ok := v.Size().(types.Int); ok && m <= maxCost && steps <= maxCost {
				steps += workWithin(v, m)
			}
		}
	}
	return steps
}

// jsonWork is what it costs to compare a JSON value.
func jsonWork(raw []byte) uint64 {
	const small = 1 << 10 // the text of so few levels that its length says enough
	work := len(raw)
	if work > small {
		work = max(work, nestedWork(raw, 64*maxCost)/maxNested)
	}
	return uint64(work) / 4
}

func matchWork(text ref.Val, instructions int) uint64 {
	if s, ok := text.(types.String); ok {
		return uint64(len(s)) * uint64(max(1, instructions))
	}
	return 0
}
