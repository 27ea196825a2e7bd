package hooktest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/rowcall/rowcall/dispatch"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 64 << 20

// Config of a Receiver; zero values are the documented defaults.
type Config struct {
	Address    string               // to listen on; default 127.0.0.1:0
	Secrets    []string             // one of them must have signed; none: signatures are not checked
	Reply      func(Delivery) Reply // called for each delivery, at once for many; nil: 200
	DropBodies bool                 // keep neither Body, Data nor Header: for runs of millions
}

// Delivery is one request as it came in.
type Delivery struct {
	At           time.Time
	WebhookID    string
	Subscription string
	Attempt      int
	Header       http.Header
	Body         []byte

	// Batch are the events of a batch, each as a delivery of its own, with the
	// webhook-id that it has alone; nil where the body is none.
	Batch []Delivery

	// From the CloudEvent in the body, in a batch the first; empty where it is none.
	ID, Source, Type, Subject string
	Key                       string // partitionkey
	Sequence                  int64
	Data                      json.RawMessage

	Invalid error // why the signature, the method or the body is not right; nil: all well

	// Arrived and Answered number all arrivals and answers of a receiver in the
	// order in which they happened, from 1. Answered is taken before the answer
	// is sent, so what a sender did because of it has a higher number; 0: not
	// answered (yet, or never).
	Arrived, Answered int
	Status            int // of the answer; 0: none

	place int // in its batch
}

// Succeeded reports whether the delivery was answered with 2xx.
func (d Delivery) Succeeded() bool { return d.Status >= 200 && d.Status <= 299 }

// Reply is how a delivery is answered. The zero value is 200 without a body.
// A delivery whose signature is wrong is answered 401, whatever the script says.
type Reply struct {
	Status int // default 200
	Header http.Header
	Body   string
	Delay  time.Duration // before the answer
	Hang   bool          // never answer; the request ends when its sender gives up
	Close  bool          // cut the connection in place of the answer
}

// Receiver is the endpoint. Its methods are safe for concurrent use.
type Receiver struct {
	config   Config
	listener net.Listener
	server   *http.Server
	serving  sync.WaitGroup
	closing  chan struct{}

	mu         sync.Mutex
	reply      func(Delivery) Reply
	deliveries []Delivery
	ticks      int
	succeeded  int
	invalid    int
	changed    chan struct{} // closed at the next change; nil: nobody waits
}

// New starts a receiver; Close ends it.
func New(config Config) (*Receiver, error) {
	listener, err := net.Listen("tcp", cmp.Or(config.Address, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("listen for deliveries: %w", err)
	}
	r := &Receiver{config: config, listener: listener, closing: make(chan struct{}), reply: config.Reply}
	r.server = &http.Server{Handler: http.HandlerFunc(r.serve), ReadHeaderTimeout: 5 * time.Second}
	r.serving.Go(func() { _ = r.server.Serve(listener) }) // ends with ErrServerClosed at Close
	return r, nil
}

// URL is where to send to.
func (r *Receiver) URL() string { return "http://" + r.listener.Addr().String() + "/hook" }

// Close cuts every connection, lets handlers end, and stops listening. It may
// be called again.
func (r *Receiver) Close() error {
	r.mu.Lock()
	select {
	case <-r.closing:
	default:
		close(r.closing)
	}
	r.mu.Unlock()
	err := r.server.Close()
	r.serving.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Script replaces the answers from now on; nil: 200.
func (r *Receiver) Script(reply func(Delivery) Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reply = reply
}

// enter counts a handler in; false once Close has begun.
func (r *Receiver) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closing:
		return false
	default:
		r.serving.Add(1)
		return true
	}
}

func (r *Receiver) serve(w http.ResponseWriter, req *http.Request) {
	if !r.enter() {
		panic(http.ErrAbortHandler)
	}
	defer r.serving.Done()
	d := Delivery{
		At:           time.Now(),
		WebhookID:    req.Header.Get("Webhook-Id"),
		Subscription: req.Header.Get("Rowcall-Subscription"),
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		return // the sender went away; nothing was delivered
	}
	d.Attempt, _ = strconv.Atoi(req.Header.Get("Rowcall-Attempt"))
	d.Invalid = errors.Join(r.verify(req, body, d.At), d.decode(req.Header.Get("Content-Type"), body))
	if !r.config.DropBodies {
		d.Header, d.Body = req.Header, body
	} else {
		d.Data = nil
		for i := range d.Batch {
			d.Batch[i].Data = nil
		}
	}

	n, script := r.arrived(&d)
	var reply Reply
	if script != nil {
		reply = script(d)
	}
	if d.Invalid != nil {
		reply = Reply{Status: http.StatusUnauthorized, Body: d.Invalid.Error()}
	}
	if reply.Hang || reply.Delay > 0 {
		if !r.pause(req.Context(), reply) {
			panic(http.ErrAbortHandler)
		}
	}
	if reply.Close {
		r.answered(n, 0)
		panic(http.ErrAbortHandler)
	}
	status := cmp.Or(reply.Status, http.StatusOK)
	r.answered(n, status)
	for name, values := range reply.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	if reply.Body != "" {
		_, _ = io.WriteString(w, reply.Body)
	}
}

// pause holds an answer back; false: it is not to be sent any more.
func (r *Receiver) pause(ctx context.Context, reply Reply) bool {
	var after <-chan time.Time
	if !reply.Hang {
		timer := time.NewTimer(reply.Delay)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-after:
		return true
	case <-ctx.Done():
	case <-r.closing:
	}
	return false
}

func (r *Receiver) verify(req *http.Request, body []byte, now time.Time) error {
	if req.Method != http.MethodPost {
		return fmt.Errorf("method %s, want POST", req.Method)
	}
	var err error
	for _, secret := range r.config.Secrets {
		if err = dispatch.Verify(secret, req.Header, body, now); err == nil {
			return nil
		}
	}
	return err
}

// batchContent is the Content-Type of a batch.
const batchContent = "application/cloudevents-batch+json"

// cloudEvent is what is read of an event.
type cloudEvent struct {
	ID, Source, Type, Subject string
	PartitionKey              string `json:"partitionkey"`
	Sequence                  string
	Data                      json.RawMessage
}

// decode takes the attributes from a CloudEvent, or from those of a batch.
func (d *Delivery) decode(content string, body []byte) error {
	events := make([]cloudEvent, 1)
	var into any = &events[0]
	if content == batchContent {
		into = &events
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if len(events) == 0 {
		return errors.New("read body: a batch without events")
	}
	if content == batchContent {
		for i := range events {
			each := Delivery{At: d.At, WebhookID: events[i].ID, Subscription: d.Subscription, Attempt: d.Attempt}
			each.describe(&events[i])
			d.Batch = append(d.Batch, each)
		}
	}
	d.describe(&events[0])
	return nil
}

func (d *Delivery) describe(event *cloudEvent) {
	d.ID, d.Source, d.Type, d.Subject = event.ID, event.Source, event.Type, event.Subject
	d.Key, d.Data = event.PartitionKey, event.Data
	d.Sequence, _ = strconv.ParseInt(event.Sequence, 10, 64)
}

func (r *Receiver) arrived(d *Delivery) (int, func(Delivery) Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ticks++
	d.Arrived = r.ticks
	if d.Invalid != nil {
		r.invalid++
	}
	r.deliveries = append(r.deliveries, *d)
	r.wake()
	return len(r.deliveries) - 1, r.reply
}

func (r *Receiver) answered(n, status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ticks++
	d := &r.deliveries[n]
	d.Answered, d.Status = r.ticks, status
	if d.Succeeded() {
		r.succeeded++
	}
	r.wake()
}

func (r *Receiver) wake() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// Deliveries returns all requests so far, in order of arrival.
func (r *Receiver) Deliveries() []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Delivery(nil), r.deliveries...)
}

// Events returns all events so far, in order of arrival: those of a batch one by
// one, in their order, with when the batch arrived and how it was answered.
func (r *Receiver) Events() []Delivery {
	var events []Delivery
	for _, d := range r.Deliveries() {
		if d.Batch == nil {
			events = append(events, d)
			continue
		}
		for i, e := range d.Batch {
			e.Invalid, e.Arrived, e.Answered, e.Status, e.place = d.Invalid, d.Arrived, d.Answered, d.Status, i
			events = append(events, e)
		}
	}
	return events
}

// Counts are what a receiver has seen.
type Counts struct {
	Received  int // requests
	Succeeded int // answered 2xx
	Invalid   int // with a wrong signature, method or body
}

// Counts returns them.
func (r *Receiver) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Counts{Received: len(r.deliveries), Succeeded: r.succeeded, Invalid: r.invalid}
}

// Await blocks until done says so. It is asked at once and after every arrival
// and answer. The error is the cause of ctx's end, with the counts.
func (r *Receiver) Await(ctx context.Context, done func(*Receiver) bool) error {
	for {
		r.mu.Lock()
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		if done(r) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for deliveries (%+v): %w", r.Counts(), context.Cause(ctx))
		}
	}
}

// AwaitSucceeded blocks until n deliveries were answered 2xx.
func (r *Receiver) AwaitSucceeded(ctx context.Context, n int) error {
	return r.Await(ctx, func(r *Receiver) bool { return r.Counts().Succeeded >= n })
}
