package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rowcall/rowcall/store"
)

func TestEventsCarryTheirTransaction(t *testing.T) {
	t.Parallel()
	d, b := newDecoder(decoderConfig{source: "shop", sourceID: 7, generation: 3}), new(store.Batch)
	if at := feed(t, d, b, beginMessage(0x3F2A8C0)); at.kind != beginning || at.commit != 0x3F2A8C0 || !at.time.Equal(commitTime) {
		t.Errorf("begin means %+v", at)
	}
	feed(t, d, b, ordersRelation(), insertMessage(ordersOID, "42", "paid", "99.90"), insertMessage(ordersOID, "43", nil, "1"))
	at := feed(t, d, b, commitMessage(0x3F2A8C0, 0x3F2A900))
	want := boundary{kind: committed, commit: 0x3F2A8C0, end: 0x3F2A900, time: commitTime, events: 2}
	if at != want {
		t.Errorf("commit means %+v, want %+v", at, want)
	}
	data := func(id, status, total, ordinal string) string {
		return `{"op":"insert","schema":"public","table":"orders","key":{"id":` + id + `},` +
			`"row":{"id":` + id + `,"status":` + status + `,"total":` + total + `},"old":null,"changed":null,"unchanged":[],` +
			`"tx":{"xid":771,"lsn":"0/3F2A8C0","ordinal":` + ordinal + `,"committed_at":"2026-11-20T12:00:00.123456Z"}}`
	}
	event := captured{
		LSN: 0x3F2A8C0, Time: commitTime.UnixMicro(), Source: 7, Generation: 3, Kind: store.KindRow,
		Type: "public.orders.inserted", Key: "public.orders/id=42", Data: data("42", `"paid"`, `"99.90"`, "0"),
	}
	second := event
	second.Ordinal, second.Key, second.Data = 1, "public.orders/id=43", data("43", "null", `"1"`, "1")
	if diff := cmp.Diff([]captured{event, second}, eventsOf(t, b)); diff != "" {
		t.Error(diff)
	}
}

func TestCheckpointFollowsTheOpenTransactionInEveryBatch(t *testing.T) {
	t.Parallel()
	have := store.Checkpoint{Commit: 0x100, Ordinal: 4, End: 0x140, CommitAt: commitTime.Add(-time.Hour)}
	d := newDecoder(decoderConfig{have: have})
	at := func(commit store.LSN, ordinal int64, end store.LSN) store.Checkpoint {
		return store.Checkpoint{Commit: commit, Ordinal: ordinal, End: end, CommitAt: commitTime}
	}
	for _, step := range []struct {
		name    string
		message []byte
		want    store.Checkpoint
	}{
		{"begin", beginMessage(0x200), at(0x200, 0, 0x140)},
		{"relation", ordersRelation(), at(0x200, 0, 0x140)},
		{"insert", insertMessage(ordersOID, "1", "a", "1"), at(0x200, 1, 0x140)},
		{"insert", insertMessage(ordersOID, "2", "a", "1"), at(0x200, 2, 0x140)},
		{"ignored message", logicalMessage(true, "other", "x"), at(0x200, 2, 0x140)},
		{"truncate", truncateMessage(ordersOID, ordersOID), at(0x200, 4, 0x140)},
		{"commit", commitMessage(0x200, 0x240), at(0x200, 4, 0x240)},
		{"message between transactions", logicalMessage(false, "other", "x"), at(0x200, 4, 0x240)},
		{"begin", beginMessage(0x300), at(0x300, 0, 0x240)},
		{"commit", commitMessage(0x300, 0x340), at(0x300, 0, 0x340)},
	} {
		b := new(store.Batch) // the caller may have appended the one before
		feed(t, d, b, step.message)
		if diff := cmp.Diff(step.want, b.Checkpoint); diff != "" {
			t.Errorf("after %s: %s", step.name, diff)
		}
	}
}

func TestEndOfAnIdlePositionIsNotTakenBack(t *testing.T) {
	t.Parallel()
	d := newDecoder(decoderConfig{have: store.Checkpoint{End: 0x100}})
	idle := &store.Batch{Checkpoint: store.Checkpoint{End: 0x900}}
	feed(t, d, idle, beginMessage(0xA00))
	if idle.Checkpoint.End != 0x900 {
		t.Errorf("end went from 0/900 to %v", idle.Checkpoint.End)
	}
	next := new(store.Batch)
	feed(t, d, next, ordersRelation())
	if next.Checkpoint.End != 0x900 {
		t.Errorf("the next batch's end is %v, want 0/900", next.Checkpoint.End)
	}
}

func TestTransactionsThatComeAgainAreCountedAndDropped(t *testing.T) {
	t.Parallel()
	have := store.Checkpoint{Commit: 0x200, Ordinal: 2, End: 0x180, CommitAt: commitTime}
	d, b := newDecoder(decoderConfig{have: have}), new(store.Batch)
	row := func(id string) []byte { return insertMessage(ordersOID, id, "a", "1") }

	// Wholly in the log.
	feed(t, d, b, beginMessage(0x100), ordersRelation(), row("1"), row("2"), row("3"))
	if at := feed(t, d, b, commitMessage(0x100, 0x140)); at.events != 3 {
		t.Errorf("commit counted %d events, want 3", at.events)
	}
	if diff := cmp.Diff(have, b.Checkpoint); diff != "" || b.Len() != 0 {
		t.Errorf("after a transaction that is in the log: %d events, %s", b.Len(), diff)
	}
	// In the log up to its ordinal 2.
	feed(t, d, b, beginMessage(0x200))
	if diff := cmp.Diff(have, b.Checkpoint); diff != "" {
		t.Errorf("after its beginning: %s", diff)
	}
	feed(t, d, b, row("4"), logicalMessage(true, "rowcall", `{"type":"a"}`))
	if diff := cmp.Diff(have, b.Checkpoint); diff != "" || b.Len() != 0 {
		t.Errorf("before what is new: %d events, %s", b.Len(), diff)
	}
	feed(t, d, b, row("6"), commitMessage(0x200, 0x240))
	got := eventsOf(t, b)
	if len(got) != 1 || got[0].Key != "public.orders/id=6" || got[0].Ordinal != 2 {
		t.Errorf("events that are new: %+v", got)
	}
	want := store.Checkpoint{Commit: 0x200, Ordinal: 3, End: 0x240, CommitAt: commitTime}
	if diff := cmp.Diff(want, b.Checkpoint); diff != "" {
		t.Error(diff)
	}
}

func TestOwnSchemaIsNeverAnEvent(t *testing.T) {
	t.Parallel()
	const own = 16500
	got := decodeAll(t, decoderConfig{
		types:      func([]uint32) (map[uint32]typeInfo, error) { panic("looked up") },
		primaryKey: func(uint32) ([]string, error) { panic("looked up") },
	},
		ordersRelation(),
		relationMessage(own, "rowcall", "events", 'f', columnSpec{"offset", 99999, true}),
		insertMessage(own, "1"),
		updateMessage(own, tuple('O', "1"), "2"),
		deleteMessage(own, tuple('O', "2")),
		truncateMessage(own, ordersOID),
		insertMessage(ordersOID, "1", "a", "1"),
	)
	var types []string
	for _, e := range got {
		types = append(types, e.Type)
	}
	if diff := cmp.Diff([]string{"public.orders.truncated", "public.orders.inserted"}, types); diff != "" {
		t.Error(diff)
	}
	if got[0].Ordinal != 0 || got[1].Ordinal != 1 {
		t.Errorf("our own changes took ordinals: %+v", got)
	}
}

func TestRelationReplacesTheOneBefore(t *testing.T) {
	t.Parallel()
	got := decodeAll(t, decoderConfig{},
		ordersRelation(),
		insertMessage(ordersOID, "1", "new", "7"),
		relationMessage(ordersOID, "public", "orders", 'd',
			columnSpec{"id", pgtype.TextOID, true}, columnSpec{"total", pgtype.Int4OID, false}),
		insertMessage(ordersOID, "1", "7"),
		relationMessage(ordersOID, "public", "sales", 'd', columnSpec{"id", pgtype.TextOID, true}),
		insertMessage(ordersOID, "1"),
	)
	for i, want := range []struct{ typ, row string }{
		{"public.orders.inserted", `"row":{"id":1,"status":"new","total":"7"}`},
		{"public.orders.inserted", `"row":{"id":"1","total":7}`},
		{"public.sales.inserted", `"row":{"id":"1"}`},
	} {
		if got[i].Type != want.typ || !strings.Contains(got[i].Data, want.row) {
			t.Errorf("event %d is %s %s, want %s with %s", i, got[i].Type, got[i].Data, want.typ, want.row)
		}
	}
}

func TestStreamThatMakesNoSenseIsAnError(t *testing.T) {
	t.Parallel()
	insert := insertMessage(ordersOID, "1", "a", "1")
	for name, messages := range map[string][][]byte{
		"empty":                           {{}},
		"unknown message":                 {[]byte("Z")},
		"message of protocol 2":           {put(nil, byte('S'), uint32(1), byte(1))},
		"change outside a transaction":    {ordersRelation(), insert},
		"commit outside a transaction":    {commitMessage(0x100, 0x140)},
		"message outside a transaction":   {logicalMessage(true, "rowcall", `{"type":"a"}`)},
		"begin inside a transaction":      {beginMessage(0x100), beginMessage(0x200)},
		"commit of another transaction":   {beginMessage(0x100), commitMessage(0x200, 0x240)},
		"relation that was not described": {beginMessage(0x100), insert},
		"truncate of an unknown relation": {beginMessage(0x100), truncateMessage(1)},
		"too few columns":                 {beginMessage(0x100), ordersRelation(), insertMessage(ordersOID, "1", "a")},
		"too many columns":                {beginMessage(0x100), ordersRelation(), insertMessage(ordersOID, "1", "a", "1", "1")},
		"another number of columns":       {beginMessage(0x100), ordersRelation(), put(nil, byte('I'), uint32(ordersOID), byte('N'), uint16(4), []byte("nnn"))},
		"unknown identity":                {relationMessage(1, "public", "t", 'z')},
		"unknown tuple":                   {beginMessage(0x100), ordersRelation(), put(nil, byte('I'), uint32(ordersOID), tuple('X', "1", "a", "1"))},
		"delete without an old tuple":     {beginMessage(0x100), ordersRelation(), deleteMessage(ordersOID, tuple('N', "1", "a", "1"))},
		"binary column":                   {beginMessage(0x100), ordersRelation(), put(nil, byte('I'), uint32(ordersOID), byte('N'), uint16(3), byte('b'), uint32(0), []byte("nn"))},
		"length beyond the message":       {beginMessage(0x100), ordersRelation(), put(nil, byte('I'), uint32(ordersOID), byte('N'), uint16(3), byte('t'), uint32(0xffffffff))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, b := newDecoder(decoderConfig{}), new(store.Batch)
			feed(t, d, b, messages[:len(messages)-1]...)
			before := b.Checkpoint
			if _, err := d.decode(messages[len(messages)-1], b); err == nil {
				t.Error("it was taken")
			}
			if b.Len() != 0 || b.Checkpoint != before {
				t.Errorf("it left %d events and the checkpoint %+v", b.Len(), b.Checkpoint)
			}
		})
	}
}

func TestEveryPrefixOfAMessageIsAnError(t *testing.T) {
	t.Parallel()
	for _, whole := range [][]byte{
		beginMessage(0x200), commitMessage(0x100, 0x140), ordersRelation(), truncateMessage(ordersOID),
		insertMessage(ordersOID, "1", "a", nil), updateMessage(ordersOID, tuple('K', "1", nil, nil), "2", "a", unchanged{}),
		deleteMessage(ordersOID, tuple('K', "1", nil, nil)), logicalMessage(true, "rowcall", `{"type":"a"}`),
		put(nil, byte('O'), uint64(1), "origin"), put(nil, byte('Y'), uint32(1), "public", "mood"),
	} {
		for n := range whole {
			d, b := newDecoder(decoderConfig{}), new(store.Batch)
			feed(t, d, b, ordersRelation())
			if whole[0] != 'B' {
				feed(t, d, b, beginMessage(0x100))
			}
			if _, err := d.decode(whole[:n:n], b); err == nil {
				t.Errorf("the first %d bytes of %q were taken", n, whole)
			}
		}
		d, b := newDecoder(decoderConfig{}), new(store.Batch)
		feed(t, d, b, ordersRelation())
		if whole[0] != 'B' {
			feed(t, d, b, beginMessage(0x100))
		}
		if _, err := d.decode(append(whole[:len(whole):len(whole)], 0), b); err == nil {
			t.Errorf("a byte after %q was taken", whole)
		}
		feed(t, d, b, whole)
	}
}

func TestEventsKeepNothingOfTheMessage(t *testing.T) {
	t.Parallel()
	d, b := newDecoder(decoderConfig{}), new(store.Batch)
	var buffer []byte // one read buffer for all messages, as a connection has
	for _, m := range [][]byte{
		beginMessage(0x100), ordersRelation(), logicalMessage(true, "rowcall.context", `{"actor":"ann"}`),
		insertMessage(ordersOID, "1", "first", "1"), updateMessage(ordersOID, tuple('K', "1", nil, nil), "2", "second", "1"),
		logicalMessage(true, "rowcall", `{"type":"a.b","key":"k","subject":"s","data":[1]}`),
	} {
		buffer = append(buffer[:0], m...)
		feed(t, d, b, buffer)
		clear(buffer)
	}
	got := eventsOf(t, b)
	if got[0].Key != "public.orders/id=1" || got[1].OldKey != "public.orders/id=1" || got[2].Key != "a.b/k" || got[2].Subject != "s" ||
		!strings.Contains(got[1].Data, `"status":"second"`) || !strings.Contains(got[1].Data, `"context":{"actor":"ann"}`) {
		t.Errorf("events changed with the buffer: %+v", got)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range [][]byte{
		beginMessage(0x200), commitMessage(0x100, 0x140), ordersRelation(), truncateMessage(ordersOID),
		insertMessage(ordersOID, "1", "a", nil), updateMessage(ordersOID, tuple('K', "1", nil, nil), "2", "a", unchanged{}),
		updateMessage(ordersOID, tuple('O', "1", nil, nil), "2", "a", unchanged{}), updateMessage(ordersOID, nil, unchanged{}, nil, "\xff"),
		deleteMessage(ordersOID, tuple('K', "1", nil, nil)), deleteMessage(ordersOID, tuple('O', "1", nil, "\xff")),
		logicalMessage(true, "rowcall", `{"type":"a"}`), logicalMessage(true, "rowcall.context", `{"a":1}`),
		relationMessage(ordersOID, "public", "orders", 'f', columnSpec{"a", pgtype.Int4ArrayOID, true}, columnSpec{"b", pgtype.JSONOID, false}),
		insertMessage(ordersOID, `{1,NULL,"2"}`, `{"a":[1]}`),
		relationMessage(ordersOID, "public", "orders", 'i', columnSpec{"a", pgtype.ByteaOID, true}, columnSpec{"b", pgtype.TimestamptzOID, false}),
	} {
		f.Add(m, m)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d, b := newDecoder(decoderConfig{maxValueBytes: 64}), new(store.Batch)
		feed(t, d, b, ordersRelation(), beginMessage(0x100))
		for _, m := range [][]byte{first, second} {
			if _, err := d.decode(m, b); err != nil {
				break
			}
		}
		eventsOf(t, b) // their data is JSON
	})
}
