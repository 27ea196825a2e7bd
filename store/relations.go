package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// relations remembers what versions of tables look like. One version is one
// TableTypes: expressions find their programs by its address.
type relations struct {
	mu        sync.RWMutex
	byVersion map[RelationVersion]*subscriptions.TableTypes
}

// maxRelations bounds what is remembered.
const maxRelations = 20_000

// From here on nothing names a version until the stream describes it again.
const retireRelationsSQL = `
UPDATE rowcall.relation_versions SET past = (SELECT next FROM rowcall.log_head) WHERE source = $1 AND past IS NULL`

const (
	findRelationSQL  = `SELECT version, past IS NULL FROM rowcall.relation_versions WHERE source = $1 AND shape = $2`
	reuseRelationSQL = `UPDATE rowcall.relation_versions SET past = NULL WHERE version = $1`
	addRelationSQL   = `
INSERT INTO rowcall.relation_versions (source, shape, schema, name, identity, key, columns, types)
VALUES ($1, $2, $3, $4, $5, $6::text[], $7::text[], $8::text[])
ON CONFLICT (source, shape) DO UPDATE SET past = NULL RETURNING version`
)

// RelationVersion returns the version of a source's table that looks so: the
// one that looked so before, or a new one. Of r, schema, name, identity, key
// and columns count. Events may name it until the source is claimed anew.
func (s *Store) RelationVersion(ctx context.Context, source SourceID, r Relation) (RelationVersion, error) {
	version, err := s.relationVersion(ctx, source, r)
	if err != nil {
		return 0, fmt.Errorf("find version of table %s.%s: %w", r.Schema, r.Name, err)
	}
	return version, nil
}

func (s *Store) relationVersion(ctx context.Context, source SourceID, r Relation) (RelationVersion, error) {
	columns, types := columnTexts(r.Columns)
	schema, name, identity := cleanText(r.Schema), cleanText(r.Name), cleanText(r.Identity)
	shape := shapeOf(schema, name, identity, textArray(r.Key), textArray(columns), textArray(types))
	var version RelationVersion
	var used bool
	err := s.pool.QueryRow(ctx, findRelationSQL, int32(source), shape).Scan(&version, &used)
	if err == nil && !used {
		// Gone where retention was quicker: then it is made anew.
		tag, updateErr := s.pool.Exec(ctx, reuseRelationSQL, int32(version))
		used, err = tag.RowsAffected() > 0, updateErr
	}
	switch {
	case err == nil && used:
		return version, nil
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return 0, err
	}
	err = s.pool.QueryRow(ctx, addRelationSQL, int32(source), shape, schema, name, identity,
		textArray(r.Key), textArray(columns), textArray(types)).Scan(&version)
	return version, err
}

// shapeOf is the digest of a version.
func shapeOf(texts ...string) []byte {
	h := sha256.New()
	for _, text := range texts {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
		_, _ = h.Write([]byte(text))
	}
	return h.Sum(nil)
}

func columnTexts(columns []Column) (names, types []string) {
	for _, c := range columns {
		names, types = append(names, c.Name), append(types, c.Type)
	}
	return names, types
}

func columnsOf(names, types []string) []Column {
	var columns []Column
	for i := range min(len(names), len(types)) {
		columns = append(columns, Column{Name: names[i], Type: types[i]})
	}
	return columns
}

// Types is the relation as expressions see it.
func (r *Relation) Types() subscriptions.TableTypes {
	t := subscriptions.TableTypes{Schema: r.Schema, Table: r.Name, Identity: subscriptions.Identity(r.Identity), Key: r.Key}
	for _, c := range r.Columns {
		t.Columns = append(t.Columns, subscriptions.ColumnOf(c.Name, c.Type))
	}
	return t
}

// Tables returns what is known of the captured tables of all sources: columns as
// the catalogues had them a moment ago.
func (s *Store) Tables(ctx context.Context) ([]subscriptions.TableTypes, error) {
	sources, err := s.Sources(ctx)
	return TablesOf(sources), err
}

// TablesOf is what Tables returns of sources that were read.
func TablesOf(sources []Source) (tables []subscriptions.TableTypes) {
	for i := range sources {
		for j := range sources[i].Relations {
			if r := &sources[i].Relations[j]; r.Captured {
				tables = append(tables, r.Types())
			}
		}
	}
	return tables
}

const relationTypesSQL = `SELECT schema, name, identity, key, columns, types FROM rowcall.relation_versions WHERE version = $1`

// TableTypes returns what a version of a table looks like: the same pointer
// each time, as far as memory goes. It is nil for 0, and for a version that
// nothing names any more.
func (s *Store) TableTypes(ctx context.Context, version RelationVersion) (*subscriptions.TableTypes, error) {
	if version == 0 {
		return nil, nil
	}
	s.tables.mu.RLock()
	known, ok := s.tables.byVersion[version]
	s.tables.mu.RUnlock()
	if ok {
		return known, nil
	}
	var r Relation
	var columns, types []string
	var found *subscriptions.TableTypes
	err := s.pool.QueryRow(ctx, relationTypesSQL, int32(version)).Scan(&r.Schema, &r.Name, &r.Identity, &r.Key, &columns, &types)
	switch {
	case err == nil:
		r.Columns = columnsOf(columns, types)
		found = new(r.Types())
	case !errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("read version %d of a table: %w", version, err)
	}
	s.tables.mu.Lock()
	defer s.tables.mu.Unlock()
	if known, ok := s.tables.byVersion[version]; ok {
		return known, nil
	}
	if s.tables.byVersion == nil || len(s.tables.byVersion) >= maxRelations {
		s.tables.byVersion = map[RelationVersion]*subscriptions.TableTypes{}
	}
	s.tables.byVersion[version] = found
	return found, nil
}

// An event that a delivery or a dead range kept names its version, too.
const dropRelationsSQL = `
DELETE FROM rowcall.relation_versions v WHERE v.past <= (SELECT oldest FROM rowcall.log_head)
  AND NOT EXISTS (SELECT FROM rowcall.deliveries d WHERE d.event IS NOT NULL AND (d.event->>'relation')::integer = v.version)
  AND NOT EXISTS (SELECT FROM rowcall.kept_events k WHERE k.relation = v.version)`

// dropRelations removes the versions that no event names any more.
func (s *Store) dropRelations(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, dropRelationsSQL); err != nil {
		return fmt.Errorf("drop versions of tables: %w", err)
	}
	return nil
}
