package postgres

import (
	"strings"
	"testing"

	"github.com/rowcall/rowcall/store"
)

func TestLogicalMessages(t *testing.T) {
	t.Parallel()
	emit := func(content string) []byte { return logicalMessage(true, "rowcall", content) }
	golden(t, "events_logical.txt", render(decodeAll(t, decoderConfig{generation: 1, maxValueBytes: 4096},
		emit(`{"type":"user.signed_up","key":"7","data":{"n":1.50, "big":12345678901234567890}}`),
		emit(`{"type":"user.signed_up","key":7,"subject":"ann=1"}`),
		emit(` { "type" : "a" , "key" : null , "data" : [1, 2] } `),
		emit(`{"type":"Weird%2EName.é","key":"a/b=c","data":null}`),
		emit(`{"type":"a","k\u0065y":"escaped name"}`),
		logicalMessage(true, "other", `{"type":"a"}`), // not ours: it takes no ordinal
		logicalMessage(true, "rowcall.other", `{"type":"a"}`),
		// None of these is an event, and each is seen.
		emit(``), emit(`{`), emit(`[]`), emit(`"x"`), emit(`{}`), emit(`{"type":""}`), emit(`{"type":null}`), emit(`{"type":1}`),
		emit(`{"type":"rowcall.gap"}`), emit(`{"type":"rowcall"}`), emit(`{"type":"a..b"}`), emit(`{"type":"a b"}`), emit(`{"type":"a.*"}`),
		emit(`{"type":"a%2e"}`), emit(`{"type":"a%41"}`), emit(`{"type":"a%4"}`), emit(`{"type":"a/b"}`),
		emit(`{"type":"a","key":{}}`), emit(`{"type":"a","subject":1}`), emit(`{"type":"a","key":"\u0000"}`),
		emit(`{"type":"a","Data":1}`), emit(`{"type":"a","type":"b"}`), emit(`{"type":"a"} x`),
		emit("{\"type\":\"a\",\"data\":\"\xe9\"}"),
		emit(`{"type":"a","key":"`+strings.Repeat("k", 1025)+`"}`),
		emit(`{"type":"`+strings.Repeat("t", 256)+`"}`),
		emit(`{"type":"a","data":"`+strings.Repeat("d", 4096)+`"}`),
	)))
}

func TestContextAnnotatesTheEventsThatFollow(t *testing.T) {
	t.Parallel()
	context := func(content string) []byte { return logicalMessage(true, "rowcall.context", content) }
	row := insertMessage(ordersOID, "1", "a", "1")
	d, b := newDecoder(decoderConfig{}), new(store.Batch)
	feed(t, d, b, beginMessage(0x100), ordersRelation(), row, context(` {"actor": "ann", "n":1e2}`), row,
		truncateMessage(ordersOID), context(`{}`), row,
		context(`[]`), context(`{"a":`), context("{\"a\":\"\xff\"}"), context(`{"a":"`+strings.Repeat("x", maxContextBytes)+`"}`), row,
		commitMessage(0x100, 0x140),
		beginMessage(0x200), row, commitMessage(0x200, 0x240))
	golden(t, "events_context.txt", render(eventsOf(t, b)))
}

func TestContextIsKnownAgainWhenTheTransactionComesAgain(t *testing.T) {
	t.Parallel()
	d, b := newDecoder(decoderConfig{have: store.Checkpoint{Commit: 0x100, Ordinal: 1}}), new(store.Batch)
	row := insertMessage(ordersOID, "1", "a", "1")
	feed(t, d, b, beginMessage(0x100), ordersRelation(), logicalMessage(true, "rowcall.context", `{"actor":"ann"}`), row, row)
	got := eventsOf(t, b)
	if len(got) != 1 || got[0].Ordinal != 1 || !strings.Contains(got[0].Data, `"context":{"actor":"ann"}`) {
		t.Errorf("events: %+v", got)
	}
}

func TestHeartbeatsAreKnownByTheirContent(t *testing.T) {
	t.Parallel()
	d, b := newDecoder(decoderConfig{heartbeat: "instance-1 "}), new(store.Batch)
	feed(t, d, b, beginMessage(0x100))
	at := feed(t, d, b, logicalMessage(true, "rowcall.heartbeat", "instance-1 42"))
	if at.kind != heartbeating || at.heartbeat != "instance-1 42" || at.commit != 0x100 || !at.time.Equal(commitTime) {
		t.Errorf("our heartbeat means %+v", at)
	}
	if at := feed(t, d, b, logicalMessage(true, "rowcall.heartbeat", "instance-2 42")); at.kind != nothing {
		t.Errorf("another's heartbeat means %+v", at)
	}
	if b.Len() != 0 || b.Checkpoint.Ordinal != 0 {
		t.Errorf("heartbeats took %d ordinals", b.Checkpoint.Ordinal)
	}
}

func TestMessagesThatAreNotTransactionalAreNoEvents(t *testing.T) {
	t.Parallel()
	d, b := newDecoder(decoderConfig{}), new(store.Batch)
	for _, prefix := range []string{"rowcall", "rowcall.context", "rowcall.heartbeat"} {
		if at := feed(t, d, b, logicalMessage(false, prefix, `{"type":"a"}`)); at.kind != nontransactional {
			t.Errorf("%s means %+v", prefix, at)
		}
	}
	if at := feed(t, d, b, logicalMessage(false, "other", `{"type":"a"}`)); at.kind != nothing {
		t.Errorf("a message of others means %+v", at)
	}
	if b.Len() != 0 {
		t.Errorf("they left %d events", b.Len())
	}
}

func FuzzLogicalMessage(f *testing.F) {
	for _, s := range []string{`{"type":"a.b","key":"7","subject":"s","data":{"a":[1]}}`, `{"type":"\u0061","key":1e5}`, `{"a":"\ud800"}`, `{"type":"a","data":"\u0000"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		got := decodeAll(t, decoderConfig{},
			logicalMessage(true, "rowcall.context", string(content)), logicalMessage(true, "rowcall", string(content)),
			ordersRelation(), insertMessage(ordersOID, "1", "a", "1"))
		if n := len(got); n < 2 || n > 3 || got[n-1].Type != "public.orders.inserted" {
			t.Fatalf("events: %+v", got)
		}
		for _, e := range got {
			if strings.ContainsRune(e.Key+e.Subject+e.Type, 0) || strings.ToValidUTF8(e.Key+e.Subject+e.Type, "") != e.Key+e.Subject+e.Type {
				t.Fatalf("attributes cannot be stored as text: %+v", e)
			}
		}
	})
}
