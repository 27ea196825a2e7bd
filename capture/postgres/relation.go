package postgres

import (
	"fmt"
	"slices"

	"github.com/rowcall/rowcall/store"
)

// Replica identities, as they stand on the wire.
const (
	identityDefault = 'd'
	identityNothing = 'n'
	identityFull    = 'f'
	identityIndex   = 'i'
)

// ownSchema is where rowcall's own tables are. It is never captured, whatever a
// publication says: each append would feed us the next one.
const ownSchema = "rowcall"

// relation is one version of a table as the stream described it, with all that
// its events have in common written in advance.
type relation struct {
	oid      uint32
	schema   string
	name     string
	own      bool // of ownSchema: its changes are not events
	identity byte
	columns  []relationColumn
	key      []int // columns of the key, in the order of the table's columns

	table   string // <schema>.<table>, encoded
	types   [4]string
	heads   [4][]byte // data up to the value of key
	prefix  []byte    // of the keys of its rows: table and a slash
	typeIDs []uint32
	version store.RelationVersion // that its events name
}

// relationColumn is one column, as the stream sends them.
type relationColumn struct {
	name   string
	inKey  bool
	form   form
	member []byte // `,"name":`
	label  []byte // the name, encoded as in keys
}

// quoted is the column's name as a JSON string.
func (c *relationColumn) quoted() []byte { return c.member[1 : len(c.member)-1] }

// op is what a change did.
type op int8

const (
	opInsert op = iota
	opUpdate
	opDelete
	opTruncate
)

// readRelation reads a relation message, without what the catalogue knows.
func readRelation(w *wire) (*relation, error) {
	r := &relation{oid: w.uint32()}
	r.schema, r.name = w.string(), w.string()
	if r.schema == "" {
		r.schema = "pg_catalog"
	}
	r.own = r.schema == ownSchema
	r.identity = w.byte()
	const keyFlag = 1
	for range w.uint16() {
		flags, name, oid := w.byte(), w.string(), w.uint32()
		w.uint32() // type modifier
		if w.bad {
			return nil, errShort
		}
		r.columns = append(r.columns, relationColumn{name: name, inKey: flags&keyFlag != 0})
		r.typeIDs = append(r.typeIDs, oid)
	}
	if err := w.end(); err != nil {
		return nil, err
	}
	switch r.identity {
	case identityDefault, identityNothing, identityFull, identityIndex:
		return r, nil
	default:
		return nil, fmt.Errorf("replica identity %q is not known", r.identity)
	}
}

// setKey replaces the key columns. A key of which a column is not sent is no
// key: its rows could not be told apart.
func (r *relation) setKey(names []string) {
	for _, name := range names {
		if !slices.ContainsFunc(r.columns, func(c relationColumn) bool { return c.name == name }) {
			names = nil
			break
		}
	}
	for i := range r.columns {
		r.columns[i].inKey = slices.Contains(names, r.columns[i].name)
	}
}

// identities are the replica identities as the log names them.
var identities = map[byte]string{
	identityDefault: "default", identityIndex: "index", identityFull: "full", identityNothing: "nothing",
}

// described is the relation as the log knows its versions.
func (r *relation) described(types *catalogue) store.Relation {
	described := store.Relation{Schema: r.schema, Name: r.name, Identity: identities[r.identity], Columns: make([]store.Column, len(r.columns))}
	for i := range r.columns {
		described.Columns[i] = store.Column{Name: r.columns[i].name, Type: types.typeName(r.typeIDs[i])}
	}
	for _, i := range r.key {
		described.Key = append(described.Key, r.columns[i].name)
	}
	return described
}

// prepare writes what the relation's events have in common.
func (r *relation) prepare(types *catalogue) {
	for i := range r.columns {
		c := &r.columns[i]
		c.form = types.form(r.typeIDs[i])
		c.member, _ = appendJSONString([]byte{','}, []byte(c.name))
		c.member = append(c.member, ':')
		if c.inKey {
			r.key = append(r.key, i)
			c.label = appendEncoded(nil, []byte(c.name))
		}
	}
	r.table = string(appendEncoded(append(appendEncoded(nil, []byte(r.schema)), '.'), []byte(r.name)))
	r.prefix = []byte(r.table + "/")
	for op, names := range [...][2]string{
		opInsert:   {"insert", "inserted"},
		opUpdate:   {"update", "updated"},
		opDelete:   {"delete", "deleted"},
		opTruncate: {"truncate", "truncated"},
	} {
		r.types[op] = r.table + "." + names[1]
		head := []byte(`{"op":"` + names[0] + `","schema":`)
		head, _ = appendJSONString(head, []byte(r.schema))
		head, _ = appendJSONString(append(head, `,"table":`...), []byte(r.name))
		r.heads[op] = append(head, `,"key":`...)
	}
}

// relation takes a relation message: it stands for the table from now on.
func (d *decoder) relation(w *wire) error {
	r, err := readRelation(w)
	if err != nil {
		return err
	}
	if !r.own {
		if r.identity == identityFull {
			// Every column is flagged as identity; what tells rows apart is the primary key.
			var key []string
			if d.config.primaryKey != nil {
				if key, err = d.config.primaryKey(r.oid); err != nil {
					return fmt.Errorf("look up primary key of %s.%s: %w", r.schema, r.name, err)
				}
			}
			r.setKey(key)
		}
		if err := d.types.learn(r.typeIDs); err != nil {
			return err
		}
		r.prepare(&d.types)
		if d.config.version != nil {
			if r.version, err = d.config.version(r.described(&d.types)); err != nil {
				return err
			}
		}
	}
	d.relations[r.oid] = r
	d.last = r
	return nil
}

// relationOf is the relation of a change.
func (d *decoder) relationOf(oid uint32) (*relation, error) {
	if d.last != nil && d.last.oid == oid {
		return d.last, nil
	}
	r := d.relations[oid]
	if r == nil {
		return nil, fmt.Errorf("relation %d was not described", oid)
	}
	d.last = r
	return r, nil
}
