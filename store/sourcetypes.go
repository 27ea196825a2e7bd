package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/subscriptions"
)

// maxSourceTypes bounds the rows of a source in source_types: published types may
// be endless. What it writes of further types is otherTypes.
const maxSourceTypes = 1000

// sourceType is a row of source_types.
type sourceType struct {
	Source SourceID
	Type   string
}

// sourceTypes is what is known of source_types: rows come, and never go.
type sourceTypes struct {
	mu    sync.Mutex
	known map[SourceID]map[string]bool // nil: not read
}

const (
	sourceTypesSQL     = `SELECT source, type FROM rowcall.source_types`
	saveSourceTypesSQL = `
INSERT INTO rowcall.source_types (source, type) SELECT * FROM unnest($1::integer[], $2::text[]) ON CONFLICT DO NOTHING`
)

// save writes what is new among what was counted, in the transaction of its count,
// and returns it: known once that is committed.
func (t *sourceTypes) save(ctx context.Context, tx pgx.Tx, counts map[blockType]LogCount) ([]sourceType, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		there, err := readSourceTypes(ctx, tx)
		if err != nil {
			return nil, err
		}
		t.known = map[SourceID]map[string]bool{}
		t.put(there)
	}
	news := map[sourceType]bool{}
	var sources []int32
	var types []string
	room := map[SourceID]int{}
	for at := range counts {
		of := sourceType{at.source, at.name}
		if _, there := room[of.Source]; !there {
			room[of.Source] = maxSourceTypes - len(t.known[of.Source])
		}
		if !t.known[of.Source][of.Type] && room[of.Source] <= 0 {
			of.Type = otherTypes
		}
		if t.known[of.Source][of.Type] || news[of] {
			continue
		}
		room[of.Source]--
		news[of] = true
		sources, types = append(sources, int32(of.Source)), append(types, of.Type)
	}
	if len(news) == 0 {
		return nil, nil
	}
	_, err := tx.Exec(ctx, saveSourceTypesSQL, sources, types)
	return slices.Collect(maps.Keys(news)), err
}

// add takes over what was saved.
func (t *sourceTypes) add(saved []sourceType) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(saved)
}

func (t *sourceTypes) put(rows []sourceType) {
	for _, of := range rows {
		if t.known[of.Source] == nil {
			t.known[of.Source] = map[string]bool{}
		}
		t.known[of.Source][of.Type] = true
	}
}

// readSourceTypes returns what each source has ever written, as far as it is counted.
func readSourceTypes(ctx context.Context, q querier) ([]sourceType, error) {
	rows, err := q.Query(ctx, sourceTypesSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[sourceType])
}

// SeenTypes returns the types that any source has ever written, once a block of the
// log has counted them. more: there are so many that not all were noted.
func (s *Store) SeenTypes(ctx context.Context) (types []string, more bool, err error) {
	rows, err := readSourceTypes(ctx, s.pool)
	if err != nil {
		return nil, false, fmt.Errorf("read types that were seen: %w", err)
	}
	for _, of := range rows {
		if of.Type == otherTypes {
			more = true
		} else {
			types = append(types, of.Type)
		}
	}
	slices.Sort(types)
	return slices.Compact(types), more, nil
}

// sourcesOf are those of which there are events that patterns match, of each of
// len(of) lanes, by their places in set, beside the ones that it has already.
func sourcesOf(of [][]SourceID, set *subscriptions.Set, types []sourceType) {
	for _, t := range types {
		if t.Type == otherTypes {
			for i := range of {
				of[i] = append(of[i], t.Source)
			}
			continue
		}
		for _, i := range set.Match(t.Type) {
			of[i] = append(of[i], t.Source)
		}
	}
	for i := range of {
		slices.Sort(of[i])
		of[i] = slices.Compact(of[i])
	}
}

// addSources names the sources of which lanes have events: those of the types that
// they want, and the former ones.
func addSources(ctx context.Context, q querier, found []Balance, former [][]SourceID, set *subscriptions.Set) error {
	types, err := readSourceTypes(ctx, q)
	if err != nil {
		return err
	}
	names, err := readSourceNames(ctx, q)
	if err != nil {
		return err
	}
	sourcesOf(former, set, types)
	for i, ids := range former {
		for _, id := range ids {
			found[i].Sources = append(found[i].Sources, names[id])
		}
		slices.Sort(found[i].Sources)
	}
	return nil
}
