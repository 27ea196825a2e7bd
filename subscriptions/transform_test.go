package subscriptions_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/subscriptions"
)

func TestATransformHandsValuesOnByteForByte(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityFull)
	for source, want := range map[string]string{
		`data.row.total`:         `"123.4500"`,
		`data.row`:               orderRow,
		`data`:                   orderUpdate,
		`data.row.doc`:           `{"n":1.50, "big":12345678901234567890,"list":[{"x":1},{"x":2.0}],"s":"té\u00e9\n"}`,
		`data.row.doc.n`:         `1.50`,
		`data.row.doc.big`:       `12345678901234567890`,
		`data.row.doc.s`:         `"té\u00e9\n"`,
		`data.row.doc.list[1].x`: `2.0`,
		`data.row.prices`:        `["1.10","2.20"]`,
		`data.row.prices[0]`:     `"1.10"`,
		`data.row.local_at`:      `"2026-11-20T12:00:00"`,
		`data.row.note`:          `null`,
		`data.row.id`:            `9223372036854775807`,
		`{"z": data.row.total, "a": data.row.paid, "list": [data.row.total, 1]}`:       `{"a":true,"list":["123.4500",1],"z":"123.4500"}`,
		`data.row.total > 100.0 ? dyn({"big": data.row.total}) : dyn({"small": true})`: `{"big":"123.4500"}`,
		`data.row.prices.map(p, p)`:                                                      `["1.10","2.20"]`,
		`data.row.prices.map(p, {"p": p, "twice": p * 2.0})`:                             `[{"p":"1.10","twice":2.2},{"p":"2.20","twice":4.4}]`,
		`data.row.prices.filter(p, p > 2.0)`:                                             `["2.20"]`,
		`data.row.prices.map(p, p > 2.0, p)`:                                             `["2.20"]`,
		`data.row.doc.list.map(i, i.x)`:                                                  `[1,2.0]`,
		`data.row.doc.list.filter(i, i.x > 1)`:                                           `[{"x":2.0}]`,
		`data.row.doc.list.map(i, data.row.prices.map(p, {"x": i.x, "p": p}))`:           `[[{"p":"1.10","x":1},{"p":"2.20","x":1}],[{"p":"1.10","x":2.0},{"p":"2.20","x":2.0}]]`,
		`[3, 1].map(x, {"x": x, "t": data.row.total})`:                                   `[{"t":"123.4500","x":3},{"t":"123.4500","x":1}]`,
		`data.row.total + 1.0`:                                                           `124.45`,
		`string(data.row.id) + "/" + data.row.status`:                                    `"9223372036854775807/paid"`,
		`data.row.status == "paid" && data.row.total == 123.45 && data.row.doc.n == 1.5`: `true`,
		`data.row.total in data.row.prices || data.row.prices[0] in data.row.prices`:     `true`,
		`[data.row.total] == [123.45]`:                                                   `true`,
		`{"a": data.row.doc}.a.n == 1.5`:                                                 `true`,
		`{"changed": data.changed, "old": data.old, "op": data.op}`:                      `{"changed":["status","total"],"old":{"status":"open","total":"1"},"op":"update"}`,
		`has(data.row.body) ? data.row.body : "none"`:                                    `"none"`,
		`data.row.?body.orValue("none")`:                                                 `"none"`,
		`{?"body": data.row.?body, ?"status": data.row.?status}`:                         `{"status":"paid"}`,
		`data.row.doc.list.exists(i, i.x == 2) ? data.row.sizes : []`:                    `[1,2,3]`,
		`data.row.sizes[data.row.sizes[0]]`:                                              `2`,
		`data.row.placed_at + duration("1s")`:                                            `"2026-11-20T12:00:01.123456Z"`,
		`b"ab"`:                                                                          `"YWI="`,
		`"a\"<\u2028"`:                                                                   `"a\"\u003c\u2028"`,
		`dyn(data.row)["größe"]`:                                                         `6`,
		`{"n": dyn(data.row).doc["n"], "eq": dyn(data.row).doc["n"] == 1.5}`:             `{"eq":true,"n":1.50}`,
		`type`:    `"public.orders.updated"`,
		`1.0/0.0`: `"Infinity"`,
	} {
		tr, _, err := subscriptions.CompileTransform(source, []subscriptions.TableTypes{table})
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		got, err := tr.Apply(t.Context(), decode(orderUpdate, &table))
		if err != nil || string(got) != want {
			t.Errorf("%s\n got %s, %v\nwant %s", source, got, err, want)
		}
	}
}

func TestATransformOfAnEventWithoutRowOrTable(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityDefault)
	for _, c := range []struct{ source, data, want string }{
		{`{"row": data.row, "changed": data.changed}`, orderDelete, `{"changed":null,"row":null}`},
		{`{"id": data.key.id}`, orderDelete, `{"id":1}`},
	} {
		got, err := subscriptions.NewPrograms().Transform(c.source).Apply(t.Context(), decode(c.data, &table))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v", c.source, got, err)
		}
	}
	got, err := subscriptions.NewPrograms().Transform(`{"n": data.n, "m": data.n + 1.0}`).Apply(t.Context(), decode(`{"n": 1.50}`, nil))
	if err != nil || string(got) != `{"m":2.5,"n":1.50}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestATransformThatFailsOrGrowsTooLargeIsAnError(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityFull)
	large := strings.Replace(orderUpdate, `"note":null`, `"note":"`+strings.Repeat("x", 100_000)+`"`, 1)
	for _, source := range []string{
		`{"a": data.row.body}`, `data.row.id / 0`, `{1: 2}`,
		`[data.row.note, data.row.note, data.row.note, data.row.note, data.row.note]`,
		`[data, data, data, data, data, data]`,
	} {
		got, err := subscriptions.NewPrograms().Transform(source).Apply(t.Context(), decode(large, &table))
		fault, ok := errors.AsType[*subscriptions.EvalError](err)
		if !ok || fault.Field != "transform" || got != nil {
			t.Errorf("%s = %d bytes, %v", source, len(got), err)
		}
	}
}

func TestATransformGivesTheSameBytesEveryTime(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityFull)
	tr := subscriptions.NewPrograms().Transform(`{"f": 1, "a": {"z": 1, "b": 2, "y": 3}, "q": 2, "c": 3, "m": 4}`)
	for range 20 {
		got, err := tr.Apply(t.Context(), decode(orderUpdate, &table))
		if want := `{"a":{"b":2,"y":3,"z":1},"c":3,"f":1,"m":4,"q":2}`; err != nil || string(got) != want {
			t.Fatalf("%s, %v", got, err)
		}
	}
}

func TestAnOrderingKeyIsText(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityFull)
	for source, want := range map[string]string{
		`data.row.customer_id`: "7", `data.row.status`: "paid", `data.row.total`: "123.45", `data.row.paid`: "true", `data.row.note`: "null",
		`data.row.status + "/" + string(data.row.customer_id)`: "paid/7", `data.row.placed_at`: "2026-11-20T12:00:00.123456Z", `data.row.doc.n`: "1.5",
	} {
		k, warnings, err := subscriptions.CompileOrderingKey(source, []subscriptions.TableTypes{table})
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %q, %v", source, warnings, err)
			continue
		}
		if got, err := k.Key(t.Context(), decode(orderUpdate, &table)); err != nil || got != want {
			t.Errorf("%s = %q, %v", source, got, err)
		}
	}
	long := strings.Replace(orderUpdate, `"status":"paid"`, `"status":"`+strings.Repeat("x", 600)+`"`, 1)
	if got, err := subscriptions.NewPrograms().OrderingKey(`data.row.status`).Key(t.Context(), decode(long, &table)); err != nil || !strings.HasPrefix(got, "sha256-") || len(got) != 71 {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAnOrderingKeyOfADeleteIsThatOfTheRowThatWasSent(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityFull)
	whole := strings.Replace(orderDelete, `"old":{"id":1}`, `"old":{"id":1,"customer_id":7}`, 1)
	k := subscriptions.NewPrograms().OrderingKey(`data.row.customer_id`)
	if got, err := k.Key(t.Context(), decode(whole, &table)); err != nil || got != "7" {
		t.Errorf("full = %q, %v", got, err)
	}
	got, err := k.Key(t.Context(), decode(orderDelete, &table))
	if fault, ok := errors.AsType[*subscriptions.EvalError](err); !ok || fault.Field != "ordering_key" {
		t.Errorf("default = %q, %v; want an error", got, err)
	}
	// A filter sees the event as it is sent.
	if matched, err := match(t, `data.row == null`, whole, &table); !matched || err != nil {
		t.Errorf("filter = %v, %v", matched, err)
	}
}

func TestAnOrderingKeyOutsideTheIdentityIsAWarning(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityDefault)
	_, warnings, err := subscriptions.CompileOrderingKey(`data.row.customer_id`, []subscriptions.TableTypes{table})
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "ALTER TABLE public.orders REPLICA IDENTITY FULL") {
		t.Errorf("%q, %v", warnings, err)
	}
	_, warnings, err = subscriptions.CompileOrderingKey(`data.row.id`, []subscriptions.TableTypes{table})
	if err != nil || len(warnings) > 0 {
		t.Errorf("%q, %v", warnings, err)
	}
	if _, _, err = subscriptions.CompileOrderingKey(`data.row.tags`, []subscriptions.TableTypes{table}); err == nil {
		t.Error("a list is accepted")
	}
}

func TestAnOrderingKeyThatAnUpdateChangesIsTwo(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityFull)
	k := subscriptions.NewPrograms().OrderingKey(`string(data.row.customer_id) + "/" + data.row.status`)
	update := func(old string) string {
		start := strings.Index(orderUpdate, `"old":`)
		end := start + strings.Index(orderUpdate[start:], "}") + 1
		return orderUpdate[:start] + `"old":` + old + orderUpdate[end:]
	}
	for old, want := range map[string]string{
		`{"customer_id":8}`:                 "8/paid",
		`{"customer_id":8,"status":"open"}`: "8/open",
		`{"total":"1.00"}`:                  "",
		`{}`:                                "",
		`{"customer_id":7,"status":"paid"}`: "",
	} {
		key, before, err := k.Keys(t.Context(), decode(update(old), &table))
		if err != nil || key != "7/paid" || before != want {
			t.Errorf("old %s: key %q, before %q, %v", old, key, before, err)
		}
	}
	if _, _, err := k.Keys(t.Context(), decode(update(`{"status":null}`), &table)); err == nil {
		t.Error("a row before that has no key gives one")
	}
	for _, whole := range []string{orderDelete, strings.Replace(orderUpdate, `"update"`, `"insert"`, 1)} {
		if _, before, _ := k.Keys(t.Context(), decode(whole, &table)); before != "" {
			t.Errorf("%s: before %q", whole, before)
		}
	}
}

func TestExpressionsAreCheckedForTheTablesThatTheyMatch(t *testing.T) {
	t.Parallel()
	full, other := orders(subscriptions.IdentityFull), orders(subscriptions.IdentityDefault)
	other.Table = "Other.Orders"
	unknown := subscriptions.TableTypes{Schema: "public", Table: "unknown"}
	known := []subscriptions.TableTypes{full, other, unknown}
	programs := subscriptions.NewPrograms()
	for name, c := range map[string]struct {
		events        []string
		filter, order string
		fault         string
		warning       string
	}{
		"well":                    {events: []string{"public.orders.*"}, filter: `'status' in data.changed`},
		"no such column":          {events: []string{"public.orders.updated"}, filter: `data.row.totl > 1.0`, fault: "filter line 1, column 9"},
		"another type":            {events: []string{"public.orders.updated"}, filter: `data.row.total == 'much'`, fault: "filter must be a CEL expression: line 1, column 16"},
		"changed is not known":    {events: []string{"public.Other%2EOrders.updated"}, filter: `'status' in data.changed`, fault: `ALTER TABLE public."Other.Orders" REPLICA IDENTITY FULL`},
		"nor for one of them":     {events: []string{"public.**"}, filter: `'status' in data.changed`, warning: `filter, line 1, column 17: data.changed is not known for updates of public."Other.Orders"`},
		"of no table":             {events: []string{"user.*"}, filter: `data.whatever == 1`},
		"of a table to come":      {events: []string{"public.unknown.*"}, filter: `data.row.whatever == 1`},
		"a key that deletes lack": {events: []string{"public.Other%2EOrders.*"}, order: `data.row.customer_id`, warning: "ordering_key, line 1, column 9: data.row.customer_id is outside the replica identity"},
	} {
		spec := subscriptions.Spec{Events: c.events}
		if c.filter != "" {
			spec.Filter = &c.filter
		}
		if c.order != "" {
			spec.OrderingKey = &c.order
		}
		warnings, err := programs.Check(&spec, known)
		if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s: %v, want %q", name, err, c.fault)
		}
		if said := strings.Join(warnings, "\n"); c.warning == "" && said != "" || !strings.Contains(said, c.warning) {
			t.Errorf("%s: warnings %q, want %q", name, said, c.warning)
		}
	}
}
