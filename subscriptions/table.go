package subscriptions

import (
	"slices"
	"strings"
)

// Class is the type that a column has in expressions, whatever its form in the
// body of an event.
type Class int8

const (
	ClassString    Class = iota // text, and every type not named here
	ClassInt                    // int2, int4, int8, oid
	ClassDouble                 // float4, float8, numeric
	ClassBool                   // bool
	ClassTimestamp              // timestamp (read as UTC), timestamptz
	ClassJSON                   // json, jsonb: whatever the value is
)

// Identity is the replica identity of a table.
type Identity string

const (
	IdentityDefault Identity = "default"
	IdentityIndex   Identity = "index"
	IdentityFull    Identity = "full"
	IdentityNothing Identity = "nothing"
)

// Column is one column of a table. List says that it is an array; Class is then
// that of its elements.
type Column struct {
	Name  string
	Class Class
	List  bool
}

// ColumnOf reads the type of a column as PostgreSQL's catalogue names it, in its
// short form ("int4", not "integer"); "[]" behind it makes an array. Types of
// other schemas than pg_catalog have theirs before the name.
func ColumnOf(name, typeName string) Column {
	element, list := strings.CutSuffix(typeName, "[]")
	c := Column{Name: name, List: list}
	switch element {
	case "int2", "int4", "int8", "oid":
		c.Class = ClassInt
	case "float4", "float8", "numeric":
		c.Class = ClassDouble
	case "bool":
		c.Class = ClassBool
	case "timestamp", "timestamptz":
		c.Class = ClassTimestamp
	case "json", "jsonb":
		c.Class = ClassJSON
	}
	return c
}

// TableTypes is one version of a table as far as expressions need it. It must
// not be changed once it was given away: programs are shared by tables that
// look alike, and remembered by pointer.
type TableTypes struct {
	Schema   string
	Table    string
	Identity Identity
	Key      []string // the columns of member key of its events, none for null
	Columns  []Column
}

func (t *TableTypes) column(name string) (Column, bool) {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		return Column{}, false
	}
	return t.Columns[i], true
}

// name is the table as SQL writes it.
func (t *TableTypes) name() string { return quoteIdent(t.Schema) + "." + quoteIdent(t.Table) }

// fullIdentity is the SQL that makes old values known.
func (t *TableTypes) fullIdentity() string {
	return "ALTER TABLE " + t.name() + " REPLICA IDENTITY FULL"
}

// shape tells tables apart by what programs see of them; nil, the unknown
// table, is the empty one.
func (t *TableTypes) shape() string {
	if t == nil {
		return ""
	}
	var b strings.Builder
	for _, c := range t.Columns {
		b.WriteByte('a' + byte(c.Class))
		if c.List {
			b.WriteByte('*')
		}
		b.WriteString(c.Name)
		b.WriteByte(0) // in no name of Postgres
	}
	b.WriteByte(1)
	return b.String()
}

func quoteIdent(name string) string {
	isPlain := name != "" && !(name[0] >= '0' && name[0] <= '9')
	for i := range len(name) {
		c := name[i]
		isPlain = isPlain && (c == '_' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9')
	}
	if isPlain {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
