package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// publishWaiting appends what waits; its caller has the turn. It goes on when
// that caller's ctx ends: the others wait for it, too.
func (s *Store) publishWaiting(ctx context.Context) {
	ps := s.waiting.take()
	if len(ps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), appendTimeout, errSlow)
	defer cancel()
	err := s.publishAll(ctx, ps)
	if refused(err) && len(ps) > 1 {
		// One of them is at fault: the others are not to suffer for it.
		err = nil
		for _, p := range ps {
			p.err = s.publishAll(ctx, []*publication{p})
		}
	}
	for _, p := range ps {
		if p.err == nil {
			p.err = err
		}
		close(p.done)
	}
}

// publishTries bounds how often an append starts over because others published
// some of its events at the same moment.
const publishTries = 10

// publishAll appends publications in one transaction and fills in their receipts.
func (s *Store) publishAll(ctx context.Context, ps []*publication) error {
	lease, ok := s.currentLease()
	if !ok {
		return errNoLease
	}
	claim := SourceClaim{Epoch: lease.Epoch, instance: lease.Instance}
	begun := time.Now()
	look, again := false, true
	for _, p := range ps {
		look = look || !p.made
	}
	for range publishTries {
		held := s.appender.wire != nil
		var known map[[16]byte]Offset
		if look {
			var err error
			known, err = s.findPublished(ctx, ps)
			if err != nil && again && s.lostWire(ctx, held) {
				again = false
				continue
			}
			if err != nil {
				return err
			}
		}
		b, fresh := batchOf(ps, known)
		if b.Len() == 0 {
			return nil
		}
		first, err := s.tryAppend(ctx, &s.appender, claim, b, fresh.insert)
		if err == nil {
			s.show(claim, b, first)
			s.head.advance(first + Offset(b.Len()))
			s.metrics.append(b.Len(), time.Since(begun))
			fresh.settle(first)
			return nil
		}
		look = true
		pg, said := errors.AsType[*pgconn.PgError](err)
		switch {
		case errors.Is(err, ErrFenced):
			return errNoLease
		case said && pg.Code == "23505" && strings.HasPrefix(pg.ConstraintName, "published_ids"):
			// Somebody else published one of them since we looked, or the COMMIT that
			// was in doubt has come through.
		case again && s.lostWire(ctx, held || b.first() != 0):
			// It died while nobody used it, at a restart of the store say, or there is
			// no answer to a COMMIT: look once, over a new connection.
			again = false
			if b.first() != 0 {
				fresh.doubt(b.first())
			}
		default:
			return err
		}
	}
	return fmt.Errorf("%w: others publish the same events all the time", ErrConflict)
}

// lostWire reports whether the appender had a connection, by the word of its caller,
// and has none now: a try over another one may succeed at once.
func (s *Store) lostWire(ctx context.Context, had bool) bool {
	return had && s.appender.wire == nil && ctx.Err() == nil
}

// findPublished returns where those events are that were published before. It
// asks over the appender's connection: whoever has the turn waits for nobody else.
func (s *Store) findPublished(ctx context.Context, ps []*publication) (map[[16]byte]Offset, error) {
	a := &s.appender
	if a.wire == nil {
		if err := s.connectAppender(ctx, a); err != nil {
			return nil, err
		}
	}
	var ids [][16]byte
	for _, p := range ps {
		ids = append(ids, p.ids...)
	}
	known, err := a.wire.find(ctx, ids)
	if err != nil {
		if !a.wire.idle() {
			a.disconnect()
		}
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return nil, fmt.Errorf("look for events published before: %w", err)
	}
	for _, at := range known {
		s.head.advance(at + 1) // it is in the log, and so is all before it
	}
	return known, nil
}

// find reads rowcall.published_ids.
func (w *wire) find(ctx context.Context, ids [][16]byte) (map[[16]byte]Offset, error) {
	m := messages{buf: w.scratch[:0]}
	m.execute("find_published", byteaArray(ids))
	m.sync()
	replies, err := w.exchange(ctx, &m, nil, nil, 1)
	if err == nil && replies[0].err != nil {
		err = replies[0].err
	}
	if err != nil {
		return nil, err
	}
	known := make(map[[16]byte]Offset, len(replies[0].rows))
	for _, row := range replies[0].rows {
		id, err := hex.DecodeString(row[0])
		if err != nil || len(id) != 16 {
			return nil, fmt.Errorf("id %q of a published event has not 16 bytes", row[0])
		}
		known[[16]byte(id)] = Offset(number(row[1]))
	}
	return known, nil
}

// byteaArray is the literal of a bytea[].
func byteaArray(ids [][16]byte) string {
	p := append(make([]byte, 0, len(ids)*38+2), '{')
	for i, id := range ids {
		if i > 0 {
			p = append(p, ',')
		}
		p = append(hex.AppendEncode(append(p, `"\\x`...), id[:]), '"')
	}
	return string(append(p, '}'))
}

// freshEvents are those of a batch, in its order.
type freshEvents []freshEvent

type freshEvent struct {
	p      *publication
	at     int         // of the event in p
	copies []freshCopy // the same event again, in the same append
}

type freshCopy struct {
	p  *publication
	at int
}

// batchOf makes a batch of those events that are not known, each once, and fills
// in the receipts of those that are.
func batchOf(ps []*publication, known map[[16]byte]Offset) (*Batch, freshEvents) {
	b := &Batch{}
	var fresh freshEvents
	there := map[[16]byte]int{}
	for _, p := range ps {
		for i := range p.events {
			id := p.ids[i]
			if at, ok := known[id]; ok {
				p.receipts[i].Offset, p.receipts[i].Duplicate = at, at != p.tried[i]
				continue
			}
			if n, ok := there[id]; ok {
				fresh[n].copies = append(fresh[n].copies, freshCopy{p, i})
				continue
			}
			there[id] = len(fresh)
			fresh = append(fresh, freshEvent{p: p, at: i})
			b.End(append(b.Begin(p.events[i]), p.events[i].Data...))
		}
	}
	return b, fresh
}

// insert is the statement that takes note of their ids.
func (f freshEvents) insert(first Offset) []statement {
	ids := make([][16]byte, len(f))
	offsets := []byte{'{'}
	for i, e := range f {
		ids[i] = e.p.ids[e.at]
		if i > 0 {
			offsets = append(offsets, ',')
		}
		offsets = strconv.AppendInt(offsets, int64(first)+int64(i), 10)
	}
	return []statement{{prepared: "insert_published", args: []any{byteaArray(ids), string(append(offsets, '}'))}}}
}

// settle fills in the receipts of a batch that is in the log from first on.
func (f freshEvents) settle(first Offset) {
	for i, e := range f {
		at := first + Offset(i)
		e.p.receipts[e.at].Offset, e.p.receipts[e.at].Duplicate = at, false
		for _, c := range e.copies {
			c.p.receipts[c.at].Offset, c.p.receipts[c.at].Duplicate = at, true
		}
	}
}

// doubt notes where a batch is, should it be in the log after all.
func (f freshEvents) doubt(first Offset) {
	for i, e := range f {
		e.p.tried[e.at] = first + Offset(i)
	}
}

// publishedKept is how long an event that was published is known by its id.
const publishedKept = 7 * 24 * time.Hour

const prunePublishedSQL = `
DELETE FROM rowcall.published_ids WHERE id = ANY (ARRAY(
  SELECT id FROM rowcall.published_ids WHERE at < clock_timestamp() - $1::interval ORDER BY at LIMIT 10000))`

// prunePublished forgets the ids of events that were published long ago.
func (s *Store) prunePublished(ctx context.Context) error {
	for {
		tag, err := s.pool.Exec(ctx, prunePublishedSQL, publishedKept)
		if err != nil {
			return fmt.Errorf("prune ids of published events: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
	}
}
