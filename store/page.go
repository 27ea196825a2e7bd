package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unsafe"
)

// page is events on their way from the table. Their bytes share a few large
// allocations, and their types one string each.
type page struct {
	events []Event
	arena  arena
	types  map[string]string
	budget int64 // of data, left; below 0: the page is full
	past   int64 // bytes of data that came when it was full
}

// maxPast is how much may come after a page is full before the connection is
// given up.
const maxPast = 4 << 20

// add appends a row of eventColumns in binary form, while the budget lasts: the
// first in any case.
func (p *page) add(raw [][]byte) error {
	if len(raw) != tupleFields {
		return fmt.Errorf("a row of the log has %d columns, want %d", len(raw), tupleFields)
	}
	for i, width := range [...]int{8, 8, 8, 8, 4, 4, 2, 4} {
		if len(raw[i]) != width {
			return fmt.Errorf("column %d of the log has %d bytes, want %d", i+1, len(raw[i]), width)
		}
	}
	size := int64(len(raw[13]) + len(raw[14]))
	if p.budget -= size; p.budget < 0 && len(p.events) > 0 {
		p.past += size
		return nil
	}
	given, err := readGiven(raw[13])
	if err != nil {
		return err
	}
	p.events = append(p.events, Event{
		Offset:     Offset(binary.BigEndian.Uint64(raw[0])),
		LSN:        LSN(binary.BigEndian.Uint64(raw[1])),
		Ordinal:    int64(binary.BigEndian.Uint64(raw[2])),
		Time:       int64(binary.BigEndian.Uint64(raw[3])) + pgEpoch,
		SourceID:   SourceID(binary.BigEndian.Uint32(raw[4])),
		Generation: int32(binary.BigEndian.Uint32(raw[5])),
		Kind:       Kind(binary.BigEndian.Uint16(raw[6])),
		Relation:   RelationVersion(binary.BigEndian.Uint32(raw[7])),
		Type:       p.intern(raw[8]),
		Key:        p.arena.text(raw[9]),
		OldKey:     p.arena.text(raw[10]),
		Subject:    p.arena.text(raw[11]),
		PublicID:   p.arena.text(raw[12]),
		Data:       p.arena.bytes(raw[14]),
		Given:      given,
	})
	return nil
}

func (p *page) intern(raw []byte) string {
	if n := len(p.events); n > 0 && p.events[n-1].Type == string(raw) {
		return p.events[n-1].Type
	}
	if known, ok := p.types[string(raw)]; ok {
		return known
	}
	if p.types == nil {
		p.types = map[string]string{}
	}
	text := string(raw)
	p.types[text] = text
	return text
}

// arena keeps copies of bytes in chunks that grow with what is asked of it. A
// chunk is never moved, so what was returned stays valid.
type arena struct {
	chunk []byte
	size  int
}

const (
	minChunk = 2 << 10
	maxChunk = 256 << 10
)

func (a *arena) bytes(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	if cap(a.chunk)-len(a.chunk) < len(p) {
		a.size = min(max(2*a.size, minChunk), maxChunk)
		a.chunk = make([]byte, 0, max(a.size, len(p)))
	}
	at := len(a.chunk)
	a.chunk = append(a.chunk, p...)
	return a.chunk[at:len(a.chunk):len(a.chunk)]
}

// text is bytes as a string: nobody writes to the arena again, as a string demands.
func (a *arena) text(p []byte) string {
	kept := a.bytes(p)
	return unsafe.String(unsafe.SliceData(kept), len(kept))
}

// parseEventID reads the id that AppendID makes of a position.
func parseEventID(id string) (generation int32, lsn LSN, ordinal int64, ok bool) {
	parts := strings.Split(id, "-")
	if len(parts) != 3 || len(parts[1]) != 16 {
		return 0, 0, 0, false
	}
	g, err1 := strconv.ParseInt(parts[0], 10, 32)
	l, err2 := strconv.ParseUint(parts[1], 16, 64)
	o, err3 := strconv.ParseInt(parts[2], 10, 64)
	e := Event{Generation: int32(g), LSN: LSN(l), Ordinal: o}
	ok = err1 == nil && err2 == nil && err3 == nil && e.ID() == id
	return e.Generation, e.LSN, e.Ordinal, ok
}

// kept is an event's attributes as a delivery keeps them once the log has
// dropped the event; keepSQL writes them.
type kept struct {
	LSN        int64           `json:"lsn"`
	Ordinal    int64           `json:"ordinal"`
	Time       int64           `json:"time"` // µs since 1970
	Source     SourceID        `json:"source"`
	Generation int32           `json:"generation"`
	Kind       Kind            `json:"kind"`
	Relation   RelationVersion `json:"relation"`
	Type       string          `json:"type"`
	Key        string          `json:"key"`
	OldKey     *string         `json:"old_key"`
	Subject    *string         `json:"subject"`
	ID         *string         `json:"id"`
	Given      *string         `json:"given"`
}

// keptColumns is the jsonb of an event e of the log that kept reads.
const keptColumns = `jsonb_build_object('lsn', e.lsn, 'ordinal', e.ordinal,
  'time', (extract(epoch FROM e.time) * 1000000)::bigint, 'source', e.source, 'generation', e.generation,
  'kind', e.kind, 'relation', e.relation, 'type', e.type, 'key', e.key, 'old_key', e.old_key, 'subject', e.subject, 'id', e.id, 'given', e.given)`

// keptEvent makes an event of what a delivery kept of it.
func (s *Store) keptEvent(ctx context.Context, at Offset, attributes, data []byte) (*Event, error) {
	var k kept
	if err := json.Unmarshal(attributes, &k); err != nil {
		return nil, fmt.Errorf("read kept event %d: %w", at, err)
	}
	source, err := s.eventSource(ctx, s.pool, k.Source)
	if err != nil {
		return nil, err
	}
	or := func(text *string) string {
		if text == nil {
			return ""
		}
		return *text
	}
	given, err := readGiven([]byte(or(k.Given)))
	if err != nil {
		return nil, err
	}
	if given != nil && given.Source != "" {
		source = given.Source
	}
	return &Event{
		Offset: at, LSN: LSN(k.LSN), Ordinal: k.Ordinal, Time: k.Time, SourceID: k.Source, Generation: k.Generation,
		Kind: k.Kind, Relation: k.Relation, Type: k.Type, Key: k.Key, OldKey: or(k.OldKey), Subject: or(k.Subject), PublicID: or(k.ID),
		Source: source, Data: data, Given: given,
	}, nil
}
