package dispatch

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// TestType is the type of the event that Test sends. It is never in the log.
const TestType = "rowcall.test"

// testTimeout bounds a test where the endpoint's timeout is longer: somebody waits
// for the answer.
const testTimeout = 15 * time.Second

// Tested is what became of a test event.
type Tested struct {
	Event     string // its id
	WebhookID string
	Reply     Reply // of any status with the start of the body; nothing of a target that is not allowed
	Verdict   Verdict
	Timings   Timings
	Detail    json.RawMessage // as in the history of attempts
}

// Timings are how long an attempt's stages took; 0: there was none, such as on a
// connection that was there.
type Timings struct {
	DNS, Connect, TLS time.Duration
	FirstByte         time.Duration // from the start of the attempt
}

// Test sends an event of TestType to a subscription's endpoint as it sends all
// others: over the guard, authenticated and signed. Filter, transform, rate, hold
// and window are not asked, and nothing is recorded: neither is the endpoint's
// health moved. Its error says that the endpoint's settings cannot be used.
func (d *Dispatcher) Test(ctx context.Context, sub *subscriptions.Subscription) (Tested, error) {
	return d.sender.Test(ctx, sub)
}

// Test is what Dispatcher.Test does.
func (s *Sender) Test(ctx context.Context, sub *subscriptions.Subscription) (Tested, error) {
	target, err := NewTarget(sub)
	if err != nil {
		return Tested{}, err
	}
	target.keepBody = true
	target.timeout = min(target.timeout, testTimeout)
	target.header["Rowcall-Test"] = []string{"true"} // in format raw nothing else tells it
	now := time.Now()
	data, err := json.Marshal(noticeOf(sub, now, "", "a test: no row was written"))
	if err != nil {
		return Tested{}, err
	}
	e := &store.Event{
		Time: now.UnixMicro(), Kind: store.KindNotice, Type: TestType, PublicID: "test-" + strings.ToLower(rand.Text()),
		Source: "/sources/rowcall", Subject: string(sub.ID), Key: store.NoticePrefix + string(sub.ID), Data: data,
	}
	var w watch
	reply := s.Try(httptrace.WithClientTrace(ctx, w.trace()), target, e, 1)
	out := Tested{Event: e.ID(), WebhookID: WebhookID(e), Reply: reply, Verdict: Judge(reply), Timings: w.timings(reply.At)}
	if out.Verdict.Outcome == BlockedTarget {
		out.Reply, out.Timings = Reply{Err: reply.Err, At: reply.At}, Timings{}
	}
	out.Detail = detail(out.Reply, "")
	return out, nil
}

// watch takes the times of an attempt's stages. The transport may dial on after
// the attempt is over.
type watch struct {
	mu                sync.Mutex
	dns, connect, tls stopwatch
	first             time.Time
}

type stopwatch struct{ from, to time.Time }

func (s stopwatch) took() time.Duration {
	if s.from.IsZero() || s.to.Before(s.from) {
		return 0
	}
	return s.to.Sub(s.from)
}

func (w *watch) trace() *httptrace.ClientTrace {
	now := func(at *time.Time) {
		w.mu.Lock()
		defer w.mu.Unlock()
		*at = time.Now()
	}
	return &httptrace.ClientTrace{
		DNSStart:             func(httptrace.DNSStartInfo) { now(&w.dns.from) },
		DNSDone:              func(httptrace.DNSDoneInfo) { now(&w.dns.to) },
		ConnectStart:         func(string, string) { now(&w.connect.from) },
		ConnectDone:          func(string, string, error) { now(&w.connect.to) },
		TLSHandshakeStart:    func() { now(&w.tls.from) },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { now(&w.tls.to) },
		GotFirstResponseByte: func() { now(&w.first) },
	}
}

func (w *watch) timings(began time.Time) Timings {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := Timings{DNS: w.dns.took(), Connect: w.connect.took(), TLS: w.tls.took()}
	if !w.first.IsZero() {
		t.FirstByte = w.first.Sub(began)
	}
	return t
}
