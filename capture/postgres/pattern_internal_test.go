package postgres

import "testing"

func TestPatternsAreSQLIdentifiers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]tablePattern{
		`public.*`:            {"public", ""},
		` Public.Orders `:     {"public", "orders"},
		`"Shop"."Weird.Name"`: {"Shop", "Weird.Name"},
		`shop."a""b"`:         {"shop", `a"b`},
		`größe.tàble`:         {"größe", "tàble"},
		`_a$1.b2`:             {"_a$1", "b2"},
		`"Rowcall".t`:         {"Rowcall", "t"},
		`"*".*`:               {"*", ""},
	} {
		got, err := parsePattern(text)
		if err != nil || got != want {
			t.Errorf("%s is %+v (%v), want %+v", text, got, err, want)
		}
		again, err := parsePattern(got.String())
		if err != nil || again != got {
			t.Errorf("%s written as %s is %+v (%v)", text, got, again, err)
		}
	}
	for _, text := range []string{
		``, `orders`, `.orders`, `public.`, `a.b.c`, `a.b c`, `1a.b`, `"".b`, `"a.b`, `a."b`, `rowcall.events`, `ROWCALL.*`,
		`"rowcall".*`, `pg_catalog.*`, `information_schema.tables`, `*.*`, "\"a\x00\".b",
	} {
		if got, err := parsePattern(text); err == nil {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

func FuzzParsePattern(f *testing.F) {
	f.Add(`"a""b".*`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePattern(text)
		if err != nil {
			return
		}
		if again, err := parsePattern(p.String()); err != nil || again != p {
			t.Errorf("%q written as %s is %+v (%v)", text, p, again, err)
		}
	})
}
