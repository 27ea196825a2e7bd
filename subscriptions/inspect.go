package subscriptions

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// memberRead is a place at which an expression reads a member of data.
type memberRead struct {
	member string // row, old, key, changed
	column string // of row, old and key; empty for the whole
	tested bool   // nothing but has() or .? reads it there
	at     string // "line 1, column 5"
}

func (r memberRead) name() string {
	if r.column == "" {
		return "data." + r.member
	}
	return "data." + r.member + "." + r.column
}

// inspect notes what an expression reads and how long its patterns are, in
// instructions. It refuses patterns that are made while it runs.
func inspect(checked *cel.Ast) (reads []memberRead, patterns map[string]int, err error) {
	patterns = map[string]int{}
	native := checked.NativeRep()
	ast.PreOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if err == nil {
			err = checkMatches(e, patterns)
		}
		path, tested, ok := dataPath(e)
		if !ok || len(path) == 0 {
			return
		}
		location := native.SourceInfo().GetStartLocation(e.ID())
		read := memberRead{
			member: path[0], tested: tested,
			at: fmt.Sprintf("line %d, column %d", location.Line(), location.Column()+1),
		}
		switch path[0] {
		case "row", "old", "key":
			if len(path) > 2 {
				return
			}
			if len(path) == 2 {
				read.column = path[1]
			}
		case "changed":
			if len(path) > 1 {
				return
			}
		default:
			return
		}
		reads = append(reads, read)
	}))
	return reads, patterns, err
}

// dataPath is the names that lead from data to what an expression reads.
func dataPath(e ast.Expr) (path []string, tested, ok bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return nil, false, e.AsIdent() == varData
	case ast.SelectKind:
		s := e.AsSelect()
		path, tested, ok = dataPath(s.Operand())
		return append(path, s.FieldName()), tested || s.IsTestOnly(), ok
	case ast.CallKind:
		call := e.AsCall()
		switch call.FunctionName() {
		case operators.Index, operators.OptIndex, operators.OptSelect:
			name := call.Args()[1]
			if name.Kind() != ast.LiteralKind {
				return nil, false, false
			}
			text, isText := name.AsLiteral().(types.String)
			if !isText {
				return nil, false, false
			}
			path, tested, ok = dataPath(call.Args()[0])
			return append(path, string(text)), tested || call.FunctionName() != operators.Index, ok
		case "dyn":
			return dataPath(call.Args()[0])
		}
	}
	return nil, false, false
}

func checkMatches(e ast.Expr, patterns map[string]int) error {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "matches" {
		return nil
	}
	args := e.AsCall().Args()
	if len(args) > 0 && args[len(args)-1].Kind() == ast.LiteralKind {
		if pattern, ok := args[len(args)-1].AsLiteral().(types.String); ok {
			_, instructions, err := compilePattern(string(pattern))
			if err != nil {
				return fmt.Errorf("must have a valid pattern in matches(): %w", err)
			}
			patterns[string(pattern)] = instructions
			return nil
		}
	}
	return errors.New("must name the pattern of matches() as a literal: patterns are compiled once")
}

// judge says what reads of an expression mean on tables: faults that refuse it,
// and warnings.
func judge(kind exprKind, reads []memberRead, tables []TableTypes) (warnings []string, err error) {
	seen := map[memberRead]bool{}
	for _, read := range reads {
		key := memberRead{member: read.member, column: read.column}
		if seen[key] {
			continue
		}
		seen[key] = true
		read.tested = allTested(reads, read)
		for _, rule := range []func(exprKind, memberRead, []TableTypes) (string, error){judgeColumn, judgeOld, judgeOrder} {
			warning, err := rule(kind, read, tables)
			if err != nil {
				return nil, err
			}
			if warning != "" {
				warnings = append(warnings, warning)
			}
		}
	}
	return warnings, nil
}

// allTested reports whether an expression tests a member wherever it reads it:
// it has has() of it, or reads it with .? alone.
func allTested(reads []memberRead, of memberRead) bool {
	return slices.ContainsFunc(reads, func(r memberRead) bool {
		return r.tested && r.member == of.member && r.column == of.column
	})
}

func judgeColumn(_ exprKind, read memberRead, tables []TableTypes) (string, error) {
	if read.column == "" {
		return "", nil
	}
	lacking := tablesThat(tables, func(t *TableTypes) bool { _, ok := t.column(read.column); return !ok })
	switch {
	case len(lacking) == 0:
		return "", nil
	case len(lacking) == len(tables):
		return "", fmt.Errorf("%s: %s is a column of none of the tables; %s has %s", read.at, read.name(), tables[0].name(), columnNames(&tables[0]))
	case read.tested:
		return "", nil
	}
	return fmt.Sprintf("%s: %s is no column of %s; its events will fail unless has(%s) comes first",
		read.at, read.name(), tableNames(lacking), read.name()), nil
}

func judgeOld(kind exprKind, read memberRead, tables []TableTypes) (string, error) {
	if read.member != "changed" && (read.member != "old" || read.column == "") {
		return "", nil
	}
	lacking := tablesThat(tables, func(t *TableTypes) bool {
		return t.Identity != IdentityFull && !(read.member == "old" && slices.Contains(t.Key, read.column))
	})
	if len(lacking) == 0 {
		return "", nil
	}
	what := fmt.Sprintf("%s: %s is not known for updates of %s; remedy: %s", read.at, read.name(), tableNames(lacking), remedies(lacking))
	if kind == exprFilter && len(lacking) == len(tables) && !read.tested {
		return "", errors.New(what)
	}
	return what, nil
}

func judgeOrder(kind exprKind, read memberRead, tables []TableTypes) (string, error) {
	if kind != exprOrderingKey || read.column == "" {
		return "", nil
	}
	lacking := tablesThat(tables, func(t *TableTypes) bool {
		_, has := t.column(read.column)
		return has && t.Identity != IdentityFull && !slices.Contains(t.Key, read.column)
	})
	if len(lacking) == 0 {
		return "", nil
	}
	return fmt.Sprintf("%s: %s is outside the replica identity of %s, so deletes do not have it and wait for all events of their table; remedy: %s",
		read.at, read.name(), tableNames(lacking), remedies(lacking)), nil
}

func tablesThat(tables []TableTypes, is func(*TableTypes) bool) []*TableTypes {
	var list []*TableTypes
	for i := range tables {
		if is(&tables[i]) {
			list = append(list, &tables[i])
		}
	}
	return list
}

const mostNamed = 5

func tableNames(tables []*TableTypes) string {
	return joinSome(tables, ", ", func(t *TableTypes) string { return t.name() })
}

func remedies(tables []*TableTypes) string {
	return joinSome(tables, "; ", (*TableTypes).fullIdentity)
}

func joinSome(tables []*TableTypes, between string, text func(*TableTypes) string) string {
	var parts []string
	for i, t := range tables {
		if i == mostNamed {
			parts = append(parts, fmt.Sprintf("and %d more", len(tables)-i))
			break
		}
		parts = append(parts, text(t))
	}
	return strings.Join(parts, between)
}

func columnNames(t *TableTypes) string {
	const most = 30
	names := make([]string, 0, most)
	for i, c := range t.Columns {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(t.Columns)-i))
			break
		}
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}
