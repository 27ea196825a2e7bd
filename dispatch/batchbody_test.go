package dispatch_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

func batchTarget(t testing.TB, address string) *dispatch.Target {
	t.Helper()
	sub := testSubscription(address)
	sub.Batch = subscriptions.Batch{MaxEvents: 100, MaxBytes: 1 << 20}
	return newTarget(t, sub)
}

func TestABatchIsAnArrayThatTheOfficialSDKReads(t *testing.T) {
	t.Parallel()
	all := payloadEvents()
	all[3].Offset = 1 << 40
	var requests []*http.Request
	var read [][]string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// As the SDK's NewEventsFromHTTPRequest does, whose package needs more modules.
		var events []cloudevents.Event
		if err := json.NewDecoder(r.Body).Decode(&events); err != nil {
			t.Errorf("SDK: %v", err)
		}
		if got := r.Header.Get("Content-Type"); got != cloudevents.ApplicationCloudEventsBatchJSON {
			t.Errorf("content type %s", got)
		}
		var ids []string
		for _, e := range events {
			if err := e.Validate(); err != nil {
				t.Errorf("SDK: %v\n%s", err, e)
			}
			ids = append(ids, e.Source()+" "+e.ID())
		}
		requests, read = append(requests, r), append(read, ids)
	}))
	defer server.Close()
	sender, target := newSender(t), batchTarget(t, server.URL)
	var want [][]string
	for _, events := range [][]*store.Event{all, all[1:3], all[:1], all} {
		reply := sender.TryBatch(t.Context(), target, events, 7)
		if reply.Err != nil || reply.Status != http.StatusOK {
			t.Fatalf("status %d, error %v", reply.Status, reply.Err)
		}
		var ids []string
		for _, e := range events {
			ids = append(ids, e.Source+" "+e.ID())
		}
		want = append(want, ids)
		if got := requests[len(requests)-1].Header.Get("Webhook-Id"); got != dispatch.BatchID(events...) {
			t.Errorf("webhook-id %s, want %s", got, dispatch.BatchID(events...))
		}
	}
	if diff := cmp.Diff(want, read); diff != "" {
		t.Errorf("events differ (-sent +read):\n%s", diff)
	}
	if got := requests[0].Header.Get("Rowcall-Attempt"); got != "7" {
		t.Errorf("rowcall-attempt %s", got)
	}
}

func TestABatchIsWhatItsEventsAreAloneAndSigned(t *testing.T) {
	t.Parallel()
	receiver := hooktest.Start(t, hooktest.Config{Secrets: []string{testSecret}})
	sender, target := newSender(t), batchTarget(t, receiver.URL())
	other := testEvent()
	other.Ordinal, other.Data = 1, nil
	alone := func(e *store.Event) string { return string(dispatch.AppendCloudEvent(nil, e)) }
	for _, c := range []struct {
		send func() dispatch.Reply
		want string
	}{
		{func() dispatch.Reply { return sender.Try(t.Context(), target, testEvent(), 1) }, "[" + alone(testEvent()) + "]"},
		{func() dispatch.Reply {
			return sender.TryBatch(t.Context(), target, []*store.Event{testEvent(), other}, 1)
		}, "[" + alone(testEvent()) + "," + alone(other) + "]"},
	} {
		if reply := c.send(); reply.Status != http.StatusOK {
			t.Fatalf("reply: %+v", reply)
		}
		all := receiver.Deliveries()
		got := all[len(all)-1]
		if got.Invalid != nil || string(got.Body) != c.want || got.Header.Get("Content-Type") != "application/cloudevents-batch+json" {
			t.Errorf("body %s of %s (%v), want %s", got.Body, got.Header.Get("Content-Type"), got.Invalid, c.want)
		}
	}
}

func TestTheIDOfABatchIsAHashOfItsEventsInTheirOrder(t *testing.T) {
	t.Parallel()
	events := payloadEvents()
	var ids strings.Builder
	for _, e := range events {
		ids.WriteString(dispatch.WebhookID(e) + "\n")
	}
	sum := sha256.Sum256([]byte(ids.String()))
	if got, want := dispatch.BatchID(events...), "batch-"+hex.EncodeToString(sum[:16]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// printf '01-0000000003F2A8C0-0\n' | sha256sum | cut -c1-32
	if got, want := dispatch.BatchID(testEvent()), "batch-448ad98cf7769daf2dd3ed89099bdd65"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	seen := map[string]string{}
	for name, of := range map[string][]*store.Event{
		"all": events, "another order": {events[1], events[0], events[2], events[3]}, "fewer": events[:3], "one": events[:1], "another one": events[1:2],
	} {
		id := dispatch.BatchID(of...)
		if other, twice := seen[id]; twice {
			t.Errorf("%s and %s have the same id", name, other)
		}
		seen[id] = name
	}
}

func TestATargetWithBatchesTakesNoOtherFormat(t *testing.T) {
	t.Parallel()
	for _, format := range []subscriptions.Format{subscriptions.Raw, subscriptions.CloudEventsBinary} {
		sub := testSubscription("https://example.com/")
		sub.Format, sub.Batch.MaxEvents = format, 2
		if _, err := dispatch.NewTarget(sub); err == nil || !strings.Contains(err.Error(), string(format)) {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// BenchmarkTryBatch is BenchmarkTry's try with a hundred events; figures are of an
// event.
func BenchmarkTryBatch(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	b.Cleanup(server.Close)
	sender, target := newSender(b), batchTarget(b, server.URL)
	events := make([]*store.Event, 100)
	for i := range events {
		events[i] = testEvent()
		events[i].Ordinal = int64(i)
		events[i].Data = fmt.Appendf(nil, `{"op":"insert","row":{"id":%d,"text":"%s"}}`, i, strings.Repeat("x", 400))
	}
	b.ReportAllocs()
	before, n := cpuTime(b), 0
	for b.Loop() {
		if reply := sender.TryBatch(b.Context(), target, events, 1); reply.Err != nil {
			b.Fatal(reply.Err)
		}
		n += len(events)
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(time.Microsecond)/float64(n), "cpu-µs/event")
}
