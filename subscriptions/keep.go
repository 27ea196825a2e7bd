package subscriptions

import (
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// A transform hands on values byte for byte: a numeric keeps its digits though
// it compares as double. For that, data is seen through a second view whose
// leaves are kept values, which hold the text that they were read from. No
// function of CEL can compute with them; so the checked expression is rewritten
// before it runs, and every path into data that something computes with goes
// through plainFunction, which returns to the first view. What is left are the
// places from which values reach the result unseen: the whole, members and
// elements of literals, branches of a conditional, and what map() and filter()
// yield.
const plainFunction = "@plain"

// kept is a leaf of the second view.
type kept struct {
	value ref.Val
	raw   []byte
}

func (k *kept) Type() ref.Type                   { return k.value.Type() }
func (k *kept) Value() any                       { return k.value.Value() }
func (k *kept) Equal(other ref.Val) ref.Val      { return types.Equal(k.value, unkept(other)) }
func (k *kept) ConvertToType(t ref.Type) ref.Val { return k.value.ConvertToType(t) }
func (k *kept) ConvertToNative(t reflect.Type) (any, error) {
	return k.value.ConvertToNative(t)
}

// keepValue is the second view of a value.
func keepValue(v ref.Val, raw []byte) ref.Val {
	switch v := v.(type) {
	case *jsonObject:
		return v.view(true)
	case *jsonArray:
		return v.view(true)
	case types.Null, types.Bool, *types.Err:
		return v
	default:
		if raw == nil {
			return v
		}
		return &kept{value: v, raw: raw}
	}
}

// unkept is the first view of a value.
func unkept(v ref.Val) ref.Val {
	switch v := v.(type) {
	case *kept:
		return v.value
	case *jsonObject:
		return opened(v.view(false))
	case *jsonArray:
		return v.view(false)
	default:
		return v
	}
}

// plainFunctionOption declares plainFunction. Its name is none that the grammar
// lets anybody write.
func plainFunctionOption() cel.EnvOption {
	param := cel.TypeParamType("A")
	return cel.Function(plainFunction, cel.Overload("plain_any", []*cel.Type{param}, param, cel.UnaryBinding(unkept)))
}

// keeper is the rewrite.
type keeper struct {
	context *cel.OptimizerContext
	factory ast.ExprFactory
	roots   map[string]int // variables that hold kept values, by how many scopes
}

// Optimize is called by cel.StaticOptimizer, which checks the result again.
func (keeper) Optimize(context *cel.OptimizerContext, a *ast.AST) *ast.AST {
	// What macros looked like matters to nobody any more.
	for id := range context.MacroCalls() {
		context.ClearMacroCall(id)
	}
	k := keeper{context: context, factory: ast.NewExprFactory(), roots: map[string]int{varData: 1}}
	k.pass(a.Expr())
	return a
}

// fresh gives every id of a copied expression a new one.
func (k *keeper) fresh() ast.IDGenerator {
	ids := map[int64]int64{}
	return func(old int64) int64 {
		if _, ok := ids[old]; !ok {
			ids[old] = k.context.NewIdent(varData).ID()
		}
		return ids[old]
	}
}

// pass visits an expression whose value reaches the result unseen.
func (k *keeper) pass(e ast.Expr) {
	switch e.Kind() {
	case ast.CallKind:
		call := e.AsCall()
		switch args := call.Args(); call.FunctionName() {
		case operators.Conditional:
			k.use(args[0])
			k.pass(args[1])
			k.pass(args[2])
		case "dyn":
			k.pass(args[0])
		default:
			if k.isPath(e) {
				k.inside(e)
				return
			}
			k.use(e)
		}
	case ast.ListKind:
		for _, item := range e.AsList().Elements() {
			k.pass(item)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			member := entry.AsMapEntry()
			k.use(member.Key())
			if member.IsOptional() {
				k.use(member.Value())
			} else {
				k.pass(member.Value())
			}
		}
	case ast.ComprehensionKind:
		k.comprehension(e.AsComprehension(), true)
	case ast.IdentKind, ast.SelectKind:
		if k.isPath(e) {
			k.inside(e)
			return
		}
		k.use(e)
	default:
		k.use(e)
	}
}

// use visits an expression that something computes with.
func (k *keeper) use(e ast.Expr) {
	if k.isPath(e) {
		k.inside(e)
		if e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() {
			return
		}
		inner := k.factory.CopyExpr(e)
		inner.RenumberIDs(k.fresh())
		e.SetKindCase(k.context.NewCall(plainFunction, inner))
		return
	}
	switch e.Kind() {
	case ast.CallKind:
		call := e.AsCall()
		if call.IsMemberFunction() {
			k.use(call.Target())
		}
		for _, arg := range call.Args() {
			k.use(arg)
		}
	case ast.SelectKind:
		k.use(e.AsSelect().Operand())
	case ast.ListKind:
		for _, item := range e.AsList().Elements() {
			k.use(item)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			k.use(entry.AsMapEntry().Key())
			k.use(entry.AsMapEntry().Value())
		}
	case ast.StructKind:
		for _, field := range e.AsStruct().Fields() {
			k.use(field.AsStructField().Value())
		}
	case ast.ComprehensionKind:
		k.comprehension(e.AsComprehension(), false)
	}
}

func (k *keeper) comprehension(c ast.ComprehensionExpr, passes bool) {
	keeps := passes && k.isPath(c.IterRange())
	if keeps {
		k.inside(c.IterRange())
	} else {
		k.use(c.IterRange())
	}
	k.use(c.AccuInit())
	// A variable hides one of the same name outside.
	hidden := map[string]int{}
	for _, name := range []string{c.IterVar(), c.IterVar2(), c.AccuVar()} {
		hidden[name] = k.roots[name]
		delete(k.roots, name)
	}
	if keeps {
		k.roots[c.IterVar()] = 1
	}
	k.use(c.LoopCondition())
	if passes {
		k.step(c.LoopStep(), c.AccuVar())
		k.result(c)
	} else {
		k.use(c.LoopStep())
		k.use(c.Result())
	}
	for name, depth := range hidden {
		k.roots[name] = depth
	}
}

// result visits what a comprehension ends in, which does not see its elements.
func (k *keeper) result(c ast.ComprehensionExpr) {
	delete(k.roots, c.IterVar())
	k.use(c.Result())
}

// step visits the loop of map() and filter(): elements that are appended to the
// accumulator pass; all else is computed with.
func (k *keeper) step(e ast.Expr, accu string) {
	if e.Kind() == ast.CallKind {
		call := e.AsCall()
		args := call.Args()
		switch call.FunctionName() {
		case operators.Conditional:
			k.use(args[0])
			k.step(args[1], accu)
			k.step(args[2], accu)
			return
		case operators.Add:
			if args[0].Kind() == ast.IdentKind && args[0].AsIdent() == accu && args[1].Kind() == ast.ListKind {
				k.pass(args[1])
				return
			}
		}
	}
	k.use(e)
}

// isPath reports whether an expression leads from a kept variable inwards.
func (k *keeper) isPath(e ast.Expr) bool {
	switch e.Kind() {
	case ast.IdentKind:
		return k.roots[e.AsIdent()] > 0
	case ast.SelectKind:
		return k.isPath(e.AsSelect().Operand())
	case ast.CallKind:
		call := e.AsCall()
		name := call.FunctionName()
		return (name == operators.Index || name == "dyn") && len(call.Args()) > 0 && k.isPath(call.Args()[0])
	default:
		return false
	}
}

// inside visits what a path is indexed with.
func (k *keeper) inside(e ast.Expr) {
	switch e.Kind() {
	case ast.SelectKind:
		k.inside(e.AsSelect().Operand())
	case ast.CallKind:
		args := e.AsCall().Args()
		k.inside(args[0])
		for _, arg := range args[1:] {
			k.use(arg)
		}
	}
}
