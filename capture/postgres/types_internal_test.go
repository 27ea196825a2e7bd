package postgres

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store/storetest"
)

// builtinValues has values, as SQL expressions, for every type of pg_catalog
// that a column can hold. Types that have no input are given null alone.
var builtinValues = map[string][]string{
	"bool":     {"true", "false"},
	"int2":     {"-32768", "32767"},
	"int4":     {"-2147483648", "2147483647"},
	"int8":     {"-9223372036854775808", "9223372036854775807", "9007199254740993"},
	"oid":      {"0", "4294967295"},
	"float4":   {"'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1e20", "1.17549435e-38", "3.4028235e38", "0.1", "16777217"},
	"float8":   {"'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1e20", "5e-324", "1.7976931348623157e308", "0.1", "1e15", "1e16", "-1e-5", "123456789.123456789"},
	"numeric":  {"'NaN'", "'Infinity'", "'-Infinity'", "0", "0.00", "99.90", "-1e-20", "1e100::numeric", "('1' || repeat('234567890', 11) || '.' || repeat('0987654321', 10) || '0')::numeric"},
	"money":    {"'12345.67'", "'-92233720368547758.08'"},
	"text":     {"''", "'plain'", `E'quote " backslash \\ tab \t newline \n bell \x07 \x7f'`, "'null'", "'NULL'", "U&'\\+01F600 \\2028 \\2029 \\FFFD'", "repeat('é', 100000)", "'{a,b}'"},
	"varchar":  {"'v'", "''"},
	"bpchar":   {"'padded   '"},
	"char":     {"'c'", "''"},
	"name":     {"'a_name'"},
	"bytea":    {`'\x'`, `'\x00'`, `'\x0001'`, `'\x000102'`, "decode(repeat('fe00ff', 1000), 'hex')"},
	"uuid":     {"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"},
	"xml":      {`'<a b="c">&amp;</a>'`},
	"json":     {`'null'`, `'{"b": 1,   "a": [1.0, 1e400, {"x": "\u0000 \ud800"}]}'`, "E'[1,\\n\\t2]'", `'"text"'`, `'{"a":1,"a":2}'`, "(repeat('[', 3000) || repeat(']', 3000))::json"},
	"jsonb":    {`'null'`, `'{"b": 1, "a": [1.0, 12345678901234567890.123456789, "é😀"]}'`, `'true'`, `'[]'`, "to_jsonb(repeat('x', 100000))"},
	"jsonpath": {`'$."a"[*] ? (@ > 1)'`},
	"date":     {"'infinity'", "'-infinity'", "'0044-03-15 BC'", "'2026-11-20'", "'99999-12-31'"},
	"time":     {"'00:00:00'", "'24:00:00'", "'12:34:56.789012'"},
	"timetz":   {"'24:00:00+00'", "'12:34:56.5+05:30'"},
	"timestamp": {
		"'infinity'", "'-infinity'", "'0044-03-15 12:00:00 BC'", "'2026-11-20 12:00:00.123456'", "'2026-11-20 12:00:00'",
		"'294276-12-31 23:59:59.999999'", "'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.9'",
	},
	"timestamptz": {
		"'infinity'", "'-infinity'", "'0044-03-15 12:00:00+00 BC'", "'2026-11-20 12:00:00.123456+02'", "'2026-11-20 12:00:00Z'",
		"'294276-12-31 23:59:59.999999Z'", "'1883-11-18 12:00:00 America/New_York'",
	},
	"interval": {"'0'", "'1 year -2 days 03:04:05.000006'", "'-1 mon'"},
	"inet":     {"'192.168.0.1/24'", "'::1'"}, "cidr": {"'10.0.0.0/8'"},
	"macaddr": {"'08:00:2b:01:02:03'"}, "macaddr8": {"'08:00:2b:01:02:03:04:05'"},
	"point": {"'(1,2)'", "'(NaN,Infinity)'"}, "lseg": {"'[(1,2),(3,4)]'"}, "path": {"'((1,2),(3,4))'", "'[(1,2)]'"},
	"box": {"'(3,4),(1,2)'"}, "polygon": {"'((1,2),(3,4))'"}, "line": {"'{1,2,3}'"}, "circle": {"'<(1,2),3>'"},
	"bit": {"'1'"}, "varbit": {"''", "'10101'"},
	"tsvector": {`'a:1A ''b c'':2 "'`}, "tsquery": {"'a & (b | !c)'"},
	"tid": {"'(1,2)'"}, "xid": {"'4294967295'"}, "xid8": {"'18446744073709551615'"}, "cid": {"'7'"},
	"int2vector": {"'1 -2 3'", "''"}, "oidvector": {"'1 2 3'"},
	"aclitem": {"'=r/' || quote_ident(current_user)"}, "refcursor": {"'a cursor'"}, "pg_lsn": {"'FFFFFFFF/FFFFFFFF'"},
	"txid_snapshot": {"'10:20:10,14'"}, "pg_snapshot": {"'10:20:10,14'"},
	"regproc": {"'now'"}, "regprocedure": {"'abs(int4)'"}, "regoper": {"'|/'"}, "regoperator": {"'+(int4,int4)'"},
	"regclass": {"'pg_class'"}, "regtype": {"'int4'"}, "regrole": {"current_user::text::regrole"}, "regnamespace": {"'pg_catalog'"},
	"regconfig": {"'english'"}, "regdictionary": {"'simple'"}, "regcollation": {`'"C"'`},
	"int4range": {"'empty'", "'[1,5)'", "'(,)'"}, "int8range": {"'[1,9223372036854775807)'"}, "numrange": {"'[1.50,)'"},
	"tsrange": {`'["2026-11-20 12:00:00",infinity]'`}, "tstzrange": {`'["2026-11-20 12:00:00+02",)'`}, "daterange": {"'[2026-11-20,2026-11-21]'"},
	"int4multirange": {"'{}'", "'{[1,3),[5,7)}'"}, "int8multirange": {"'{[1,3)}'"}, "nummultirange": {"'{[1.5,2)}'"},
	"tsmultirange": {`'{["2026-11-20 12:00:00","2026-11-21 12:00:00")}'`}, "tstzmultirange": {`'{["2026-11-20 12:00:00+02",)}'`},
	"datemultirange": {"'{[2026-11-20,2026-11-21)}'"},
	"pg_node_tree":   nil, "pg_ndistinct": nil, "pg_dependencies": nil, "pg_mcv_list": nil, "gtsvector": nil,
	"pg_brin_bloom_summary": nil, "pg_brin_minmax_multi_summary": nil,
}

// expected is the SQL expression of the JSON that the value of an SQL expression
// is to arrive as.
func expected(typ, v string) string {
	return "(" + strings.ReplaceAll(expectation(typ), "$", v) + ")"
}

func expectation(typ string) string {
	switch typ {
	case "bool", "int2", "int4", "int8", "json", "jsonb":
		return `to_json($)`
	case "oid":
		return `to_json($::int8)`
	case "float4", "float8":
		return `CASE WHEN $::text IN ('NaN', 'Infinity', '-Infinity') THEN to_json($::text) ELSE $::text::json END`
	case "bytea":
		return `to_json(translate(encode($, 'base64'), E'\n', ''))`
	case "timestamp":
		return `CASE WHEN isfinite($) AND extract(year FROM $) BETWEEN 1 AND 9999 THEN to_json($) ELSE to_json($::text) END`
	case "timestamptz":
		return `CASE WHEN isfinite($) AND extract(year FROM $) BETWEEN 1 AND 9999
			THEN to_json(replace(to_json($)#>>'{}', '+00:00', 'Z')) ELSE to_json($::text) END`
	default:
		return `to_json(format('%s', $))` // its output function, which a cast to text is not for every type
	}
}

func TestEveryBuiltInTypeArrivesAsSelectSays(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.EmptyURL(t), "UTF8")
	rows, err := s.conn.Query(t.Context(), `SELECT typname::text, typarray <> 0 FROM pg_type
		WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A'
		   OR oid IN ('int2vector'::regtype, 'oidvector'::regtype) ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	type builtin struct {
		Name  string
		Array bool
	}
	types, err := pgx.CollectRows(rows, pgx.RowToStructByPos[builtin])
	if err != nil {
		t.Fatal(err)
	}
	if len(types) < 80 {
		t.Fatalf("the server has %d types", len(types))
	}
	var tables []string
	for _, typ := range types {
		quoted := pgx.Identifier{typ.Name}.Sanitize()
		columns := "id int PRIMARY KEY, v pg_catalog." + quoted
		if typ.Array {
			columns += ", a pg_catalog." + quoted + "[], aa pg_catalog." + quoted + "[]"
		}
		tables = append(tables, `CREATE TABLE `+pgx.Identifier{"t_" + typ.Name}.Sanitize()+` (`+columns+`)`)
	}
	s.exec(t, tables...)
	s.publish(t)
	for _, typ := range types {
		values, known := builtinValues[typ.Name]
		if !known {
			t.Errorf("there are no values for type %s", typ.Name)
			continue
		}
		table := pgx.Identifier{"t_" + typ.Name}.Sanitize()
		cast := "::pg_catalog." + pgx.Identifier{typ.Name}.Sanitize()
		writes := []string{`INSERT INTO ` + table + ` (id) VALUES (0)`}
		var all []string
		for i, v := range values {
			all = append(all, "("+v+")"+cast)
			writes = append(writes, fmt.Sprintf(`INSERT INTO %s (id, v) VALUES (%d, (%s)%s)`, table, i+1, v, cast))
		}
		if typ.Array {
			writes = append(writes, fmt.Sprintf(`INSERT INTO %s (id, a) VALUES (-1, '{}')`, table))
			if len(all) > 0 {
				// With a null, and under other bounds; and two dimensions of the same.
				writes = append(writes, fmt.Sprintf(`INSERT INTO %s (id, a, aa) VALUES (-2, ARRAY[%s]%s[] || NULL%s, ARRAY[ARRAY[%[2]s], ARRAY[%[2]s]]%[3]s[])`,
					table, strings.Join(all, ","), cast, cast),
					fmt.Sprintf(`UPDATE %s SET a[-1] = %s WHERE id = -1`, table, all[0]))
			}
		}
		s.exec(t, writes...)
	}
	got := map[string]map[string]json.RawMessage{} // by table and id: the newest row
	for _, e := range s.events(t) {
		var data struct {
			Table string
			Row   map[string]json.RawMessage
		}
		if err := json.Unmarshal([]byte(e.Data), &data); err != nil {
			t.Fatal(err)
		}
		got[data.Table+" "+string(data.Row["id"])] = data.Row
	}
	for _, typ := range types {
		table := pgx.Identifier{"t_" + typ.Name}.Sanitize()
		columns := []string{"id::text", "CASE WHEN v IS NULL THEN 'null' ELSE " + expected(typ.Name, "v") + "::text END"}
		if typ.Array {
			each := expected(typ.Name, "x")
			columns = append(columns,
				`CASE WHEN a IS NULL THEN 'null' ELSE coalesce((SELECT json_agg(CASE WHEN x IS NULL THEN NULL ELSE `+each+` END ORDER BY n)
					FROM unnest(a) WITH ORDINALITY u(x, n)), '[]')::text END`,
				`CASE WHEN aa IS NULL THEN 'null' ELSE (SELECT json_agg(l ORDER BY k) FROM (SELECT k, json_agg(`+each+` ORDER BY m) l
					FROM generate_subscripts(aa, 1) k, generate_subscripts(aa, 2) m, LATERAL (SELECT aa[k][m]) e(x) GROUP BY k) q)::text END`)
		} else {
			columns = append(columns, `'null'`, `'null'`)
		}
		where := ""
		if values := builtinValues[typ.Name]; len(values) == 0 {
			where = " WHERE v IS NOT NULL" // none: it has no output either
			if row := got["t_"+typ.Name+" 0"]; string(row["v"]) != "null" {
				t.Errorf("null of %s is %s", typ.Name, row["v"])
			}
		}
		rows, err := s.conn.Query(t.Context(), `SELECT `+strings.Join(columns, ", ")+` FROM `+table+where)
		if err != nil {
			t.Fatalf("%s: %v", typ.Name, err)
		}
		var id string
		var v, a, aa []byte
		_, err = pgx.ForEachRow(rows, []any{&id, &v, &a, &aa}, func() error {
			row := got["t_"+typ.Name+" "+id]
			if row == nil {
				t.Errorf("row %s of %s did not arrive", id, typ.Name)
				return nil
			}
			for name, want := range map[string][]byte{"v": v, "a": a, "aa": aa} {
				if !typ.Array && name != "v" {
					continue
				}
				// Not cmp: it takes a time exponential in the depth.
				if !reflect.DeepEqual(plainJSON(t, want), plainJSON(t, row[name])) {
					t.Errorf("%s of row %s of %s is %.300s, SELECT says %.300s", name, id, typ.Name, row[name], want)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", typ.Name, err)
		}
	}
}

// plainJSON is JSON with numbers as they are written and strings with what
// encoding/json makes of lone surrogates.
func plainJSON(t *testing.T, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%.100q: %v", text, err)
	}
	return v
}

func TestJSONArrivesByteForByte(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.EmptyURL(t), "UTF8")
	s.exec(t, `CREATE TABLE t (id int PRIMARY KEY, j json, b jsonb, a json[])`)
	s.publish(t)
	const text = " {\"b\" : [1.0,1E+2 , \"\\u0000\\ud800\\/\"],\n\t\"b\":{} }\n"
	if _, err := s.conn.Exec(t.Context(), `INSERT INTO t VALUES (1, $1, '{"b":1.50, "a" : 1e2}', ARRAY[$1::json])`, text); err != nil {
		t.Fatal(err)
	}
	got := s.events(t)
	want := `"row":{"id":1,"j":` + text + `,"b":{"a": 100, "b": 1.50},"a":[` + text + `]}`
	if len(got) != 1 || !strings.Contains(got[0].Data, want) {
		t.Errorf("events are %+v, want %s", got, want)
	}
}

func TestTypesOfUsersArriveByWhatTheyAreMadeOf(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.EmptyURL(t), "UTF8")
	for _, sql := range []string{
		`CREATE EXTENSION citext`, `CREATE EXTENSION hstore`, `CREATE EXTENSION ltree`, `CREATE EXTENSION cube`,
		`CREATE TYPE mood AS ENUM ('sad', 'so, so', 'happy')`,
		`CREATE DOMAIN positive AS int8 CHECK (VALUE > 0)`,
		`CREATE DOMAIN small AS positive CHECK (VALUE < 100)`,
		`CREATE DOMAIN stamps AS timestamptz[]`,
		`CREATE DOMAIN document AS jsonb`,
		`CREATE DOMAIN flag AS bool`,
		`CREATE TYPE pair AS (a int, b text)`,
		`CREATE TYPE floatrange AS RANGE (subtype = float8)`,
		`CREATE TABLE t (id positive PRIMARY KEY, e mood, ee mood[], s small, ss small[], d stamps, dd stamps[], j document, jj document[], f flag[],
			p pair, pp pair[], r floatrange, rr floatrange[], m floatmultirange, c citext, cc citext[], h hstore, hh hstore[], l ltree, ll ltree[],
			q cube, qq cube[], b box[], w t0[])`,
	} {
		if strings.HasPrefix(sql, "CREATE TABLE t ") {
			s.exec(t, `CREATE TABLE t0 (a int)`)
		}
		s.exec(t, sql)
	}
	s.publish(t)
	s.exec(t, `INSERT INTO t VALUES (1, 'so, so', '{happy,"so, so",NULL}', 7, '{1,2}', '{2026-11-20 12:00:00+02,infinity}',
		'{"{\"2026-11-20 12:00:00Z\"}",NULL}', '{"a":1}', '{"{\"a\": [1]}","null"}', '{t,f}', '(1,"a,b")', '{"(1,a)"}', '[1.5,2]', '{"[1.5,2]"}', '{[1.5,2]}',
		'Text', '{Text,"a b"}', 'a=>1,b=>NULL', '{"a=>1"}', 'a.b.c', '{a.b,c}', '(1,2)', '{"(1,2)"}', '{(2,2),(1,1);(4,4),(3,3)}', '{"(1)"}')`)
	got := s.events(t)
	want := `"row":{"id":1,"e":"so, so","ee":["happy","so, so",null],"s":7,"ss":[1,2],"d":["2026-11-20T10:00:00Z","infinity"],` +
		`"dd":[["2026-11-20T12:00:00Z"],null],"j":{"a": 1},"jj":[{"a": [1]},null],"f":[true,false],"p":"(1,\"a,b\")","pp":["(1,a)"],` +
		`"r":"[1.5,2]","rr":["[1.5,2]"],"m":"{[1.5,2]}","c":"Text","cc":["Text","a b"],"h":"\"a\"=>\"1\", \"b\"=>NULL","hh":["\"a\"=>\"1\""],` +
		`"l":"a.b.c","ll":["a.b","c"],"q":"(1, 2)","qq":["(1, 2)"],"b":["(2,2),(1,1)","(4,4),(3,3)"],"w":["(1)"]}`
	if len(got) != 1 || !strings.Contains(got[0].Data, want) {
		t.Errorf("got  %+v\nwant %s", got, want)
	}
}
