package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Published is an event that no source transaction wrote.
type Published struct {
	Notice  bool   // rowcall speaks of itself: only then may Type begin with "rowcall."
	ID      string // the publisher's; empty: a UUIDv7 is made. That of a notice is printable ASCII without a dot
	Type    string
	Key     string // partitionkey, whole; empty: the id
	Subject string
	Given   Given
	Data    []byte // JSON; belongs to the store from now on
}

// Receipt says where an event that was published is in the log.
type Receipt struct {
	ID        string
	Offset    Offset
	Duplicate bool // it was published before, and stands there since then
}

// publishedSource is the name of the source of events that are published.
const publishedSource = "http"

// PublishedSource is the CloudEvents source of events whose publisher gives none.
const PublishedSource = "/sources/" + publishedSource

// ReservedSource reports whether events of a CloudEvents source are made by rowcall
// alone: what begins with /sources/, but for PublishedSource. Receivers know an event
// by source and id, so whoever else could write these would make the real one look
// like a copy.
func ReservedSource(source string) bool {
	return strings.HasPrefix(source, eventSource("")) && source != PublishedSource
}

var (
	// errNoLease: this instance may not append, yet or for the moment.
	errNoLease = errors.New("this instance holds no lease")
	// errCrowded: more waits to be published than memory is set aside for.
	errCrowded = errors.New("too many events wait to be published")
)

// Publish appends events to the log, all or none of them, and returns when they
// are durable, with a receipt for each. An event whose (source, id) was published
// before, in the last 7 days at least, is not appended again: its receipt says
// where it is.
//
// What arrives while an append is under way goes into the next one together.
// Callers wait without holding a connection. An error for which Unavailable is
// true, or the end of ctx, may leave it in doubt whether the events are in the
// log: to publish them again under the same ids is safe.
func (s *Store) Publish(ctx context.Context, events []Published) ([]Receipt, error) {
	if len(events) == 0 {
		return nil, nil
	}
	p, err := s.prepare(ctx, events)
	if err == nil {
		err = s.waiting.add(p)
	}
	if err != nil {
		return nil, fmt.Errorf("publish %d events: %w", len(events), err)
	}
	for {
		select {
		case <-p.done:
			if p.err != nil {
				return nil, fmt.Errorf("publish %d events: %w", len(events), p.err)
			}
			return p.receipts, nil
		case s.appender.turn <- struct{}{}:
			s.publishWaiting(ctx)
			s.appender.give()
		case <-ctx.Done():
			s.waiting.remove(p)
			return nil, fmt.Errorf("publish %d events: %w", len(events), context.Cause(ctx))
		}
	}
}

// PublishedID is what a published event is known by: 16 bytes of SHA-256 over
// source, NUL (which neither can hold) and id.
func PublishedID(source, id string) [16]byte {
	var room [256]byte
	text := append(room[:0], source...)
	text = append(text, 0)
	text = append(text, id...)
	sum := sha256.Sum256(text)
	return [16]byte(sum[:16])
}

// publication is one call of Publish.
type publication struct {
	events   []Event
	ids      [][16]byte
	tried    []Offset // by event: where an append put it whose outcome is in doubt; 0: none did
	made     bool     // every id was made by us: none can be there already
	size     int64
	receipts []Receipt
	err      error
	done     chan struct{} // closed when receipts or err are set
}

// prepare makes what goes into the log of events.
func (s *Store) prepare(ctx context.Context, events []Published) (*publication, error) {
	n := len(events)
	p := &publication{
		events: make([]Event, n), ids: make([][16]byte, n), tried: make([]Offset, n),
		made: true, receipts: make([]Receipt, n), done: make(chan struct{}),
	}
	now := time.Now()
	for i := range events {
		in := &events[i]
		e := Event{Time: now.UnixMicro(), Kind: KindPublished, Type: in.Type, Key: in.Key, Subject: in.Subject, PublicID: in.ID, Data: in.Data}
		if e.PublicID == "" {
			e.PublicID = newUUID(now)
		} else {
			p.made = false
		}
		if e.Key == "" {
			e.Key = e.PublicID
		}
		for _, text := range []string{e.Type, e.Key, e.Subject, e.PublicID, in.Given.Source} {
			if cleanText(text) != text {
				return nil, fmt.Errorf("event %d: a text holds NUL or is not UTF-8", i)
			}
		}
		if e.Type == "" || !utf8.Valid(e.Data) || strings.HasPrefix(e.Type, "rowcall.") != in.Notice {
			return nil, fmt.Errorf("event %d: want data in UTF-8, and a type that begins with rowcall. for notices alone", i)
		}
		if ReservedSource(in.Given.Source) {
			return nil, fmt.Errorf("event %d: sources below /sources/ are rowcall's own", i)
		}
		var err error
		if e.Given, err = in.Given.forLog(); err != nil {
			return nil, err
		}
		switch {
		case in.Notice:
			e.Kind, e.Source = KindNotice, eventSource("rowcall")
		case in.Given.Source != "":
			e.Source = in.Given.Source
		default:
			e.Source = PublishedSource
		}
		if !in.Notice {
			if e.SourceID, err = s.publishedSource(ctx); err != nil {
				return nil, err
			}
		}
		p.events[i], p.ids[i] = e, PublishedID(e.Source, e.PublicID)
		p.receipts[i].ID = e.PublicID
		p.size += int64(len(e.Data) + len(e.Key) + len(e.Type) + len(e.Subject) + len(e.PublicID) + 2*len(e.Given.text()) + 2*eventSize)
	}
	return p, nil
}

// newUUID is a UUIDv7 (RFC 9562): ids rise with time, as an index likes them.
func newUUID(now time.Time) string {
	var u [16]byte
	_, _ = rand.Read(u[6:]) // never fails: the program ends instead
	binary.BigEndian.PutUint64(u[:8], uint64(now.UnixMilli())<<16|uint64(binary.BigEndian.Uint16(u[6:8])))
	u[6] = u[6]&0x0f | 0x70
	u[8] = u[8]&0x3f | 0x80
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

const (
	selectPublishedSourceSQL = `SELECT id, kind FROM rowcall.sources WHERE name = $1`
	insertPublishedSourceSQL = `
INSERT INTO rowcall.sources (name, kind, state) VALUES ($1, $1, 'streaming') ON CONFLICT (name) DO NOTHING`
)

// publishedSource is the number of the source of published events, whose row is
// made when the first one comes.
func (s *Store) publishedSource(ctx context.Context) (SourceID, error) {
	if id := s.waiting.source.Load(); id != 0 {
		return SourceID(id), nil
	}
	for range 2 {
		var id int32
		var kind string
		err := s.pool.QueryRow(ctx, selectPublishedSourceSQL, publishedSource).Scan(&id, &kind)
		switch {
		case err == nil && kind != publishedSource:
			return 0, fmt.Errorf("%w: a source of kind %s has the name %s: give it another one", ErrConflict, kind, publishedSource)
		case err == nil:
			s.waiting.source.Store(id)
			return SourceID(id), nil
		case !errors.Is(err, pgx.ErrNoRows):
			return 0, fmt.Errorf("read source %s: %w", publishedSource, err)
		}
		if _, err := s.pool.Exec(ctx, insertPublishedSourceSQL, publishedSource); err != nil {
			return 0, fmt.Errorf("make source %s: %w", publishedSource, err)
		}
	}
	return 0, fmt.Errorf("make source %s: %w", publishedSource, ErrConflict)
}

const (
	maxPublishing      = 32 << 20 // bytes that may wait
	maxPublishedBatch  = 8 << 20  // bytes of one append
	maxPublishedEvents = 5_000    // of one append
)

// add has a publication wait.
func (q *publications) add(p *publication) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) > 0 && q.bytes+p.size > maxPublishing {
		return errCrowded
	}
	q.waiting = append(q.waiting, p)
	q.bytes += p.size
	return nil
}

// remove ends a publication's wait, unless it is being appended: then it is in
// doubt for its caller.
func (q *publications) remove(p *publication) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, other := range q.waiting {
		if other == p {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			q.bytes -= p.size
			return
		}
	}
}

// take returns what waits, oldest first, up to what one append takes.
func (q *publications) take() []*publication {
	q.mu.Lock()
	defer q.mu.Unlock()
	var size int64
	n, events := 0, 0
	for _, p := range q.waiting {
		if size += p.size; n > 0 && (size > maxPublishedBatch || events+len(p.events) > maxPublishedEvents) {
			break
		}
		events += len(p.events)
		q.bytes -= p.size
		n++
	}
	taken := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return taken
}

// publications are those that wait for the appender's turn.
type publications struct {
	mu      sync.Mutex
	waiting []*publication
	bytes   int64
	source  atomic.Int32 // number of the source; 0: not known yet
}
