package subscriptions_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/subscriptions"
)

// wide is an update of a row of 20 columns, about 1 KiB.
func wide() (*subscriptions.TableTypes, string) {
	table := &subscriptions.TableTypes{Schema: "public", Table: "wide", Identity: subscriptions.IdentityFull, Key: []string{"id"}}
	var members []string
	add := func(name string, class subscriptions.Class, value string) {
		table.Columns = append(table.Columns, subscriptions.Column{Name: name, Class: class})
		members = append(members, fmt.Sprintf("%q:%s", name, value))
	}
	add("id", subscriptions.ClassInt, "123456")
	add("total", subscriptions.ClassDouble, `"123.45"`)
	add("status", subscriptions.ClassString, `"paid"`)
	add("placed_at", subscriptions.ClassTimestamp, `"2026-11-20T12:00:00.123456Z"`)
	for i := range 16 {
		add(fmt.Sprintf("column_%d", i), subscriptions.ClassString, `"some text of a usual length"`)
	}
	return table, `{"op":"update","schema":"public","table":"wide","key":{"id":123456},"row":{` + strings.Join(members, ",") +
		`},"old":{"status":"open"},"changed":["status"],"unchanged":[],"tx":{"xid":771,"lsn":"0/3F2A8C0","ordinal":0,"committed_at":"2026-11-20T12:00:00.123456Z"}}`
}

const usualFilter = `data.row.total > 100.0 && data.row.status == 'paid' && 'status' in data.changed`

func BenchmarkFilter(b *testing.B) {
	table, data := wide()
	run := func(name, source string, table *subscriptions.TableTypes, fresh bool) {
		b.Run(name, func(b *testing.B) {
			f := subscriptions.NewPrograms().Filter(source)
			d := decode(data, table)
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if fresh {
					d = decode(data, table)
				}
				if matched, err := f.Match(b.Context(), d); !matched || err != nil {
					b.Fatal(matched, err)
				}
			}
		})
	}
	run("with decode", usualFilter, table, true)
	run("decoded before", usualFilter, table, false)
	run("of the type alone", `type == 'public.orders.updated'`, table, true)
	run("without a table", `data.row.status == 'paid' && 'status' in data.changed`, nil, true)
	run("a regular expression", `data.row.column_3.matches('^some .* length$')`, table, false)
	run("a loop", `data.changed.exists(c, c == 'status')`, table, false)
}

func BenchmarkTransform(b *testing.B) {
	table, data := wide()
	t := subscriptions.NewPrograms().Transform(`{"id": data.row.id, "total": data.row.total, "text": "order " + string(data.row.id), "row": data.row}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := t.Apply(b.Context(), decode(data, table)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOrderingKey(b *testing.B) {
	table, data := wide()
	k := subscriptions.NewPrograms().OrderingKey(`data.row.status`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Key(b.Context(), decode(data, table)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileFilter(b *testing.B) {
	table, _ := wide()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := subscriptions.CompileFilter(usualFilter, []subscriptions.TableTypes{*table}); err != nil {
			b.Fatal(err)
		}
	}
}
