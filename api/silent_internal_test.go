package api

import (
	"strings"
	"testing"
)

func TestAPatternOfWhichNothingCanBeExpectedIsNamedWithWhatWasMeant(t *testing.T) {
	t.Parallel()
	orders := originTable{schema: "public", name: "orders", captured: true}
	odd := originTable{schema: "Sales", name: "Weird%2EName", captured: true}
	logs := originTable{schema: "public", name: "logs", reason: "no key", remedy: "ALTER TABLE public.logs REPLICA IDENTITY FULL"}
	o := &origins{tables: []originTable{orders, odd, logs}, known: map[string]bool{}, said: map[string]string{}}
	for _, table := range []string{"public.orders", "Sales.Weird%2EName"} {
		for _, op := range rowOperations {
			o.types = append(o.types, table+"."+op)
		}
	}
	o.types = append(o.types, "user.signed_up", "invoice")
	for _, name := range o.types {
		o.known[name] = true
	}
	for pattern, want := range map[string]string{
		"**": "", "*": "", "*.*.*": "", "public.**": "", "public.orders.*": "", "public.orders.truncated": "", "*.orders.updated": "",
		"Sales.Weird%2EName.deleted": "", "user.signed_up": "", "user.*": "", "invoice": "", "rowcall.**": "", "rowcall.delivery.dead": "",

		"orders":                     `did you mean "public.orders.*"?`,
		"ORDERS":                     `did you mean "public.orders.*"?`,
		"public.orders":              `did you mean "public.orders.*"?`,
		"public.orders.insert":       `did you mean "public.orders.inserted"?`,
		"public.orders.UPDATED":      `did you mean "public.orders.updated"?`,
		"public.orders.removed":      `did you mean "public.orders.deleted"?`,
		"public.orders.upsert":       `did you mean "public.orders.*"?`,
		"public.orders.inserted.x":   `did you mean "public.orders.inserted"?`,
		"orders.created":             `did you mean "public.orders.inserted"?`,
		"Public.Orders.*":            `did you mean "public.orders.*"?`,
		"PUBLIC.**":                  `did you mean "public.**"?`,
		"public":                     `did you mean "public.**"?`,
		"public.*":                   `did you mean "public.*.*"?`,
		"*.Orders.*":                 `did you mean "*.orders.*"?`,
		"sales.weird%2Ename.updated": `did you mean "Sales.Weird%2EName.updated"?`,
		"public.nosuch.*":            "once there is such a table, or somebody publishes them",
		"user.signed_out":            "once there is such a table, or somebody publishes them",
		"public.logs.*":              "table public.logs is left out of capture: no key; what lets it in: ALTER TABLE public.logs REPLICA IDENTITY FULL",
		"Logs":                       `REPLICA IDENTITY FULL; its pattern is "public.logs.*"`,
	} {
		got := o.silent([]string{pattern})
		if want == "" && len(got) == 0 {
			continue
		}
		if len(got) != 1 || want == "" || !strings.HasSuffix(got[0], want) || !strings.HasPrefix(got[0], `events, pattern "`+pattern+`": no captured table has events of these types, and none were seen; `) {
			t.Errorf("%s: %q, want %q", pattern, got, want)
		}
	}
	if got := o.silent([]string{"public.nosuch.*", "public.orders.*", "orders"}); len(got) != 2 || !strings.Contains(got[0], "nosuch") {
		t.Errorf("of three: %q", got)
	}
	o.endless = true
	if got := o.silent([]string{"orders"}); got != nil {
		t.Errorf("where more types were seen than are noted: %q", got)
	}
	if got := (&origins{}).silent([]string{"orders"}); got != nil {
		t.Errorf("before a table is known: %q", got)
	}
}
