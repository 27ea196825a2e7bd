package subscriptions_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

func orders(identity subscriptions.Identity) subscriptions.TableTypes {
	return subscriptions.TableTypes{
		Schema: "public", Table: "orders", Identity: identity, Key: []string{"id"},
		Columns: []subscriptions.Column{
			{Name: "id", Class: subscriptions.ClassInt},
			{Name: "customer_id", Class: subscriptions.ClassInt},
			{Name: "status", Class: subscriptions.ClassString},
			{Name: "total", Class: subscriptions.ClassDouble},
			{Name: "paid", Class: subscriptions.ClassBool},
			{Name: "placed_at", Class: subscriptions.ClassTimestamp},
			{Name: "local_at", Class: subscriptions.ClassTimestamp},
			{Name: "tags", Class: subscriptions.ClassString, List: true},
			{Name: "sizes", Class: subscriptions.ClassInt, List: true},
			{Name: "prices", Class: subscriptions.ClassDouble, List: true},
			{Name: "doc", Class: subscriptions.ClassJSON},
			{Name: "note", Class: subscriptions.ClassString},
			{Name: "body", Class: subscriptions.ClassString},
			{Name: "weird name", Class: subscriptions.ClassInt},
			{Name: "größe", Class: subscriptions.ClassInt},
		},
	}
}

const orderRow = `{"id":9223372036854775807,"customer_id":7,"status":"paid","total":"123.4500","paid":true,` +
	`"placed_at":"2026-11-20T12:00:00.123456Z","local_at":"2026-11-20T12:00:00","tags":["a","b"],"sizes":[1,2,3],"prices":["1.10","2.20"],` +
	`"doc":{"n":1.50, "big":12345678901234567890,"list":[{"x":1},{"x":2.0}],"s":"té\u00e9\n"},"note":null,"weird name":5,"größe":6}`

const orderUpdate = `{"op":"update","schema":"public","table":"orders","key":{"id":9223372036854775807},"row":` + orderRow +
	`,"old":{"status":"open","total":"1"},"changed":["status","total"],"unchanged":["body"],"tx":{"xid":771,"lsn":"0/3F2A8C0","ordinal":0,"committed_at":"2026-11-20T12:00:00.123456Z"}}`

const orderDelete = `{"op":"delete","schema":"public","table":"orders","key":{"id":1},"row":null,"old":{"id":1},"changed":null,"unchanged":[],"tx":{"xid":1}}`

func attributes() subscriptions.Attributes {
	return subscriptions.Attributes{
		Type: "public.orders.updated", Subject: "id=9223372036854775807", Source: "/sources/main",
		Time: time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC), Key: "public.orders/id=9223372036854775807",
	}
}

func decode(data string, table *subscriptions.TableTypes) *subscriptions.Decoded {
	return subscriptions.Decode(attributes(), []byte(data), table)
}

func match(t testing.TB, source, data string, table *subscriptions.TableTypes) (bool, error) {
	t.Helper()
	return subscriptions.NewPrograms().Filter(source).Match(t.Context(), decode(data, table))
}

func TestColumnsHaveTheirDatabaseType(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityFull)
	for _, source := range []string{
		`data.row.id == 9223372036854775807`,
		`data.row.id > 9223372036854775806`,
		`data.row.total == 123.45 && data.row.total > 100 && data.row.total > 100.0`,
		`data.row.paid && data.row.status == 'paid'`,
		`data.row.placed_at > timestamp('2026-11-20T12:00:00.123Z')`,
		`data.row.local_at == timestamp('2026-11-20T12:00:00Z')`,
		`data.row.placed_at.getHours() == 12 && data.row.placed_at - data.row.local_at < duration('1s')`,
		`'a' in data.row.tags && data.row.tags == ['a', 'b'] && data.row.tags[1] == 'b' && size(data.row.tags) == 2`,
		`data.row.sizes.exists(s, s == 3) && 2 in data.row.sizes && data.row.sizes + [4] == [1, 2, 3, 4]`,
		`data.row.prices.all(p, p > 1.0) && 2.2 in data.row.prices`,
		`data.row.doc.n == 1.5 && data.row.doc.n > 1 && data.row.doc.big > 1e19 && data.row.doc.s == 'té\u00e9\n'`,
		`data.row.doc.list[1].x == 2 && data.row.doc.list.exists(i, i.x == 1) && size(data.row.doc) == 4 && 'n' in data.row.doc`,
		`data.row.doc == {'n': 1.5, 'big': 12345678901234567890.0, 'list': [{'x': 1}, {'x': 2.0}], 's': 'téé\n'}`,
		`data.row.note == null && data.row.status != null && data.row.total != null && data.row.placed_at != null`,
		"data.row.`weird name` == 5 && dyn(data.row)['größe'] == 6",
		`has(data.row.note) && !has(data.row.body) && 'body' in data.unchanged && !('status' in data.unchanged)`,
		`'status' in data.changed && has(data.changed) && data.old.status == 'open' && !has(data.old.paid)`,
		`data.old.total == 1.0 && data.key.id == data.row.id && data.op == 'update' && data.schema + '.' + data.table == 'public.orders'`,
		`data.row.?body.orValue('none') == 'none' && data.?old.?total.orValue(0.0) == 1.0`,
		`data.tx.xid == 771 && !has(data.tx.context) && !has(data.lossy)`,
		`type == 'public.orders.updated' && subject.startsWith('id=') && source == '/sources/main' && key.contains('/id=')`,
		`time == timestamp('2026-11-20T12:00:00.123456Z')`,
		`data.row.status.matches('^p.*d$') && !data.row.status.matches('x')`,
		`type(data.row.id) == int`,
	} {
		f, _, err := subscriptions.CompileFilter(source, []subscriptions.TableTypes{table})
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := f.Match(t.Context(), decode(orderUpdate, &table)); err != nil || !got {
			t.Errorf("%s = %v, %v", source, got, err)
		}
	}
}

func TestAnErrorIsNeverNoMatch(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityFull)
	for _, c := range []struct{ source, data, says string }{
		{`data.row.note == 'x' || data.row.note.size() > 0`, orderUpdate, "null"},
		{`data.row.body == 'x'`, orderUpdate, "has()"},
		{`data.row.total > 1.0`, orderDelete, "has()"},
		{`'status' in data.changed`, orderDelete, "has(data.changed)"},
		{`data.row.nothing == 'x'`, orderUpdate, "nothing"},
		{`data.row.doc.missing == 1`, orderUpdate, "has()"},
		{`data.row.id / 0 == 1`, orderUpdate, "zero"},
		{`data.row.id + 1 > 0`, orderUpdate, "overflow"},
		{`data.row.doc`, orderUpdate, "true or false"},
		{`data.row.placed_at > time`, strings.Replace(orderUpdate, `"2026-11-20T12:00:00.123456Z","local`, `"infinity","local`, 1), "infinity"},
		{`data.row.total > 1.0`, `{"row":{"total":`, "JSON"},
		{`data.row.total > 1.0`, ``, "JSON"},
		{`data.row.total > `, orderUpdate, "CEL expression"},
	} {
		got, err := match(t, c.source, c.data, &table)
		fault, ok := errors.AsType[*subscriptions.EvalError](err)
		if !ok || got || fault.Field != "filter" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s = %v, %v; want an error with %q", c.source, got, err, c.says)
		}
	}
}

// documentOf is an update whose column doc is row, and was old.
func documentOf(row, old string) string {
	return `{"op":"update","row":{"id":1,"doc":` + row + `},"old":{"doc":` + old + `},"changed":["doc"]}`
}

// objectOf is an object of n members; deep is one of n levels, whose end is marked.
func objectOf(n int) string {
	members := make([]string, n)
	for i := range members {
		members[i] = fmt.Sprintf(`"%d":0`, i)
	}
	return "{" + strings.Join(members, ",") + "}"
}

func deep(n int, end string) string {
	return strings.Repeat(`{"a":`, n) + end + strings.Repeat("}", n)
}

func TestADocumentThatIsTooLargeIsAnErrorWhateverIsAskedOfIt(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityFull)
	long := `{"a":"` + strings.Repeat("x", 256<<10) + `"}`
	for what, doc := range map[string]string{"many bytes": long, "many members": objectOf(20_001), "many members within": `{"x":` + objectOf(20_001) + `}`} {
		path := "data.row.doc"
		if strings.HasSuffix(what, "within") {
			path = "data.row.doc.x"
		}
		for _, source := range []string{
			`size(X) > 0`, `X.exists(k, k == 'a')`, `X.exists(k, true)`, `!X.all(k, false)`, `X == {}`, `X != {}`, `X != data.old.doc`,
			`X in [data.old.doc]`, `[X] == [data.old.doc]`, `[X] != [data.old.doc]`, `X.a == 'x'`, `'a' in X`, `X.map(k, 1).size() > 0`,
		} {
			source = strings.ReplaceAll(source, "X", path)
			got, err := match(t, source, documentOf(doc, "{}"), &table)
			if _, ok := errors.AsType[*subscriptions.EvalError](err); !ok || got || !strings.Contains(err.Error(), "256 KiB") {
				t.Errorf("%s of %s = %v, %v; want an error", source, what, got, err)
			}
		}
		// What only hands it on does.
		data := documentOf(doc, "{}")
		got, err := subscriptions.NewPrograms().Transform(`{"d": `+path+`}`).Apply(t.Context(), decode(data, &table))
		if want := strings.TrimSuffix(strings.TrimPrefix(doc, `{"x":`), "}") + "}"; err != nil || what != "many members within" && string(got) != `{"d":`+doc+`}` ||
			what == "many members within" && !strings.HasPrefix(string(got), `{"d":`+want[:1000]) {
			t.Errorf("transform with %s: %.60s, %v", what, got, err)
		}
	}
	if got, err := match(t, `size(data.row.doc) == 20000 && data.row.doc == data.old.doc || true`, documentOf(objectOf(20_000), objectOf(20_000)), &table); err == nil && !got {
		t.Error("a document of 20,000 members is none")
	}
	if got, err := match(t, `size(data.row.doc) == 20000`, documentOf(objectOf(20_000), "{}"), &table); err != nil || !got {
		t.Errorf("a document of 20,000 members: %v, %v", got, err)
	}
	if got, err := match(t, `size(data) > 0`, objectOf(20_001), nil); err == nil || got {
		t.Errorf("data of 20,001 members: %v, %v", got, err)
	}
}

func TestADeepDocumentIsComparedOrAnError(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityFull)
	for _, source := range []string{
		`data.row.doc != data.old.doc`, `data.row.doc == data.old.doc`, `data.row.doc in [data.old.doc]`, `[data.row.doc] == [data.old.doc]`,
		`data.row.doc in data.old.doc.list`, `data.row.doc.list != data.old.doc.list`,
	} {
		doc := deep(10_000, "1")
		row, old := doc, deep(10_000, "2")
		if strings.Contains(source, ".list") {
			old = `{"list":[` + old + `]}`
		}
		if strings.Contains(source, "row.doc.list") {
			row = `{"list":[` + doc + `]}`
		}
		got, err := match(t, source, documentOf(row, old), &table)
		if _, ok := errors.AsType[*subscriptions.EvalError](err); !ok || got {
			t.Errorf("%s = %v, %v; want an error", source, got, err)
		}
	}
	for n, want := range map[int]string{100: `data.row.doc != data.old.doc`, 300: `data.row.doc != data.old.doc && !([data.row.doc] == [data.old.doc])`} {
		if got, err := match(t, want, documentOf(deep(n, "1"), deep(n, "2")), &table); err != nil || !got {
			t.Errorf("%d levels: %v, %v", n, got, err)
		}
	}
}

func TestHasIsFalseOfWhatIsAbsentOrOfARowThatIsGone(t *testing.T) {
	t.Parallel()
	table := orders(subscriptions.IdentityDefault)
	for _, source := range []string{
		`!has(data.row.total)`, `!has(data.changed)`, `data.row == null`, `has(data.old.id) && data.old.id == 1`, `!has(data.row.nothing)`,
		`data.?row.?total.orValue(5.0) == 5.0`,
	} {
		if got, err := match(t, source, orderDelete, &table); err != nil || !got {
			t.Errorf("%s = %v, %v", source, got, err)
		}
	}
}

func TestWithoutATableValuesHaveTheTypeOfTheirJSON(t *testing.T) {
	t.Parallel()
	const data = `{"user":{"id":7,"big":12345678901234567890,"tags":["x"],"deep":[[1],[2]]},"ok":true,"no":null,"t":"2026-11-20T12:00:00Z","f":1.5}`
	for _, source := range []string{
		`data.user.id == 7 && data.user.id > 6.5 && data.ok && data.no == null && timestamp(data.t) < timestamp('2027-01-01T00:00:00Z')`,
		`has(data.user.id) && !has(data.user.name) && data.user.tags == ['x'] && data.user.deep[1][0] == 2 && data.f == 1.5`,
		`data['user']['id'] == 7 && 'x' in data.user.tags && data.user.all(k, k != 'y') && double(data.user.big) > 1.2e19`,
	} {
		if got, err := match(t, source, data, nil); err != nil || !got {
			t.Errorf("%s = %v, %v", source, got, err)
		}
	}
	for data, want := range map[string]string{`[1,2]`: `data[1] == 2`, `"text"`: `data == 'text'`, `null`: `data == null`, ` 5 `: `data == 5`, ` { } `: `size(data) == 0`} {
		if got, err := match(t, want, data, nil); err != nil || !got {
			t.Errorf("%s of %s = %v, %v", want, data, got, err)
		}
	}
}

func TestFaultsOfAFilterNamePositionAndRemedy(t *testing.T) {
	t.Parallel()
	full, byKey := orders(subscriptions.IdentityFull), orders(subscriptions.IdentityDefault)
	users := subscriptions.TableTypes{Schema: "public", Table: "Users", Identity: subscriptions.IdentityDefault, Key: []string{"id"}, Columns: []subscriptions.Column{{Name: "id"}, {Name: "name"}}}
	type tables = []subscriptions.TableTypes
	for _, c := range []struct {
		source string
		tables tables
		says   []string
	}{
		{`data.row.total >`, nil, []string{"line 1, column", "Syntax"}},
		{"true &&\n  datta.row == 1", nil, []string{"line 2, column 3", "datta", "type, subject"}},
		{`data.row.total == 100`, tables{full}, []string{"line 1, column 16", "100.0"}},
		{`data.row.totl == 100.0`, tables{full}, []string{"line 1, column 9", "totl", "public.orders", "total"}},
		{`data.rows.total > 1.0`, tables{full}, []string{"rows", "row, old"}},
		{`data.row.total`, tables{full}, []string{"true or false"}},
		{`'status' in data.changed`, tables{byKey}, []string{"line 1, column 17", "ALTER TABLE public.orders REPLICA IDENTITY FULL"}},
		{`data.old.status == 'x'`, tables{byKey}, []string{"ALTER TABLE public.orders REPLICA IDENTITY FULL"}},
		{`'x' in data.changed`, tables{users}, []string{`ALTER TABLE public."Users" REPLICA IDENTITY FULL`}},
		{`data.row.id == 5`, tables{full, users}, []string{`public."Users"`, "dyn()"}},
		{`'a'.matches(data.row.status)`, tables{full}, []string{"literal"}},
		{`'a'.matches('(')`, tables{full}, []string{"pattern"}},
		{strings.Repeat("x", 16<<10+1), nil, []string{"16384"}},
		{`[1,2].map(x, x)`, nil, []string{"true or false"}},
	} {
		f, _, err := subscriptions.CompileFilter(c.source, c.tables)
		if err == nil || f != nil {
			t.Errorf("%.80s: accepted", c.source)
			continue
		}
		for _, want := range c.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%.80s: error lacks %q: %v", c.source, want, err)
			}
		}
	}
}

func TestWhatOnlySomeTablesLackIsAWarning(t *testing.T) {
	t.Parallel()
	full, byKey := orders(subscriptions.IdentityFull), orders(subscriptions.IdentityDefault)
	byKey.Table = "drafts"
	users := subscriptions.TableTypes{Schema: "public", Table: "users", Identity: subscriptions.IdentityFull, Columns: []subscriptions.Column{{Name: "name"}}}
	type tables = []subscriptions.TableTypes
	for _, c := range []struct {
		source string
		tables tables
		says   string // empty: no warning
	}{
		{`'status' in data.changed`, tables{full, byKey}, "ALTER TABLE public.drafts REPLICA IDENTITY FULL"},
		{`data.old.status == 'x'`, tables{full, byKey}, "ALTER TABLE public.drafts REPLICA IDENTITY FULL"},
		{`data.old.id == 1`, tables{full, byKey}, ""},
		{`'status' in data.changed`, tables{full}, ""},
		{`data.row.total > 1.0`, tables{full, users}, "public.users"},
		{`has(data.row.total) && data.row.total > 1.0`, tables{full, users}, ""},
		{`has(data.changed) && 'status' in data.changed`, tables{byKey}, "REPLICA IDENTITY FULL"},
	} {
		_, warnings, err := subscriptions.CompileFilter(c.source, c.tables)
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		if c.says == "" && len(warnings) > 0 || c.says != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], c.says)) {
			t.Errorf("%s: warnings %q, want %q", c.source, warnings, c.says)
		}
	}
	// The guard does at run time what creation was promised.
	f := subscriptions.NewPrograms().Filter(`has(data.row.total) && data.row.total > 1.0`)
	if got, err := f.Match(t.Context(), decode(`{"op":"insert","row":{"name":"x"}}`, &users)); got || err != nil {
		t.Errorf("guarded = %v, %v", got, err)
	}
	if got, err := f.Match(t.Context(), decode(orderUpdate, &full)); !got || err != nil {
		t.Errorf("of orders = %v, %v", got, err)
	}
}

func TestOneFilterFollowsTheVersionsOfATable(t *testing.T) {
	t.Parallel()
	before, after := orders(subscriptions.IdentityFull), orders(subscriptions.IdentityFull)
	after.Columns[2].Class = subscriptions.ClassInt // status became a number
	f := subscriptions.NewPrograms().Filter(`data.row.status == 'paid'`)
	if got, err := f.Match(t.Context(), decode(orderUpdate, &before)); !got || err != nil {
		t.Errorf("before = %v, %v", got, err)
	}
	got, err := f.Match(t.Context(), decode(strings.Replace(orderUpdate, `"paid","total"`, `5,"total"`, 1), &after))
	if _, ok := errors.AsType[*subscriptions.EvalError](err); got || !ok {
		t.Errorf("after = %v, %v; want an error", got, err)
	}
}

func TestFiltersShareOneDecodedEventBetweenGoroutines(t *testing.T) {
	t.Parallel()
	programs, table := subscriptions.NewPrograms(), orders(subscriptions.IdentityFull)
	d := decode(orderUpdate, &table)
	var wait sync.WaitGroup
	for i := range 8 {
		f := programs.Filter(fmt.Sprintf(`data.row.total > 100.0 && data.row.doc.list.exists(x, x.x == 1) && size(data.row.tags) == 2 && %d == %d`, i%3, i%3))
		transform := programs.Transform(`{"row": data.row, "n": data.row.doc.n, "l": data.row.prices.map(p, p)}`)
		wait.Go(func() {
			for range 50 {
				if got, err := f.Match(t.Context(), d); !got || err != nil {
					t.Errorf("%v, %v", got, err)
				}
				if _, err := transform.Apply(t.Context(), d); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

func TestACancelledContextIsNoVerdict(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	table := orders(subscriptions.IdentityFull)
	_, err := subscriptions.NewPrograms().Filter(`data.row.paid`).Match(ctx, decode(orderUpdate, &table))
	if _, verdict := errors.AsType[*subscriptions.EvalError](err); verdict || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}
