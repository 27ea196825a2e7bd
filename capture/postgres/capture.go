// Package postgres captures the row writes of a PostgreSQL database by logical
// replication (pgoutput) and appends them to the log.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/rowcall/rowcall/store"
)

// Config is what New needs; zero values are the documented defaults.
type Config struct {
	Name          string        // of the source, ^[a-z0-9_]{1,55}$; slot and publication are rowcall_<name>
	URL           string        // of the database to capture
	Tables        []string      // SQL identifiers: schema.table or schema.*; default public.*
	Heartbeat     time.Duration // 100ms to 1m; default 10s. New tables are looked for as often, at least every 10s
	MaxValueBytes int64         // columns beyond it are left out; default 16 MiB
	Registerer    prometheus.Registerer
	Tracer        trace.Tracer // nil: transactions are not traced
	Logger        zerolog.Logger
}

const (
	defaultHeartbeat = 10 * time.Second
	// lookAgain is how often a refused source is tried.
	lookAgain = time.Minute
	// firstRetry and lastRetry bound the back-off between tries.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// The slot is rowcall_<name>, and a slot's name has at most 63 characters.
var validName = regexp.MustCompile(`^[a-z0-9_]{1,55}$`)

// validate fills in defaults and reports all faults at once.
func (c Config) validate() (Config, []tablePattern, error) {
	var faults []error
	if !validName.MatchString(c.Name) {
		faults = append(faults, fmt.Errorf("name %q: want 1 to 55 of a-z, 0-9 and _", c.Name))
	}
	if c.URL == "" {
		faults = append(faults, errors.New("url: missing"))
	}
	if len(c.Tables) == 0 {
		c.Tables = []string{"public.*"}
	}
	var patterns []tablePattern
	for _, text := range c.Tables {
		p, err := parsePattern(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("tables: %w", err))
		}
		patterns = append(patterns, p)
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = defaultHeartbeat
	}
	if c.Heartbeat < 100*time.Millisecond || c.Heartbeat > time.Minute {
		faults = append(faults, fmt.Errorf("heartbeat %s: want 100ms to 1m", c.Heartbeat))
	}
	if c.MaxValueBytes == 0 {
		c.MaxValueBytes = defaultMaxValueBytes
	}
	if c.MaxValueBytes < 0 {
		faults = append(faults, fmt.Errorf("max value bytes %d: want more than 0", c.MaxValueBytes))
	}
	if err := errors.Join(faults...); err != nil {
		return c, nil, fmt.Errorf("configure source: %w", err)
	}
	return c, patterns, nil
}

// appender is what streaming asks of the store.
type appender interface {
	Append(ctx context.Context, claim store.SourceClaim, b *store.Batch) (store.Offset, error)
}

// registry is what the store keeps of a source.
type registry interface {
	SetSourceState(ctx context.Context, c store.SourceClaim, state store.SourceState, reason, hint string) error
	SetSourceIdentity(ctx context.Context, c store.SourceClaim, src store.Source) error
	SetSourceProgress(ctx context.Context, c store.SourceClaim, p store.SourceProgress) error
	SetRelations(ctx context.Context, c store.SourceClaim, rs []store.Relation) error
	RelationVersion(ctx context.Context, source store.SourceID, r store.Relation) (store.RelationVersion, error)
	RecordGap(ctx context.Context, c store.SourceClaim, g store.Gap, next store.Checkpoint) error
}

// ownership is how an instance comes to capture a source.
type ownership interface {
	Lease(ctx context.Context) (store.Lease, error)
	ClaimSource(ctx context.Context, name string) (store.SourceClaim, store.Source, error)
	Source(ctx context.Context, name string) (store.Source, error)
	Changes() (changes <-chan store.Topic, stop func())
}

// Capture follows one source: every committed change of a captured table
// becomes one row of the log, in commit order; what is confirmed to the source
// is durable in the log; what may have been lost is recorded as a gap.
//
// At any time one instance captures a source: the one whose claim the store
// holds valid.
type Capture struct {
	config   Config
	patterns []tablePattern
	log      zerolog.Logger
	metrics  *metrics

	appender  appender
	registry  registry
	ownership ownership

	// What follows belongs to the goroutine of Run.
	claim     store.SourceClaim
	shown     shownState
	damage    publicationFacts // what ended the last session, if it was that
	evictedAt time.Time        // when a former connection of ours was last ended
	elsewhere bool             // another instance captures, and we have said so
	troubled  time.Time        // since when it does not stream; zero: it does
}

// New checks the configuration; it does not connect.
func New(s *store.Store, config Config) (*Capture, error) {
	config, patterns, err := config.validate()
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(config.Registerer, config.Name)
	if err != nil {
		return nil, err
	}
	return &Capture{
		config:    config,
		patterns:  patterns,
		log:       config.Logger.With().Str("source", config.Name).Logger(),
		metrics:   metrics,
		appender:  s,
		registry:  s,
		ownership: s,
	}, nil
}

// streamedError marks the end of a session that had streamed: the next try is
// not a further one of the same streak.
type streamedError struct{ err error }

func (e *streamedError) Error() string { return e.err.Error() }
func (e *streamedError) Unwrap() error { return e.err }

// Run captures until ctx ends, and returns nil then. A source that is down is
// tried again for ever; a source that must not be captured is refused, which is
// a state with a reason and a remedy, looked at again every minute.
func (c *Capture) Run(ctx context.Context) error {
	retry := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstRetry),
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(lastRetry),
		backoff.WithMaxElapsedTime(0),
	)
	for {
		err := c.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if _, ok := errors.AsType[*streamedError](err); ok {
			retry.Reset()
		}
		wait := retry.NextBackOff()
		switch r := classify(err); {
		case errors.Is(err, store.ErrConflict):
			if !c.elsewhere {
				c.log.Info().Msg("source is captured by another instance")
			}
			c.elsewhere = true
			c.metrics.leave()
			wait = min(wait, time.Second)
		case r != nil:
			c.refused(ctx, r)
			wait = lookAgain
			retry.Reset()
		default:
			c.interrupted(ctx, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// refused says that a person must act, once for each reason.
func (c *Capture) refused(ctx context.Context, r *refusal) {
	if c.shown.state != store.SourceRefused || c.shown.reason != r.reason {
		c.log.Error().Str("reason", r.reason).Str("hint", r.hint).Msg("source refused")
	}
	c.troubled = firstNonZero(c.troubled, time.Now())
	c.show(ctx, store.SourceRefused, r.reason, r.hint)
}

// interrupted says that the source is tried again, once a streak.
func (c *Capture) interrupted(ctx context.Context, err error) {
	reason := explain(err)
	if c.troubled.IsZero() {
		c.troubled = time.Now()
		c.log.Warn().Str("reason", reason).Msg("source interrupted")
	} else {
		c.log.Debug().Str("reason", reason).Msg("source still interrupted")
	}
	if errors.Is(err, store.ErrFenced) {
		return // its state is another's to say
	}
	hint := ""
	if sqlState(err) == stateTooManyClients {
		hint = "raise max_connections or max_wal_senders on the source, or end connections that nobody uses"
	}
	c.show(ctx, store.SourceWaiting, reason, hint)
}

func firstNonZero(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

// shownState is what the store was last told, so that it is told only news.
type shownState struct {
	state        store.SourceState
	reason, hint string
	epoch        int64
}

// show saves a state where it is not the one saved already. That it cannot be
// saved while the store is down changes nothing: it is said again with the next.
func (c *Capture) show(ctx context.Context, state store.SourceState, reason, hint string) {
	c.metrics.enter(state)
	next := shownState{state, reason, hint, c.claim.Epoch}
	if c.shown == next || c.claim.ID == 0 {
		c.shown = next
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := c.registry.SetSourceState(ctx, c.claim, state, reason, hint); err != nil {
		c.log.Debug().Err(err).Str("state", string(state)).Msg("source state not saved")
		next = shownState{}
	}
	c.shown = next
}
