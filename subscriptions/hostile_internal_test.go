package subscriptions

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/common/types/ref"
)

// hostile are expressions that want too much, over data that helps them.
func hostile() map[string]string {
	loop := func(list string, depth int) string {
		text := "true"
		for i := range depth {
			text = fmt.Sprintf("%s.all(x%d, %s)", list, i, text)
		}
		return text
	}
	nest := func(start, step string, depth int) string {
		for range depth {
			start = "[" + start + "].map(x, " + step + ")[0]"
		}
		return start
	}
	return map[string]string{
		"loops of a list":             loop("data.list", 4),
		"loops of a json list":        loop("data.row.doc.list", 3),
		"loops of a literal":          loop("["+strings.TrimSuffix(strings.Repeat("1,", 100), ",")+"]", 6),
		"a string doubled":            "size(" + nest("data.long", "x + x", 40) + ") > 0",
		"a list doubled":              "size(" + nest("data.list", "x + x", 40) + ") > 0",
		"a list doubled and searched": "-1 in " + nest("data.list", "x + x", 30),
		"lists doubled and compared":  nest("data.list", "x + x", 24) + " == " + nest("data.list", "x + x", 24),
		"loop over a doubled list":    nest("data.list", "x + x", 24) + ".all(y, true)",
		"a long pattern":              "data.long.matches('" + strings.Repeat("(a{30}){30}", 1) + "')",
		"nested repetition":           "data.long.matches('((a*)*)*$')",
		"alternatives":                "data.long.matches('" + strings.Repeat("(a|aa)+", 100) + "$')",
		"many matches":                "data.list.all(x, data.text.matches('(a|aa)+(b|bb)+$') || true)",
		"many comparisons":            "data.list.all(x, data.doc == data.doc2 || true)",
		"many comparisons in a row":   strings.Repeat("data.doc != data.doc2 || ", 90) + "true && data.doc == data.doc2",
		"search in documents":         "data.list.all(x, data.doc in [data.doc2, data.doc2, data.doc2] || true)",
		"long concatenation":          "data.list.map(x, data.long + data.long).size() > 0",
		"deep brackets":               strings.Repeat("(", 5000) + "1" + strings.Repeat(")", 5000) + " == 1",
		"deep lists":                  strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + " == []",
		"many operators":              "true" + strings.Repeat(" && true", 2000),
		"many nots":                   strings.Repeat("!", 16000) + "true",
		"nested arrays of data":       "size(data.nested) > 0",
		"a document too large":        "data.huge.a == 1",
		"a long array":                "data.hugelist.exists(x, x == 1)",
		"nested conditionals":         strings.Repeat("(true ? ", 200) + "true" + strings.Repeat(": false)", 200),
		"nested macros":               strings.Repeat("[1].all(x, ", 60) + "true" + strings.Repeat(")", 60),
		"nested objects of data":      "data.deep != data.deep2",
		"nested objects in lists":     "data.deep in [data.deep2] || [data.deep] != [data.deep2]",
		"nested objects, many times":  "data.list.all(x, data.deep3 != data.deep4)",
		"keys of a map":               "data.doc.all(k, data.doc.all(l, data.doc.all(m, true)))",
	}
}

func hostileData() string {
	numbers := strings.TrimSuffix(strings.Repeat("0,", 1000), ",")
	members := make([]string, 2000)
	for i := range members {
		members[i] = fmt.Sprintf(`"k%d":{"a":[%d]}`, i, i)
	}
	doc := "{" + strings.Join(members, ",") + "}"
	deep := func(n int, end string) string { return strings.Repeat(`{"a":`, n) + end + strings.Repeat("}", n) }
	return `{"deep":` + deep(40_000, "1") + `,"deep2":` + deep(40_000, "2") + `,"deep3":` + deep(160, "1") + `,"deep4":` + deep(160, "2") +
		`,"list":[` + numbers + `],"row":{"doc":{"list":[` + numbers + `]}},"long":"` + strings.Repeat("a", 200_000) + `","text":"` + strings.Repeat("a", 5000) +
		`","doc":` + doc + `,"doc2":` + doc + `,"nested":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) +
		`,"huge":{"a":"` + strings.Repeat("x", 1<<20) + `"},"hugelist":[` + strings.Repeat("0,", 1<<19) + `0]}`
}

// Whatever an expression does, it ends by its cost, in about 10 ms: the bound
// in the test leaves room for the race detector, and the best of three tries
// counts. Creation may take longer, but not long.
// What the estimate would refuse runs here too: it may be wrong.
func TestHostileExpressionsStop(t *testing.T) {
	const create, run = 2 * time.Second, 400 * time.Millisecond
	data := []byte(hostileData())
	for name, source := range hostile() {
		t.Run(name, func(t *testing.T) {
			var refused error
			if took := Took(func() { _, _, refused = CompileFilter(source, nil) }); took > create {
				t.Errorf("creation took %v", took)
			}
			p, err := newCompiler().compileWithin(math.MaxUint64, exprFilter, source, nil)
			if err != nil {
				if refused == nil {
					t.Errorf("creation accepts what has the fault %v", err)
				}
				return
			}
			best := time.Hour
			var v ref.Val
			for range 3 {
				d := Decode(Attributes{}, data, nil)
				best = min(best, Took(func() { v, err = p.eval(t.Context(), d) }))
			}
			if testing.Verbose() {
				t.Logf("%v; refused %.60v; ran %v, %.150v", best, refused, v, err)
			}
			if best > run {
				t.Errorf("took %v", best)
			}
			if _, ok := errors.AsType[*EvalError](err); err != nil && !ok {
				t.Errorf("error %v is no verdict", err)
			}
		})
	}
}

func TestACostlyExpressionIsRefusedAtCreation(t *testing.T) {
	t.Parallel()
	table := TableTypes{Schema: "s", Table: "t", Identity: IdentityFull, Columns: []Column{{Name: "tags", List: true}}}
	_, _, err := CompileFilter(`data.row.tags.all(a, data.row.tags.all(b, data.row.tags.all(c, data.row.tags.all(d, a == d))))`, []TableTypes{table})
	if err == nil || !strings.Contains(err.Error(), "costs too much") {
		t.Errorf("error %v", err)
	}
	if _, _, err = CompileFilter(`data.row.tags.all(a, data.row.tags.exists(b, a == b))`, []TableTypes{table}); err != nil {
		t.Errorf("a modest one is refused: %v", err)
	}
}
