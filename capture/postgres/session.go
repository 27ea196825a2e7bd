package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"github.com/rowcall/rowcall/store"
)

const (
	// tick is how often the receiver looks at what time asks of it.
	tick = 200 * time.Millisecond
	// confirmAfter is how long a new position waits to be confirmed, at most.
	confirmAfter = 500 * time.Millisecond
	// longestSilence is between status updates when there is nothing new; less
	// where wal_sender_timeout asks for it.
	longestSilence = 10 * time.Second
	// storePatience is how long one append may take, or fail, before the
	// connection is dropped: a client that confirms nothing blocks the source's
	// shutdown and keeps its WAL.
	storePatience = 10 * time.Second
	// replyPatience is how long the answer to a keepalive that asks for one is
	// put off for the sake of a newer position.
	replyPatience = 100 * time.Millisecond
	// shutdownPatience is how long an idle source waits, at its shutdown, for a
	// position that the store does not take.
	shutdownPatience = 400 * time.Millisecond
	// deadAfter is how long a source may say nothing though asked to.
	deadAfter = 30 * time.Second
	// lastConfirm bounds the append that is under way, and the last status, when
	// the session ends.
	lastConfirm = 2 * time.Second
)

var (
	errStoreStalled = errors.New("appends take longer than 10s: replication is dropped until the store keeps up")
	errSilent       = errors.New("the source says nothing")
	errEnded        = errors.New("the source ended the stream")
)

// session is one replication connection from START_REPLICATION to its end.
//
// The receiver (one goroutine, which owns the connection) decodes into the
// batch that is being filled; the appender takes that batch whenever it is free
// and makes it durable. They share what mu guards, no queue: at most two
// batches exist, and when both are full receiving pauses.
//
// What is confirmed to the source is durable, always: it is the End of the last
// checkpoint that was appended.
type session struct {
	*Capture
	ordinary *ordinary
	wal      *pgconn.PgConn
	decoder  *decoder
	facts    sourceFacts
	watched  watched
	pulse    pulse

	intake // the batch being filled

	durable   atomic.Uint64 // End of the last checkpoint that was appended
	woken     atomic.Bool
	received  atomic.Uint64 // end of the last WAL that came
	lag       atomic.Int64  // of the newest transaction appended: ns from its commit until it was durable
	pressing  atomic.Bool   // the source waits for a reply
	appended  chan struct{} // closed when the appender has ended
	walStatus string        // of the slot; the watch's

	// What follows belongs to the receiver.
	status     time.Time // when one was sent last
	confirmed  store.LSN // in it
	heard      time.Time // when the source said something last
	spoke      bool      // it did since the last tick
	asked      time.Time // when the source asked for a reply that is not sent yet; zero: it does not
	wanted     store.LSN // the position that it asked about
	wantedFrom time.Time // since when it waits for that; zero: it does not
	streamed   bool      // a message came
	scolded    bool      // for messages that are not transactional
}

// newSession makes the session of a stream that has started at have. ctx bounds
// the look-ups that decoding makes.
func newSession(ctx context.Context, c *Capture, cat *ordinary, wal *pgconn.PgConn, facts sourceFacts, identity store.Source, have store.Checkpoint, w watched) *session {
	s := &session{
		Capture:   c,
		ordinary:  cat,
		wal:       wal,
		facts:     facts,
		watched:   w,
		appended:  make(chan struct{}),
		confirmed: have.End,
	}
	s.intake.init(have)
	s.tracing = c.config.Tracer != nil
	s.durable.Store(uint64(have.End))
	s.received.Store(uint64(have.End))
	s.pulse.version = facts.version
	s.pulse.prefix = c.config.Name + "/"
	s.decoder = newDecoder(decoderConfig{
		source:        c.config.Name,
		sourceID:      c.claim.ID,
		generation:    identity.Generation,
		maxValueBytes: c.config.MaxValueBytes,
		have:          have,
		types:         func(oids []uint32) (map[uint32]typeInfo, error) { return cat.types(ctx, oids) },
		primaryKey:    func(relation uint32) ([]string, error) { return cat.primaryKey(ctx, relation) },
		version:       func(r store.Relation) (store.RelationVersion, error) { return s.version(ctx, r) },
		heartbeat:     s.pulse.prefix,
	})
	return s
}

// version asks the store for the version of a table. The receiver waits for it,
// and can send no status meanwhile.
func (s *session) version(ctx context.Context, r store.Relation) (store.RelationVersion, error) {
	ctx, cancel := context.WithTimeout(ctx, max(time.Second, s.silence()))
	defer cancel()
	version, err := s.registry.RelationVersion(ctx, s.claim.ID, r)
	if err != nil {
		return 0, &logFailure{err}
	}
	return version, nil
}

// run streams until something ends it.
func (s *session) run(outer context.Context) error {
	ctx, end := context.WithCancelCause(outer)
	defer end(nil)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(s.appended)
		return s.appendAll(ctx, outer)
	})
	g.Go(func() error { return s.watch(ctx) })
	g.Go(func() error {
		err := s.receive(ctx)
		end(err) // the appender takes nothing more, so that leaving need not wait for it
		s.leave(err)
		return err
	})
	err := g.Wait()
	if s.streamed {
		return &streamedError{err}
	}
	return err
}

// leave ends the connection. What the append that is under way makes durable is
// still confirmed, unless the store is why we leave.
func (s *session) leave(err error) {
	if !errors.Is(err, errStoreStalled) {
		select {
		case <-s.appended:
		case <-time.After(lastConfirm):
		}
		if s.durable.Load() > uint64(s.confirmed) {
			_ = s.sendStatus(time.Now(), false) // the connection may be gone: then it comes again
		}
	}
	closeConn(s.wal)
}

// receive owns the connection until it returns.
func (s *session) receive(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.wake)
	defer stop()
	frontend := s.wal.Frontend()
	s.heard = time.Now()
	s.status = s.heard
	if err := s.tick(ctx); err != nil {
		return err
	}
	for {
		// One deadline serves many messages: a read that comes to it is repeated,
		// and goes on where it was, in the middle of a message too.
		message, err := frontend.Receive()
		if err != nil {
			if !isTimeout(err) {
				return fmt.Errorf("receive from source: %w", err)
			}
			if err := s.tick(ctx); err != nil {
				return err
			}
			continue
		}
		switch m := message.(type) {
		case *pgproto3.CopyData:
			if err := s.handle(ctx, m.Data); err != nil {
				return err
			}
		case *pgproto3.ErrorResponse:
			return s.ended(pgconn.ErrorResponseToPgError(m))
		case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
			return errEnded
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		default:
			return fmt.Errorf("receive from source: unexpected message %T", m)
		}
	}
}

// ended looks at the error with which the server ended the stream.
func (s *session) ended(err *pgconn.PgError) error {
	if err.Code == stateUndefinedObject {
		// The only thing that is looked up while streaming is the publication, and
		// it is looked up as of the change: made anew it does not help.
		s.damage.stuck = true
	}
	return fmt.Errorf("stream from source: %w", err)
}

// handle takes one CopyData of the stream.
func (s *session) handle(ctx context.Context, data []byte) error {
	if len(data) == 0 {
		return errors.New("receive from source: empty message")
	}
	switch data[0] {
	case pglogrepl.XLogDataByteID:
		const header = 1 + 8 + 8 + 8
		if len(data) < header {
			return errors.New("receive from source: short WAL message")
		}
		s.streamed, s.spoke = true, true
		return s.decode(ctx, data[header:])
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		if len(data) != 1+8+8+1 {
			return errors.New("receive from source: malformed keepalive")
		}
		s.streamed, s.spoke = true, true
		return s.keepalive(store.LSN(binary.BigEndian.Uint64(data[1:])), data[17] != 0)
	}
	return fmt.Errorf("receive from source: unknown message %q", data[0])
}

// decode adds a change to the batch, and waits while that has no room for more.
func (s *session) decode(ctx context.Context, message []byte) error {
	b, full, err := s.intake.decode(s.decoder, message)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	switch b.kind {
	case committed:
		s.received.Store(uint64(b.end))
		s.pulse.passed(b.end)
	case heartbeating:
		s.pulse.came(b.heartbeat)
	case nontransactional:
		if !s.scolded {
			s.scolded = true
			s.log.Warn().Str("hint", "SELECT pg_logical_emit_message(true, 'rowcall', …)").
				Msg("logical message is not transactional and makes no event")
		}
	}
	if full {
		return s.pause(ctx)
	}
	return nil
}

// keepalive notes how far the source's WAL has been read for us. Outside a
// transaction everything before it has come, so it may become the checkpoint.
func (s *session) keepalive(end store.LSN, reply bool) error {
	s.received.Store(max(s.received.Load(), uint64(end)))
	s.intake.reach(end, reply)
	if reply {
		now := time.Now()
		s.asked = now
		s.pressing.Store(true)
		if end > store.LSN(s.durable.Load()) && s.wantedFrom.IsZero() {
			s.wanted, s.wantedFrom = end, now
		}
		return s.reply(now)
	}
	return nil
}

// reply answers a keepalive that asked for it: at once, or after a moment where
// the position that it asked about is about to become durable.
func (s *session) reply(now time.Time) error {
	wanting := !s.wantedFrom.IsZero()
	durable := store.LSN(s.durable.Load())
	switch {
	case wanting && durable >= s.wanted:
	case s.asked.IsZero():
		return nil
	case wanting && durable <= s.confirmed && now.Sub(s.asked) < replyPatience:
		return nil
	}
	return s.sendStatus(now, false)
}

// pause waits until the appender has taken the batch. Status goes on meanwhile.
func (s *session) pause(ctx context.Context) error {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	for {
		select {
		case <-s.intake.taken:
			if !s.intake.isFull() {
				return nil
			}
		case <-timer.C:
			s.heard = time.Now() // we do not listen: it is not the one that is silent
			if err := s.tick(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// wake makes a blocked read return, so that the receiver ticks. It may be
// called from any goroutine.
func (s *session) wake() {
	s.woken.Store(true)
	// Fails only on a closed connection, which the read notices.
	_ = s.wal.Conn().SetReadDeadline(time.Unix(1, 0))
}

// tick does what time, or another goroutine, asks for.
func (s *session) tick(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		now := time.Now()
		if err := s.duties(now); err != nil {
			return err
		}
		if err := s.wal.Conn().SetReadDeadline(now.Add(tick)); err != nil {
			return fmt.Errorf("receive from source: %w", err)
		}
		// A wake between the duties and the new deadline is not lost.
		if !s.woken.Swap(false) {
			return nil
		}
	}
}

func (s *session) duties(now time.Time) error {
	if err := s.reply(now); err != nil {
		return err
	}
	s.intake.nudge(now)
	if since, failing := s.intake.appendingSince(); !since.IsZero() {
		if now.Sub(since) > storePatience {
			return errStoreStalled
		}
		if !s.wantedFrom.IsZero() && (failing || s.intake.idle()) && now.Sub(s.wantedFrom) > shutdownPatience {
			return errStoreStalled
		}
	}
	if s.durable.Load() > uint64(s.confirmed) && now.Sub(s.status) >= confirmAfter {
		return s.sendStatus(now, false)
	}
	if s.spoke { // messages are not timed one by one
		s.heard, s.spoke = now, false
	}
	ask := now.Sub(s.heard) > deadAfter/2
	if now.Sub(s.heard) > deadAfter {
		return errSilent
	}
	if now.Sub(s.status) >= s.silence() || ask && now.Sub(s.status) >= time.Second {
		return s.sendStatus(now, ask)
	}
	return nil
}

// silence is how long no status may be sent: well under wal_sender_timeout.
func (s *session) silence() time.Duration {
	if s.facts.senderTimeout <= 0 {
		return longestSilence
	}
	return max(tick, min(longestSilence, s.facts.senderTimeout/4))
}

// sendStatus is the one place that reports positions to the source. Written,
// flushed and applied are all what is durable in the log: of a smaller written
// position pglogrepl, and of a larger one the server, would make more than that.
func (s *session) sendStatus(now time.Time, ask bool) error {
	s.confirmed = max(s.confirmed, store.LSN(s.durable.Load()))
	s.status = now
	if s.wantedFrom.IsZero() || s.confirmed >= s.wanted {
		s.wantedFrom = time.Time{}
		s.pressing.Store(false)
	}
	s.asked = time.Time{}
	at := pglogrepl.LSN(s.confirmed)
	if err := s.wal.Conn().SetWriteDeadline(now.Add(storePatience)); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), s.wal, pglogrepl.StandbyStatusUpdate{ //nolint:forbidigo // not used there
		WALWritePosition: at, WALFlushPosition: at, WALApplyPosition: at, ClientTime: now, ReplyRequested: ask,
	})
	if err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	return nil
}
