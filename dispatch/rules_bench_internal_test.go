package dispatch

import (
	"fmt"
	"testing"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// BenchmarkFilters is what a page of 100 events costs lanes with filters, each
// event decoded once for all of them; with none, only its type is looked up.
func BenchmarkFilters(b *testing.B) {
	m := newMemory(subscriptions.Subscription{})
	m.tables = map[store.RelationVersion]*subscriptions.TableTypes{1: {
		Schema: "public", Table: "orders", Identity: subscriptions.IdentityFull, Key: []string{"id"},
		Columns: []subscriptions.Column{{Name: "id", Class: subscriptions.ClassInt}, {Name: "total", Class: subscriptions.ClassDouble}, {Name: "status"}},
	}}
	events := make([]store.Event, 100)
	for i := range events {
		events[i] = store.Event{
			Offset: store.Offset(i + 1), Type: "public.orders.updated", Key: fmt.Sprintf("public.orders/id=%d", i), Relation: 1,
			Data: fmt.Appendf(nil, `{"op":"update","row":{"id":%d,"total":"123.45","status":"paid"},"old":{"status":"open"},"changed":["status"]}`, i),
		}
	}
	programs := subscriptions.NewPrograms()
	for _, n := range []int{0, 1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rules := make([]*rules, n)
			patterns := make([][]string, n)
			for i := range rules {
				filter := fmt.Sprintf(`data.row.total > %d.0 && data.row.status == 'paid'`, i)
				rules[i] = newRules(programs, &subscriptions.Spec{Filter: &filter})
				patterns[i] = []string{"public.orders.*"}
			}
			set := subscriptions.NewSet(patterns)
			b.ReportAllocs()
			for b.Loop() {
				for i := range events {
					c := candidate{event: &events[i]}
					for _, n := range set.Match(c.event.Type) {
						if v, err := rules[n].judge(b.Context(), &c, m); err != nil || !v.wanted {
							b.Fatal(v, err)
						}
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(events)), "ns/event")
		})
	}
}
