package dispatch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// rules are the expressions of a lane's subscription. nil: it has none.
type rules struct {
	filter    *subscriptions.Filter      // nil: every event of its types
	ordering  *subscriptions.OrderingKey // nil: the row's key
	transform *subscriptions.Transform   // nil: data as it is
}

func newRules(p *subscriptions.Programs, spec *subscriptions.Spec) *rules {
	if !spec.HasExpressions() {
		return nil
	}
	r := &rules{}
	if spec.Filter != nil {
		r.filter = p.Filter(*spec.Filter)
	}
	if spec.OrderingKey != nil && spec.Ordering != subscriptions.OrderNone {
		r.ordering = p.OrderingKey(*spec.OrderingKey)
	}
	if spec.Transform != nil {
		r.transform = p.Transform(*spec.Transform)
	}
	return r
}

// judges reports whether events are looked at before the lane takes them.
func (r *rules) judges() bool { return r != nil && (r.filter != nil || r.ordering != nil) }

// orders reports whether keys are made by an expression.
func (r *rules) orders() bool { return r != nil && r.ordering != nil }

// filters reports whether not every event of its types is wanted.
func (r *rules) filters() bool { return r != nil && r.filter != nil }

// transforms reports whether data is replaced.
func (r *rules) transforms() bool { return r != nil && r.transform != nil }

// orderingOf tells orderings apart: keys of one say nothing in another.
func orderingOf(spec *subscriptions.Spec) string {
	switch {
	case spec.Ordering == subscriptions.OrderNone:
		return "none"
	case spec.OrderingKey == nil:
		return ""
	}
	digest := sha256.Sum256([]byte(*spec.OrderingKey))
	return hex.EncodeToString(digest[:8])
}

// noTable stands in keys where the table would, for events of none. Names of
// tables have a dot.
const noTable = "events"

// candidate is an event that lanes with expressions look at. It is decoded once,
// whoever looks first.
type candidate struct {
	event *store.Event

	mu      sync.Mutex
	decoded *subscriptions.Decoded
}

// tableTypes is what versions of tables look like.
type tableTypes interface {
	TableTypes(ctx context.Context, version store.RelationVersion) (*subscriptions.TableTypes, error)
}

func (c *candidate) decode(ctx context.Context, tables tableTypes) (*subscriptions.Decoded, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.decoded != nil {
		return c.decoded, nil
	}
	e := c.event
	table, err := tables.TableTypes(ctx, e.Relation)
	if err != nil {
		return nil, err
	}
	c.decoded = subscriptions.Decode(subscriptions.Attributes{
		Type: e.Type, Subject: e.SubjectText(), Source: e.Source, Time: e.CommittedAt(), Key: e.Key,
	}, e.Data, table)
	return c.decoded, nil
}

// verdict is what a lane's expressions say of an event.
type verdict struct {
	wanted             bool
	fault              error // of the filter: neither wanted nor not
	key, before, table string
	barrier            bool
}

// judge looks at an event. Its error is that of ctx or of the store, and there
// is no verdict.
func (r *rules) judge(ctx context.Context, c *candidate, tables tableTypes) (v verdict, err error) {
	d, err := c.decode(ctx, tables)
	if err != nil {
		return v, err
	}
	v.wanted = true
	if r.filter != nil {
		switch v.wanted, err = r.filter.Match(ctx, d); {
		case isFault(err):
			v.wanted, v.fault = true, err
		case err != nil || !v.wanted:
			return v, err
		}
	}
	if r.ordering == nil {
		return v, nil
	}
	if v.table = c.event.Table(); v.table == "" {
		v.table = noTable
	}
	v.table = strings.Clone(v.table) // it may be part of a page
	v.key, v.barrier = v.table, c.event.Kind == store.KindTruncate
	if v.barrier {
		return v, nil
	}
	key, before, err := r.ordering.Keys(ctx, d)
	switch {
	case isFault(err):
		v.barrier = true // it may belong to any key
		return v, nil
	case err != nil:
		return v, err
	}
	v.key = v.table + "/" + key
	if before != "" {
		v.before = v.table + "/" + before
	}
	return v, nil
}

// isFault reports whether an expression failed, as against that it could not run.
func isFault(err error) bool {
	_, ok := errors.AsType[*subscriptions.EvalError](err)
	return ok
}

// isTransform reports whether the expression that failed is a transform.
func isTransform(fault error) bool {
	e, ok := errors.AsType[*subscriptions.EvalError](fault)
	return ok && e.Field == "transform"
}

// errUnwanted says that a filter does not want an event after all.
var errUnwanted = errors.New("the filter does not want the event")

// apply makes the event to send of one that is to be sent: its filter is asked
// where it failed before or was not asked, its transform has its data replaced.
func (l *lane) apply(ctx context.Context, e *entry, ev *store.Event) (*store.Event, error) {
	r := l.rules
	again := (e.reason == ReasonFilterError || e.unjudged) && r.filters()
	if !again && !r.transforms() {
		return ev, nil
	}
	begun := time.Now()
	defer func() { l.cost.add(time.Since(begun), 1) }()
	c := candidate{event: ev}
	d, err := c.decode(ctx, l.s.store)
	if err != nil {
		return nil, err
	}
	if again {
		if wanted, err := r.filter.Match(ctx, d); err != nil {
			return nil, err
		} else if !wanted {
			return nil, errUnwanted
		}
		e.unjudged = false
	}
	if !r.transforms() {
		return ev, nil
	}
	data, err := r.transform.Apply(ctx, d)
	if err != nil {
		return nil, err
	}
	own := *ev
	own.Data = data
	return &own, nil
}

// errGrown says that a transform made more of a batch than one body may hold.
var errGrown = errors.New("the transformed batch is larger than batch.max_bytes")

// applyAll is apply for the events of a batch. faults are those of its events,
// nil where none failed.
func (l *lane) applyAll(ctx context.Context, b *batch) (faults []error, err error) {
	if !l.rules.transforms() {
		return nil, nil
	}
	size := int64(1)
	for i, e := range b.entries {
		ev, err := l.apply(ctx, e, b.events[i])
		switch {
		case isFault(err):
			if faults == nil {
				faults = make([]error, len(b.entries))
			}
			faults[i] = err
		case err != nil:
			return nil, err
		default:
			b.events[i] = ev
			size += int64(cloudEventSize(ev)) + 1
		}
	}
	if faults == nil && size > l.batches.bytes && len(b.entries) > 1 {
		return nil, errGrown
	}
	return faults, nil
}

// landUnsent is landBatch for a batch of which not all could be made: without what
// failed, or in halves, it goes at once.
func (l *lane) landUnsent(b *batch, faults []error, err error) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := b.entries[0]
	l.lower(first)
	switch {
	case errors.Is(err, errGrown):
		l.queue(l.split(b))
	case l.s.flightCtx.Err() != nil:
		l.scatter(b)
	case err != nil:
		l.delay(b, time.Second)
	default:
		kept := make([]*entry, 0, len(b.entries))
		for i, e := range b.entries {
			if faults[i] == nil {
				kept = append(kept, e)
				continue
			}
			e.batch = nil
			l.landFault(e, faults[i])
		}
		if b.entries = kept; len(kept) > 0 {
			l.group(b)
		}
		l.queue(b)
	}
	return l.goOn(first)
}
