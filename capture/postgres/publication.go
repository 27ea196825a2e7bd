package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
)

// publication is ours as the catalogue has it.
type publication struct {
	oid       uint32 // 0: there is none
	allTables bool
	schemas   []string // FOR TABLES IN SCHEMA
	complete  bool     // publishes every operation, via the partition root
	owned     bool
	ownTables bool // holds a table of schema rowcall
}

const publicationSQL = `
SELECT p.oid, p.puballtables, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND p.pubviaroot,
       pg_has_role(p.pubowner, 'USAGE'),
       EXISTS (SELECT FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid AND n.nspname = $2)
FROM pg_publication p WHERE p.pubname = $1`

const publicationSchemasSQL = `
SELECT n.nspname::text FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = $1 ORDER BY 1`

// findPublication says what the publication of that name is.
func (c *ordinary) findPublication(ctx context.Context, name string, version int) (p publication, err error) {
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, publicationSQL, name, ownSchema).Scan(&p.oid, &p.allTables, &p.complete, &p.owned, &p.ownTables)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil || version < 150000 {
			return err
		}
		rows, err := conn.Query(ctx, publicationSchemasSQL, p.oid)
		if err != nil {
			return err
		}
		p.schemas, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return p, fmt.Errorf("look up publication: %w", err)
	}
	return p, nil
}

// refusal says why this publication must not be streamed; nil where it may be.
func (p publication) refusal(name string) *refusal {
	drop := "DROP PUBLICATION " + quote(name) + "; -- it is made anew, table by table"
	switch {
	case p.allTables:
		return &refusal{"publication " + name + " is FOR ALL TABLES: it would feed rowcall its own writes, and break UPDATE and DELETE on tables without replica identity", drop}
	case p.ownTables:
		return &refusal{"publication " + name + " holds tables of schema " + ownSchema + ": rowcall would capture its own writes", drop}
	case len(p.schemas) > 0:
		return &refusal{
			"publication " + name + " holds whole schemas (" + strings.Join(p.schemas, ", ") + "): tables without replica identity in them would reject UPDATE and DELETE",
			drop,
		}
	}
	return nil
}

const publicationOptions = "(publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"

// tend makes the publication what it should be: created, complete, holding
// exactly the tables that s chose. Tables that it may not add are marked in
// s.relations, with the SQL for who may.
func (c *ordinary) tend(ctx context.Context, name string, p publication, s *selection) error {
	if p.oid == 0 {
		if err := c.exec(ctx, "CREATE PUBLICATION "+quote(name)+" WITH "+publicationOptions); err != nil {
			if sqlState(err) == stateNoPrivilege {
				return &refusal{
					"the role may not create a publication in this database",
					"GRANT CREATE ON DATABASE … TO the_role; or, as an administrator: CREATE PUBLICATION " + quote(name) + " WITH " + publicationOptions + "; ALTER PUBLICATION " + quote(name) + " OWNER TO the_role;",
				}
			}
			return fmt.Errorf("create publication: %w", err)
		}
	} else if !p.complete {
		if err := c.exec(ctx, "ALTER PUBLICATION "+quote(name)+" SET "+publicationOptions); err != nil {
			if sqlState(err) == stateNoPrivilege {
				return &refusal{
					"publication " + name + " leaves out operations, and the role may not change it",
					"ALTER PUBLICATION " + quote(name) + " SET " + publicationOptions + ";",
				}
			}
			return fmt.Errorf("complete publication: %w", err)
		}
	}
	for _, t := range s.remove {
		alter := "ALTER PUBLICATION " + quote(name) + " DROP TABLE " + t.String()
		if err := c.exec(ctx, alter); err != nil && sqlState(err) != stateUndefinedObject {
			if sqlState(err) != stateNoPrivilege {
				return fmt.Errorf("take table out of publication: %w", err)
			}
			s.note(t, true, "it is in the publication, which the role may not change", alter+";")
		}
	}
	for _, t := range s.add {
		alter := "ALTER PUBLICATION " + quote(name) + " ADD TABLE ONLY " + t.String()
		switch err := c.exec(ctx, alter); sqlState(err) {
		case "":
			if err != nil {
				return fmt.Errorf("add table to publication: %w", err)
			}
		case stateDuplicateObject:
		case stateNoPrivilege:
			s.note(t, false, "the role owns neither it nor, perhaps, the publication (the table's owner is "+t.owner+")",
				alter+"; -- as an administrator")
		default:
			// One table that is locked or just gone does not keep the others out;
			// it is tried again at the next look.
			s.note(t, false, "it could not be added to the publication: "+explain(err), alter+";")
		}
	}
	return nil
}

// note changes what is said of a table.
func (s *selection) note(t table, captured bool, reason, remedy string) {
	if !captured {
		delete(s.members, t.oid)
	}
	for i := range s.relations {
		if r := &s.relations[i]; r.Schema == t.schema && r.Name == t.name {
			r.Captured, r.Reason, r.Remedy = captured, reason, remedy
			return
		}
	}
	s.relations = append(s.relations, store.Relation{Schema: t.schema, Name: t.name, Captured: captured, Reason: reason, Remedy: remedy, Identity: identities[t.identity[0]], Key: t.key(), Columns: t.columns})
}

func (c *ordinary) exec(ctx context.Context, sql string) error {
	return c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

// lost names the tables that were captured, should be, and are in the
// publication no more: somebody took them out, and what was written meanwhile
// is not in the stream.
func lost(saved []store.Relation, add []table) []string {
	var names []string
	for _, t := range add {
		for _, r := range saved {
			if r.Captured && r.Schema == t.schema && r.Name == t.name {
				names = append(names, t.String())
			}
		}
	}
	return names
}
