package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rs/zerolog"
)

// Config is what New needs. API and PublicURL or Listen are required.
type Config struct {
	API       http.Handler // the whole API, called in process
	PublicURL string       // the address people open it at; empty: made of Listen and TLS
	Listen    string       // host:port that the server listens on
	TLS       bool         // whether that server speaks TLS
	Provider  Provider     // signs people in without a key; nil: nobody
	Version   string       // shown in the frame
	Logger    zerolog.Logger
}

// Console serves the pages. It is safe for concurrent use and runs no goroutine
// of its own. What it remembers of a visitor is in the cookie and behind the API.
type Console struct {
	config  Config
	hosts   hosts
	pages   *pages
	assets  *assets
	counts  counts
	handler http.Handler
	log     zerolog.Logger
}

// New makes the console.
func New(config Config) (*Console, error) {
	if config.API == nil {
		return nil, errors.New("configure console: API: required")
	}
	c := &Console{config: config, log: config.Logger}
	var err error
	if c.hosts, err = newHosts(config); err != nil {
		return nil, fmt.Errorf("configure console: %w", err)
	}
	if c.assets, err = newAssets(); err != nil {
		return nil, err
	}
	if c.pages, err = newPages(c.assets); err != nil {
		return nil, err
	}
	c.handler, err = c.protect(c.routes())
	if err != nil {
		return nil, fmt.Errorf("configure console: %w", err)
	}
	return c, nil
}

// Handler is the console as an http.Handler, for every path that is not the
// API's.
func (c *Console) Handler() http.Handler { return c.handler }

func (c *Console) routes() http.Handler {
	r := chi.NewMux()
	r.NotFound(c.open(notFound))
	r.MethodNotAllowed(c.open(notFound))
	r.Get("/assets/{name}", c.assets.serve)
	r.Get("/sign-in", c.showSignIn)
	r.Post("/sign-in", c.signIn)
	r.Post("/sign-out", c.signOut)
	if c.config.Provider != nil {
		r.Get("/sign-in/oidc", c.startSignIn)
		r.Get(callbackPath, c.finishSignIn)
		r.Get(signedOutPath, c.showSignedOut)
	}

	r.Get("/", c.open(overview))

	r.Get("/subscriptions", c.open(board))
	r.Get("/subscriptions/new", c.open(needs("write", newSubscription)))
	r.Post("/subscriptions/new", c.open(createSubscription))
	r.Post("/subscriptions/try", c.open(trySubscription))
	r.Get("/subscriptions/{id}", c.open(showSubscription))
	r.Get("/subscriptions/{id}/edit", c.open(needs("write", editSubscription)))
	r.Post("/subscriptions/{id}/edit", c.open(saveSubscription))
	r.Get("/subscriptions/{id}/{action}", c.open(confirmSubscription))
	r.Post("/subscriptions/{id}/{action}", c.open(actSubscription))

	r.Get("/failed", c.open(failed))
	r.Get("/failed/deliveries", c.open(failedDeliveries))
	r.Post("/failed/deliveries", c.open(actOnSelected))
	r.Get("/failed/export", c.openFor(exportTime, exportDeliveries))
	r.Get("/dead-ranges/{id}/discard", c.open(needs("deliver", confirmRange)))
	r.Post("/dead-ranges/{id}/discard", c.open(discardRange))
	r.Get("/failed/retry", c.open(needs("deliver", confirmBulk("retry"))))
	r.Post("/failed/retry", c.open(actBulk("retry")))
	r.Get("/failed/discard", c.open(needs("deliver", confirmBulk("discard"))))
	r.Post("/failed/discard", c.open(actBulk("discard")))
	r.Get("/jobs", c.open(jobs))
	r.Get("/jobs/{id}", c.open(showJob))
	r.Get("/jobs/{id}/{action}", c.open(needs("deliver", confirmJob)))
	r.Post("/jobs/{id}/{action}", c.open(actJob))
	r.Get("/deliveries/{id}", c.open(showDelivery))
	r.Get("/deliveries/{id}/{action}", c.open(needs("deliver", confirmDelivery)))
	r.Post("/deliveries/{id}/{action}", c.open(actDelivery))

	r.Get("/replays", c.open(replays))
	r.Get("/replays/new", c.open(needs("deliver", newReplay)))
	r.Post("/replays/new", c.open(createReplay))
	r.Get("/replays/{id}", c.open(showReplay))
	r.Get("/replays/{id}/{action}", c.open(needs("deliver", confirmReplay)))
	r.Post("/replays/{id}/{action}", c.open(actReplay))

	r.Get("/events", c.open(events))
	r.Get("/tail", c.tail)
	r.Get("/events/{id}", c.open(showEvent))
	r.Get("/attempts", c.open(attempts))
	r.Get("/sources", c.open(sources))
	r.Get("/sources/{name}", c.open(showSource))
	r.Get("/sources/{name}/accept-gap", c.open(needs("admin", confirmGap)))
	r.Post("/sources/{name}/accept-gap", c.open(acceptGap))

	r.Get("/keys", c.open(keys))
	r.Get("/keys/new", c.open(needs("admin", newKey)))
	r.Post("/keys/new", c.open(createKey))
	r.Get("/keys/{id}/revoke", c.open(confirmRevoke))
	r.Post("/keys/{id}/revoke", c.open(revokeKey))
	r.Get("/audit", c.open(audit))
	return r
}

// maxForm bounds a form's body, in bytes: the API's own bound, and room for
// what escaping adds.
const maxForm = 4 << 20

// protect is what every answer has and every request must have: a known host,
// a page of ours as the origin of whatever changes things, a policy that runs
// nothing but our own files.
func (c *Console) protect(next http.Handler) (http.Handler, error) {
	origin := http.NewCrossOriginProtection()
	if c.config.PublicURL != "" {
		u, err := url.Parse(c.config.PublicURL)
		if err != nil {
			return nil, errors.New("PublicURL: not an address")
		}
		if err := origin.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			return nil, errors.New("PublicURL: want scheme and host alone")
		}
	}
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.plainProblem(w, r, http.StatusForbidden, "Refused: the request came from another site.", "Nothing was changed. Go to the page itself and do it there.")
	}))
	guarded := origin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if _, ok := c.hosts.find(r.Host); !ok {
			c.plainProblem(w, r, http.StatusMisdirectedRequest, "The console is not opened under this name.",
				"Set ROWCALL_PUBLIC_URL to the address people open it at, such as https://rowcall.example.com, or use http://localhost.")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		guarded.ServeHTTP(w, r)
	}), nil
}

// visitTimeout bounds the work for one page.
const visitTimeout = 20 * time.Second
