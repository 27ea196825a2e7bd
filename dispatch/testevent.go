package dispatch

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
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
	Detail    json.RawMessage // as in the history of attempts
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
	reply := s.Try(ctx, target, e, 1)
	out := Tested{Event: e.ID(), WebhookID: WebhookID(e), Reply: reply, Verdict: Judge(reply)}
	if out.Verdict.Outcome == BlockedTarget {
		out.Reply = Reply{Err: reply.Err, At: reply.At}
	}
	out.Detail = detail(out.Reply, "")
	return out, nil
}
