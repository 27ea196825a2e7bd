package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/storetest"
)

// stage is rowcall in process over one database, with a receiver.
type stage struct {
	t        *testing.T
	database string
	config   config
	api      *client.Client
	end      func()
	receiver *hooktest.Receiver
	url      string
}

func newStage(t *testing.T, tables ...string) *stage {
	t.Helper()
	s := &stage{t: t, database: storetest.EmptyURL(t), receiver: hooktest.Start(t, hooktest.Config{})}
	for _, sql := range tables {
		execSQL(t, s.database, sql)
	}
	s.config = newConfig(t, s.database)
	s.run()
	return s
}

// run starts rowcall, or its next life.
func (s *stage) run() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- serve(ctx, s.config, func(addr string) { ready <- addr }); close(done) }()
	s.end = func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("serve: %v", err)
		}
	}
	s.t.Cleanup(s.end)
	select {
	case addr := <-ready:
		s.url = "http://" + addr
		s.api = newClient(s.t, s.url, s.config.apiKey.Reveal())
	case err := <-done:
		s.t.Fatalf("serve ended at its start: %v", err)
	}
	s.until("the source streams", func(ctx context.Context) bool {
		found, err := s.api.Sources(ctx)
		return err == nil && len(found.Items) == 1 && found.Items[0].State == "streaming"
	})
}

func (s *stage) until(what string, is func(ctx context.Context) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("it never came about that %s", what)
		}
	}
}

func (s *stage) sql(statements ...string) {
	s.t.Helper()
	for _, sql := range statements {
		execSQL(s.t, s.database, sql)
	}
}

// subscribe makes a subscription to all of orders.
func (s *stage) subscribe(name string, change func(*client.NewSubscription)) client.Subscription {
	s.t.Helper()
	sub := client.NewSubscription{Spec: client.Spec{
		Name: name, Events: []string{"public.orders.*"}, Endpoint: client.Endpoint{URL: s.receiver.URL() + "/" + name},
	}}
	change(&sub)
	made, err := s.api.CreateSubscription(s.t.Context(), sub)
	if err != nil {
		s.t.Fatalf("subscribe %s: %v", name, err)
	}
	return made
}

func (s *stage) patch(sub client.Subscription, patch map[string]any) client.Subscription {
	s.t.Helper()
	got, err := s.api.PatchSubscription(s.t.Context(), sub.ID, patch, 0)
	if err != nil {
		s.t.Fatalf("patch %s: %v", sub.Name, err)
	}
	return got
}

// delivered are the ids of the rows that a subscription was sent, in order.
func (s *stage) delivered(sub client.Subscription) (rows []string) {
	for _, d := range s.receiver.Deliveries() {
		if d.Subscription == sub.ID && d.Succeeded() {
			_, id, _ := strings.Cut(d.Subject, "id=")
			rows = append(rows, id)
		}
	}
	return rows
}

// wants waits until a subscription was sent rows, these and no others.
func (s *stage) wants(sub client.Subscription, ids ...string) {
	s.t.Helper()
	s.wantsWithin(patience, sub, ids...)
}

func (s *stage) wantsWithin(most time.Duration, sub client.Subscription, ids ...string) {
	s.t.Helper()
	ids = slices.Sorted(slices.Values(ids))
	ctx, cancel := context.WithTimeout(s.t.Context(), most)
	defer cancel()
	sorted := func() []string { got := s.delivered(sub); slices.Sort(got); return got }
	_ = s.receiver.Await(ctx, func(*hooktest.Receiver) bool { return len(s.delivered(sub)) >= len(ids) })
	if diff := cmp.Diff(ids, sorted()); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", sub.Name, diff)
	}
}

func (s *stage) deliveries(sub client.Subscription, is func([]client.Delivery) bool) (found []client.Delivery) {
	s.t.Helper()
	s.until("deliveries of "+sub.Name+" are as wanted", func(ctx context.Context) bool {
		page, err := s.api.Deliveries(ctx, client.DeliveryQuery{Subscription: sub.ID})
		found = page.Items
		return err == nil && is(found)
	})
	return found
}

// Each filter wants row 2 of rows 1 to 3, by a column of another type.
var typedFilters = map[string]string{
	"ints":    `data.row.n > 1 && data.row.n < 3`,
	"doubles": `data.row.total > 100.0 && data.row.total < 300.0 && data.row.ratio == 0.5`,
	"bools":   `data.row.paid`,
	"times":   `data.row.at >= timestamp('2026-01-02T00:00:00Z') && data.row.at < timestamp('2026-01-03T00:00:00Z') && data.row.local.getMonth() == 0`,
	"texts":   `data.row.status == 'paid' && data.row.status.startsWith('p')`,
	"enums":   `data.row.mood == 'good'`,
	"uuids":   `data.row.ref.endsWith('0002')`,
	"lists":   `'b' in data.row.tags && data.row.sizes.exists(n, n == 2)`,
	"docs":    `data.row.doc.kind == 'x' && data.row.doc.n == 2`,
	"domains": `data.row.price > 1.5 && data.row.price < 2.5`,
	"nulls":   `data.row.note != null`,
	"meta":    `subject == 'id=2' && type == 'public.orders.inserted' && key == 'public.orders/id=2' && time > timestamp('2020-01-01T00:00:00Z')`,
	"ops":     `data.op == 'insert' && data.key.id == 2`,
}

const typedTable = `CREATE TABLE orders (id bigint PRIMARY KEY, n smallint, total numeric(10,2), ratio real, paid bool, at timestamptz, local timestamp,
	status text, mood mood, ref uuid, tags text[], sizes int[], doc jsonb, price price, note text)`

func typedRow(id int) string {
	return fmt.Sprintf(`INSERT INTO orders SELECT i, i, i * 100 + 0.5, i / 4.0, i = 2, timestamptz '2026-01-01 00:00:00+00' + (i - 1) * interval '1 day' + interval '1 hour',
		'2026-01-31 00:00:00', CASE i WHEN 2 THEN 'paid' ELSE 'open' END, CASE i WHEN 2 THEN 'good' ELSE 'bad' END::mood, ('00000000-0000-0000-0000-00000000000' || i)::uuid,
		CASE i WHEN 2 THEN '{a,b}' ELSE '{a}' END::text[], ARRAY[i], jsonb_build_object('kind', CASE i WHEN 2 THEN 'x' ELSE 'y' END, 'n', i), i,
		CASE i WHEN 2 THEN 'note' END FROM (VALUES (%d)) v (i)`, id)
}

func TestAFilterSeesColumnsInTheTypesThatTheyHadWhenTheRowWasWritten(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TYPE mood AS ENUM ('good', 'bad')`, `CREATE DOMAIN price AS numeric(9,2)`, typedTable)
	subs := map[string]client.Subscription{}
	for name, filter := range typedFilters {
		subs[name] = s.subscribe(name, func(sub *client.NewSubscription) { sub.Filter = &filter })
	}
	all := s.subscribe("all", func(*client.NewSubscription) {})
	s.sql(typedRow(1), typedRow(2), typedRow(3))
	s.wants(all, "1", "2", "3")
	for _, sub := range subs {
		s.wants(sub, "2")
	}
}

func TestAFilterReadsABacklogFromBeforeAlterTableAfterARestart(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TABLE orders (id bigint PRIMARY KEY, amount int, note text)`)
	// With dyn() it fits both forms; each event has the types of its own.
	before := s.subscribe("before", func(sub *client.NewSubscription) { sub.Filter = new(`dyn(data.row.amount) == 10`) })
	after := s.subscribe("after", func(sub *client.NewSubscription) { sub.Filter = new(`dyn(data.row.amount) == '10'`) })
	added := s.subscribe("added", func(sub *client.NewSubscription) { sub.Filter = new(`has(data.row.note) && data.row.note == 'x'`) })
	for _, sub := range []client.Subscription{before, after, added} {
		if _, err := s.api.PauseSubscription(t.Context(), sub.ID); err != nil {
			t.Fatal(err)
		}
	}
	s.sql(`INSERT INTO orders VALUES (1, 10, 'x')`,
		`ALTER TABLE orders ALTER COLUMN amount TYPE text`, `INSERT INTO orders VALUES (2, '10', 'y')`,
		`ALTER TABLE orders DROP COLUMN note`, `INSERT INTO orders VALUES (3, '10')`,
		`ALTER TABLE orders ADD COLUMN note text`, `INSERT INTO orders VALUES (4, '11', 'x')`)
	s.until("all is in the log", func(ctx context.Context) bool {
		page, err := s.api.Events(ctx, client.EventQuery{Type: "public.orders.inserted"})
		return err == nil && len(page.Items) == 4
	})
	s.end()
	s.run()
	for _, sub := range []client.Subscription{before, after, added} {
		if _, err := s.api.ResumeSubscription(t.Context(), sub.ID); err != nil {
			t.Fatal(err)
		}
	}
	s.wants(before, "1")
	s.wants(after, "2", "3")
	s.wants(added, "1", "4")
}

func TestATransformIsWhatTheReceiverGets(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TABLE orders (id bigint PRIMARY KEY, total numeric(10,4))`)
	const transform = `{"order": data.row.id, "total": data.row.total, "big": data.row.total > 10.0}`
	for _, format := range []string{"cloudevents", "cloudevents-binary", "raw"} {
		s.subscribe(format, func(sub *client.NewSubscription) { sub.Transform, sub.Format = new(transform), format })
	}
	// It fails once at the endpoint: the bytes of every try are the same.
	s.receiver.Script(func(d hooktest.Delivery) hooktest.Reply {
		if d.Attempt == 1 {
			return hooktest.Reply{Status: 500}
		}
		return hooktest.Reply{}
	})
	s.sql(`INSERT INTO orders VALUES (1, 12.5)`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.receiver.AwaitSucceeded(ctx, 3); err != nil {
		t.Fatal(err)
	}
	const body = `{"big":true,"order":1,"total":"12.5000"}`
	bodies := map[string]map[string]bool{}
	for _, d := range s.receiver.Deliveries() {
		if bodies[d.Subscription] == nil {
			bodies[d.Subscription] = map[string]bool{}
		}
		bodies[d.Subscription][string(d.Body)] = true
		if d.Header.Get("Content-Type") == "application/cloudevents+json" {
			if !strings.HasSuffix(string(d.Body), `"data":`+body+`}`) {
				t.Errorf("body %s", d.Body)
			}
		} else if string(d.Body) != body {
			t.Errorf("body %s, want %s", d.Body, body)
		}
	}
	for id, seen := range bodies {
		if len(seen) != 1 {
			t.Errorf("%s sent %d different bodies", id, len(seen))
		}
	}
	page, err := s.api.Events(t.Context(), client.EventQuery{})
	if err != nil || len(page.Items) != 1 {
		t.Fatal(page, err)
	}
	var kept struct {
		Row struct{ Total string }
	}
	if err := json.Unmarshal(page.Items[0].Data, &kept); err != nil || kept.Row.Total != "12.5000" {
		t.Errorf("the log has %s, %v", page.Items[0].Data, err)
	}
}

func TestEventsOfOneOrderingKeyWaitForEachOther(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TABLE orders (id bigint PRIMARY KEY, customer text)`, `ALTER TABLE orders REPLICA IDENTITY FULL`)
	sub := s.subscribe("by-customer", func(sub *client.NewSubscription) {
		sub.OrderingKey = new(`data.row.customer`)
		sub.Retry = client.Retry{Initial: "100ms", Max: "100ms"}
	})
	if len(sub.Warnings) > 0 {
		t.Errorf("warnings %q", sub.Warnings)
	}
	refused := make(chan struct{})
	s.receiver.Script(func(d hooktest.Delivery) hooktest.Reply {
		select {
		case <-refused:
		default:
			if d.Subject == "id=1" {
				return hooktest.Reply{Status: 422}
			}
		}
		return hooktest.Reply{}
	})
	s.sql(`INSERT INTO orders VALUES (1, 'ann')`, `INSERT INTO orders VALUES (2, 'ann')`, `INSERT INTO orders VALUES (3, 'bob')`,
		`UPDATE orders SET customer = 'ann' WHERE id = 3`, // of both: behind ann's, and before bob's that follow
		`INSERT INTO orders VALUES (4, 'bob')`, `INSERT INTO orders VALUES (5, 'cid')`, `DELETE FROM orders WHERE id = 2`)
	s.wants(sub, "3", "5")
	s.deliveries(sub, func(ds []client.Delivery) bool { return len(ds) == 5 })
	if diff := cmp.Diff([]string{"3", "5"}, s.delivered(sub)); diff != "" {
		t.Errorf("while the first is refused (-want +got):\n%s", diff)
	}
	close(refused)
	s.wants(sub, "3", "5", "1", "2", "3", "4", "2")
	got := s.delivered(sub)[2:]
	at := func(id string, n int) int {
		for i, other := range got {
			if other == id {
				if n--; n < 0 {
					return i
				}
			}
		}
		return -1
	}
	if !(at("1", 0) < at("2", 0) && at("2", 0) < at("3", 0) && at("3", 0) < at("4", 0) && at("3", 0) < at("2", 1)) {
		t.Errorf("sent in order %v, want 1, 2, 3 of ann's, then 4 of bob's and the delete of 2", got)
	}
}

func TestAnEventWhoseOrderingKeyIsNotKnownWaitsForAllOfItsTable(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TABLE orders (id bigint PRIMARY KEY, customer text)`)
	sub := s.subscribe("by-customer", func(sub *client.NewSubscription) {
		sub.OrderingKey = new(`data.row.customer`)
		sub.Retry = client.Retry{Initial: "100ms", Max: "100ms"}
	})
	if len(sub.Warnings) != 1 || !strings.Contains(sub.Warnings[0], "ALTER TABLE public.orders REPLICA IDENTITY FULL") {
		t.Errorf("warnings %q", sub.Warnings)
	}
	refused := make(chan struct{})
	s.receiver.Script(func(d hooktest.Delivery) hooktest.Reply {
		select {
		case <-refused:
		default:
			if d.Subject == "id=1" {
				return hooktest.Reply{Status: 422}
			}
		}
		return hooktest.Reply{}
	})
	s.sql(`INSERT INTO orders VALUES (1, 'ann'), (2, 'bob')`, `DELETE FROM orders WHERE id = 2`, `INSERT INTO orders VALUES (3, 'cid')`)
	s.wants(sub, "2")
	s.deliveries(sub, func(ds []client.Delivery) bool { return len(ds) == 3 })
	close(refused)
	s.wants(sub, "2", "1", "2", "3")
	if diff := cmp.Diff([]string{"2", "1", "2", "3"}, s.delivered(sub)); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestAnOrderingThatIsEditedWaitsForWhatIsOwedUnderTheOneBefore(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TABLE orders (id bigint PRIMARY KEY, customer text)`, `ALTER TABLE orders REPLICA IDENTITY FULL`)
	sub := s.subscribe("edited", func(sub *client.NewSubscription) {
		sub.Retry = client.Retry{Initial: "100ms", Max: "100ms"}
	})
	refused := make(chan struct{})
	s.receiver.Script(func(d hooktest.Delivery) hooktest.Reply {
		select {
		case <-refused:
		default:
			if d.Subject == "id=1" {
				return hooktest.Reply{Status: 422}
			}
		}
		return hooktest.Reply{}
	})
	s.sql(`INSERT INTO orders VALUES (1, 'ann')`, `UPDATE orders SET customer = 'bob' WHERE id = 1`)
	s.deliveries(sub, func(ds []client.Delivery) bool { return len(ds) == 2 })
	s.patch(sub, map[string]any{"ordering_key": "data.row.customer"})
	s.sql(`INSERT INTO orders VALUES (2, 'bob')`, `INSERT INTO orders VALUES (3, 'cid')`)
	blocked := s.deliveries(sub, func(ds []client.Delivery) bool { return len(ds) == 4 })
	if n := len(s.delivered(sub)); n != 0 {
		t.Errorf("%d were sent before what is owed: %v", n, blocked)
	}
	s.end() // another life sees the same barrier
	s.run()
	s.sql(`INSERT INTO orders VALUES (4, 'dan')`)
	s.deliveries(sub, func(ds []client.Delivery) bool { return len(ds) == 5 })
	if n := len(s.delivered(sub)); n != 0 {
		t.Errorf("after a restart %d were sent before what is owed", n)
	}
	close(refused)
	s.wants(sub, "1", "1", "2", "3", "4")
	if got := s.delivered(sub); got[0] != "1" || got[1] != "1" {
		t.Errorf("order %v", got)
	}
	s.deliveries(sub, func(ds []client.Delivery) bool { return len(ds) == 0 })
}

func TestAnEventOnWhichAFilterFailsHoldsItsKeyUntilTheFilterIsMended(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TABLE orders (id bigint PRIMARY KEY, doc jsonb)`)
	sub := s.subscribe("failing", func(sub *client.NewSubscription) { sub.Filter = new(`data.row.doc.n > 1`) })
	s.sql(`INSERT INTO orders VALUES (1, '{}')`, `UPDATE orders SET doc = '{"n":5}' WHERE id = 1`,
		`INSERT INTO orders VALUES (2, '{"n":2}'), (3, '{"n":0}'), (4, '{"m":1}'), (5, '[]')`)
	s.wants(sub, "2")
	owed := s.deliveries(sub, func(ds []client.Delivery) bool { return len(ds) == 4 })
	byKey := map[string][]client.Delivery{}
	for _, d := range owed {
		byKey[d.Keys[0]] = append(byKey[d.Keys[0]], d)
		if d.State != "blocked" {
			t.Errorf("delivery %+v", d)
		}
	}
	for key, want := range map[string]int{"public.orders/id=1": 2, "public.orders/id=4": 1, "public.orders/id=5": 1} {
		ds := byKey[key]
		first := ds[len(ds)-1]
		if len(ds) != want || first.Reason != "filter_error" || !strings.Contains(first.Error, "n") {
			t.Errorf("%s: %+v", key, ds)
		}
	}
	// By hand: it fails again; discarding lets its key go.
	if err := s.api.RetryDelivery(t.Context(), byKey["public.orders/id=4"][0].ID); err != nil {
		t.Fatal(err)
	}
	if err := s.api.DiscardDelivery(t.Context(), byKey["public.orders/id=5"][0].ID); err != nil {
		t.Fatal(err)
	}
	s.deliveries(sub, func(ds []client.Delivery) bool {
		return len(ds) == 3 && !slices.ContainsFunc(ds, func(d client.Delivery) bool { return d.Keys[0] == "public.orders/id=5" })
	})
	s.sql(`UPDATE orders SET doc = '{"n":9}' WHERE id = 5`)
	s.wants(sub, "2", "5")
	if h, err := s.api.SubscriptionHealth(t.Context(), sub.ID); err != nil || h.Health != "healthy" || h.Hold != nil {
		t.Errorf("health %+v, %v", h, err)
	}
	s.end() // the verdict is kept
	s.run()
	s.deliveries(sub, func(ds []client.Delivery) bool { return len(ds) == 3 })

	// What failed is judged again by the new filter: 4 is not wanted any more.
	s.patch(sub, map[string]any{"filter": `has(data.row.doc.n) || data.row.doc == {}`})
	s.wants(sub, "2", "5", "1", "1")
	s.deliveries(sub, func(ds []client.Delivery) bool { return len(ds) == 0 })
	var types []string
	for _, d := range s.receiver.Deliveries() {
		if d.Subject == "id=1" {
			types = append(types, d.Type)
		}
	}
	if diff := cmp.Diff([]string{"public.orders.inserted", "public.orders.updated"}, types); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestASubscriptionWhoseExpressionFailsOnMostEventsIsHeldUntilItIsEdited(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TABLE orders (id bigint PRIMARY KEY, doc jsonb)`)
	filter := s.subscribe("filter", func(sub *client.NewSubscription) { sub.Filter = new(`data.row.doc.n > 1`) })
	transform := s.subscribe("transform", func(sub *client.NewSubscription) { sub.Transform = new(`data.row.doc.n`) })
	other := s.subscribe("other", func(*client.NewSubscription) {})
	var all []string
	for id := 1; id <= 100; id++ {
		all = append(all, fmt.Sprint(id))
	}
	s.sql(`INSERT INTO orders SELECT n, '{}' FROM generate_series(1, 100) n`)
	s.wants(other, all...)
	for _, sub := range []client.Subscription{filter, transform} {
		s.until(sub.Name+" is held", func(ctx context.Context) bool {
			h, err := s.api.SubscriptionHealth(ctx, sub.ID)
			return err == nil && h.Hold != nil && *h.Hold == "filter_error" && h.HoldError != nil && strings.Contains(*h.HoldError, "no such key: n") && h.Health == "healthy"
		})
		shown, err := s.api.Subscription(t.Context(), sub.ID)
		if err != nil || len(shown.Warnings) != 1 || !strings.Contains(shown.Warnings[0], "held until it is edited") || shown.State != "active" {
			t.Errorf("%s: %+v, %v", sub.Name, shown, err)
		}
		if rows := s.deliveries(sub, func(ds []client.Delivery) bool { return len(ds) >= 20 }); len(rows) > 60 {
			t.Errorf("%s: %d events became rows", sub.Name, len(rows))
		}
	}
	s.end()
	s.run()
	for _, sub := range []client.Subscription{filter, transform} {
		s.until(sub.Name+" is held still", func(ctx context.Context) bool {
			h, err := s.api.SubscriptionHealth(ctx, sub.ID)
			return err == nil && h.Hold != nil && *h.Hold == "filter_error"
		})
	}
	s.patch(filter, map[string]any{"filter": `!has(data.row.doc.n)`})
	s.patch(transform, map[string]any{"transform": `has(data.row.doc.n) ? data.row.doc.n : 0`})
	s.wants(filter, all...)
	s.wants(transform, all...)
}

func TestExpressionsThatCannotWorkAreRefusedWithTheirPosition(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TABLE orders (id bigint PRIMARY KEY, total numeric, tags text[])`, `CREATE TABLE full_orders (id bigint PRIMARY KEY, total numeric)`,
		`ALTER TABLE full_orders REPLICA IDENTITY FULL`)
	s.until("the columns are known", func(ctx context.Context) bool {
		_, err := s.api.CreateSubscription(ctx, client.NewSubscription{Spec: client.Spec{
			Name: "unknown", Events: []string{"public.orders.*"}, Endpoint: client.Endpoint{URL: s.receiver.URL()}, Filter: new(`data.row.nosuch == 1`),
		}})
		return err != nil
	})
	for name, c := range map[string]struct {
		field string
		spec  client.Spec
		want  string
	}{
		"syntax":       {"body.filter", client.Spec{Filter: new(`data.row.total >`)}, "line 1, column"},
		"type":         {"body.filter", client.Spec{Filter: new(`data.row.total == "x"`)}, "line 1, column 16"},
		"column":       {"body.filter", client.Spec{Filter: new("true &&\n  data.row.totl > 1.0")}, "line 2, column 11"},
		"result":       {"body.filter", client.Spec{Filter: new(`data.row.total`)}, "must be true or false"},
		"changed":      {"body.filter", client.Spec{Filter: new(`'total' in data.changed`)}, "ALTER TABLE public.orders REPLICA IDENTITY FULL"},
		"cost":         {"body.filter", client.Spec{Filter: new(`data.row.tags.all(a, data.row.tags.all(b, data.row.tags.all(c, data.row.tags.all(d, a == d))))`)}, "costs too much"},
		"transform":    {"body.transform", client.Spec{Transform: new(`{"a": data.row.nosuch}`)}, "line 1, column"},
		"ordering_key": {"body.ordering_key", client.Spec{OrderingKey: new(`data.row.tags`)}, "must be a string"},
	} {
		c.spec.Name, c.spec.Events, c.spec.Endpoint = name, []string{"public.orders.*"}, client.Endpoint{URL: s.receiver.URL()}
		_, err := s.api.CreateSubscription(t.Context(), client.NewSubscription{Spec: c.spec})
		if err == nil || !strings.Contains(fmt.Sprintf("%+v", err), c.want) || !strings.Contains(fmt.Sprintf("%+v", err), c.field) {
			t.Errorf("%s: %+v, want %s: %s", name, err, c.field, c.want)
		}
	}
	some := s.subscribe("some", func(sub *client.NewSubscription) {
		sub.Events, sub.Filter = []string{"public.**"}, new(`'total' in data.changed`)
	})
	if len(some.Warnings) != 1 || !strings.Contains(some.Warnings[0], "public.orders") || strings.Contains(some.Warnings[0], "full_orders") {
		t.Errorf("warnings %q", some.Warnings)
	}
	if _, err := s.api.PatchSubscription(t.Context(), some.ID, map[string]any{"filter": "data.row.nosuch"}, 0); err == nil {
		t.Error("a patch takes a filter that create refuses")
	}
	if _, err := s.api.PatchSubscription(t.Context(), some.ID, map[string]any{"description": "x"}, 0); err != nil {
		t.Errorf("a patch of something else: %v", err)
	}
}

// What is as costly as is allowed keeps its own subscription back, and no other.
func TestACostlyFilterIsSlowForItsOwnSubscriptionAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TABLE orders (id bigint PRIMARY KEY, list int[])`)
	const events = 100
	var costly []client.Subscription
	for i := range 3 {
		costly = append(costly, s.subscribe(fmt.Sprintf("costly-%d", i), func(sub *client.NewSubscription) {
			sub.Filter = new(`data.row.list.all(a, data.row.list.all(b, a * b >= 0))`)
		}))
	}
	cheap := s.subscribe("cheap", func(sub *client.NewSubscription) { sub.Filter = new(`size(data.row.list) > 0`) })
	plain := s.subscribe("plain", func(*client.NewSubscription) {})
	var all []string
	for id := 1; id <= events; id++ {
		all = append(all, fmt.Sprint(id))
	}
	s.sql(fmt.Sprintf(`INSERT INTO orders SELECT n, (SELECT array_agg(i) FROM generate_series(1, 80) i) FROM generate_series(1, %d) n`, events))
	s.wants(plain, all...)
	s.wants(cheap, all...)
	for _, sub := range costly {
		if n := len(s.delivered(sub)); n == events {
			t.Errorf("%s had all before the others: nothing was shown", sub.Name)
		}
	}
	for _, sub := range costly {
		s.wantsWithin(4*patience, sub, all...)
		s.deliveries(sub, func(ds []client.Delivery) bool { return len(ds) == 0 })
	}
}

func TestATransformThatFailsTakesItsEventOutOfTheBatch(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TABLE orders (id bigint PRIMARY KEY, doc jsonb)`)
	sub := s.subscribe("batches", func(sub *client.NewSubscription) {
		sub.Batch = client.Batch{MaxEvents: 50, MaxWait: "200ms", MaxBytes: 4096}
		sub.Transform = new(`{"id": data.row.id, "text": data.row.doc.text + data.row.doc.text}`)
	})
	s.sql(`INSERT INTO orders SELECT n, CASE n WHEN 3 THEN '{}' ELSE jsonb_build_object('text', repeat('x', 100)) END FROM generate_series(1, 40) n`,
		`UPDATE orders SET doc = '{"text": "later"}' WHERE id IN (3, 4)`)
	ids := func() (ids []int, shared bool) {
		for _, d := range s.receiver.Deliveries() {
			var events []struct {
				Data struct {
					ID   int
					Text string
				}
			}
			if json.Unmarshal(d.Body, &events) != nil {
				events = append(events, struct {
					Data struct {
						ID   int
						Text string
					}
				}{})
				if err := json.Unmarshal(d.Body, &events[0]); err != nil {
					t.Fatalf("%v: %s", err, d.Body)
				}
			}
			if len(d.Body) > 4096 {
				t.Errorf("a body of %d bytes", len(d.Body))
			}
			shared = shared || len(events) > 1
			for _, e := range events {
				ids = append(ids, e.Data.ID)
			}
		}
		slices.Sort(ids)
		return ids, shared
	}
	var want []int
	for n := 1; n <= 40; n++ {
		if n != 3 {
			want = append(want, n)
		}
	}
	want = slices.Sorted(slices.Values(append(want, 4)))
	s.until("all others are delivered", func(context.Context) bool { got, _ := ids(); return len(got) >= len(want) })
	got, shared := ids()
	if diff := cmp.Diff(want, got); diff != "" || !shared {
		t.Errorf("shared %t (-want +got):\n%s", shared, diff)
	}
	s.deliveries(sub, func(ds []client.Delivery) bool {
		return len(ds) == 2 && ds[1].Reason == "transform_error" && ds[0].State == "blocked" && ds[1].State == "blocked"
	})
	s.patch(sub, map[string]any{"transform": `{"id": data.row.id}`})
	s.until("3 is delivered, and then its update", func(context.Context) bool { got, _ := ids(); return len(got) == len(want)+2 })
}

func TestAPreviewShowsWhatExpressionsMakeOfTheNewestEvents(t *testing.T) {
	t.Parallel()
	s := newStage(t, `CREATE TABLE orders (id bigint PRIMARY KEY, total numeric(10,2), doc jsonb)`, `CREATE TABLE others (id bigint PRIMARY KEY)`)
	s.sql(`INSERT INTO orders VALUES (1, 50, '{}')`, `INSERT INTO orders VALUES (2, 150, '{"n":  1.50}')`, `INSERT INTO others VALUES (1)`, `INSERT INTO orders VALUES (3, 250, '{}')`)
	s.until("all is in the log", func(ctx context.Context) bool {
		page, err := s.api.Events(ctx, client.EventQuery{})
		return err == nil && len(page.Items) == 4
	})
	found, err := s.api.PreviewSubscription(t.Context(), client.PreviewQuery{
		Events: []string{"public.orders.*"}, Filter: new(`data.row.total > 100.0`),
		Transform: new(`{"n": data.row.doc.n, "total": data.row.total}`), OrderingKey: new(`data.row.id % 2`),
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, item := range found.Items {
		fault := ""
		for _, f := range item.Errors {
			fault += f.Field + ":" + f.Message
		}
		got = append(got, fmt.Sprintf("%s %t %s %s %.25s", item.Subject, *item.Matched, *item.Key, item.Body, fault))
	}
	want := []string{
		`id=3 true 1 null transform:no such key: n:`, `id=2 true 0 {"n":1.50,"total":"150.00"} `, `id=1 false 1 null `,
	}
	if diff := cmp.Diff(want, got); diff != "" || found.Partial {
		t.Errorf("partial %t (-want +got):\n%s", found.Partial, diff)
	}
	for name, q := range map[string]client.PreviewQuery{
		"body.filter":    {Events: []string{"public.orders.*"}, Filter: new(`data.row.nosuch == 1`)},
		"body.events[0]": {Events: []string{"a..b"}},
		"body.limit":     {Events: []string{"**"}, Limit: 101},
	} {
		if _, err := s.api.PreviewSubscription(t.Context(), q); err == nil || !strings.Contains(fmt.Sprintf("%+v", err), name) {
			t.Errorf("%s: %+v", name, err)
		}
	}
	env := []string{"ROWCALL_URL=" + s.url, "ROWCALL_API_KEY=" + s.config.apiKey.Reveal()}
	shown := call(t, env, "subscriptions", "preview", "--events=public.orders.*", "--filter=data.row.total > 200.0", "--limit=2")
	if shown.code != exitOK || !strings.Contains(shown.stdout, "id=3") || strings.Contains(shown.stdout, "id=1") ||
		!strings.Contains(shown.stdout, `"total":"250.00"`) || strings.Contains(shown.stdout, `"total":"150.00"`) {
		t.Errorf("%+v", shown)
	}
	if bad := call(t, env, "subscriptions", "preview", "--events=public.orders.*", "--filter=data.row."); bad.code != exitUsage || !strings.Contains(bad.stderr, "line 1, column") {
		t.Errorf("%+v", bad)
	}
}
