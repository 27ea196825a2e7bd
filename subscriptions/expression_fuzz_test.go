package subscriptions_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

// Whatever the text, it ends soon, without panic, in a value or a verdict; what
// a transform makes is JSON.
func FuzzExpression(f *testing.F) {
	for _, source := range []string{
		usualFilter, `data.row.prices.map(p, {"p": p, "q": p * 2.0})`, `has(data.row.body) ? data.row.body : data.row.note`,
		`data.row.doc.list.filter(i, i.x > 1)`, `dyn(data.row)["größe"] == 6`, `data.row.?body.orValue("x")`, `{?"a": data.row.?b}`,
		`data.row.status.matches('(a|b)*$')`, `[data.row].map(r, r.total)[0]`, `{"a": [data.row.doc]}.a[0].n`, `data.map(k, data[k])`,
		`[1].map(data, data)`, `data.row.tags + ["x"]`, `[[1]].map(x, x + x)[0]`, `type(data)`, `optional.of(data.row)`, `string(data.row.placed_at)`,
	} {
		f.Add(source, orderUpdate)
	}
	f.Add(`data.a.b[0]`, `{"a":{"b":[1,"\ud800",1e999,[[[]]],{}]}}`)
	f.Fuzz(func(t *testing.T, source, data string) {
		table := orders(subscriptions.IdentityFull)
		for _, table := range []*subscriptions.TableTypes{&table, nil} {
			programs, d := subscriptions.NewPrograms(), decode(data, table)
			var matchErr, applyErr, keyErr error
			var body []byte
			took := subscriptions.Took(func() {
				_, matchErr = programs.Filter(source).Match(t.Context(), d)
				body, applyErr = programs.Transform(source).Apply(t.Context(), d)
				_, keyErr = programs.OrderingKey(source).Key(t.Context(), d)
			})
			if took > 2*time.Second {
				t.Errorf("took %v", took)
			}
			if applyErr == nil && json.Valid([]byte(data)) && !json.Valid(body) {
				t.Errorf("transform gives %q", body)
			}
			for _, err := range []error{matchErr, applyErr, keyErr} {
				if _, ok := errors.AsType[*subscriptions.EvalError](err); err != nil && !ok {
					t.Errorf("error %T is no verdict: %v", err, err)
				}
			}
		}
	})
}

// A transform computes with the same values as a filter, though it sees data
// through another view.
func FuzzTransformComputesAsAFilterDoes(f *testing.F) {
	for _, source := range []string{
		usualFilter, `data.row.total == 123.45`, `data.row.prices.exists(p, p == 1.1)`, `[data.row.total] == [123.45]`, `{"a": data.row.total}.a == 123.45`,
		`data.row.prices.map(p, p)[0] == 1.1`, `data.row.prices.filter(p, p > 2.0) == [2.2]`, `(data.row.paid ? data.row.total : 0.0) > 1.0`,
		`data.row.doc.list.map(i, i.x) == [1, 2.0]`, `[data.row.prices].exists(l, 1.1 in l)`, `1.1 in data.row.prices.map(p, p)`,
		`{"x": data.row.doc} == {"x": data.row.doc}`, `[data.row.doc.n].all(n, n == 1.5)`, `[[data.row.total]].map(l, l.map(x, x))[0][0] > 100.0`,
		`data.row.prices.map(p, data.row.prices.map(q, p < q))[0][1]`, `data.row.prices.map(p, p == 1.1)[0]`, `data == data`,
	} {
		f.Add(source)
	}
	table := orders(subscriptions.IdentityFull)
	f.Fuzz(func(t *testing.T, source string) {
		programs, d := subscriptions.NewPrograms(), decode(orderUpdate, &table)
		matched, err := programs.Filter(source).Match(t.Context(), d)
		if err != nil {
			return
		}
		body, err := programs.Transform(source).Apply(t.Context(), d)
		if want := map[bool]string{true: "true", false: "false"}[matched]; err != nil || string(body) != want {
			t.Errorf("%s: filter says %s, transform %s, %v", source, want, body, err)
		}
	})
}
