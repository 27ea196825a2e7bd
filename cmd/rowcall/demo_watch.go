package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

// subscribe makes the demo's subscription and returns its secret. It retries
// faster than the default does, so that a demonstration shows something.
func subscribe(ctx context.Context, c *client.Client, endpoint string) (secret string, err error) {
	sub, err := c.CreateSubscription(ctx, client.NewSubscription{Spec: client.Spec{
		Name:     "demo",
		Events:   []string{"**"},
		Endpoint: client.Endpoint{URL: endpoint},
		Retry:    client.Retry{Initial: "500ms", Max: "5s", MaxAttempts: 1000},
	}})
	if err != nil {
		return "", fmt.Errorf("subscribe receiver: %w", err)
	}
	return sub.Secret, nil
}

// awaitStreaming returns once the source's changes arrive.
func awaitStreaming(ctx context.Context, c *client.Client) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		page, err := c.Sources(ctx)
		if err != nil {
			return fmt.Errorf("wait for source: %w", err)
		}
		for _, s := range page.Items {
			switch s.State {
			case "streaming":
				return nil
			case "refused", "gap":
				return fmt.Errorf("wait for source: it is in state %s: %s: %s", s.State, s.Reason, s.Hint)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// watch says, while the receiver is stopped, what rowcall holds for it.
func (r *demoReceiver) watch(ctx context.Context, c *client.Client) error {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if !r.stopped() {
			continue
		}
		page, err := c.Deliveries(ctx, client.DeliveryQuery{PageQuery: client.PageQuery{Limit: 1000}})
		if err != nil {
			continue // it is only told; the next tick asks again
		}
		states := make(map[string]int)
		tries := 0
		for _, d := range page.Items {
			states[d.State]++
			tries = max(tries, d.Attempts)
		}
		if len(page.Items) > 0 && r.stopped() {
			r.out.note(fmt.Sprintf("held: %d retrying (%s so far), %d blocked behind them", states["retrying"], ordinalTry(tries), states["blocked"]))
		}
	}
}

func ordinalTry(n int) string {
	if n == 1 {
		return "1 try"
	}
	return strconv.Itoa(n) + " tries"
}

// parseRate reads transactions a second.
func parseRate(text string) (float64, error) {
	rate, err := strconv.ParseFloat(text, 64)
	if err != nil || !(rate >= 0.1 && rate <= 1000) {
		return 0, fmt.Errorf("parse rate %q: want a number from 0.1 to 1000", text)
	}
	return rate, nil
}
