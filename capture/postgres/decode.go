package postgres

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rowcall/rowcall/store"
)

// decoder turns pgoutput messages (protocol 1, messages 'true') into events
// appended to a batch. It keeps the relation cache of one connection and the
// transaction that is open; it does no I/O, but for a types function that looks
// up what the protocol does not carry (enums, domains, arrays of them), and one
// for primary keys and one for versions. They are called when a relation is
// described, never for a row.
//
// It belongs to one goroutine and one connection: after a reconnect, make anew.
// It keeps nothing of the messages that it is given.
type decoder struct {
	config    decoderConfig
	source    string // the CloudEvents attribute of its events
	types     catalogue
	relations map[uint32]*relation
	last      *relation // the one that was used last

	checkpoint store.Checkpoint
	open       bool      // a transaction is open:
	commit     store.LSN // its commit LSN,
	time       int64     // its commit time in µs since 1970,
	xid        uint32    //
	ordinal    int64     // the next ordinal in it,
	txHead     []byte    // the member tx of its events, up to the ordinal,
	txTail     []byte    // and from there to the end of data
	context    []byte    // of the last rowcall.context

	encoder     encoder
	before, row []cell // old and new tuple
	beforeFlaws flaws
	rowFlaws    flaws
	text        []byte // a key while it is made
	strings     arena
	truncated   []*relation
}

// typeInfo is what the catalogue says of a type.
type typeInfo struct {
	kind    byte   // pg_type.typtype: b base, d domain, e enum, c composite, r range, m multirange, p pseudo
	base    uint32 // of a domain: the type under it
	element uint32 // of an array: its element type
	name    string // in SQL, with its schema unless that is pg_catalog
	delim   byte   // pg_type.typdelim of the element
}

// decoderConfig is what newDecoder needs.
type decoderConfig struct {
	source        string // its name
	sourceID      store.SourceID
	generation    int32
	maxValueBytes int64            // values whose text is longer are left out; default 16 MiB
	have          store.Checkpoint // events that are in the log are counted, and dropped
	// types looks types up by OID; those it does not find are text.
	types func(oids []uint32) (map[uint32]typeInfo, error)
	// primaryKey gives a table's primary key columns, for tables of replica identity full.
	primaryKey func(relation uint32) ([]string, error)
	// version gives the number of a table that looks so; nil: its events name none.
	version   func(r store.Relation) (store.RelationVersion, error)
	heartbeat string // content prefix by which our own heartbeats are known
}

// defaultMaxValueBytes is the default of ROWCALL_MAX_VALUE_BYTES.
const defaultMaxValueBytes = 16 << 20

func newDecoder(config decoderConfig) *decoder {
	if config.maxValueBytes <= 0 {
		config.maxValueBytes = defaultMaxValueBytes
	}
	return &decoder{
		config:     config,
		source:     "/sources/" + config.source,
		types:      catalogue{lookUp: config.types, known: make(map[uint32]typeInfo)},
		relations:  make(map[uint32]*relation),
		checkpoint: config.have,
	}
}

// boundary is what a message meant beyond the events that it appended.
type boundary struct {
	kind      boundaryKind
	commit    store.LSN // of begin and commit
	end       store.LSN // of commit: what may be confirmed once the transaction is durable
	time      time.Time // commit time
	heartbeat string    // of heartbeat: its content
	events    int       // of commit: events that the transaction had, dropped ones included
}

type boundaryKind int8

const (
	nothing          boundaryKind = iota
	beginning                     // a transaction begins
	committed                     // a transaction ended
	heartbeating                  // our own heartbeat came by, inside its transaction
	nontransactional              // a logical message with our prefix was not transactional: it is no event
)

// decode reads one pgoutput message and appends its events to b. While a
// transaction is open it keeps b.Checkpoint current, so that a batch may be
// appended in the middle of a transaction. An error means that the stream makes
// no sense, or that the catalogue could not be asked: the caller drops the
// connection and appends nothing of it.
//
// The checkpoint never goes back: while transactions come again that are in the
// log it stays at config.have, and its End is never below one that a batch
// came with.
func (d *decoder) decode(message []byte, b *store.Batch) (boundary, error) {
	if len(message) == 0 {
		return boundary{}, fmt.Errorf("decode message: %w", errShort)
	}
	d.checkpoint.End = max(d.checkpoint.End, b.Checkpoint.End)
	at, err := d.message(message[0], &wire{rest: message[1:]}, b)
	if err != nil {
		return boundary{}, fmt.Errorf("decode message %q: %w", message[:1], err)
	}
	b.Checkpoint = d.checkpoint
	return at, nil
}

var (
	errOutside = errors.New("it came outside a transaction")
	errInside  = errors.New("it came inside a transaction")
)

// message reads a message behind its kind.
func (d *decoder) message(kind byte, w *wire, b *store.Batch) (boundary, error) {
	switch kind {
	case 'I', 'U', 'D', 'T':
		if !d.open {
			return boundary{}, errOutside
		}
		if kind == 'T' {
			return boundary{}, d.truncate(w, b)
		}
		return boundary{}, d.change(kind, w, b)
	case 'B':
		return d.begin(w)
	case 'C':
		return d.end(w)
	case 'M':
		return d.logical(w, b)
	case 'R':
		return boundary{}, d.relation(w)
	case 'O': // where the transaction came from first
		w.uint64()
		w.string()
		return boundary{}, w.end()
	case 'Y': // a type's name, which says nothing of its form
		w.uint32()
		w.string()
		w.string()
		return boundary{}, w.end()
	default:
		return boundary{}, errors.New("protocol 1 has no such message")
	}
}

// epoch is 2000-01-01 in µs since 1970: where the source's clock starts.
const epoch = 946684800 * 1e6

func (d *decoder) begin(w *wire) (boundary, error) {
	commit, at, xid := store.LSN(w.uint64()), int64(w.uint64()), w.uint32()
	if err := w.end(); err != nil {
		return boundary{}, err
	}
	if d.open {
		return boundary{}, errInside
	}
	d.open, d.commit, d.time, d.xid = true, commit, at+epoch, xid
	d.ordinal = 0
	d.context = d.context[:0]
	d.writeTx()
	d.advance()
	return boundary{kind: beginning, commit: d.commit, time: d.committedAt()}, nil
}

func (d *decoder) end(w *wire) (boundary, error) {
	w.byte() // flags: none are defined
	commit, end := store.LSN(w.uint64()), store.LSN(w.uint64())
	w.uint64() // commit time, known from begin
	if err := w.end(); err != nil {
		return boundary{}, err
	}
	if !d.open {
		return boundary{}, errOutside
	}
	if commit != d.commit {
		return boundary{}, fmt.Errorf("it ends the transaction %v while %v is open", commit, d.commit)
	}
	d.advance()
	d.open = false
	d.checkpoint.End = max(d.checkpoint.End, end)
	return boundary{
		kind: committed, commit: commit, end: end, time: d.committedAt(), events: int(d.ordinal),
	}, nil
}

func (d *decoder) committedAt() time.Time { return time.UnixMicro(d.time).UTC() }

// advance moves the checkpoint to where the open transaction is, unless the log
// is further already.
func (d *decoder) advance() {
	c := &d.checkpoint
	if d.commit > c.Commit || d.commit == c.Commit && d.ordinal >= c.Ordinal {
		c.Commit, c.Ordinal, c.CommitAt = d.commit, d.ordinal, d.committedAt()
	}
}

// next gives an event its ordinal; fresh is false for one that is in the log
// already: it counts, and is dropped.
func (d *decoder) next() (ordinal int64, fresh bool) {
	ordinal = d.ordinal
	d.ordinal++
	d.advance()
	return ordinal, !d.config.have.Has(d.commit, ordinal)
}

// event is an event of the open transaction.
func (d *decoder) event(ordinal int64) store.Event {
	return store.Event{
		LSN:        d.commit,
		Ordinal:    ordinal,
		Time:       d.time,
		SourceID:   d.config.sourceID,
		Generation: d.config.generation,
		Source:     d.source,
	}
}

// arena makes strings that live about as long as each other: a chunk is freed
// when the last of its strings is. Making one does not allocate, but for a new
// chunk now and then.
type arena struct{ chunk strings.Builder }

const arenaChunk = 16 << 10

func (a *arena) string(p []byte) string {
	if a.chunk.Cap()-a.chunk.Len() < len(p) {
		a.chunk.Reset()
		a.chunk.Grow(max(arenaChunk, len(p)))
	}
	at := a.chunk.Len()
	a.chunk.Write(p)
	return a.chunk.String()[at:]
}
