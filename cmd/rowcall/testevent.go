package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/subscriptions"
)

// tester has the API's test events sent by the dispatcher.
func tester(d *dispatch.Dispatcher) api.TestSender {
	return func(ctx context.Context, sub *subscriptions.Subscription) (api.TestReply, error) {
		t, err := d.Test(ctx, sub)
		return api.TestReply{
			Event: t.Event, WebhookID: t.WebhookID, At: t.Reply.At, Duration: t.Reply.Duration, Status: t.Reply.Status,
			Outcome: int(t.Verdict.Outcome), Reason: string(t.Verdict.Reason), Detail: t.Detail,
			Timings: t.Reply.Timings,
		}, err
	}
}

type testSubscriptionCmd struct{ oneSubscription }

// Help is shown below the summary.
func (testSubscriptionCmd) Help() string {
	return clientHelp + `

The event has type rowcall.test. It is signed and authenticated as all others
are, and goes out whatever the subscription's state. Exit code 1: the endpoint
did not take it.

Example:
  rowcall subscriptions test paid-orders`
}

// Run sends a test event.
func (c *testSubscriptionCmd) Run(ctx context.Context, p *program) error {
	asked, id, err := c.find(ctx, p)
	if err != nil {
		return err
	}
	a, err := asked.TestSubscription(ctx, id)
	if err != nil {
		return answered(err)
	}
	if c.Output == "json" {
		err = printJSON(p.stdout, a)
	} else {
		err = printTested(p, a)
	}
	if err == nil && a.Outcome != "delivered" {
		return exitError{}
	}
	return err
}

func printTested(p *program, a client.TestedAttempt) error {
	var said struct{ Error, Body string }
	_ = json.Unmarshal(a.Detail, &said) // what is not there is not shown
	outcome := a.Outcome
	if a.Reason != "" {
		outcome += " (" + a.Reason + ")"
	}
	status := ""
	if a.Status != 0 {
		status = fmt.Sprint(a.Status)
	}
	return fields(p.stdout, [][2]string{
		{"outcome", outcome},
		{"status", status},
		{"took", fmt.Sprintf("%.1f ms", a.DurationMS)},
		{"stages", stages(a.Timings)},
		{"error", said.Error},
		{"response", said.Body},
		{"event", a.Event},
		{"webhook-id", a.WebhookID},
	}...)
}

// stages says where the time of an attempt went, as far as it is known.
func stages(t client.Timings) string {
	var said []string
	for _, stage := range []struct {
		name string
		ms   *float64
	}{{"DNS", t.DNS}, {"connect", t.Connect}, {"TLS", t.TLS}, {"first byte after", t.FirstByte}} {
		if stage.ms != nil {
			said = append(said, fmt.Sprintf("%s %.1f ms", stage.name, *stage.ms))
		}
	}
	return strings.Join(said, ", ")
}
