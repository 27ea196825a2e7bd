package postgres_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
)

// relation waits for a table to be known and returns what is.
func (w *world) relation(name string) store.Relation {
	w.t.Helper()
	var found store.Relation
	w.eventually(func() string {
		for _, r := range w.saved().Relations {
			if r.Name == name {
				found = r
				return ""
			}
		}
		return "table " + name + " is not known"
	})
	return found
}

func (w *world) awaitCaptured(name string, captured bool) store.Relation {
	w.t.Helper()
	var r store.Relation
	w.eventually(func() string {
		if r = w.relation(name); r.Captured != captured {
			return fmt.Sprintf("table %s: captured %t (%s), want %t", name, r.Captured, r.Reason, captured)
		}
		return ""
	})
	return r
}

func TestATableWhosePublicationWouldBreakWritesIsLeftOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tests := map[string]struct {
		sql      []string
		captured bool
		identity string
	}{
		"with_key":    {[]string{`CREATE TABLE with_key (n bigint PRIMARY KEY, v text)`}, true, "default"},
		"full":        {[]string{`CREATE TABLE "full" (n bigint, v text)`, `ALTER TABLE "full" REPLICA IDENTITY FULL`}, true, "full"},
		"by_index":    {[]string{`CREATE TABLE by_index (n bigint NOT NULL UNIQUE, v text)`, `ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_n_key`}, true, "index"},
		"without_key": {[]string{`CREATE TABLE without_key (n bigint, v text)`}, false, "default"},
		"deferrable":  {[]string{`CREATE TABLE "deferrable" (n bigint PRIMARY KEY DEFERRABLE, v text)`}, false, "default"},
		"nothing":     {[]string{`CREATE TABLE nothing (n bigint PRIMARY KEY, v text)`, `ALTER TABLE nothing REPLICA IDENTITY NOTHING`}, false, "nothing"},
		"lost_index": {[]string{
			`CREATE TABLE lost_index (n bigint NOT NULL UNIQUE, v text)`,
			`ALTER TABLE lost_index REPLICA IDENTITY USING INDEX lost_index_n_key`, `ALTER TABLE lost_index DROP CONSTRAINT lost_index_n_key`,
		}, false, "index"},
		"unlogged":  {[]string{`CREATE UNLOGGED TABLE "unlogged" (n bigint PRIMARY KEY, v text)`}, false, "default"},
		"Weird.one": {[]string{`CREATE TABLE "Weird.one" (n bigint PRIMARY KEY, v text)`}, true, "default"},
		"by_range": {[]string{
			`CREATE TABLE by_range (n bigint PRIMARY KEY, v text) PARTITION BY RANGE (n)`,
			`CREATE TABLE by_range_1 PARTITION OF by_range FOR VALUES FROM (0) TO (100)`,
		}, true, "default"},
		"bad_part": {[]string{
			`CREATE TABLE bad_part (n bigint PRIMARY KEY, v text) PARTITION BY RANGE (n)`,
			`CREATE TABLE bad_part_1 PARTITION OF bad_part FOR VALUES FROM (0) TO (100)`, `ALTER TABLE bad_part_1 REPLICA IDENTITY NOTHING`,
		}, false, "default"},
		"mixed_part": {[]string{
			`CREATE TABLE mixed_part (n bigint PRIMARY KEY, v text) PARTITION BY RANGE (n)`,
			`CREATE TABLE mixed_part_1 PARTITION OF mixed_part FOR VALUES FROM (0) TO (100)`, `ALTER TABLE mixed_part REPLICA IDENTITY FULL`,
		}, false, "full"},
		"full_part": {[]string{
			`CREATE TABLE full_part (n bigint PRIMARY KEY, v text) PARTITION BY RANGE (n)`,
			`CREATE TABLE full_part_1 PARTITION OF full_part FOR VALUES FROM (0) TO (100)`,
			`ALTER TABLE full_part REPLICA IDENTITY FULL`, `ALTER TABLE full_part_1 REPLICA IDENTITY FULL`,
		}, true, "full"},
		"keyless_root": {[]string{
			`CREATE TABLE keyless_root (n bigint, v text) PARTITION BY RANGE (n)`,
			`CREATE TABLE keyless_root_1 PARTITION OF keyless_root FOR VALUES FROM (0) TO (100)`,
		}, false, "default"},
	}
	for _, test := range tests {
		w.exec(test.sql...)
	}
	w.capture()
	src := w.saved()
	got := map[string]store.Relation{}
	for _, r := range src.Relations {
		got[r.Name] = r
	}
	if len(got) != len(tests) {
		t.Errorf("%d tables are known, want %d (partitions speak as their root): %v", len(got), len(tests), got)
	}
	inserted := 0
	for name, test := range tests {
		r := got[name]
		if r.Captured != test.captured || r.Identity != test.identity || r.Captured == (r.Reason != "") || r.Captured == (r.Remedy != "") {
			t.Errorf("table %s: %+v, want captured %t by %s", name, r, test.captured, test.identity)
		}
		// Whatever we do, the application's writes go on.
		quoted := pgx.Identifier{name}.Sanitize()
		w.exec(`INSERT INTO `+quoted+` VALUES (1, 'a')`, `UPDATE `+quoted+` SET v = 'b'`, `DELETE FROM `+quoted)
		if test.captured {
			inserted++
		}
	}
	w.awaitRows(inserted)
}

func TestTablesMadeLaterAreCaptured(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.capture()
	w.exec(`CREATE TABLE later (n bigint PRIMARY KEY)`)
	w.awaitCaptured("later", true)
	w.exec(`INSERT INTO later VALUES (7)`)
	w.awaitRows(1)
	w.exec(`DROP TABLE later`, `CREATE TABLE later (n bigint PRIMARY KEY, more text)`)
	w.eventually(func() string {
		var in bool
		err := w.source.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_publication_tables WHERE pubname = $1 AND tablename = 'later')`, w.slot()).Scan(&in)
		if err != nil || !in {
			return fmt.Sprintf("a table made anew is not in the publication: %v", err)
		}
		return ""
	})
	w.exec(`INSERT INTO later VALUES (8)`)
	w.awaitRows(2)
	if gaps := w.saved().Gaps; len(gaps) > 0 {
		t.Errorf("a table made anew is no gap: %+v", gaps)
	}
}

func TestATableWhoseIdentityGoesIsTakenOutBeforeItHurtsForLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY, v text)`, `INSERT INTO things VALUES (1, 'a')`)
	w.capture()
	w.exec(`ALTER TABLE things DROP CONSTRAINT things_pkey`)
	w.awaitCaptured("things", false)
	w.exec(`UPDATE things SET v = 'b'`)
	w.exec(`ALTER TABLE things ADD PRIMARY KEY (n)`)
	w.awaitCaptured("things", true)
}

func TestPatternsNameTablesAsSQLDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE SCHEMA "Shop"`, `CREATE TABLE "Shop"."Big.Table" (n bigint PRIMARY KEY)`, `CREATE TABLE "Shop".small (n bigint PRIMARY KEY)`,
		`CREATE TABLE plain (n bigint PRIMARY KEY)`, `CREATE TABLE other (n bigint PRIMARY KEY)`)
	config := w.config()
	config.Tables = []string{`"Shop"."Big.Table"`, `PUBLIC.Plain`}
	w.start(config)
	w.awaitState(store.SourceStreaming)
	var got []string
	for _, r := range w.saved().Relations {
		got = append(got, r.Schema+"/"+r.Name)
	}
	if diff := cmp.Diff([]string{"Shop/Big.Table", "public/plain"}, got); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	w.exec(`INSERT INTO "Shop"."Big.Table" VALUES (1)`, `INSERT INTO "Shop".small VALUES (2)`, `INSERT INTO other VALUES (3)`, `INSERT INTO plain VALUES (4)`)
	w.awaitRows(2)
	if diff := cmp.Diff([]int64{1, 4}, w.numbers()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestFewerTablesInTheConfigurationAreFewerInThePublication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE a (n bigint PRIMARY KEY)`, `CREATE TABLE b (n bigint PRIMARY KEY)`)
	w.capture()()
	config := w.config()
	config.Tables = []string{"public.b"}
	w.start(config)
	w.eventually(func() string {
		if rs := w.saved().Relations; len(rs) != 1 || rs[0].Name != "b" {
			return fmt.Sprintf("tables are %+v, want b", rs)
		}
		return ""
	})
	w.exec(`INSERT INTO a VALUES (1)`, `INSERT INTO b VALUES (2)`)
	if rows := w.awaitRows(1); rows[0].N != 2 {
		t.Errorf("row %d came, want 2", rows[0].N)
	}
}

// With publish_via_partition_root the server sends the truncate of a root, and of
// one of its partitions nothing: docs/events.md says so.
func TestTheTruncateOfOnePartitionMakesNoEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY) PARTITION BY RANGE (n)`,
		`CREATE TABLE things_1 PARTITION OF things FOR VALUES FROM (0) TO (100)`)
	w.capture()
	w.exec(`INSERT INTO things VALUES (1)`, `TRUNCATE things_1`, `INSERT INTO things VALUES (2)`)
	w.awaitRows(2)
	if found := w.rows(".truncated"); len(found) != 0 {
		t.Errorf("the truncate of a partition is an event: %+v", found)
	}
	w.exec(`TRUNCATE things`)
	w.eventually(func() string {
		if found := w.rows(".truncated"); len(found) != 1 || found[0].Type != "public.things.truncated" {
			return fmt.Sprintf("truncates in the log: %+v, want one of the root", found)
		}
		return ""
	})
}
