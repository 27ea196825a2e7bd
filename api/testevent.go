package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// TestSender sends a test event to a subscription's endpoint, as deliveries are
// sent, and says what became of it. Its error is shown to the caller: it says
// which of the endpoint's settings cannot be used, and holds no secret.
type TestSender func(ctx context.Context, sub *subscriptions.Subscription) (TestReply, error)

// TestReply is what became of a test event.
type TestReply struct {
	Event     string // its id
	WebhookID string
	At        time.Time
	Duration  time.Duration
	Status    int    // 0: no response
	Outcome   int    // number of the outcome, as in store.Attempt
	Reason    string // why it was not delivered
	Detail    json.RawMessage
	Timings   store.Timings
}

// testedAttempt is the answer to test.
type testedAttempt struct {
	Event      string          `json:"event" doc:"Id of the test event, which is not in the log. It has type rowcall.test, and goes with the header rowcall-test."`
	WebhookID  string          `json:"webhook_id"`
	At         time.Time       `json:"at"`
	DurationMS float64         `json:"duration_ms"`
	Timings    timings         `json:"timings"`
	Status     int             `json:"status" doc:"HTTP status; 0: there was no response."`
	Outcome    string          `json:"outcome" enum:"delivered,failed,blocked,unknown"`
	Reason     string          `json:"reason" doc:"Empty when delivered."`
	Detail     json.RawMessage `json:"detail" doc:"error, and what the endpoint said: its headers, and the start of its body. Of a target that is not allowed, what the operator can do."`
}

type testOutput struct{ Body testedAttempt }

func (a *API) registerTest(tags []string, one string) {
	handle(a, huma.Operation{
		OperationID: "test-subscription", Method: http.MethodPost, Path: one + "/test", Tags: tags,
		Summary: "Send a test event to a subscription's endpoint now, and say what became of it",
		Description: "It is sent as all others are: signed, authenticated, to allowed targets alone, in the subscription's format. Neither its state, " +
			"filter, transform, rate and window are asked, nor is anything recorded but that it was asked for; the endpoint's health does not change. " +
			"It waits 15 s at most. A key may ask for ten a minute.",
		Errors: []int{http.StatusConflict},
	}, ScopeDeliver, a.testSubscription)
}

func (a *API) testSubscription(ctx context.Context, in *getInput) (*testOutput, error) {
	sub, err := a.subscription(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if a.config.Test == nil {
		return nil, newProblem(problemUnavailable, "this instance sends nothing")
	}
	if wait, _ := a.tests.take(caller(ctx), time.Now()); wait > 0 {
		return nil, newProblem(problemRateLimited, "a key may ask for ten tests a minute").with("Retry-After", seconds(wait))
	}
	if err := a.store.Record(ctx, "subscription/"+string(sub.ID)); err != nil {
		return nil, err
	}
	reply, err := a.config.Test(ctx, &sub)
	if err != nil {
		return nil, newProblem(problemConflict, err.Error()+": mend the endpoint's settings")
	}
	return &testOutput{Body: showTest(reply)}, nil
}

func showTest(r TestReply) testedAttempt {
	out := testedAttempt{
		Event: r.Event, WebhookID: r.WebhookID, At: r.At.UTC(), DurationMS: milliseconds(r.Duration), Status: r.Status,
		Outcome: "unknown", Reason: r.Reason, Detail: r.Detail,
		Timings: showTimings(r.Timings),
	}
	if all := outcomes(); r.Outcome >= 0 && r.Outcome < len(all) {
		out.Outcome = all[r.Outcome]
	}
	return out
}
