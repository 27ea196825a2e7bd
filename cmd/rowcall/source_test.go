package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/storetest"
)

func TestOneInstanceCapturesSeveralSources(t *testing.T) {
	t.Parallel()
	orders, stock := storetest.EmptyURL(t), storetest.EmptyURL(t)
	execSQL(t, orders, "CREATE TABLE orders (id int PRIMARY KEY)")
	execSQL(t, stock, "CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE secrets (id int PRIMARY KEY)")
	c := newConfig(t, orders)
	c.more = []source{
		{c.sourceName + "_b", stock, []string{"public.items"}},
		{c.sourceName + "_c", "postgres://127.0.0.1:1/nobody", []string{"public.*"}}, // down, which is nobody else's matter
	}
	receiver := hooktest.Start(t, hooktest.Config{})
	arrived := func(n int) {
		t.Helper()
		receiver.WaitFor(t, func(r *hooktest.Receiver) bool { return r.Counts().Succeeded >= n })
	}
	t.Run("first life", func(t *testing.T) {
		env := clientEnv(start(t, c), c)
		eventually(t, env, c.sourceName+"_b ", "sources")
		if got := call(t, env, "subs", "create", "--name=all", "--events=**", "--endpoint="+receiver.URL()); got.code != exitOK {
			t.Fatalf("create: %+v", got)
		}
		waitFor(t, patience, "two sources stream", func() bool {
			return strings.Count(call(t, env, "sources").stdout, "streaming") == 2
		}, func() string { return call(t, env, "sources").stdout })
		execSQL(t, orders, "INSERT INTO orders VALUES (1)")
		execSQL(t, stock, "INSERT INTO items VALUES (1); INSERT INTO secrets VALUES (1)")
		arrived(2)
	})
	execSQL(t, stock, "INSERT INTO items VALUES (2)")
	execSQL(t, orders, "INSERT INTO orders VALUES (2)")
	t.Run("another life", func(t *testing.T) {
		start(t, c)
		arrived(4)
	})
	if duplicates := receiver.Duplicates(); len(duplicates) > 0 {
		t.Errorf("sent twice: %v", duplicates)
	}
	got, generations := map[string]int{}, map[string][]bool{}
	for _, d := range receiver.Events() {
		body := string(d.Body)
		// Ids are what receivers tell events apart by: those of two servers, whose
		// LSNs meet, must differ.
		generation, _, _ := strings.Cut(d.WebhookID, "-")
		generations[generation] = append(generations[generation], strings.Contains(body, `_b"`))
		for _, want := range []string{"/sources/" + c.sourceName + `"`, "/sources/" + c.sourceName + `_b"`, "public.secrets"} {
			if strings.Contains(body, want) {
				got[strings.TrimPrefix(want, "/sources/"+c.sourceName)]++
			}
		}
	}
	if d := cmp.Diff(map[string]int{`"`: 2, `_b"`: 2}, got); d != "" {
		t.Error(d)
	}
	for generation, of := range generations {
		if len(of) != 2 || of[0] != of[1] {
			t.Errorf("generation %s stands in the ids of both sources", generation)
		}
	}
}

func TestMoreSourcesStandInTheConfigurationFile(t *testing.T) {
	t.Parallel()
	path := file(t, `
source_name: orders
sources:
  - {name: stock, url: "${STOCK_URL}"}
  - name: billing
    url: "${file:`+file(t, "postgres://a@billing/app\n")+`}"
    tables: [public.invoices, 'sales."Order"']
`)
	c, err := read(t, append(required(), "STOCK_URL=postgres://a@127.0.0.1/stock", "ROWCALL_CONFIG="+path))
	if err != nil {
		t.Fatal(err)
	}
	want := []source{
		{"orders", c.databaseURL, []string{"public.*"}},
		{"stock", "postgres://a@127.0.0.1/stock", []string{"public.*"}},
		{"billing", "postgres://a@billing/app?sslmode=verify-full", []string{"public.invoices", `sales."Order"`}},
	}
	if d := cmp.Diff(want, c.sources(), cmp.AllowUnexported(source{})); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{c.databaseURL, c.databaseURL, want[1].url, want[2].url}, c.databases()); d != "" {
		t.Errorf("no delivery may reach\n%s", d)
	}
	bad := file(t, `
sources:
  - {name: main, url: "${NOWHERE}", port: 5432}
  - {name: Stock, url: "postgres://a:hunter2@db/app?sslmode=prefer", tables: [a.b.c]}
  - {name: http, tables: 'public."x'}
`)
	for _, command := range []string{"serve", "check"} {
		got := call(t, append(required(), "ROWCALL_CONFIG="+bad), command)
		for _, want := range []string{
			bad + `:3 sources[0].name is "main", as another source is called`, "sources[0].url: ${NOWHERE} is not set", "sources[0].port is not known here",
			bad + `:4 sources[1].name is "Stock"`, "sources[1].url asks for sslmode=prefer", "sources[1].tables cannot be read",
			bad + `:5 sources[2].name is "http"`, "sources[2].url is not set", "sources[2].tables has a quote",
		} {
			if !strings.Contains(got.stderr, want) {
				t.Errorf("%s: no %q in\n%s", command, want, got.stderr)
			}
		}
		if got.code != exitUsage || strings.Contains(got.stderr, "hunter2") || strings.Count(got.stderr, "sources[0].url") != 1 {
			t.Errorf("%s: exit code %d\n%s", command, got.code, got.stderr)
		}
	}
	if _, err := read(t, append(required(), "ROWCALL_CONFIG="+file(t, "sources: [stock]\n"))); err == nil || !strings.Contains(err.Error(), "gives sources that are none") {
		t.Errorf("a list of names: %v", err)
	}
}
