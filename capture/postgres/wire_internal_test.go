package postgres

import (
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rowcall/rowcall/store"
)

// Messages, built by hand from the protocol's documentation.

type unchanged struct{} // in a tuple: TOASTed and not sent

var commitTime = time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)

func put(p []byte, parts ...any) []byte {
	for _, part := range parts {
		switch v := part.(type) {
		case byte:
			p = append(p, v)
		case uint16:
			p = binary.BigEndian.AppendUint16(p, v)
		case uint32:
			p = binary.BigEndian.AppendUint32(p, v)
		case uint64:
			p = binary.BigEndian.AppendUint64(p, v)
		case string: // ends with a zero byte
			p = append(append(p, v...), 0)
		case []byte:
			p = append(p, v...)
		default:
			panic(part)
		}
	}
	return p
}

func beginMessage(commit store.LSN) []byte {
	return put(nil, byte('B'), uint64(commit), uint64(commitTime.UnixMicro()-epoch), uint32(771))
}

func commitMessage(commit, end store.LSN) []byte {
	return put(nil, byte('C'), byte(0), uint64(commit), uint64(end), uint64(commitTime.UnixMicro()-epoch))
}

type columnSpec struct {
	name string
	oid  uint32
	key  bool
}

func relationMessage(oid uint32, schema, name string, identity byte, columns ...columnSpec) []byte {
	p := put(nil, byte('R'), oid, schema, name, identity, uint16(len(columns)))
	for _, c := range columns {
		flags := byte(0)
		if c.key {
			flags = 1
		}
		p = put(p, flags, c.name, c.oid, uint32(0xffffffff))
	}
	return p
}

func tuple(kind byte, values ...any) []byte {
	p := put(nil, kind, uint16(len(values)))
	for _, value := range values {
		switch v := value.(type) {
		case nil:
			p = append(p, 'n')
		case unchanged:
			p = append(p, 'u')
		case string:
			p = append(put(p, byte('t'), uint32(len(v))), v...)
		default:
			panic(value)
		}
	}
	return p
}

func insertMessage(oid uint32, values ...any) []byte {
	return put(nil, byte('I'), oid, tuple('N', values...))
}

func updateMessage(oid uint32, old []byte, values ...any) []byte {
	return put(nil, byte('U'), oid, old, tuple('N', values...))
}

func deleteMessage(oid uint32, old []byte) []byte { return put(nil, byte('D'), oid, old) }

func truncateMessage(oids ...uint32) []byte {
	p := put(nil, byte('T'), uint32(len(oids)), byte(0))
	for _, oid := range oids {
		p = put(p, oid)
	}
	return p
}

func logicalMessage(transactional bool, prefix, content string) []byte {
	flags := byte(0)
	if transactional {
		flags = 1
	}
	return append(put(nil, byte('M'), flags, uint64(0x99), prefix, uint32(len(content))), content...)
}

// orders is a table with a key, as the stream describes it.
const ordersOID = 16400

func ordersRelation() []byte {
	return relationMessage(ordersOID, "public", "orders", 'd',
		columnSpec{"id", pgtype.Int8OID, true},
		columnSpec{"status", pgtype.TextOID, false},
		columnSpec{"total", pgtype.NumericOID, false})
}

// captured is an event as a batch holds it.
type captured struct {
	LSN                        store.LSN
	Ordinal                    int64
	Time                       int64
	Source                     store.SourceID
	Generation                 int32
	Kind                       store.Kind
	Type, Key, OldKey, Subject string
	Data                       string
}

// eventsOf reads a batch's events back from the COPY rows that it holds.
func eventsOf(t testing.TB, b *store.Batch) []captured {
	t.Helper()
	p := b.Begin(store.Event{})
	b.Abort()
	number := func(p []byte) int64 {
		switch len(p) {
		case 2:
			return int64(int16(binary.BigEndian.Uint16(p)))
		case 4:
			return int64(int32(binary.BigEndian.Uint32(p)))
		default:
			return int64(binary.BigEndian.Uint64(p))
		}
	}
	var events []captured
	for range b.Len() {
		fields := make([][]byte, binary.BigEndian.Uint16(p))
		p = p[2:]
		for i := range fields {
			n := int32(binary.BigEndian.Uint32(p))
			p = p[4:]
			if n >= 0 {
				fields[i], p = p[:n], p[n:]
			}
		}
		e := captured{
			LSN: store.LSN(number(fields[1])), Ordinal: number(fields[2]), Time: number(fields[3]) + epoch,
			Source: store.SourceID(number(fields[4])), Generation: int32(number(fields[5])), Kind: store.Kind(number(fields[6])),
			Type: string(fields[8]), Key: string(fields[9]), OldKey: string(fields[10]), Subject: string(fields[11]),
			Data: string(fields[14]),
		}
		if !json.Valid([]byte(e.Data)) {
			t.Fatalf("data of %s is no JSON: %s", e.Type, e.Data)
		}
		events = append(events, e)
	}
	return events
}

func feed(t testing.TB, d *decoder, b *store.Batch, messages ...[]byte) boundary {
	t.Helper()
	var last boundary
	for _, m := range messages {
		var err error
		if last, err = d.decode(m, b); err != nil {
			t.Fatalf("decode %q: %v", m, err)
		}
	}
	return last
}

// decodeAll decodes messages within one transaction at 0/3F2A8C0.
func decodeAll(t testing.TB, config decoderConfig, messages ...[]byte) []captured {
	t.Helper()
	const commit = 0x3F2A8C0
	d, b := newDecoder(config), new(store.Batch)
	feed(t, d, b, beginMessage(commit))
	feed(t, d, b, messages...)
	feed(t, d, b, commitMessage(commit, commit+0x40))
	return eventsOf(t, b)
}
