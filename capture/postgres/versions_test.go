package postgres_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// typesOf is what the log says of the table of each event, in log order.
func (w *world) typesOf(suffix string) (versions []store.RelationVersion, columns []string) {
	w.t.Helper()
	events, err := w.store.Read(w.t.Context(), 1, 1000, 16<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range events {
		if !strings.HasPrefix(e.Type, "public.things") || !strings.HasSuffix(e.Type, suffix) {
			continue
		}
		table, err := w.store.TableTypes(w.t.Context(), e.Relation)
		if err != nil || table == nil {
			w.t.Fatalf("event %d names version %d: %v, error %v", e.Offset, e.Relation, table, err)
		}
		text := string(table.Identity) + "(" + strings.Join(table.Key, ",") + ")"
		for _, c := range table.Columns {
			text += " " + c.Name + ":" + map[bool]string{true: "[]"}[c.List] + [...]string{"string", "int", "double", "bool", "time", "json"}[c.Class]
		}
		versions, columns = append(versions, e.Relation), append(columns, text)
	}
	return versions, columns
}

func TestEventsNameTheTableAsItWasWhenTheyWereWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(
		`CREATE DOMAIN price AS numeric(9,2)`, `CREATE DOMAIN prices AS price[]`, `CREATE TYPE mood AS ENUM ('good')`,
		`CREATE SCHEMA other`, `CREATE TYPE other.int4 AS ENUM ('four')`,
		`CREATE TABLE things (n bigint PRIMARY KEY, p price, ps prices, m mood, ms mood[], i other.int4, tags text[], at timestamptz,
			doc jsonb, f real, ok bool, small smallint[], double_n bigint GENERATED ALWAYS AS (n * 2) STORED)`,
	)
	stop := w.capture()
	w.exec(`INSERT INTO things (n) VALUES (1)`, `ALTER TABLE things ADD COLUMN extra int`,
		`INSERT INTO things (n) VALUES (2)`, `ALTER TABLE things ALTER COLUMN extra TYPE text`,
		`INSERT INTO things (n) VALUES (3)`, `ALTER TABLE things REPLICA IDENTITY FULL`, `INSERT INTO things (n) VALUES (4)`)
	w.awaitRows(4)
	const before = "n:int p:double ps:[]double m:string ms:[]string i:string tags:[]string at:time doc:json f:double ok:bool small:[]int"
	want := []string{
		"default(n) " + before, "default(n) " + before + " extra:int",
		"default(n) " + before + " extra:string", "full(n) " + before + " extra:string",
	}
	versions, columns := w.typesOf(".inserted")
	if diff := cmp.Diff(want, columns); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	// The catalogue says the same before any event has come.
	w.eventually(func() string {
		known := w.relation("things")
		return cmp.Diff(w.newest(versions[3]), known.Types().Columns)
	})
	stop()
	stop = w.capture()
	defer stop()
	w.exec(`INSERT INTO things (n) VALUES (5)`, `TRUNCATE things`)
	w.awaitRows(5)
	w.eventually(func() string {
		if truncated, _ := w.typesOf(".truncated"); len(truncated) != 1 || truncated[0] != versions[3] {
			return "the truncate is not there"
		}
		return ""
	})
	again, _ := w.typesOf(".inserted")
	if diff := cmp.Diff(append(versions, versions[3]), again); diff != "" {
		t.Errorf("versions after a restart (-want +got):\n%s", diff)
	}
}

func (w *world) newest(v store.RelationVersion) []subscriptions.Column {
	w.t.Helper()
	table, err := w.store.TableTypes(w.t.Context(), v)
	if err != nil {
		w.t.Fatal(err)
	}
	return table.Columns
}
