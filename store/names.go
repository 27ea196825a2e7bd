package store

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
)

// names remembers what sources are called: the log names them by number.
type names struct {
	mu   sync.RWMutex
	byID map[SourceID]string // the CloudEvents source
}

// eventSource is the CloudEvents source of a source called name.
func eventSource(name string) string { return "/sources/" + name }

const sourceNamesSQL = `SELECT id, name FROM rowcall.sources`

// readSourceNames returns what sources are called; 0 is rowcall itself.
func readSourceNames(ctx context.Context, q querier) (map[SourceID]string, error) {
	rows, err := q.Query(ctx, sourceNamesSQL)
	if err != nil {
		return nil, fmt.Errorf("read source names: %w", err)
	}
	byID := map[SourceID]string{0: "rowcall"}
	var of SourceID
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&of, &name}, func() error {
		byID[of] = name
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read source names: %w", err)
	}
	return byID, nil
}

// eventSource returns the CloudEvents source of a number. Sources are never
// deleted while the log names them, so an unknown number is made up for, not an
// error: the event can still be delivered.
func (s *Store) eventSource(ctx context.Context, q querier, id SourceID) (string, error) {
	s.names.mu.RLock()
	source, ok := s.names.byID[id]
	s.names.mu.RUnlock()
	if ok {
		return source, nil
	}
	byID, err := readSourceNames(ctx, q)
	if err != nil {
		return "", err
	}
	for of, name := range byID {
		byID[of] = eventSource(name)
	}
	if _, ok := byID[id]; !ok {
		byID[id] = eventSource(fmt.Sprint(id))
	}
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	s.names.byID = byID
	return byID[id], nil
}
