package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// URLChecker says whether an endpoint's URL may be called at all. Its error is
// shown to the caller: it names the remedy and does not repeat the URL.
type URLChecker interface {
	CheckURL(raw string) error
}

// Config is what New needs beside the store. URLs is required; the zero value of
// every other member is its documented default.
type Config struct {
	URLs          URLChecker
	Registry      *prometheus.Registry            // what /metrics shows; default: an own one with nothing but the API's metrics
	Version       string                          // stands in the OpenAPI document; default "dev"
	Rate          float64                         // requests a second of one key, and twice as many at once; 0: no limit
	Test          TestSender                      // sends test events; default: none are sent
	Draining      <-chan struct{}                 // closed when the service begins to stop: streams end; default never
	Draft         Drafter                         // makes what GET /v1/deliveries/{id}/request shows; default: an error
	Ready         func(ctx context.Context) error // a further condition of /readyz, such as not draining; its text is shown
	HeartbeatAge  time.Duration                   // a source whose heartbeat came back longer ago is not ready; default 45s
	FailuresAlone bool                            // only tries that failed are in the history: how many were delivered, it does not say
	StartingAge   time.Duration                   // a source may be starting for this long and count as ready; default 60s
	MetricsAge    time.Duration                   // rows are read for /metrics at most once in this time; default 5s
	Rules         string                          // by which people who sign in elsewhere are given what they may do: sessions by others do not count
	Subscriptions int                             // subscriptions with labels of their own in /metrics, the rest are summed; default 200
	Tracer        trace.Tracer                    // nil: publishing is not traced
	Logger        zerolog.Logger
}

func (c Config) validate() error {
	var errs []error
	if c.URLs == nil {
		errs = append(errs, errors.New("URLs: required"))
	}
	if c.HeartbeatAge < 0 {
		errs = append(errs, errors.New("HeartbeatAge: below zero"))
	}
	if c.StartingAge < 0 {
		errs = append(errs, errors.New("StartingAge: below zero"))
	}
	if c.MetricsAge < 0 {
		errs = append(errs, errors.New("MetricsAge: below zero"))
	}
	if c.Rate < 0 {
		errs = append(errs, errors.New("Rate: below zero"))
	}
	if c.Subscriptions < 0 {
		errs = append(errs, errors.New("Subscriptions: below zero"))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	or := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	or(&c.HeartbeatAge, 45*time.Second)
	or(&c.StartingAge, 60*time.Second)
	or(&c.MetricsAge, 5*time.Second)
	if c.Subscriptions == 0 {
		c.Subscriptions = 200
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.Draft == nil {
		c.Draft = func(*subscriptions.Subscription, *store.Event, store.JobID, time.Time, int) (Draft, error) {
			return Draft{}, errors.New("this server sends nothing")
		}
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	return c
}

// API serves the HTTP interface over a store. It is safe for concurrent use and
// runs no goroutine of its own.
type API struct {
	config Config
	store  *store.Store
	log    zerolog.Logger
	router *chi.Mux
	huma   huma.API
	auth   *authenticator
	ready  *readiness
	tails  tails
	rates  *buckets // nil: no limit
	tests  *buckets
	bursts *burstRows
	spec   []byte

	programs *subscriptions.Programs // compiled expressions
}

// New makes the API and registers its metrics with config.Registry. Its error
// names every member of config that is wrong.
func New(st *store.Store, config Config) (*API, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("configure api: %w", err)
	}
	config = config.withDefaults()
	a := &API{
		config: config,
		store:  st,
		log:    config.Logger,
		router: chi.NewMux(),
		auth:   newAuthenticator(st),
		tests:  newBuckets(10.0/60, 10),
		bursts: newBurstRows(),

		programs: subscriptions.NewPrograms(),
	}
	a.auth.onBurst, a.auth.rules = a.recordBurst, config.Rules
	a.ready = newReadiness(st, config)
	if config.Rate > 0 {
		a.rates = newBuckets(config.Rate, max(1, int(2*config.Rate)))
	}
	a.router.Use(a.recoverPanics, setHeaders, refuseBadPaths, a.answerHead)
	a.router.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, newProblem(problemNotFound, "there is no such route"))
	})
	a.router.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		allowed := strings.Join(a.methods(r.URL.Path), ", ")
		writeProblem(w, newProblem(problemMethod, "the route takes "+allowed).with("Allow", allowed))
	})
	a.huma = humachi.New(a.router, humaConfig(config.Version))
	a.registerSubscriptions()
	a.registerEvents()
	a.registerPublish()
	a.registerDeliveries()
	a.registerJobs()
	a.registerReplays()
	a.registerDeadRanges()
	a.registerLog()
	a.registerAttempts()
	a.registerSources()
	a.registerAPIKeys()
	a.registerAudit()
	a.registerSessions()
	a.registerGroups()
	a.registerBoard()
	a.registerTail()
	a.registerDraft()
	spec, err := a.finishDocument()
	if err != nil {
		return nil, fmt.Errorf("write OpenAPI document: %w", err)
	}
	a.spec = spec
	if err := a.registerPublic(); err != nil {
		return nil, err
	}
	return a, nil
}

// Handler is the API as an http.Handler, fit for a listener and for calls in
// process.
func (a *API) Handler() http.Handler { return a.router }

// Document is the OpenAPI document, as GET /v1/openapi.json answers it.
func (a *API) Document() []byte { return a.spec }

// humaConfig leaves out of huma's defaults what an API must not do: links made
// of the Host header (CreateHooks), a documentation page that loads scripts of
// others (DocsPath), and errors that repeat what was sent (the transformer).
func humaConfig(version string) huma.Config {
	config := huma.DefaultConfig("rowcall", version)
	config.CreateHooks = nil
	config.DocsPath = ""
	config.SchemasPath = ""
	config.OpenAPIPath = ""
	config.RejectUnknownQueryParameters = true
	config.Transformers = []huma.Transformer{func(_ huma.Context, _ string, v any) (any, error) {
		if m, ok := v.(*huma.ErrorModel); ok {
			return problemOfHuma(m), nil
		}
		return v, nil
	}}
	format := huma.Format{Marshal: marshal, Unmarshal: json.Unmarshal}
	config.Formats = map[string]huma.Format{"application/json": format, "json": format}
	registerAliases(config.Components.Schemas)
	return config
}

// appender is an answer that writes its own JSON, for members that must leave
// byte for byte as they are stored.
type appender interface {
	appendJSON(dst []byte) ([]byte, error)
}

// marshal writes v as JSON. What cannot be sent to a client that has gone is
// nobody's error.
func marshal(w io.Writer, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	_, _ = w.Write(body)
	return nil
}

func encode(v any) ([]byte, error) {
	if a, ok := v.(appender); ok {
		body, err := a.appendJSON(nil)
		return append(body, '\n'), err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the answer is read as JSON alone (nosniff), and by people
	err := e.Encode(v)
	return b.Bytes(), err
}
