package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
)

// table is a table of the source as its catalogue has it.
type table struct {
	oid         uint32
	schema      string
	name        string
	partitioned bool
	ancestors   []uint32 // of a partition: its parents, nearest first
	persistence string   // p permanent, u unlogged, t temporary
	identity    string   // pg_class.relreplident: d default, i index, f full, n nothing
	primaryKey  []string // columns, where the server can use it as identity
	index       []string // columns of the identity index, where there is a usable one
	generated   bool     // has generated columns
	member      bool     // is in our publication
	owner       string
	owned       bool // we may change its membership
	columns     []store.Column
}

const tablesSQL = `
SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relpersistence::text, c.relreplident::text,
       CASE WHEN c.relispartition
            THEN ARRAY(SELECT a.relid::oid FROM pg_partition_ancestors(c.oid) a WHERE a.relid <> c.oid)
            ELSE '{}'::oid[] END,
       coalesce(pk.cols, '{}'), coalesce(ri.cols, '{}'),
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''),
       EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $1 AND r.prrelid = c.oid),
       pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE'), coalesce(at.names, '{}'), coalesce(at.types, '{}')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
  SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(num, place)
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num
               WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS cols
  FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate) pk ON true
LEFT JOIN LATERAL (
  SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(num, place)
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num
               WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS cols
  FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indimmediate) ri ON true
LEFT JOIN LATERAL (
  SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names, array_agg(a.atttypid ORDER BY a.attnum) AS types
  FROM pg_attribute a
  WHERE a.attrelid = c.oid AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') at ON true
WHERE c.relkind IN ('r', 'p') AND n.nspname <> $3
  AND (n.nspname = ANY($2) OR c.relispartition
       OR EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $1 AND r.prrelid = c.oid))
ORDER BY n.nspname, c.relname`

// tables reads the tables that patterns may mean, those in the publication and
// all partitions; never our own: of those in the publication its refusal speaks.
func (c *ordinary) tables(ctx context.Context, publication string, patterns []tablePattern) (tables []table, err error) {
	var columns []attributes // of each table
	var schemas []string
	for _, p := range patterns {
		schemas = append(schemas, p.schema)
	}
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, tablesSQL, publication, schemas, ownSchema)
		if err != nil {
			return err
		}
		tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t table, err error) {
			var names []string
			var types []uint32
			err = row.Scan(&t.oid, &t.schema, &t.name, &t.partitioned, &t.persistence, &t.identity,
				&t.ancestors, &t.primaryKey, &t.index, &t.generated, &t.member, &t.owner, &t.owned, &names, &types)
			columns = append(columns, attributes{names, types})
			return t, err
		})
		return err
	})
	if err == nil {
		err = c.addColumns(ctx, tables, columns)
	}
	if err != nil {
		return nil, fmt.Errorf("read tables: %w", err)
	}
	return tables, nil
}

// attributes are the columns of a table that its events have: generated ones
// are not published.
type attributes struct {
	names []string
	types []uint32
}

// addColumns gives tables their columns, with the names of their types.
func (c *ordinary) addColumns(ctx context.Context, tables []table, columns []attributes) error {
	c.namesMu.Lock()
	defer c.namesMu.Unlock()
	if c.names.known == nil {
		c.names.known = make(map[uint32]typeInfo)
	}
	c.names.lookUp = func(oids []uint32) (map[uint32]typeInfo, error) { return c.types(ctx, oids) }
	var all []uint32
	for _, of := range columns {
		all = append(all, of.types...)
	}
	if err := c.names.learn(all); err != nil {
		return err
	}
	for i, of := range columns {
		for j, name := range of.names {
			tables[i].columns = append(tables[i].columns, store.Column{Name: name, Type: c.names.typeName(of.types[j])})
		}
	}
	return nil
}

// selection is what becomes of the tables.
type selection struct {
	relations []store.Relation // every table that a pattern names, in or out
	add       []table          // to be added to the publication
	remove    []table          // to be taken out of it
	members   map[uint32]string
}

// choose decides, for every table, whether it is captured. A table whose
// replica identity would make the application's UPDATE or DELETE fail once it
// is published is left out.
func choose(tables []table, patterns []tablePattern, version int) selection {
	s := selection{members: map[uint32]string{}}
	named := map[uint32]bool{}
	for _, t := range tables {
		named[t.oid] = slices.ContainsFunc(patterns, func(p tablePattern) bool { return p.matches(t.schema, t.name) }) && t.persistence != "t"
	}
	// A partition speaks as its root, and what is wrong with it is wrong with the root.
	full := map[uint32]bool{}
	for _, t := range tables {
		full[t.oid] = t.identity == "f"
	}
	faults := map[uint32][2]string{} // reason and remedy, by root
	for _, t := range tables {
		if t.partitioned {
			continue
		}
		reason, remedy := t.unusable(version)
		for _, parent := range t.ancestors {
			switch {
			case reason != "":
				faults[parent] = [2]string{"its partition " + t.String() + ": " + reason, remedy}
			case full[parent] && t.identity != "f":
				// Old rows of the partition come as if whole, with nulls that are none.
				faults[parent] = [2]string{
					"its replica identity is FULL, but that of its partition " + t.String() + " is not: old values could not be told from nulls",
					"ALTER TABLE " + t.String() + " REPLICA IDENTITY FULL;",
				}
			}
		}
	}
	for _, t := range tables {
		viaParent := slices.ContainsFunc(t.ancestors, func(parent uint32) bool { return named[parent] })
		if !named[t.oid] || viaParent {
			if t.member {
				s.remove = append(s.remove, t)
			}
			continue
		}
		relation := store.Relation{
			Schema: t.schema, Name: t.name,
			Identity: identities[t.identity[0]], Key: t.key(), Columns: t.columns,
		}
		relation.Reason, relation.Remedy = t.unusable(version)
		if fault, ok := faults[t.oid]; ok && relation.Reason == "" {
			relation.Reason, relation.Remedy = fault[0], fault[1]
		}
		relation.Captured = relation.Reason == ""
		switch {
		case relation.Captured && !t.member:
			s.add = append(s.add, t)
		case !relation.Captured && t.member:
			s.remove = append(s.remove, t)
		}
		if relation.Captured {
			s.members[t.oid] = t.String()
		}
		s.relations = append(s.relations, relation)
	}
	return s
}

// unusable says why publishing the table would break the application's writes,
// and what would help; empty where it would not.
func (t table) unusable(version int) (reason, remedy string) {
	alter := "ALTER TABLE " + t.String() + " "
	const breaks = "publishing it would make the application's UPDATE and DELETE fail"
	switch {
	case t.persistence != "p":
		return "it is unlogged: its changes are not in the WAL", alter + "SET LOGGED;"
	case t.partitioned && len(t.primaryKey) == 0:
		return "it is partitioned without a primary key, so partitions made later would have no replica identity: " + breaks,
			alter + "ADD PRIMARY KEY (…);"
	case t.identity == "n":
		return "its replica identity is NOTHING: " + breaks, alter + "REPLICA IDENTITY DEFAULT;"
	case t.identity == "d" && len(t.primaryKey) == 0:
		return "it has no primary key (or a deferrable one): " + breaks,
			alter + "ADD PRIMARY KEY (…); -- or: " + alter + "REPLICA IDENTITY FULL;"
	case t.identity == "i" && len(t.index) == 0:
		return "the index of its replica identity is gone: " + breaks, alter + "REPLICA IDENTITY DEFAULT; -- or USING INDEX …"
	case t.identity == "f" && t.generated && version >= 180000:
		return "its replica identity is FULL and holds generated columns, which are not published: " + breaks,
			alter + "REPLICA IDENTITY DEFAULT;"
	}
	return "", ""
}

// key is the columns that name a row: of the replica identity, or, where that
// is the whole row, of the primary key.
func (t table) key() []string {
	switch t.identity {
	case "i":
		return t.index
	case "n":
		return nil
	}
	return t.primaryKey
}

func (t table) String() string { return quote(t.schema) + "." + quote(t.name) }

const typesSQL = `
WITH RECURSIVE wanted(oid) AS (
  SELECT unnest($1::oid[])
  UNION
  SELECT x.oid FROM wanted w JOIN pg_type t ON t.oid = w.oid
  CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) x(oid) WHERE x.oid <> 0
)
SELECT t.oid, t.typtype::text, t.typbasetype, coalesce(e.oid, 0::oid), coalesce(e.typdelim::text, ','), format_type(t.oid, NULL)
FROM wanted w JOIN pg_type t ON t.oid = w.oid
LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid`

// types looks types up, and those that they are made of.
func (c *ordinary) types(ctx context.Context, oids []uint32) (map[uint32]typeInfo, error) {
	found := map[uint32]typeInfo{}
	err := c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, typesSQL, oids)
		if err != nil {
			return err
		}
		var (
			oid         uint32
			info        typeInfo
			kind, delim string
		)
		_, err = pgx.ForEachRow(rows, []any{&oid, &kind, &info.base, &info.element, &delim, &info.name}, func() error {
			info.kind, info.delim = kind[0], delim[0]
			found[oid] = info
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up types: %w", err)
	}
	return found, nil
}

const primaryKeySQL = `
SELECT a.attname::text FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(num, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
WHERE i.indrelid = $1 AND i.indisprimary AND i.indisvalid AND k.place <= i.indnkeyatts
ORDER BY k.place`

// primaryKey is the columns of a table's primary key; none where it has none,
// or where the table is gone.
func (c *ordinary) primaryKey(ctx context.Context, relation uint32) (columns []string, err error) {
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, primaryKeySQL, relation)
		if err != nil {
			return err
		}
		columns, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up primary key: %w", err)
	}
	return columns, nil
}
