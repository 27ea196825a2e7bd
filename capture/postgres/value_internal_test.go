package postgres

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgtype"
)

func formOf(t testing.TB, oid uint32) *form {
	t.Helper()
	f, ok := builtinForm(oid)
	if !ok {
		t.Fatalf("type %d is not built in", oid)
	}
	return &f
}

func TestValuesAreWrittenByTheirType(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		oid        uint32
		text, want string
	}{
		{pgtype.BoolOID, "t", "true"},
		{pgtype.BoolOID, "f", "false"},
		{pgtype.BoolOID, "maybe", `"maybe"`},
		{pgtype.Int8OID, "9223372036854775807", "9223372036854775807"},
		{pgtype.Int8OID, "-9223372036854775808", "-9223372036854775808"},
		{pgtype.Int2OID, "007", `"007"`}, // JSON has no such number
		{pgtype.Int4OID, "", `""`},
		{pgtype.OIDOID, "4294967295", "4294967295"},
		{pgtype.Float8OID, "1e+20", "1e+20"},
		{pgtype.Float8OID, "1.7976931348623157e+308", "1.7976931348623157e+308"},
		{pgtype.Float8OID, "5e-324", "5e-324"},
		{pgtype.Float8OID, "-0", "-0"},
		{pgtype.Float4OID, "0.1", "0.1"},
		{pgtype.Float8OID, "NaN", `"NaN"`},
		{pgtype.Float8OID, "Infinity", `"Infinity"`},
		{pgtype.Float4OID, "-Infinity", `"-Infinity"`},
		{pgtype.NumericOID, "99.90", `"99.90"`},
		{pgtype.NumericOID, "NaN", `"NaN"`},
		{moneyOID, "$1,000.50", `"$1,000.50"`},
		{pgtype.TextOID, "say \"hi\"\n\x01\x7f\u2028 😀 \\", `"say \"hi\"\n\u0001` + "\x7f" + `\u2028 😀 \\"`},
		{pgtype.TextOID, "", `""`},
		{pgtype.ByteaOID, `\x`, `""`},
		{pgtype.ByteaOID, `\x00`, `"AA=="`},
		{pgtype.ByteaOID, `\xDEad`, `"3q0="`},
		{pgtype.ByteaOID, `\xdeadbe`, `"3q2+"`},
		{pgtype.ByteaOID, `\xdeadbeef`, `"3q2+7w=="`},
		{pgtype.ByteaOID, `\xdea`, `"\\xdea"`},
		{pgtype.ByteaOID, `\xzz`, `"\\xzz"`},
		{pgtype.ByteaOID, `abc\001`, `"abc\\001"`},
		{pgtype.TimestampOID, "2026-11-20 12:00:00.123456", `"2026-11-20T12:00:00.123456"`},
		{pgtype.TimestampOID, "2026-11-20 12:00:00", `"2026-11-20T12:00:00"`},
		{pgtype.TimestampOID, "0001-01-01 00:00:00", `"0001-01-01T00:00:00"`},
		{pgtype.TimestampOID, "infinity", `"infinity"`},
		{pgtype.TimestampOID, "-infinity", `"-infinity"`},
		{pgtype.TimestampOID, "0044-03-15 12:00:00 BC", `"0044-03-15 12:00:00 BC"`},
		{pgtype.TimestampOID, "294276-12-31 23:59:59.999999", `"294276-12-31 23:59:59.999999"`},
		{pgtype.TimestampOID, "2026-11-20 12:00:00.", `"2026-11-20 12:00:00."`},
		{pgtype.TimestamptzOID, "2026-11-20 12:00:00.5+00", `"2026-11-20T12:00:00.5Z"`},
		{pgtype.TimestamptzOID, "2026-11-20 12:00:00+00", `"2026-11-20T12:00:00Z"`},
		{pgtype.TimestamptzOID, "2026-11-20 12:00:00+02", `"2026-11-20 12:00:00+02"`}, // the session is in UTC
		{pgtype.TimestamptzOID, "0044-03-15 12:00:00+00 BC", `"0044-03-15 12:00:00+00 BC"`},
		{pgtype.TimestamptzOID, "infinity", `"infinity"`},
		{pgtype.DateOID, "infinity", `"infinity"`},
		{pgtype.TimeOID, "24:00:00", `"24:00:00"`},
		{pgtype.JSONOID, " {\"a\":\n[1, 2.50,1e400],\"\\u0000\":\"\\ud800\"} ", " {\"a\":\n[1, 2.50,1e400],\"\\u0000\":\"\\ud800\"} "},
		{pgtype.JSONBOID, "null", "null"},
		{pgtype.JSONOID, "{\"a\":", `"{\"a\":"`},
		{pgtype.JSONOID, "", `""`},
		{pgtype.JSONOID, "1 2", `"1 2"`},
		{pgtype.UUIDOID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`},

		{pgtype.Int4ArrayOID, "{}", "[]"},
		{pgtype.Int4ArrayOID, "{1,NULL,-3}", "[1,null,-3]"},
		{pgtype.Int4ArrayOID, "{{1,2},{3,4}}", "[[1,2],[3,4]]"},
		{pgtype.Int4ArrayOID, "[0:1]={1,2}", "[1,2]"},
		{pgtype.Int4ArrayOID, "[-2:-1][5:5]={{1},{2}}", "[[1],[2]]"},
		{pgtype.BoolArrayOID, "{t,f,NULL}", "[true,false,null]"},
		{pgtype.Float8ArrayOID, "{1e+20,NaN,-Infinity}", `[1e+20,"NaN","-Infinity"]`},
		{pgtype.NumericArrayOID, "{1.50,NaN}", `["1.50","NaN"]`},
		{pgtype.TextArrayOID, `{a,"NULL",NULL,"","a b","q\"\\,{}","é"}`, `["a","NULL",null,"","a b","q\"\\,{}","é"]`},
		{pgtype.TextArrayOID, `{"a=b",c=d}`, `["a=b","c=d"]`},
		{pgtype.BoxArrayOID, "{(1,1),(0,0);(2,2),(1,1)}", `["(1,1),(0,0)","(2,2),(1,1)"]`},
		{pgtype.PointArrayOID, `{"(1,2)","(3,4)"}`, `["(1,2)","(3,4)"]`},
		{pgtype.JSONArrayOID, `{"{\"a\": [1]}",null}`, `[{"a": [1]},null]`},
		{pgtype.ByteaArrayOID, `{"\\xdead","\\x"}`, `["3q0=",""]`},
		{pgtype.TimestamptzArrayOID, `{"2026-11-20 12:00:00+00",infinity}`, `["2026-11-20T12:00:00Z","infinity"]`},
		{pgtype.TimestampArrayOID, `{"2026-11-20 12:00:00"}`, `["2026-11-20T12:00:00"]`},
		{int2vectorOID, "1 2 3", `"1 2 3"`},
		{pgtype.Int4multirangeOID, "{[1,3),[5,7)}", `"{[1,3),[5,7)}"`},
		{pgtype.Int4rangeArrayOID, `{"[1,3)",empty}`, `["[1,3)","empty"]`},
	} {
		var e encoder
		got := string(e.value([]byte("x"), formOf(t, test.oid), []byte(test.text)))[1:]
		if got != test.want || e.lossy {
			t.Errorf("%q of type %d is %s (lossy %t), want %s", test.text, test.oid, got, e.lossy, test.want)
		}
	}
}

func TestMalformedArraysAreStrings(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "{", "}", "{}}", "{}{}", "{1", "{1,", "{1,}", "{,1}", "{,}", "{1 2}x", "{1}2", "1,2", "{1,2}}", "{{1}", "{1{2}}",
		`{"a`, `{"a\`, `{"a"b}`, `{a"b"}`, `{a\b}`, "[0:1]", "[x]={1}", "[0:1]=", "{{{{{{{1}}}}}}}", "{1;2", "{\"\\", "{ {1} }",
	} {
		var e encoder
		want, _ := appendJSONString(nil, []byte(text))
		if got := e.value(nil, formOf(t, pgtype.TextArrayOID), []byte(text)); string(got) != string(want) {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
	var e encoder
	if got := e.value(nil, formOf(t, pgtype.BoxArrayOID), []byte(`{"(1,1)","(2,2)"}`)); string(got) != `"{\"(1,1)\",\"(2,2)\"}"` {
		t.Errorf("an array of boxes with commas is %s", got)
	}
}

func TestInvalidUTF8IsReplacedAndSaid(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		oid        uint32
		text, want string
	}{
		{pgtype.TextOID, "caf\xe9\xff!", `"caf\ufffd\ufffd!"`},
		{pgtype.TextOID, "\xf0\x9f\x98", `"\ufffd\ufffd\ufffd"`}, // each byte of an emoji cut short
		{pgtype.JSONOID, "{\"a\": \"\xe9\"}", "{\"a\": \"\ufffd\"}"},
		{pgtype.TextArrayOID, "{a,\xe9}", `["a","\ufffd"]`},
		{pgtype.BoolOID, "\xe9", `"\ufffd"`},
	} {
		var e encoder
		got := string(e.value(nil, formOf(t, test.oid), []byte(test.text)))
		if got != test.want || !e.lossy {
			t.Errorf("%q is %s (lossy %t), want %s", test.text, got, e.lossy, test.want)
		}
	}
}

func TestTypesAreResolvedThroughTheCatalogue(t *testing.T) {
	t.Parallel()
	const mood, amounts, domain, domains, pair, loop, boxes, missing = 20001, 20002, 20003, 20004, 20005, 20006, 20007, 20099
	catalog := map[uint32]typeInfo{
		mood:    {kind: 'e'},
		amounts: {kind: 'd', base: pgtype.Int4ArrayOID},
		domain:  {kind: 'd', base: pgtype.Int8OID},
		domains: {kind: 'b', element: amounts, delim: ','},
		pair:    {kind: 'c'},
		loop:    {kind: 'd', base: loop},
		boxes:   {kind: 'b', element: 20008, delim: ';'},
		20008:   {kind: 'd', base: pgtype.BoxOID},
	}
	calls := 0
	c := catalogue{known: map[uint32]typeInfo{}, lookUp: func(oids []uint32) (map[uint32]typeInfo, error) {
		calls++
		found := map[uint32]typeInfo{}
		for _, oid := range oids {
			if _, ok := builtinForm(oid); ok {
				t.Errorf("built-in type %d was looked up", oid)
			}
			if info, ok := catalog[oid]; ok {
				found[oid] = info
			}
		}
		return found, nil
	}}
	if err := c.learn([]uint32{mood, domains, domain, pair, loop, boxes, missing, pgtype.TextOID}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		oid        uint32
		text, want string
	}{
		{mood, "so so", `"so so"`},
		{amounts, "{1,2}", `[1,2]`},
		{domain, "7", "7"},
		{domains, `{"{1,2}","[0:0]={3}",NULL}`, `[[1,2],[3],null]`},
		{domains, `{"{\"1\",2}"}`, `[[1,2]]`}, // quotes within quotes
		{pair, "(1,2)", `"(1,2)"`},
		{loop, "x", `"x"`},
		{boxes, "{(1,1),(0,0);(2,2),(1,1)}", `["(1,1),(0,0)","(2,2),(1,1)"]`},
		{missing, "{1}", `"{1}"`},
	} {
		var e encoder
		f := c.form(test.oid)
		if got := string(e.value(nil, &f, []byte(test.text))); got != test.want {
			t.Errorf("%q of type %d is %s, want %s", test.text, test.oid, got, test.want)
		}
	}
	before := calls
	if err := c.learn([]uint32{mood, domain, pgtype.TextOID}); err != nil || calls != before {
		t.Errorf("types that are known were looked up again: %v", err)
	}
	if err := c.learn([]uint32{missing}); err != nil || calls != before+1 {
		t.Errorf("a type that was missing was not looked up again: %v", err)
	}
}

func FuzzValue(f *testing.F) {
	oids := []uint32{
		pgtype.BoolOID, pgtype.Int8OID, pgtype.TextOID, pgtype.ByteaOID, pgtype.TimestampOID, pgtype.TimestamptzOID, pgtype.JSONOID,
		pgtype.TextArrayOID, pgtype.Int4ArrayOID, pgtype.BoxArrayOID, pgtype.JSONArrayOID, pgtype.ByteaArrayOID, pgtype.TimestamptzArrayOID,
	}
	for i, text := range []string{
		"t", "1e+5", "a\"\\\x00\xff\u2028", `\xdead`, "2026-11-20 12:00:00.5", "2026-11-20 12:00:00.5+00", `{"a":[1,{"b":null}]}`,
		`{a,"b\"c",NULL,{x}}`, "[0:1]={1,2}", "{(1,1);(2,2)}", `{"{\"a\":1}"}`, `{"\\xff"}`, `{"2026-11-20 12:00:00+00"}`,
	} {
		f.Add(uint8(i), []byte(text))
	}
	f.Fuzz(func(t *testing.T, n uint8, text []byte) {
		form := formOf(t, oids[int(n)%len(oids)])
		prefix := []byte("before")
		var e encoder
		got := e.value(prefix, form, text)
		if string(got[:len(prefix)]) != "before" {
			t.Fatalf("what stood before was overwritten: %q", got)
		}
		// encoding/json refuses what is deeper than 10,000; so deep, it is not compared.
		if got = got[len(prefix):]; !json.Valid(got) && strings.Count(string(text), "[")+strings.Count(string(text), "{") < 9000 {
			t.Fatalf("%q is no JSON: %q", text, got)
		}
		if len(e.scratch) != 0 {
			t.Fatalf("%d bytes were left in the scratch", len(e.scratch))
		}
	})
}

// arrayText is array_out: the server's way to print an array.
func arrayText(dst []byte, elements []string, nulls []bool) []byte {
	dst = append(dst, '{')
	for i, s := range elements {
		if i > 0 {
			dst = append(dst, ',')
		}
		switch {
		case nulls[i]:
			dst = append(dst, "NULL"...)
		case s == "" || strings.EqualFold(s, "NULL") || strings.ContainsAny(s, "\"\\{}, \t\n\r\v\f"):
			dst = append(dst, '"')
			dst = append(dst, strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(s)...)
			dst = append(dst, '"')
		default:
			dst = append(dst, s...)
		}
	}
	return append(dst, '}')
}

func FuzzTextArray(f *testing.F) {
	f.Add("a", "b\"\\,{}", "NULL", true)
	f.Add("", " ", "{1}", false)
	f.Fuzz(func(t *testing.T, a, b, c string, null bool) {
		nulls := []bool{false, null, false}
		var e encoder
		got := e.value(nil, formOf(t, pgtype.TextArrayOID), arrayText(nil, []string{a, b, c}, nulls))
		var back []*string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		want := []*string{&a, &b, &c}
		if null {
			want[1] = nil
		}
		for i, s := range want {
			if s != nil {
				v := string([]rune(*s)) // with U+FFFD for what is invalid
				want[i] = &v
			}
		}
		if diff := cmp.Diff(want, back); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzBytea(f *testing.F) {
	f.Add([]byte("\x00\xff"))
	f.Fuzz(func(t *testing.T, p []byte) {
		got, ok := appendBytea(nil, []byte(`\x`+hex.EncodeToString(p)))
		if want := `"` + base64.StdEncoding.EncodeToString(p) + `"`; !ok || string(got) != want {
			t.Errorf("%x is %s, want %s", p, got, want)
		}
	})
}
