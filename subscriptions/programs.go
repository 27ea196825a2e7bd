package subscriptions

import (
	"fmt"
	"sync"
)

// maxPrograms bounds how many compiled expressions are remembered. A usual one
// weighs 9 KiB.
const maxPrograms = 2048

// Programs remembers compiled expressions, so that subscriptions with the same
// text share one, and so do tables that look alike. It is safe for concurrent
// use.
//
// What dispatch calls, once per process, subscription and event:
//
//	programs := NewPrograms()                                   // one per process
//	filter := programs.Filter(*spec.Filter)                     // when a subscription is loaded; never fails
//	d := Decode(Attributes{…}, event.Data, table)               // one per event, for all subscriptions; costs nothing until used
//	matched, err := filter.Match(ctx, d)                        // before the event is claimed
//	body, err := transform.Apply(ctx, d)                        // when the payload is made: the new data
//	key, before, err := ordering.Keys(ctx, d)                   // in place of event.Key and OldKey, prefixed with the table by the caller
//
// table is the version of the relation that the event names, nil for events of
// no table. One *TableTypes per version: programs are found by that pointer. An
// error is an *EvalError, a verdict that stays until the subscription is edited
// (filter_error, transform_error; for ordering a barrier for the event's
// table), or the error of ctx, which is none: then the event is looked at
// again. Neither is ever "no match".
type Programs struct {
	compiler *compiler

	mu      sync.Mutex
	entries map[programKey]*programEntry
}

type programKey struct {
	kind          exprKind
	source, shape string
}

type programEntry struct {
	once    sync.Once
	program *program
	err     error
}

// NewPrograms makes an empty one.
func NewPrograms() *Programs {
	return &Programs{compiler: newCompiler(), entries: map[programKey]*programEntry{}}
}

// get compiles an expression for a table, or finds it. Faults are remembered
// too.
func (p *Programs) get(kind exprKind, source string, table *TableTypes) (*program, error) {
	key := programKey{kind: kind, source: source, shape: table.shape()}
	p.mu.Lock()
	entry := p.entries[key]
	if entry == nil {
		if len(p.entries) >= maxPrograms {
			for other := range p.entries { // whichever: what is in use is held by its expression
				delete(p.entries, other)
				break
			}
		}
		entry = &programEntry{}
		p.entries[key] = entry
	}
	p.mu.Unlock()
	entry.once.Do(func() { entry.program, entry.err = p.compiler.compile(kind, source, table) })
	return entry.program, entry.err
}

// expression is the text of one member of one subscription. It remembers the
// programs of the tables that it met.
type expression struct {
	kind     exprKind
	source   string
	programs *Programs

	mu    sync.RWMutex
	known map[*TableTypes]*program
}

func (p *Programs) expression(kind exprKind, source string) *expression {
	return &expression{kind: kind, source: source, programs: p, known: map[*TableTypes]*program{}}
}

// maxKnownTables bounds what an expression remembers of versions long gone.
const maxKnownTables = 512

func (e *expression) program(table *TableTypes) (*program, error) {
	e.mu.RLock()
	found := e.known[table]
	e.mu.RUnlock()
	if found != nil {
		return found, nil
	}
	compiled, err := e.programs.get(e.kind, e.source, table)
	if err != nil {
		return nil, &EvalError{Field: string(e.kind), Err: err}
	}
	e.mu.Lock()
	if len(e.known) >= maxKnownTables {
		clear(e.known)
	}
	e.known[table] = compiled
	e.mu.Unlock()
	return compiled, nil
}

// check judges an expression for the tables that its subscription matches now;
// without any, for data whose types are those of its JSON.
func (e *expression) check(tables []TableTypes) (warnings []string, err error) {
	if err := checkSource(e.source); err != nil {
		return nil, err
	}
	if len(tables) == 0 {
		_, err := e.programs.get(e.kind, e.source, nil)
		return nil, err
	}
	var reads []memberRead
	for i := range tables {
		p, err := e.programs.get(e.kind, e.source, &tables[i])
		if err != nil && len(tables) > 1 {
			return nil, fmt.Errorf("%w; so it is for table %s: narrow the events, or convert with dyn()", err, tables[i].name())
		}
		if err != nil {
			return nil, err
		}
		reads = p.reads // the same for all: they are of the text
	}
	return judge(e.kind, reads, tables)
}
