package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// server is a database whose changes are read through a slot over an ordinary
// connection, in the session settings of the walsender.
type server struct {
	conn    *pgx.Conn
	decoder *decoder
}

func newServer(t *testing.T, at, encoding string) *server {
	t.Helper()
	config, err := pgx.ParseConfig(at)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"DateStyle": "ISO, YMD", "IntervalStyle": "iso_8601", "TimeZone": "UTC", "extra_float_digits": "1",
		"bytea_output": "hex", "client_encoding": encoding, "jit": "off",
	} {
		config.RuntimeParams[name] = value
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	s := &server{conn: conn}
	s.decoder = newDecoder(decoderConfig{
		types: func(oids []uint32) (map[uint32]typeInfo, error) {
			return (&ordinary{conn: conn}).types(context.Background(), oids)
		},
		primaryKey: func(relation uint32) ([]string, error) {
			return (&ordinary{conn: conn}).primaryKey(context.Background(), relation)
		},
	})
	return s
}

// slot is the name of the server's slot: slots are the cluster's.
func (s *server) slot() string { return s.conn.Config().Database }

// publish begins to capture all tables.
func (s *server) publish(t *testing.T) {
	t.Helper()
	s.exec(t, `CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root)`)
	if _, err := s.conn.Exec(t.Context(), `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, s.slot()); err != nil {
		t.Fatal(err)
	}
}

// exec runs one statement, or several as one transaction.
func (s *server) exec(t *testing.T, sql ...string) {
	t.Helper()
	if err := s.conn.PgConn().Exec(t.Context(), strings.Join(sql, ";\n")).Close(); err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
}

// events decodes what was written since the last call.
func (s *server) events(t *testing.T) []captured {
	t.Helper()
	rows, err := s.conn.Query(t.Context(), `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', 'everything', 'messages', 'true')`, s.slot())
	if err != nil {
		t.Fatal(err)
	}
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	b := new(store.Batch)
	feed(t, s.decoder, b, messages...)
	return eventsOf(t, b)
}

func TestTypeThatChangesInATransactionIsReadAsOfEachRow(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.EmptyURL(t), "UTF8")
	s.exec(t, `CREATE TABLE t (id int PRIMARY KEY, v int, gone text)`)
	s.publish(t)
	tx, err := s.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`INSERT INTO t VALUES (1, 1, 'x')`, `ALTER TABLE t ALTER v TYPE text, DROP gone, ADD made jsonb DEFAULT '[]'`, `INSERT INTO t VALUES (2, '2')`,
		`ALTER TABLE t RENAME TO u`, `ALTER TABLE u RENAME v TO w`, `INSERT INTO u VALUES (3, '3')`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range s.events(t) {
		_, data, _ := strings.Cut(e.Data, `"row":`)
		row, _, _ := strings.Cut(data, `,"old"`)
		got = append(got, e.Type+" "+row)
	}
	// The rewrite of the table is no change of its rows.
	want := []string{
		`public.t.inserted {"id":1,"v":1,"gone":"x"}`, `public.t.inserted {"id":2,"v":"2","made":[]}`, `public.u.inserted {"id":3,"w":"3","made":[]}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestInvalidUTF8OfADatabaseWithoutEncodingArrives(t *testing.T) {
	t.Parallel()
	at := storetest.EmptyURL(t)
	maker, err := pgx.Connect(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	name := maker.Config().Database + "_ascii"
	if _, err := maker.Exec(t.Context(), `CREATE DATABASE `+pgx.Identifier{name}.Sanitize()+` TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		if _, err := maker.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1`, name); err != nil {
			t.Error(err)
		}
		if _, err := maker.Exec(ctx, `DROP DATABASE `+pgx.Identifier{name}.Sanitize()+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
		_ = maker.Close(ctx)
	})
	config := maker.Config().Config.Copy()
	s := newServer(t, strings.Replace(at, "/"+config.Database, "/"+name, 1), "SQL_ASCII")
	s.exec(t, `CREATE TABLE t (k text PRIMARY KEY, v text, j json, a text[])`)
	s.publish(t)
	s.exec(t, `INSERT INTO t VALUES (E'k\xff', E'caf\xe9', E'{"a": "\xe9"}', ARRAY[E'\xe9 b', 'ü'])`)
	got := s.events(t)
	if len(got) != 1 {
		t.Fatalf("events: %+v", got)
	}
	want := `"key":{"k":"k\ufffd"},"row":{"k":"k\ufffd","v":"caf\ufffd","j":{"a": "` + "\ufffd" + `"},"a":["\ufffd b","ü"]},` +
		`"old":null,"changed":null,"unchanged":[],"lossy":{"k":"a/8=","v":"Y2Fm6Q==","j":"eyJhIjogIukifQ==","a":"eyLpIGIiLMO8fQ=="}`
	if !strings.Contains(got[0].Data, want) {
		t.Errorf("data is %s, want %s", got[0].Data, want)
	}
	if got[0].Key != "public.t/k=k%FF" {
		t.Errorf("key is %q", got[0].Key)
	}
}

// long is a value that is TOASTed, and not compressed.
const long = `repeat('0123456789abcdef', 65536)` // 1 MiB

func TestReplicaIdentitiesDecideWhatIsSent(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("0123456789abcdef", 65536)
	type event struct{ op, key, partitionkey, oldKey, row, old, changed, unchanged string }
	writes := []string{
		`INSERT INTO t VALUES (1, 'ann', 'a', ` + long + `)`,
		`UPDATE t SET v = 'b' WHERE id = 1`,
		`UPDATE t SET v = NULL, big = 'short' WHERE id = 1`,
		`UPDATE t SET big = ` + long + ` WHERE id = 1`,
		`UPDATE t SET id = 2 WHERE id = 1`,
		`UPDATE t SET name = 'bob' WHERE id = 2`,
		`UPDATE t SET v = v WHERE id = 2`,
		`DELETE FROM t WHERE id = 2`,
		`TRUNCATE t`,
	}
	const (
		r1 = `{"id":1,"name":"ann","v":"a","big":"BIG"}`
		r2 = `{"id":1,"name":"ann","v":"b","big":"BIG"}`
		r3 = `{"id":1,"name":"ann","v":null,"big":"short"}`
		r4 = `{"id":1,"name":"ann","v":null,"big":"BIG"}`
		r5 = `{"id":2,"name":"ann","v":null,"big":"BIG"}`
		r6 = `{"id":2,"name":"bob","v":null,"big":"BIG"}`
	)
	without := func(row string) string { return strings.Replace(row, `,"big":"BIG"`, "", 1) }
	for name, test := range map[string]struct {
		identity string
		want     []event
	}{
		"default": {`ALTER TABLE t ADD PRIMARY KEY (id)`, []event{
			{"insert", `{"id":1}`, "public.t/id=1", "", r1, "null", "null", "[]"},
			{"update", `{"id":1}`, "public.t/id=1", "", without(r2), "{}", "null", `["big"]`},
			{"update", `{"id":1}`, "public.t/id=1", "", r3, "{}", "null", "[]"},
			{"update", `{"id":1}`, "public.t/id=1", "", r4, "{}", "null", "[]"},
			{"update", `{"id":2}`, "public.t/id=2", "public.t/id=1", without(r5), `{"id":1}`, "null", `["big"]`},
			{"update", `{"id":2}`, "public.t/id=2", "", without(r6), "{}", "null", `["big"]`},
			{"update", `{"id":2}`, "public.t/id=2", "", without(r6), "{}", "null", `["big"]`},
			{"delete", `{"id":2}`, "public.t/id=2", "", "null", `{"id":2}`, "null", "[]"},
			{"truncate", "null", "public.t", "", "null", "null", "null", "[]"},
		}},
		"full with a primary key": {`ALTER TABLE t ADD PRIMARY KEY (id), REPLICA IDENTITY FULL`, []event{
			{"insert", `{"id":1}`, "public.t/id=1", "", r1, "null", "null", "[]"},
			{"update", `{"id":1}`, "public.t/id=1", "", r2, `{"v":"a"}`, `["v"]`, "[]"},
			{"update", `{"id":1}`, "public.t/id=1", "", r3, `{"v":"b","big":"BIG"}`, `["v","big"]`, "[]"},
			{"update", `{"id":1}`, "public.t/id=1", "", r4, `{"big":"short"}`, `["big"]`, "[]"},
			{"update", `{"id":2}`, "public.t/id=2", "public.t/id=1", r5, `{"id":1}`, `["id"]`, "[]"},
			{"update", `{"id":2}`, "public.t/id=2", "", r6, `{"name":"ann"}`, `["name"]`, "[]"},
			{"update", `{"id":2}`, "public.t/id=2", "", r6, `{}`, `[]`, "[]"},
			{"delete", `{"id":2}`, "public.t/id=2", "", "null", r6, "null", "[]"},
			{"truncate", "null", "public.t", "", "null", "null", "null", "[]"},
		}},
		"full without a primary key": {`ALTER TABLE t REPLICA IDENTITY FULL`, []event{
			{"insert", `null`, "public.t", "", r1, "null", "null", "[]"},
			{"update", `null`, "public.t", "", r2, r1, `["v"]`, "[]"},
			{"update", `null`, "public.t", "", r3, r2, `["v","big"]`, "[]"},
			{"update", `null`, "public.t", "", r4, r3, `["big"]`, "[]"},
			{"update", `null`, "public.t", "", r5, r4, `["id"]`, "[]"},
			{"update", `null`, "public.t", "", r6, r5, `["name"]`, "[]"},
			{"update", `null`, "public.t", "", r6, r6, `[]`, "[]"},
			{"delete", `null`, "public.t", "", "null", r6, "null", "[]"},
			{"truncate", "null", "public.t", "", "null", "null", "null", "[]"},
		}},
		"index": {`CREATE UNIQUE INDEX names ON t (name); ALTER TABLE t ADD PRIMARY KEY (id), ALTER name SET NOT NULL, REPLICA IDENTITY USING INDEX names`, []event{
			{"insert", `{"name":"ann"}`, "public.t/name=ann", "", r1, "null", "null", "[]"},
			{"update", `{"name":"ann"}`, "public.t/name=ann", "", without(r2), "{}", "null", `["big"]`},
			{"update", `{"name":"ann"}`, "public.t/name=ann", "", r3, "{}", "null", "[]"},
			{"update", `{"name":"ann"}`, "public.t/name=ann", "", r4, "{}", "null", "[]"},
			{"update", `{"name":"ann"}`, "public.t/name=ann", "", without(r5), "{}", "null", `["big"]`},
			{"update", `{"name":"bob"}`, "public.t/name=bob", "public.t/name=ann", without(r6), `{"name":"ann"}`, "null", `["big"]`},
			{"update", `{"name":"bob"}`, "public.t/name=bob", "", without(r6), "{}", "null", `["big"]`},
			{"delete", `{"name":"bob"}`, "public.t/name=bob", "", "null", `{"name":"bob"}`, "null", "[]"},
			{"truncate", "null", "public.t", "", "null", "null", "null", "[]"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, storetest.EmptyURL(t), "UTF8")
			s.exec(t, `CREATE TABLE t (id int, name text, v text, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL`)
			for sql := range strings.SplitSeq(test.identity, "; ") {
				s.exec(t, sql)
			}
			s.publish(t)
			for _, sql := range writes {
				s.exec(t, sql)
			}
			var got []event
			for _, e := range s.events(t) {
				var data struct {
					Op                                string
					Key, Row, Old, Changed, Unchanged json.RawMessage
				}
				if err := json.Unmarshal([]byte(e.Data), &data); err != nil {
					t.Fatal(err)
				}
				brief := func(text json.RawMessage) string { return strings.ReplaceAll(string(text), big, "BIG") }
				got = append(got, event{
					data.Op, string(data.Key), e.Key, e.OldKey, brief(data.Row), brief(data.Old), string(data.Changed), string(data.Unchanged),
				})
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(event{})); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, storetest.EmptyURL(t), "UTF8")
		s.exec(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`)
		s.exec(t, `ALTER TABLE t REPLICA IDENTITY NOTHING`)
		s.publish(t)
		s.exec(t, `INSERT INTO t VALUES (1, 'a')`)
		s.exec(t, `TRUNCATE t`)
		got := s.events(t)
		if len(got) != 2 || got[0].Key != "public.t" || got[0].Kind != store.KindKeyless || !strings.Contains(got[0].Data, `"key":null,"row":{"id":1,"v":"a"}`) || got[1].Kind != store.KindTruncate {
			t.Errorf("events: %+v", got)
		}
	})
}

func TestTOASTedKeyThatDidNotChangeIsKnown(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.EmptyURL(t), "UTF8")
	s.exec(t, `CREATE TABLE t (k text PRIMARY KEY, v int)`)
	s.exec(t, `ALTER TABLE t ALTER k SET STORAGE EXTERNAL`)
	s.publish(t)
	// Short enough for the index, long enough to be TOASTed.
	s.exec(t, `INSERT INTO t VALUES (repeat('k', 2500), 1)`)
	s.exec(t, `UPDATE t SET v = 2`)
	got := s.events(t)
	want := "public.t/k=" + strings.Repeat("k", 2500)
	if len(got) != 2 || got[0].Key != want || got[1].Key != want || got[1].OldKey != "" || got[1].Kind != store.KindRow {
		t.Errorf("keys: %.60q, %.60q, old %.60q", got[0].Key, got[1].Key, got[1].OldKey)
	}
	if !strings.Contains(got[1].Data, `"v":2},"old":{},"changed":null,"unchanged":[]`) {
		t.Errorf("data: %s", shorten(got[1].Data))
	}
}

func TestPartitionsSpeakAsTheirRoot(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.EmptyURL(t), "UTF8")
	for _, sql := range []string{
		`CREATE TABLE root (id int, region text, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region)`,
		`CREATE TABLE part (v text, gone int, region text NOT NULL, id int NOT NULL)`,
		`ALTER TABLE part DROP gone`,
		`ALTER TABLE root ATTACH PARTITION part FOR VALUES IN ('eu')`,
		`CREATE TABLE other PARTITION OF root FOR VALUES IN ('us')`,
	} {
		s.exec(t, sql)
	}
	s.publish(t)
	s.exec(t, `INSERT INTO root VALUES (1, 'eu', 'a')`)
	s.exec(t, `UPDATE part SET v = 'b'`)
	s.exec(t, `UPDATE root SET region = 'us'`) // to another partition: a delete and an insert
	var got []string
	for _, e := range s.events(t) {
		_, data, _ := strings.Cut(e.Data, `"key":`)
		data, _, _ = strings.Cut(data, `,"changed"`)
		got = append(got, e.Type+" "+e.Key+" "+data)
	}
	want := []string{
		`public.root.inserted public.root/id=1,region=eu {"id":1,"region":"eu"},"row":{"id":1,"region":"eu","v":"a"},"old":null`,
		`public.root.updated public.root/id=1,region=eu {"id":1,"region":"eu"},"row":{"id":1,"region":"eu","v":"b"},"old":{}`,
		`public.root.deleted public.root/id=1,region=eu {"id":1,"region":"eu"},"row":null,"old":{"id":1,"region":"eu"}`,
		`public.root.inserted public.root/id=1,region=us {"id":1,"region":"us"},"row":{"id":1,"region":"us","v":"b"},"old":null`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMessagesAndTruncatesOfAServerAreRead(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.EmptyURL(t), "UTF8")
	s.exec(t, `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY REFERENCES a)`)
	s.publish(t)
	s.exec(t, `DO $$ BEGIN
		PERFORM pg_logical_emit_message(true, 'rowcall.context', '{"actor":"ann"}');
		INSERT INTO a VALUES (1);
		PERFORM pg_logical_emit_message(true, 'rowcall', '{"type":"user.signed_up","key":7,"data":{"a":1}}');
		PERFORM pg_logical_emit_message(false, 'rowcall', '{"type":"too.early"}');
		PERFORM pg_logical_emit_message(true, 'else', 'x');
		TRUNCATE a CASCADE;
	END $$`)
	var got []string
	for _, e := range s.events(t) {
		got = append(got, fmt.Sprint(e.Ordinal, " ", e.Type, " ", e.Key))
		if e.Kind != store.KindMessage && !strings.Contains(e.Data, `"context":{"actor":"ann"}`) {
			t.Errorf("no context: %s", e.Data)
		}
	}
	want := []string{"0 public.a.inserted public.a/id=1", "1 user.signed_up user.signed_up/7", "2 public.a.truncated public.a", "3 public.b.truncated public.b"}
	slices.Sort(got[2:])
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
