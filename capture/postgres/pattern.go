package postgres

import (
	"fmt"
	"strings"
)

// tablePattern names one table, or all tables of a schema.
type tablePattern struct {
	schema string
	table  string // empty: every table
}

func (p tablePattern) matches(schema, table string) bool {
	return p.schema == schema && (p.table == "" || p.table == table)
}

func (p tablePattern) String() string {
	if p.table == "" {
		return quote(p.schema) + ".*"
	}
	return quote(p.schema) + "." + quote(p.table)
}

// CheckTable reports what keeps a text from naming tables to capture:
// "schema.table" or "schema.*", of SQL identifiers.
func CheckTable(text string) error {
	_, err := parsePattern(text)
	return err
}

// parsePattern reads schema.table or schema.*, in SQL's form of identifiers:
// what is not in double quotes is folded to lower case.
func parsePattern(text string) (tablePattern, error) {
	schema, rest, err := parseIdentifier(strings.TrimSpace(text))
	if err != nil {
		return tablePattern{}, fmt.Errorf("parse table %q: %w", text, err)
	}
	rest, ok := strings.CutPrefix(rest, ".")
	if !ok {
		return tablePattern{}, fmt.Errorf("parse table %q: want schema.table or schema.*", text)
	}
	p := tablePattern{schema: schema}
	if rest != "*" {
		if p.table, rest, err = parseIdentifier(rest); err != nil {
			return tablePattern{}, fmt.Errorf("parse table %q: %w", text, err)
		}
		if rest != "" {
			return tablePattern{}, fmt.Errorf("parse table %q: unexpected %q", text, rest)
		}
	}
	switch {
	case p.schema == ownSchema:
		return tablePattern{}, fmt.Errorf("parse table %q: schema %s holds rowcall's own tables, which are never captured", text, ownSchema)
	case strings.HasPrefix(p.schema, "pg_") || p.schema == "information_schema":
		return tablePattern{}, fmt.Errorf("parse table %q: system tables cannot be captured", text)
	}
	return p, nil
}

// parseIdentifier reads an SQL identifier off the front of text.
func parseIdentifier(text string) (name, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexFunc(text, func(r rune) bool {
			return r != '_' && r != '$' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r < 0x80
		})
		if end < 0 {
			end = len(text)
		}
		if end == 0 || text[0] >= '0' && text[0] <= '9' || text[0] == '$' {
			return "", "", fmt.Errorf("want an identifier at %q", text)
		}
		return foldASCII(text[:end]), text[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == 0:
			return "", "", fmt.Errorf("identifier with a zero byte")
		case text[i] != '"':
			b.WriteByte(text[i])
		case i+1 < len(text) && text[i+1] == '"':
			b.WriteByte('"')
			i++
		case b.Len() == 0:
			return "", "", fmt.Errorf("empty identifier")
		default:
			return b.String(), text[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("identifier without its closing quote")
}

// foldASCII is how the server folds what is not quoted.
func foldASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// quote writes an identifier so that the server reads it as it is.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal writes a string constant.
func literal(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }
