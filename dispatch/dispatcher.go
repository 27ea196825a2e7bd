package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Config is what New needs; zero values are the documented defaults.
type Config struct {
	Transport   http.RoundTripper     // Guard.Transport
	Version     string                // for User-Agent
	MaxInFlight int                   // attempts at once, of all lanes; default by RLIMIT_NOFILE
	Attempts    string                // all (default) or failures: which attempts go into history
	Drain       time.Duration         // how long attempts in flight may take to end when Run ends; default 20s
	Registerer  prometheus.Registerer // nil: no metrics
	Tracer      trace.Tracer          // nil: attempts are not traced
	Logger      zerolog.Logger

	limits limits // of the tests alone
}

// limits are sizes that tests make small.
type limits struct {
	blocked int32 // maxBlocked
	walk    int   // walkEvents
	rows    int   // maxRows
}

func (c *Config) validate() error {
	var errs []error
	if c.Transport == nil {
		errs = append(errs, errors.New("transport: required"))
	}
	if c.MaxInFlight < 0 {
		errs = append(errs, errors.New("max_in_flight: must not be negative"))
	}
	if c.Attempts != "" && c.Attempts != "all" && c.Attempts != "failures" {
		errs = append(errs, fmt.Errorf("attempts: %q is neither all nor failures", c.Attempts))
	}
	return errors.Join(errs...)
}

// What dispatch needs of the store, by what it is for. *store.Store is all of it.
type (
	logReader interface {
		Read(ctx context.Context, from store.Offset, limit int, maxBytes int64) ([]store.Event, error)
		ReadRange(ctx context.Context, from, past store.Offset, limit int, maxBytes int64) (events []store.Event, next store.Offset, err error)
		Wait(ctx context.Context, past store.Offset) error
		Event(ctx context.Context, at store.Offset) (*store.Event, error)
		Head() store.Offset
		OpenGaps(ctx context.Context) ([]store.Offset, error)
		tableTypes
	}
	outcomeKeeper interface {
		Settle(ctx context.Context, set store.Settlement) (fenced []store.LaneID, faulty map[store.LaneID]error, err error)
		SaveAttempts(ctx context.Context, as []store.Attempt) error
	}
	laneKeeper interface {
		ClaimLanes(ctx context.Context, have map[store.LaneID]int64) (lanes []store.Lane, owned []store.LaneID, err error)
		LaneDeliveries(ctx context.Context, lane store.LaneID, withDead bool) ([]store.Delivery, error)
		DeliveriesAt(ctx context.Context, lane store.LaneID, at []store.Offset) (map[store.Offset]store.Delivery, error)
		Intents(ctx context.Context, past int64, limit int) ([]store.Intent, error)
		Changes() (changes <-chan store.Topic, stop func())
		FailJob(ctx context.Context, id store.JobID, reason string) error
		ReturnDeadRange(ctx context.Context, lane store.LaneID, epoch int64) error
	}
	subscriptionKeeper interface {
		Subscription(ctx context.Context, id subscriptions.ID) (subscriptions.Subscription, error)
		UpdateSubscription(ctx context.Context, sub *subscriptions.Subscription, version int64) error
	}
	holdKeeper interface {
		Holdings(ctx context.Context) ([]store.Holding, error)
		LoggedBefore(ctx context.Context, age time.Duration) (store.Offset, error)
		CountHeld(ctx context.Context, patterns []string, from, past store.Offset) (store.LogCount, error)
		LastBytes(ctx context.Context, patterns []string, from store.Offset, bytes int64) (store.Offset, error)
		Announce(ctx context.Context, notices []store.Notice) error
		EndHold(ctx context.Context, h store.HoldEnd) (store.HoldEnded, error)
	}
	leaseHolder interface {
		Lease(ctx context.Context) (store.Lease, error)
		LeaseDeadline() time.Time
	}
	keeper interface {
		logReader
		outcomeKeeper
		laneKeeper
		subscriptionKeeper
		holdKeeper
		leaseHolder
	}
)

// Dispatcher runs the lanes that this instance owns.
type Dispatcher struct {
	store   keeper
	config  Config
	sender  *Sender
	metrics *metrics
	rates   *rates

	programs *subscriptions.Programs // compiled expressions
}

// New makes a dispatcher over the store.
func New(s *store.Store, config Config) (*Dispatcher, error) { return newDispatcher(s, config) }

func newDispatcher(s keeper, config Config) (*Dispatcher, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("configure dispatch: %w", err)
	}
	if config.MaxInFlight == 0 {
		config.MaxInFlight = defaultInFlight()
	}
	if config.Drain == 0 {
		config.Drain = 20 * time.Second
	}
	sender := NewSender(config.Transport, config.Version)
	sender.tracer = config.Tracer
	return &Dispatcher{
		store: s, config: config,
		sender:  sender,
		metrics: newMetrics(config.Registerer),
		rates:   newRates(),

		programs: subscriptions.NewPrograms(),
	}, nil
}

// Run delivers until ctx ends; then it stops starting attempts, lets those in
// flight end (each within its own timeout, all within Config.Drain), settles,
// and returns nil, also where the store is down by then: what it could not settle
// the next life sends again. When the lease is lost it starts anew under the next
// one.
func (d *Dispatcher) Run(ctx context.Context) error {
	for {
		lease, err := d.store.Lease(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for the lease: %w", err)
		}
		s := newSession(d, lease)
		err = s.run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, store.ErrFenced) {
			return err
		}
		d.config.Logger.Warn().Err(err).Msg("the lease was lost, claiming lanes anew")
	}
}
