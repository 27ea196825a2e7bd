package dispatch_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
	"unicode/utf8"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/store"
)

var update = flag.Bool("update", false, "write golden files anew")

// events are one of each kind.
func payloadEvents() []*store.Event {
	truncate := testEvent()
	truncate.Offset, truncate.Ordinal, truncate.Kind = 12346, 1, store.KindTruncate
	truncate.Type, truncate.Key = "public.orders.truncated", "public.orders"
	truncate.Data = []byte(`{"op":"truncate","key":null,"row":null,"old":null}`)
	return []*store.Event{
		testEvent(),
		truncate,
		{
			Offset: 1, LSN: 0xFFFFFFFF_FFFFFFFF, Ordinal: 999999, Generation: 12, Kind: store.KindMessage,
			Type: "user.signed_up", Key: "user.signed_up/7", Subject: "user 7", Source: "/sources/shop",
			Data: []byte(`{ "spaces" : "stay",  "a": 1.0, "a": 2, "big": 9007199254740993 }`),
		},
		{
			Offset: 9223372036854775807, Time: -1, Kind: store.KindPublished, PublicID: "a \"b\"\\\n\x01é\u2028<&>",
			Type: "order.ünïcode", Key: "k", Source: "https://example.com/?a=1&b=<2>", Data: []byte(`"text"`),
		},
		{
			Offset: 7, Time: 1_780_000_000_000_000, Kind: store.KindPublished, PublicID: "1", Type: "order.placed", Key: "order.placed/7",
			Source: "/shop", Data: []byte(`{}`), Given: &store.Given{
				Source: "/shop", Time: "2026-11-20T13:00:00+01:00", Extensions: []store.Extension{
					{Name: "retried", Value: []byte("true")},
					{Name: "traceparent", Value: []byte(`"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"`)},
					{Name: "weight", Value: []byte("-7")},
				},
			},
		},
	}
}

func TestPayloadsAreTheGoldenOnes(t *testing.T) {
	t.Parallel()
	var got []byte
	for _, e := range payloadEvents() {
		got = append(dispatch.AppendCloudEvent(got, e), '\n')
	}
	const golden = "testdata/cloudevents.jsonl"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("payloads differ (-golden +got):\n%s", diff)
	}
}

func TestTheOfficialSDKReadsEveryPayload(t *testing.T) {
	t.Parallel()
	for _, e := range payloadEvents() {
		checkBySDK(t, e)
	}
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[\x00-\x7f]{0,20}`),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	// What the specification demands of an attribute: not empty, a URI reference.
	filled := rapid.Map(text, func(s string) string { return "x" + s })
	optional := rapid.OneOf(rapid.Just(""), filled)
	rapid.Check(t, func(t *rapid.T) {
		checkBySDK(t, &store.Event{
			Offset:     store.Offset(rapid.Int64Min(0).Draw(t, "offset")),
			LSN:        store.LSN(rapid.Uint64().Draw(t, "lsn")),
			Ordinal:    rapid.Int64Min(0).Draw(t, "ordinal"),
			Time:       rapid.Int64Range(-62135596800_000000, 253402300799_999999).Draw(t, "time"),
			Generation: rapid.Int32Range(1, 200).Draw(t, "generation"),
			Kind:       rapid.SampledFrom([]store.Kind{store.KindRow, store.KindKeyless, store.KindMessage, store.KindPublished, store.KindNotice}).Draw(t, "kind"),
			Type:       filled.Draw(t, "type"),
			Key:        filled.Draw(t, "key"),
			Subject:    optional.Draw(t, "subject"),
			PublicID:   optional.Draw(t, "id"),
			Source:     rapid.StringMatching(`/sources/[a-z0-9_~.!$&'()*+,;=:@/-]{0,20}`).Draw(t, "source"),
			Data:       []byte(rapid.SampledFrom([]string{`{}`, `null`, `[1, 2]`, `"é"`, `{"a":{"b":[true]}}`}).Draw(t, "data")),
		})
	})
}

func checkBySDK(t interface {
	Helper()
	Fatalf(string, ...any)
}, e *store.Event,
) {
	t.Helper()
	payload := dispatch.AppendCloudEvent(nil, e)
	if !utf8.Valid(payload) || !json.Valid(payload) {
		t.Fatalf("not JSON in UTF-8: %q", payload)
	}
	var event cloudevents.Event
	if err := json.Unmarshal(payload, &event); err != nil {
		t.Fatalf("SDK: %v\n%s", err, payload)
	}
	if err := event.Validate(); err != nil {
		t.Fatalf("SDK: %v\n%s", err, payload)
	}
	want := map[string]string{
		"id": e.ID(), "type": e.Type, "subject": e.SubjectText(), "partitionkey": e.Key,
		"sequence": e.Offset.String(), "source": e.Source, "datacontenttype": "application/json",
	}
	got := map[string]string{
		"id": event.ID(), "type": event.Type(), "subject": event.Subject(), "source": event.Source(),
		"datacontenttype": event.DataContentType(),
	}
	for _, name := range []string{"partitionkey", "sequence"} {
		got[name], _ = event.Extensions()[name].(string)
	}
	for name, value := range want {
		if string([]rune(value)) != got[name] {
			t.Fatalf("%s: got %q, want %q\n%s", name, got[name], value, payload)
		}
	}
	at := time.UnixMicro(e.Time)
	if e.Given != nil {
		at, _ = time.Parse(time.RFC3339Nano, e.Given.Time)
		for _, x := range e.Given.Extensions {
			if text := fmt.Sprint(event.Extensions()[x.Name]); text != x.Text() {
				t.Fatalf("extension %s: got %s, want %s", x.Name, text, x.Text())
			}
		}
	}
	if !event.Time().Equal(at) {
		t.Fatalf("time: got %v, want %v", event.Time(), e.CommittedAt())
	}
	if !bytes.Contains(payload, append([]byte(`,"data":`), e.Data...)) {
		t.Fatalf("data is not there byte for byte: %s", payload)
	}
}

func TestATimeThatRFC3339CannotWriteIsLeftOut(t *testing.T) {
	t.Parallel()
	e := testEvent()
	e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	if payload := dispatch.AppendCloudEvent(nil, e); bytes.Contains(payload, []byte(`"time"`)) {
		t.Errorf("payload: %s", payload)
	}
}

func TestTheWebhookIDOfAPublishedEventHashesSourceAndID(t *testing.T) {
	t.Parallel()
	published := func(source, id string) string {
		return dispatch.WebhookID(&store.Event{Kind: store.KindPublished, Source: source, PublicID: id})
	}
	// printf '/orders\0evt.1' | sha256sum | cut -c1-32
	if got, want := published("/orders", "evt.1"), "e-61740e1c9866cdb867d6aa94e1e3836a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if published("/a", "bc") == published("/ab", "c") {
		t.Error("source and id run into each other")
	}
	if got := dispatch.WebhookID(testEvent()); got != "01-0000000003F2A8C0-0" {
		t.Errorf("a row event's webhook-id is its id: %s", got)
	}
	notice := &store.Event{Kind: store.KindNotice, PublicID: "0190-x"}
	if got := dispatch.WebhookID(notice); got != "0190-x" {
		t.Errorf("a notice's webhook-id is its id: %s", got)
	}
}

func FuzzPayloadStringsReadBack(f *testing.F) {
	for _, seed := range []string{"", `"\`, "\x00\x1f\x7f", "é\xff\u2028", "\xed\xa0\x80", "😀"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := testEvent()
		e.Type = s
		var got struct{ Type string }
		if err := json.Unmarshal(dispatch.AppendCloudEvent(nil, e), &got); err != nil {
			t.Fatal(err)
		}
		if want := string([]rune(s)); got.Type != want {
			t.Errorf("got %q, want %q", got.Type, want)
		}
	})
}
