package subscriptions

import (
	"strings"
	"testing"
)

func TestSyntaxIsCheckedWhereTheFieldHasNoOtherFault(t *testing.T) {
	t.Parallel()
	var e FieldErrors
	e.checkSyntax("filter", new("data.row.total > 100.0 && !has(data.row.`weird name`)"))
	e.checkSyntax("transform", nil)
	if len(e) > 0 {
		t.Errorf("faults of a good one: %v", e)
	}
	e.checkSyntax("filter", new("data.row.total >"))
	if len(e) != 1 || e[0].Field != "filter" || !strings.Contains(e[0].Message, "line 1, column") {
		t.Errorf("faults: %v", e)
	}
	e.checkSyntax("filter", new(")"))
	if len(e) != 1 {
		t.Errorf("a field has two faults: %v", e)
	}
}

func TestProgramsAreSharedByTextAndLookOfTheTable(t *testing.T) {
	t.Parallel()
	programs := NewPrograms()
	table := func(column string) *TableTypes {
		return &TableTypes{Schema: "s", Table: "t", Columns: []Column{{Name: column, Class: ClassInt}}}
	}
	get := func(source string, table *TableTypes) *program {
		t.Helper()
		p, err := programs.expression(exprFilter, source).program(table)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := get("true", table("a"))
	if get("true", table("a")) != first {
		t.Error("the same text and columns are compiled twice")
	}
	for name, other := range map[string]*program{
		"another table": get("true", table("b")), "another text": get("false", table("a")), "no table": get("true", nil),
	} {
		if other == first {
			t.Errorf("%s has the same program", name)
		}
	}
}

func TestProgramsAndExpressionsForgetWhatIsTooMuch(t *testing.T) {
	t.Parallel()
	programs := NewPrograms()
	for i := range maxPrograms {
		programs.entries[programKey{source: strings.Repeat("x", i)}] = &programEntry{}
	}
	e := programs.expression(exprFilter, "true")
	for range maxKnownTables + 10 {
		if _, err := e.program(&TableTypes{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(programs.entries) > maxPrograms || len(e.known) > maxKnownTables {
		t.Errorf("%d programs, %d tables are remembered", len(programs.entries), len(e.known))
	}
}
