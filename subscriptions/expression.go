package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// Expressions are judged by cost, never by the clock: an event either has a
// verdict or not, however busy the machine is, and the verdict is the same on
// the next try. The bounds are such that nothing runs longer than about 10 ms.
const (
	// maxCost bounds one evaluation, in the units of CEL: about one for each
	// step, one for ten bytes of text that is looked at.
	maxCost = 50_000

	// checkEvery is after how many rounds of loops the context is looked at.
	checkEvery = 100

	maxExpressionNodes = 4000
	maxExpressionDepth = 100
)

const varData = "data"

// EvalError says why an expression has no value for an event. It is a verdict
// on the event that stays until the subscription is edited: an event failure
// with reason filter_error or transform_error. It never holds values of the
// event beyond the names of its members.
type EvalError struct {
	Field string // filter, transform or ordering_key
	Err   error
}

func (e *EvalError) Error() string { return "evaluate " + e.Field + ": " + e.Err.Error() }
func (e *EvalError) Unwrap() error { return e.Err }

// exprKind is the member of a Spec that an expression stands in.
type exprKind string

const (
	exprFilter      exprKind = "filter"
	exprTransform   exprKind = "transform"
	exprOrderingKey exprKind = "ordering_key"
)

// program is an expression compiled for one table. It is immutable and safe
// for concurrent use.
type program struct {
	kind  exprKind
	run   cel.Program
	reads []memberRead
}

// checkSource judges text without knowing any table: length and syntax.
func checkSource(source string) error {
	if len(source) > maxExpression {
		return fmt.Errorf("must have at most %d bytes", maxExpression)
	}
	env, err := newSyntax()
	if err != nil {
		return err
	}
	_, issues := env.Parse(source)
	return describeIssues(issues)
}

func newSyntax() (*cel.Env, error) {
	return cel.NewCustomEnv(languageOptions()...)
}

func languageOptions() []cel.EnvOption {
	return []cel.EnvOption{
		cel.StdLib(),
		cel.OptionalTypes(),
		cel.CrossTypeNumericComparisons(true),
		cel.EnableIdentifierEscapeSyntax(),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxExpressionDepth),
		cel.ExpressionNodeLimit(maxExpressionNodes),
		cel.ExpressionNestingDepthLimit(maxExpressionDepth),
		cel.ParserErrorRecoveryLimit(4),
	}
}

// compiler makes programs. They share what does not depend on a table, which
// is most of what they weigh.
type compiler struct {
	base func() (*cel.Env, error)
}

func newCompiler() *compiler {
	return &compiler{base: sync.OnceValues(func() (*cel.Env, error) {
		return cel.NewCustomEnv(append(languageOptions(),
			cel.Variable("type", cel.StringType),
			cel.Variable("subject", cel.StringType),
			cel.Variable("source", cel.StringType),
			cel.Variable("time", cel.TimestampType),
			cel.Variable("key", cel.StringType),
			plainFunctionOption(),
		)...)
	})}
}

// compile checks an expression against a table, nil for an unknown one, and
// plans it. Columns that the table lacks are taken for absent ones of any type.
func (c *compiler) compile(kind exprKind, source string, table *TableTypes) (*program, error) {
	return c.compileWithin(maxCost, kind, source, table)
}

// compileWithin is compile with another bound on the estimate.
func (c *compiler) compileWithin(most uint64, kind exprKind, source string, table *TableTypes) (*program, error) {
	if len(source) > maxExpression {
		return nil, fmt.Errorf("must have at most %d bytes", maxExpression)
	}
	base, err := c.base()
	if err != nil {
		return nil, fmt.Errorf("make expression environment: %w", err)
	}
	provider := newTypeProvider(base.CELTypeProvider(), table)
	env, err := base.Extend(cel.CustomTypeProvider(provider), cel.Variable(varData, provider.data))
	if err != nil {
		return nil, fmt.Errorf("make expression environment: %w", err)
	}
	checked, issues := env.Compile(source)
	if err := describeIssues(issues); err != nil {
		return nil, err
	}
	if err := checkResult(kind, checked.OutputType()); err != nil {
		return nil, err
	}
	p := &program{kind: kind}
	var costs sizes
	if p.reads, costs.patterns, err = inspect(checked); err != nil {
		return nil, err
	}
	estimate, err := env.EstimateCost(checked, costs)
	if err != nil {
		return nil, fmt.Errorf("estimate cost: %w", err)
	}
	if estimate.Max > most {
		return nil, fmt.Errorf("costs too much: up to %s steps on lists of %d elements, %d are allowed; loop over fewer lists within lists",
			costText(estimate.Max), assumedList, most)
	}
	if kind == exprTransform {
		optimizer, err := cel.NewStaticOptimizer(keeper{})
		if err != nil {
			return nil, fmt.Errorf("make optimizer: %w", err)
		}
		if checked, issues = optimizer.Optimize(env, checked); issues.Err() != nil {
			return nil, describeIssues(issues)
		}
	}
	p.run, err = env.Program(checked,
		// Not OptOptimize: it would put its own matches() in place of this one.
		cel.OptimizeRegex(matchesRegex()),
		cel.CostLimit(maxCost),
		cel.CostTracking(costs),
		cel.InterruptCheckFrequency(checkEvery),
	)
	if err != nil {
		return nil, fmt.Errorf("plan expression: %w", err)
	}
	return p, nil
}

func costText(cost uint64) string {
	if cost == math.MaxUint64 {
		return "endlessly many"
	}
	return fmt.Sprint(cost)
}

func checkResult(kind exprKind, t *cel.Type) error {
	isDyn := t.Kind() == types.DynKind
	switch kind {
	case exprFilter:
		if !isDyn && !t.IsAssignableType(cel.BoolType) {
			return fmt.Errorf("must be true or false, and is of type %s; compare it with something", t)
		}
	case exprOrderingKey:
		switch t.Kind() {
		case types.DynKind, types.StringKind, types.IntKind, types.UintKind, types.BoolKind, types.DoubleKind, types.TimestampKind:
		default:
			return fmt.Errorf("must be a string, a number, a bool or a time, and is of type %s", t)
		}
	case exprTransform:
		switch t.Kind() {
		case types.OpaqueKind, types.TypeKind:
			return fmt.Errorf("must be a JSON value, and is of type %s; an optional value needs orValue()", t)
		}
	}
	return nil
}

// eval runs the program. Its error is an *EvalError, or that of ctx, which is
// no verdict.
func (p *program) eval(ctx context.Context, d *Decoded) (ref.Val, error) {
	return p.evalAs(ctx, activation{Decoded: d, kind: p.kind})
}

func (p *program) evalAs(ctx context.Context, a activation) (ref.Val, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, _, err := p.run.ContextEval(ctx, a)
	if err == nil {
		return v, nil
	}
	if errors.Is(err, interpreter.InterruptError{}) {
		return nil, context.Cause(ctx)
	}
	if cancelled, ok := errors.AsType[interpreter.EvalCancelledError](err); ok {
		if cancelled.Cause == interpreter.CostLimitExceeded {
			return nil, &EvalError{Field: string(p.kind), Err: fmt.Errorf("it takes more than the %d steps that are allowed", maxCost)}
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, &EvalError{Field: string(p.kind), Err: explain(err)}
}

// explain adds the remedy to what CEL says.
func explain(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "no such overload"):
		return fmt.Errorf("%w: a value is null or of another type than expected; test it with != null, has(), or convert it", err)
	case strings.Contains(text, "no such key"):
		return fmt.Errorf("%w: test it with has()", err)
	}
	return err
}

// describeIssues is the first faults that CEL found, with their positions.
func describeIssues(issues *cel.Issues) error {
	if issues.Err() == nil {
		return nil
	}
	const most = 3
	var parts []string
	for _, fault := range issues.Errors() {
		if len(parts) == most {
			parts = append(parts, "and more")
			break
		}
		message := shorten(fault.Message)
		if fault.Location.Line() > 0 {
			message = fmt.Sprintf("line %d, column %d: %s", fault.Location.Line(), fault.Location.Column()+1, message)
		}
		if remedy := remedyOf(fault.Message); remedy != "" {
			message += " (" + remedy + ")"
		}
		parts = append(parts, message)
	}
	return errors.New("must be a CEL expression: " + strings.Join(parts, "; "))
}

func shorten(message string) string {
	const longest = 300
	message = strings.Join(strings.Fields(message), " ")
	if len(message) > longest {
		message = strings.ToValidUTF8(message[:longest], "") + "…"
	}
	return message
}

func remedyOf(message string) string {
	switch {
	case strings.Contains(message, "Syntax error"):
		return "strings stand in quotes; names that are no identifiers in backquotes"
	case strings.Contains(message, "undeclared reference"):
		return "there are data, type, subject, source, time and key"
	case strings.Contains(message, "undefined field"):
		return "data has op, schema, table, key, row, old, changed, unchanged, lossy, oversize and tx"
	case strings.Contains(message, "no matching overload"):
		return "the types must agree: a double is written 100.0, a time timestamp('2026-01-31T00:00:00Z')"
	}
	return ""
}

// regexWork bounds instructions times bytes of one match: the time of RE2 is
// linear in both.
const regexWork = 1 << 18

// matchesRegex compiles patterns once, and refuses texts too long for them.
func matchesRegex() *interpreter.RegexOptimization {
	return &interpreter.RegexOptimization{
		Function: "matches", RegexIndex: 1,
		Factory: func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
			compiled, instructions, err := compilePattern(pattern)
			if err != nil {
				return nil, err
			}
			longest := regexWork / max(1, instructions)
			return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
				if len(args) != 2 {
					return types.NoSuchOverloadErr()
				}
				text, ok := args[0].(types.String)
				if !ok {
					return types.MaybeNoSuchOverloadErr(args[0])
				}
				if len(text) > longest {
					return types.NewErr("a text of %d bytes is too long for the pattern of matches(); it takes %d", len(text), longest)
				}
				return types.Bool(compiled.MatchString(string(text)))
			}), nil
		},
	}
}

func compilePattern(pattern string) (compiled *regexp.Regexp, instructions int, err error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, 0, fmt.Errorf("read pattern: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, 0, fmt.Errorf("compile pattern: %w", err)
	}
	if compiled, err = regexp.Compile(pattern); err != nil {
		return nil, 0, fmt.Errorf("compile pattern: %w", err)
	}
	return compiled, len(program.Inst), nil
}
