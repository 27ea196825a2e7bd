package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const (
	oidcPause = 5 * time.Second // after a failed discovery, before the next
	oidcFresh = time.Hour       // how long what the issuer says of itself counts
)

// asking carries what one sign-in asks the provider, and remembers how the last
// request failed: of that, the libraries pass on a text at best.
type asking struct {
	http.RoundTripper

	mu     sync.Mutex
	failed error
}

// silentError says that the provider gave no answer, or none that it means to give.
type silentError struct{ error }

func (e *silentError) Unwrap() error { return e.error }

// RoundTrip implements http.RoundTripper.
func (a *asking) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(req)
	if err != nil {
		a.note(&silentError{err})
		return nil, err
	}
	switch code := resp.StatusCode; {
	case code >= 500 || code == http.StatusTooManyRequests:
		a.note(&silentError{errors.New(resp.Status)})
	case code < 200 || code > 299:
		a.note(errors.New(resp.Status))
	default:
		a.note(nil)
	}
	resp.Body = askedBody{resp.Body, a}
	return resp, nil
}

// askedBody notes where an answer ends too early, or is too large.
type askedBody struct {
	io.ReadCloser
	of *asking
}

func (b askedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		b.of.note(err)
	} else if err != nil && !errors.Is(err, io.EOF) {
		b.of.note(&silentError{err})
	}
	return n, err
}

func (a *asking) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed = err
}

// why is how the last request failed; nil: it did not.
func (a *asking) why() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}

// causedError is an error with what it does not say of its cause.
type causedError struct {
	error
	cause error
}

func (e *causedError) Unwrap() []error { return []error{e.error, e.cause} }

// because adds how the last request failed.
func (a *asking) because(err error) error {
	if cause := a.why(); err != nil && cause != nil {
		return &causedError{err, cause}
	}
	return err
}

// ask makes what carries the requests of a context.
func (s *signIn) ask(ctx context.Context) (context.Context, *asking) {
	client := *s.client
	a := &asking{RoundTripper: client.Transport}
	client.Transport = a
	return oidc.ClientContext(ctx, &client), a
}

// discovered is what the issuer says of itself.
type discovered struct {
	*oidc.Provider
	oauth       atomic.Pointer[oauth2.Config] // with how the token endpoint wants the client's secret
	either      bool                          // that may be the other way: the provider knows both, or does not say
	namesIssuer bool                          // in every answer (RFC 9207)
	endSession  *url.URL                      // where people sign out of it; nil: it says none that a browser can open
	at          time.Time
}

// exchange redeems a code. It is sent once, but where the provider does not know
// rowcall by the way that its secret came: then the code is not spent, and goes the
// other way, as all after it do.
func (p *discovered) exchange(ctx context.Context, code string, options ...oauth2.AuthCodeOption) (*oauth2.Token, error) {
	oauth := p.oauth.Load()
	tokens, err := oauth.Exchange(ctx, code, options...)
	if !p.either || oauth.Endpoint.AuthStyle == oauth2.AuthStyleInParams || !clientRefused(err) {
		return tokens, err
	}
	other := *oauth
	other.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	if tokens, err = other.Exchange(ctx, code, options...); !clientRefused(err) {
		p.oauth.Store(&other)
	}
	return tokens, err
}

// clientRefused reports whether the token endpoint does not know rowcall.
func clientRefused(err error) bool {
	e, ok := errors.AsType[*oauth2.RetrieveError](err)
	return ok && (e.ErrorCode == "invalid_client" || e.ErrorCode == "" && e.Response.StatusCode == http.StatusUnauthorized)
}

// repeatedError is a failure that was told before.
type repeatedError struct{ error }

func (e *repeatedError) Unwrap() error { return e.error }

// discover returns what the issuer says of itself, asking it where that is not
// known, or was long ago. What it said before counts until it says something else.
func (s *signIn) discover(ctx context.Context) (*discovered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.provider != nil && time.Since(s.provider.at) < oidcFresh {
		return s.provider, nil
	}
	var err error
	if s.failed != nil && time.Since(s.failedAt) < oidcPause {
		err = &repeatedError{s.failed}
	} else if p, failed := s.readMetadata(ctx); failed == nil {
		s.provider, s.failed = p, nil
	} else {
		s.failed, s.failedAt, err = failed, time.Now(), failed
	}
	if s.provider != nil {
		return s.provider, nil
	}
	return nil, err
}

// readMetadata asks the issuer. It goes on where the visitor has gone: the answer is for all.
func (s *signIn) readMetadata(ctx context.Context) (*discovered, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), oidcTimeout)
	defer cancel()
	ctx, a := s.ask(ctx)
	p, err := oidc.NewProvider(ctx, s.config.issuer)
	var meta struct {
		NamesIssuer bool     `json:"authorization_response_iss_parameter_supported"`
		Methods     []string `json:"token_endpoint_auth_methods_supported"`
		EndSession  string   `json:"end_session_endpoint"`
	}
	if err == nil {
		err = p.Claims(&meta)
	}
	if err != nil {
		return nil, a.because(fmt.Errorf("read metadata of %s: %w", s.config.issuer, err))
	}
	oauth := &oauth2.Config{ClientID: s.config.clientID, ClientSecret: s.config.clientSecret.Reveal(), Endpoint: p.Endpoint(), Scopes: s.config.scopes}
	// Basic is what a client is registered with where nobody chose, and what a provider
	// that does not say takes (OpenID Connect Discovery 1.0).
	basic, post := slices.Contains(meta.Methods, "client_secret_basic"), slices.Contains(meta.Methods, "client_secret_post")
	oauth.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if oauth.ClientSecret == "" || post && !basic {
		oauth.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	d := &discovered{Provider: p, either: basic == post, namesIssuer: meta.NamesIssuer, at: time.Now()}
	d.oauth.Store(oauth)
	if u, err := url.Parse(meta.EndSession); err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") {
		d.endSession = u
	}
	return d, nil
}
