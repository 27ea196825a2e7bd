package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rowcall/rowcall/store"
)

const benchOID = 16600

var benchColumns = []columnSpec{
	{"id", pgtype.Int8OID, true},
	{"customer_id", pgtype.Int8OID, false},
	{"status", pgtype.TextOID, false},
	{"total", pgtype.NumericOID, false},
	{"currency", pgtype.BPCharOID, false},
	{"paid", pgtype.BoolOID, false},
	{"note", pgtype.TextOID, false},
	{"address", pgtype.JSONBOID, false},
	{"created_at", pgtype.TimestamptzOID, false},
	{"updated_at", pgtype.TimestamptzOID, false},
}

func benchRow(status string) []any {
	return []any{
		"1234567", "7654321", status, "1299.90", "EUR", "t", "leave it with the neighbour, please",
		`{"street": "Long Street 12", "city": "Göttingen", "zip": "37073", "country": "DE"}`,
		"2026-11-20 12:00:00.123456+00", "2026-11-20 12:00:01.654321+00",
	}
}

// benchmarkDecode measures decoding alone: the batch has grown before.
func benchmarkDecode(b *testing.B, message []byte) {
	d, batch := newDecoder(decoderConfig{source: "main", sourceID: 1, generation: 1}), new(store.Batch)
	first := batch.Begin(store.Event{})
	batch.End(first)
	feed(b, d, batch, beginMessage(0x3F2A8C0), relationMessage(benchOID, "public", "orders", 'd', benchColumns...))
	fill := func() {
		// As large as an append takes at a time.
		for batch.Len() < 4096 {
			if _, err := d.decode(message, batch); err != nil {
				b.Fatal(err)
			}
		}
	}
	empty := func() {
		for batch.Len() > 1 {
			batch.Abort()
		}
		whole := batch.Begin(store.Event{})
		batch.Abort()
		batch.End(whole[:len(first)]) // the first event again, before all that room
	}
	fill()
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if batch.Len() == 4096 {
			empty()
		}
		if _, err := d.decode(message, batch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeIntoNewBatches is with what it costs batches to grow.
func BenchmarkDecodeIntoNewBatches(b *testing.B) {
	d, batch := newDecoder(decoderConfig{source: "main", sourceID: 1, generation: 1}), new(store.Batch)
	feed(b, d, batch, beginMessage(0x3F2A8C0), relationMessage(benchOID, "public", "orders", 'd', benchColumns...))
	message := insertMessage(benchOID, benchRow("new")...)
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if batch.Len() == 4096 {
			batch = new(store.Batch)
		}
		if _, err := d.decode(message, batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeInsert(b *testing.B) {
	benchmarkDecode(b, insertMessage(benchOID, benchRow("new")...))
}

func BenchmarkDecodeUpdate(b *testing.B) {
	benchmarkDecode(b, updateMessage(benchOID, nil, benchRow("paid")...))
}

func BenchmarkDecodeUpdateOfFullIdentity(b *testing.B) {
	benchmarkDecode(b, updateMessage(benchOID, tuple('O', benchRow("new")...), benchRow("paid")...))
}

func BenchmarkJSONString(b *testing.B) {
	s := []byte("leave it with the neighbour, please; the bell is broken \u2013 thank you")
	var p []byte
	b.SetBytes(int64(len(s)))
	for b.Loop() {
		p, _ = appendJSONString(p[:0], s)
	}
}
