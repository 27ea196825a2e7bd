package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// appender appends for this instance, one batch at a time, over a connection of
// its own (see wire). It remembers the rows that its last append wrote, and
// begins the next one on the assumption that nobody changed them: then a whole
// append is one flight of messages there and one back. Where the assumption
// proves wrong nothing is written, and the rows are locked and read first.
//
// Remembering where a row stands (its ctid) also keeps an append fast while
// some transaction holds a snapshot: by its key, the row is found only past all
// versions of it that the snapshot keeps.
type appender struct {
	turn chan struct{} // holds one while somebody has what follows
	wire *wire         // nil: not connected
	head headRow
	// of each source that appended over this connection
	checkpoints map[SourceID]checkpointRow
	// contended is how many appends from now on lock first: somebody else appends too.
	contended int
}

// headRow is log_head as it was last seen; ctid is empty where it was not.
type headRow struct {
	ctid          string
	next          Offset
	partitionedTo Offset
}

// checkpointRow is a row of checkpoints as it was last seen.
type checkpointRow struct {
	ctid  string
	epoch int64
	at    Checkpoint
}

// take waits for the turn; give ends it.
func (a *appender) take(ctx context.Context) error {
	select {
	case a.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *appender) give() { <-a.turn }

// close waits for an append that is under way, which appendTimeout bounds.
func (a *appender) close() {
	a.turn <- struct{}{}
	defer a.give()
	a.disconnect()
}

func (a *appender) disconnect() {
	if a.wire != nil {
		a.wire.close()
		a.wire = nil
	}
	a.forget()
}

func (a *appender) forget() {
	a.head = headRow{}
	a.checkpoints = nil
}

// appendTimeout bounds one append. Whoever waits for it gives up earlier or
// later as they like; the lock on log_head must not outlast it.
const appendTimeout = 20 * time.Second

// statement is SQL for the append's transaction. Args are strings, integers,
// nil, and what prints as the server reads it.
type statement struct {
	sql      string
	prepared string // its name among prepared, in place of sql
	args     []any
}

// Append makes the batch durable for the source: events, checkpoint and head
// move in one transaction. It returns the offset of the first event (of the
// next one, when the batch is empty: then only the checkpoint moves).
//
// An error leaves either nothing or all of it in the log (a COMMIT whose answer
// was lost); calling Append again with the same batch is safe: it looks at the
// checkpoint first. ErrFenced: claim the source again. ErrConflict: the log
// holds some of the batch's events and not others, so it is not one that was
// tried before; nothing was written.
func (s *Store) Append(ctx context.Context, claim SourceClaim, b *Batch) (Offset, error) {
	return s.append(ctx, claim, b, nil)
}

// appendWith is Append with more statements in the same transaction, behind the
// events. It does not look whether the log has the events already: a batch
// whose positions say nothing (a marker of a gap) is the caller's to append once.
func (s *Store) appendWith(ctx context.Context, claim SourceClaim, b *Batch, more func(first Offset) []statement) (Offset, error) {
	return s.append(ctx, claim, b, more)
}

func (s *Store) append(ctx context.Context, claim SourceClaim, b *Batch, more func(first Offset) []statement) (Offset, error) {
	a := &s.appender
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, appendTimeout, errSlow)
	defer cancel()
	if err := a.take(ctx); err != nil {
		return 0, fmt.Errorf("append %d events: wait for the turn: %w", b.Len(), err)
	}
	defer a.give()
	if b.Len() == 0 && more == nil {
		return s.saveCheckpoint(ctx, a, claim, b.Checkpoint)
	}
	first, err := s.tryAppend(ctx, a, claim, b, more)
	if err != nil {
		return 0, fmt.Errorf("append %d events: %w", b.Len(), err)
	}
	s.show(claim, b, first)
	s.head.advance(first + Offset(b.Len()))
	s.metrics.append(b.Len(), time.Since(begun))
	return first, nil
}

// It goes forward only: a server process that was frozen may come to it late, when
// its caller has long gone on.
const saveCheckpointSQL = `
UPDATE rowcall.checkpoints SET commit_lsn = $3, ordinal = $4, end_lsn = $5, commit_at = $6
WHERE source = $1 AND epoch = $2 AND (commit_lsn, ordinal) <= ($3, $4) AND end_lsn <= $5 RETURNING (SELECT next FROM rowcall.log_head)`

// saveCheckpoint moves the checkpoint alone. It locks no head. A checkpoint that
// is ahead of to already fences as another's claim does.
func (s *Store) saveCheckpoint(ctx context.Context, a *appender, claim SourceClaim, to Checkpoint) (Offset, error) {
	delete(a.checkpoints, claim.ID) // the row moves
	var next Offset
	err := s.pool.QueryRow(ctx, saveCheckpointSQL,
		int32(claim.ID), claim.Epoch, int64(to.Commit), to.Ordinal, int64(to.End), nullTime(to.CommitAt)).Scan(&next)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrFenced
	}
	if err != nil {
		return 0, fmt.Errorf("save checkpoint: %w", err)
	}
	s.head.advance(next)
	return next, nil
}

// errSlow is why a context of ours ended.
var errSlow = fmt.Errorf("the store did not answer in time: %w", context.DeadlineExceeded)

// tryAppend appends while it has the turn.
func (s *Store) tryAppend(ctx context.Context, a *appender, claim SourceClaim, b *Batch, more func(Offset) []statement) (Offset, error) {
	for {
		if a.wire == nil {
			if err := s.connectAppender(ctx, a); err != nil {
				return 0, err
			}
		}
		first, err := s.appendOnce(ctx, a, claim, b, more)
		switch {
		case err == nil:
			return first, nil
		case errors.Is(err, errMoved): // what we remembered is not so any more
			a.forget()
			a.contended = 50
		case errors.Is(err, errPartition):
			if err := s.addPartition(ctx, Offset(b.Len())); err != nil {
				return 0, err
			}
			a.forget()
		default:
			// After an error of the server the transaction is rolled back and the
			// connection fit; after any other its state is unknown.
			if !a.wire.idle() {
				a.disconnect()
			}
			a.forget()
			if ctx.Err() != nil {
				err = errors.Join(context.Cause(ctx), err)
			}
			return 0, err
		}
		if err := ctx.Err(); err != nil {
			return 0, context.Cause(ctx)
		}
	}
}

var (
	errMoved     = errors.New("log_head or checkpoint has moved")
	errPartition = errors.New("no partition holds the next offsets")
)

// appendOnce is one transaction.
func (s *Store) appendOnce(ctx context.Context, a *appender, claim SourceClaim, b *Batch, more func(Offset) []statement) (Offset, error) {
	w := a.wire
	row, known := a.checkpoints[claim.ID]
	known = known && a.head.ctid != "" && row.epoch == claim.Epoch && a.contended == 0
	a.contended = max(0, a.contended-1)
	begun := false
	if !known {
		var err error
		if a.head, row, err = w.lock(ctx, claim); err != nil {
			return 0, err
		}
		begun = true
		// Its own head is known only from what committed, and the row is locked.
		if err := s.checkHead(Offset(s.head.known.Load()), a.head.next, false); err != nil {
			return 0, errors.Join(err, w.rollback(ctx))
		}
	}
	if more == nil {
		switch err := covered(row.at, b); {
		case errors.Is(err, errThere):
			if err := w.rollback(ctx); err != nil {
				return 0, err
			}
			return s.findAppended(ctx, claim, b)
		case err != nil:
			return 0, errors.Join(err, w.rollback(ctx))
		}
	}
	n := Offset(b.Len())
	if a.head.next+n > a.head.partitionedTo {
		return 0, errors.Join(errPartition, w.rollback(ctx))
	}
	first := a.head.next
	b.number(first)
	if !claim.ofInstance() {
		b.own(claim.ID)
	}
	write := writeArgs{begun: begun, claim: claim, head: a.head, from: row, to: b.Checkpoint}
	if more != nil {
		write.more = more(first)
	}
	if s.others.Load() {
		write.notify = first + n
	}
	headCTID, checkpointCTID, err := w.write(ctx, b, write)
	if errors.Is(err, errMoved) && begun {
		return 0, fmt.Errorf("the checkpoint of source %s or log_head moved while it was locked", claim.Name) // and not errMoved: no endless tries
	}
	if err != nil {
		return 0, err
	}
	a.head.ctid, a.head.next = headCTID, first+n
	if a.checkpoints == nil {
		a.checkpoints = map[SourceID]checkpointRow{}
	}
	a.checkpoints[claim.ID] = checkpointRow{ctid: checkpointCTID, epoch: claim.Epoch, at: b.Checkpoint}
	return first, nil
}

// errThere: an earlier COMMIT whose answer was lost did commit.
var errThere = errors.New("the log has the batch already")

// covered says whether the log has the batch's events: nil where it has none.
func covered(at Checkpoint, b *Batch) error {
	if b.Len() == 0 {
		return nil
	}
	has := func(e *Event) bool { return e.LSN != 0 && at.Has(e.LSN, e.Ordinal) }
	first, last := has(&b.events[0]), has(&b.events[b.Len()-1])
	switch {
	case last:
		return errThere
	case first:
		return fmt.Errorf("%w: the log has the first events of the batch and not the last", ErrConflict)
	}
	return nil
}

const findAppendedSQL = `SELECT "offset" FROM rowcall.events
WHERE source = $1 AND generation = $2 AND lsn = $3 AND ordinal = $4 ORDER BY "offset" DESC LIMIT 1`

// findAppended finds the offset of a batch whose COMMIT was in doubt, by reading
// its last event again.
func (s *Store) findAppended(ctx context.Context, claim SourceClaim, b *Batch) (Offset, error) {
	last := &b.events[b.Len()-1]
	var at Offset
	err := s.pool.QueryRow(ctx, findAppendedSQL, int32(claim.ID), last.Generation, int64(last.LSN), last.Ordinal).Scan(&at)
	if err != nil {
		return 0, fmt.Errorf("find events that were appended before: %w", err)
	}
	s.log.Info().Int64("offset", int64(at)).Str("source", claim.Name).Msg("an append whose answer was lost had been committed")
	return at - Offset(b.Len()-1), nil
}

// show gives a committed batch to the ring.
func (s *Store) show(claim SourceClaim, b *Batch, first Offset) {
	source := eventSource(claim.Name)
	for i := range b.events {
		e := &b.events[i]
		e.Offset = first + Offset(i)
		if !claim.ofInstance() {
			e.SourceID, e.Source = claim.ID, source
		}
		// Column data is the tuple's last.
		end := len(b.buf)
		if i+1 < len(b.starts) {
			end = b.starts[i+1]
		}
		e.Data = b.buf[b.data[i]:end:end]
	}
	s.ring.add(b.events, b.weight())
}

// weight is what the batch keeps in memory beside its events: its buffer, and
// the strings of the events, which are their own.
func (b *Batch) weight() int64 {
	total := int64(cap(b.buf))
	for i := range b.events {
		e := &b.events[i]
		total += int64(len(e.Key) + len(e.OldKey) + len(e.Subject) + len(e.PublicID) + 3*len(e.Given.text()))
	}
	return total
}

// Where the values of these columns stand in an encoded tuple: behind a count of
// two bytes, a length of four before each.
const (
	offsetAt = 2 + 4
	sourceAt = 2 + 4*(4+8) + 4
)

// number writes offsets into the encoded tuples.
func (b *Batch) number(first Offset) {
	for i, start := range b.starts {
		binary.BigEndian.PutUint64(b.buf[start+offsetAt:], uint64(first)+uint64(i))
	}
}

// first is the offset that the batch was last numbered from; 0: it was not.
func (b *Batch) first() Offset { return Offset(binary.BigEndian.Uint64(b.buf[b.starts[0]+offsetAt:])) }

// own writes the source into the encoded tuples.
func (b *Batch) own(source SourceID) {
	for _, start := range b.starts {
		binary.BigEndian.PutUint32(b.buf[start+sourceAt:], uint32(source))
	}
}
