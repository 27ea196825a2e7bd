package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/sync/errgroup"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/capture/postgres"
	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
	"github.com/rowcall/rowcall/web"
)

type serveCmd struct {
	serveFlags
}

// Help is shown below the summary.
func (serveCmd) Help() string {
	return `Every setting is also an environment variable (in brackets) and a key of the YAML file (in lower case, without
ROWCALL_). Flags beat the environment, the environment beats the file. Durations are Go's, plus d for days.

Secrets are not flags: set ROWCALL_SECRET_KEY (required) and ROWCALL_API_KEY (required at first start), or the same
names with _FILE to files that hold them. rowcall keygen makes both. ROWCALL_DATABASE_URL_FILE and
ROWCALL_SOURCE_URL_FILE work too.

The YAML file may also declare subscriptions, in the form that rowcall apply takes: every start makes them what it says;
and name more sources, each with name, url and tables.

SIGTERM drains: requests in flight finish, outcomes are settled, the source gets its last confirmation, exit code 0.
A second signal exits at once; nothing is lost, but what was in flight is sent again.

Example:
  rowcall keygen > rowcall.env
  echo "ROWCALL_DATABASE_URL='postgres://app:secret@db/app?sslmode=verify-full'" >> rowcall.env
  echo 'ROWCALL_EGRESS_ALLOW=private' >> rowcall.env
  set -a; . ./rowcall.env; rowcall serve`
}

// Run serves until a signal comes.
func (c *serveCmd) Run(ctx context.Context, p *program) error {
	config, err := c.parse(p.settings, p.stderr)
	if err != nil {
		return err
	}
	for _, w := range p.settings.ignored(p.environ) {
		config.logger.Warn().Str("setting", w.setting).Str("problem", w.problem).Str("remedy", w.remedy).Msg("variable of the environment is ignored")
	}
	for _, w := range p.settings.warnings {
		config.logger.Warn().Str("setting", w.setting).Str("problem", w.problem).Str("remedy", w.remedy).Msg("setting is weaker than it could be")
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	return serve(ctx, config, func(string) {})
}

// untilSignal returns a context that ends at the first SIGINT or SIGTERM; the
// second ends the process at once.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		cancel()
		<-signals // outlives stop on purpose: a teardown that hangs can still be ended
		os.Exit(exitFailed)
	}()
	return ctx, cancel
}

// serve runs rowcall until ctx ends, then drains and returns nil. It calls
// ready with the address it listens on once everything is started.
//
// A source that is down or unfit does not stop it: that is a state, which
// readyz and GET /v1/sources show. A store that is down at start is waited for
// (databaseWait); later it is survived for however long.
func serve(ctx context.Context, c config, ready func(addr string)) error {
	log := c.logger
	log.Info().Str("version", buildInfo().Version).Str("instance", c.instance).Msg("starting")

	if _, err := migrateStore(ctx, c); err != nil {
		return interrupted(ctx, err)
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildMetric())
	var tracing *sdktrace.TracerProvider
	if c.tracing {
		var err error
		if tracing, err = newTracing(ctx, c); err != nil {
			return err
		}
		defer endTracing(ctx, tracing)
	}
	s, err := store.Open(ctx, store.Config{
		URL:               c.databaseURL,
		Instance:          c.instance,
		Cipher:            c.cipher,
		Retention:         c.retention,
		LogMaxBytes:       c.logMaxBytes,
		AttemptsRetention: c.attemptsRetention,
		DeadRetention:     c.deadRetention,
		Registerer:        metrics,
		Logger:            log.With().Str("component", "store").Logger(),
	})
	if err != nil {
		return interrupted(ctx, fmt.Errorf("open store: %w", explainStore(err)))
	}
	defer s.Close()
	if err := bootstrap(ctx, s, c); err != nil {
		return interrupted(ctx, err)
	}

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer listener.Close() // closed before, unless something below fails

	guard, err := dispatch.NewGuard(dispatch.GuardConfig{
		Allow:     c.egressAllow,
		PlainHTTP: c.egressHTTP,
		Deny:      denied(ctx, log, listener.Addr(), c.databases()...),
	})
	if err != nil {
		return fmt.Errorf("make guard: %w", err)
	}
	transport := guard.Transport()
	defer transport.CloseIdleConnections()
	var captures []*postgres.Capture
	for _, src := range c.sources() {
		capture, err := postgres.New(s, postgres.Config{
			Name:          src.name,
			URL:           src.url,
			Tables:        src.tables,
			MaxValueBytes: c.maxValueBytes,
			Registerer:    metrics,
			Tracer:        tracer(tracing),
			Logger:        log.With().Str("component", "capture").Logger(),
		})
		if err != nil {
			return fmt.Errorf("make capture of %s: %w", src.name, err)
		}
		captures = append(captures, capture)
	}
	dispatcher, err := dispatch.New(s, dispatch.Config{
		Transport:  transport,
		Version:    buildInfo().Version,
		Attempts:   c.attempts,
		Registerer: metrics,
		Tracer:     tracer(tracing),
		Logger:     log.With().Str("component", "dispatch").Logger(),
	})
	if err != nil {
		return fmt.Errorf("make dispatcher: %w", err)
	}
	server, err := api.New(s, api.Config{
		URLs:     guard,
		Registry: metrics,
		Tracer:   tracer(tracing),
		Version:  buildInfo().Version,
		Rate:     c.apiRate,
		Test:     tester(dispatcher),
		Draining: ctx.Done(),
		Draft:    draft,
		Ready:    serving(ctx),

		FailuresAlone: c.attempts == "failures",
		Rules:         c.oidc.rules(),

		Logger: log.With().Str("component", "api").Logger(),
	})
	if err != nil {
		return fmt.Errorf("make api: %w", err)
	}
	if err := declare(ctx, server, c.declared, log); err != nil {
		return interrupted(ctx, err)
	}
	console, err := web.New(web.Config{
		API:       server.Handler(),
		PublicURL: c.publicURL,
		Listen:    c.listen,
		TLS:       c.tls != nil,
		Provider:  newSignIn(c.oidc, transport, server, log.With().Str("component", "console").Logger()),
		Version:   buildInfo().Version,
		Logger:    log.With().Str("component", "console").Logger(),
	})
	if err != nil {
		return fmt.Errorf("make console: %w", err)
	}

	// The store outlives the others: they settle and confirm through it.
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStore()
	storeDone := make(chan struct{})
	var storeErr error
	go func() {
		defer close(storeDone)
		storeErr = part(storeCtx, "store", s.Run)
	}()

	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		select {
		case <-running.Done():
			return nil
		case <-storeDone:
			return storeErr
		}
	})
	for _, capture := range captures {
		group.Go(func() error { return part(running, "capture", capture.Run) })
	}
	group.Go(func() error { return part(running, "dispatch", dispatcher.Run) })
	group.Go(func() error {
		return part(running, "api", listening(api.NewServer(c.listen, apiOrConsole(server.Handler(), console.Handler())), api.LimitConnections(listener, apiConnections), c))
	})
	log.Info().Str("listen", listener.Addr().String()).Msg("serving")
	ready(listener.Addr().String())

	<-running.Done()
	log.Info().Msg("draining")
	err = group.Wait()
	stopStore()
	<-storeDone
	release(ctx, s, log)
	log.Info().Msg("stopped")
	return err
}

var noAPIKey = fault{envName("api_key"), "is not set, and this is the first start", "make one with rowcall keygen: it is the first key of the API"}

// bootstrap makes the configured key the bootstrap admin key.
func bootstrap(ctx context.Context, s *store.Store, c config) error {
	if c.apiKey.IsZero() {
		has, err := s.HasBootstrapKey(ctx)
		if err == nil && !has {
			return faultsError{noAPIKey}
		}
		return wrap("read bootstrap key", err)
	}
	hash, err := api.HashKey(c.apiKey.Reveal())
	if err != nil {
		return fmt.Errorf("read ROWCALL_API_KEY: %w", err)
	}
	return wrap("save bootstrap key", s.SetBootstrapKey(ctx, hash))
}

// serving is ready until ctx ends: from then on rowcall drains.
func serving(ctx context.Context) func(context.Context) error {
	return func(context.Context) error {
		if ctx.Err() != nil {
			return errors.New("draining")
		}
		return nil
	}
}

func wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// part runs one part of the service. Ending before it is told to is a fault.
func part(ctx context.Context, name string, run func(context.Context) error) error {
	err := run(ctx)
	switch {
	case ctx.Err() == nil && err == nil:
		err = errors.New("ended by itself")
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = nil
	}
	return wrap("run "+name, err)
}

// interrupted turns an error into nil where the context's end caused it.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// release gives the lease up, so that the next owner need not wait for it to
// run out. A store that is down takes that from it: the lease runs out then.
func release(ctx context.Context, s *store.Store, log zerolog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := s.ReleaseLease(ctx); err != nil {
		log.Warn().Err(err).Msg("lease not released: it runs out by itself")
	}
}

// draft shows the request of an attempt by the code that makes what is sent.
func draft(sub *subscriptions.Subscription, e *store.Event, replay store.JobID, at time.Time, attempt int) (api.Draft, error) {
	d, err := dispatch.NewDraft(sub, e, replay, at, attempt, buildInfo().Version)
	return api.Draft(d), err
}
