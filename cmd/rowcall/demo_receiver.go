package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
)

// demoReceiver is the demo's endpoint. It can be stopped and started again: in
// between nobody listens at its address.
type demoReceiver struct {
	out    *screen
	want   int
	enough chan struct{} // closed when want deliveries were verified

	mu       sync.Mutex
	endpoint *hooktest.Receiver // nil: stopped
	address  string
	secret   string
	seen     map[string]bool // events by id, so that a copy is called one
	count    int             // verified
}

// start listens; after the first time at the address of before.
func (r *demoReceiver) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.endpoint != nil {
		return nil
	}
	endpoint, err := hooktest.New(hooktest.Config{Address: r.address, Reply: r.receive})
	if err != nil {
		return fmt.Errorf("start receiver: %w", err)
	}
	r.endpoint = endpoint
	r.address = strings.TrimSuffix(strings.TrimPrefix(endpoint.URL(), "http://"), "/hook")
	return nil
}

// stop stops listening.
func (r *demoReceiver) stop() error {
	r.mu.Lock()
	endpoint := r.endpoint
	r.endpoint = nil
	r.mu.Unlock()
	if endpoint == nil {
		return nil
	}
	if err := endpoint.Close(); err != nil { // waits for receive, which locks
		return fmt.Errorf("stop receiver: %w", err)
	}
	return nil
}

func (r *demoReceiver) stopped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.endpoint == nil
}

func (r *demoReceiver) url() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return "http://" + r.address + "/hook"
}

// expect sets the secret that deliveries must be signed with.
func (r *demoReceiver) expect(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secret = secret
}

// verified is how many deliveries bore the right signature, copies left out.
func (r *demoReceiver) verified() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// receive verifies one delivery and prints it in a line.
func (r *demoReceiver) receive(d hooktest.Delivery) hooktest.Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := deliveryLine{delivery: d, fault: errors.Join(d.Invalid, dispatch.Verify(r.secret, d.Header, d.Body, d.At))}
	line.read()
	if line.fault != nil {
		r.out.delivery(line)
		return hooktest.Reply{Status: 401}
	}
	if r.seen == nil {
		r.seen = make(map[string]bool)
	}
	line.copy = r.seen[d.ID]
	r.seen[d.ID] = true
	r.out.delivery(line)
	if !line.copy {
		r.count++
		if r.count == r.want {
			close(r.enough)
		}
	}
	return hooktest.Reply{}
}

// toggle stops the receiver at one line of input and starts it at the next.
func (r *demoReceiver) toggle(ctx context.Context, lines *bufio.Scanner) {
	for lines.Scan() && ctx.Err() == nil {
		if r.stopped() {
			if err := r.start(); err != nil {
				r.out.note("the receiver does not start: " + err.Error())
				continue
			}
			r.out.note("the receiver is back: what was held arrives at the next try, each key in its order")
			continue
		}
		if err := r.stop(); err != nil {
			r.out.note(err.Error())
		}
		r.out.note("the receiver is stopped: connections are refused, the shop goes on, rowcall keeps everything (Enter starts it)")
	}
}

// deliveryLine is what the demo says of one delivery.
type deliveryLine struct {
	delivery hooktest.Delivery
	fault    error
	copy     bool          // received before
	since    time.Duration // commit to arrival
	what     string        // the gist of the change
}

// read takes the gist out of the payload.
func (l *deliveryLine) read() {
	var data struct {
		Row, Old map[string]any
		TX       struct {
			CommittedAt time.Time `json:"committed_at"`
		}
	}
	if json.Unmarshal(l.delivery.Data, &data) != nil {
		return // the fault says it
	}
	l.since = l.delivery.At.Sub(data.TX.CommittedAt)
	text := func(row map[string]any, column string) string {
		switch v := row[column].(type) {
		case string:
			return v
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64)
		default:
			return ""
		}
	}
	switch l.delivery.Type {
	case "public.orders.inserted":
		l.what = text(data.Row, "item") + ", " + text(data.Row, "total")
	case "public.orders.updated":
		l.what = text(data.Old, "status") + " → " + text(data.Row, "status")
	case "public.orders.deleted":
		l.what = "withdrawn"
	case "public.payments.inserted":
		l.what = text(data.Row, "amount") + " by " + text(data.Row, "method") + " for order " + text(data.Row, "order_id")
	}
}
