package postgres

import (
	"time"

	"github.com/rowcall/rowcall/store"
)

// decoder turns pgoutput messages (protocol 1, messages 'true') into events
// appended to a batch. It keeps the relation cache of one connection and the
// transaction that is open; it does no I/O, but for a types function that looks
// up what the protocol does not carry (enums, domains, arrays of them).
type decoder struct{}

// typeInfo is what the catalogue says of a type.
type typeInfo struct {
	kind    byte   // pg_type.typtype: b base, d domain, e enum, c composite, r range, m multirange, p pseudo
	base    uint32 // of a domain: the type under it
	element uint32 // of an array: its element type
	delim   byte   // pg_type.typdelim of the element
}

// decoderConfig is what newDecoder needs.
type decoderConfig struct {
	source        string // its name
	sourceID      store.SourceID
	generation    int32
	maxValueBytes int64
	have          store.Checkpoint // events that are in the log are counted, and dropped
	// types looks types up by OID; those it does not find are text.
	types func(oids []uint32) (map[uint32]typeInfo, error)
	// primaryKey gives a table's primary key columns, for tables of replica identity full.
	primaryKey func(relation uint32) ([]string, error)
	heartbeat  string // content prefix by which our own heartbeats are known
}

func newDecoder(config decoderConfig) *decoder { panic("unwritten") }

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
	nothing      boundaryKind = iota
	beginning                 // a transaction begins
	committed                 // a transaction ended
	heartbeating              // our own heartbeat came by, inside its transaction
)

// decode reads one pgoutput message and appends its events to b. While a
// transaction is open it keeps b.Checkpoint current, so that a batch may be
// appended in the middle of a transaction. An error means that the stream makes
// no sense: the caller drops the connection and appends nothing of it.
func (d *decoder) decode(message []byte, b *store.Batch) (boundary, error) { panic("unwritten") }
