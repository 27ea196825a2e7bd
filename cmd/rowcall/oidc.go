package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/rs/zerolog"
	"golang.org/x/oauth2"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/web"
)

const (
	oidcTimeout = 10 * time.Second // of everything that one sign-in asks the provider
	oidcPause   = 5 * time.Second  // after a failed discovery, before the next
	oidcAtOnce  = 8                // sign-ins that ask the provider at once
)

// people is what a sign-in needs of the API.
type people interface {
	SignIn(ctx context.Context, p api.Person, remote netip.Addr) (token string, expires time.Time, err error)
	FailedSignIn(ctx context.Context, remote netip.Addr) time.Duration
}

// signIn signs people in by OpenID Connect: authorization code with PKCE. It
// trusts one issuer, whose metadata it reads when the first person comes, so that
// a provider that is down stops nobody but those who sign in by it. It implements
// web.Provider and is safe for concurrent use.
type signIn struct {
	config oidcConfig
	client *http.Client
	people people
	log    zerolog.Logger
	slots  chan struct{}

	mu       sync.Mutex
	provider *discovered
	failed   error
	failedAt time.Time
}

// discovered is what the issuer says of itself.
type discovered struct {
	*oidc.Provider
	namesIssuer bool // in every answer (RFC 9207)
}

// newSignIn makes the provider of the console; nil where none is configured.
func newSignIn(c oidcConfig, transport *dispatch.Transport, people people, log zerolog.Logger) web.Provider {
	if c.issuer == "" {
		return nil
	}
	return &signIn{
		config: c, client: transport.Client(oidcTimeout, 1<<20), people: people, log: log, slots: make(chan struct{}, oidcAtOnce),
	}
}

// Name implements web.Provider.
func (s *signIn) Name() string { return s.config.name }

// discover returns what the issuer says of itself, asking it where that is not
// known yet.
func (s *signIn) discover(ctx context.Context) (*discovered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.provider != nil {
		return s.provider, nil
	}
	if s.failed != nil && time.Since(s.failedAt) < oidcPause {
		return nil, s.failed
	}
	p, err := oidc.NewProvider(ctx, s.config.issuer)
	var meta struct {
		NamesIssuer bool `json:"authorization_response_iss_parameter_supported"`
	}
	if err == nil {
		err = p.Claims(&meta)
	}
	if err != nil {
		s.failed, s.failedAt = fmt.Errorf("read metadata of %s: %w", s.config.issuer, err), time.Now()
		return nil, s.failed
	}
	s.provider = &discovered{p, meta.NamesIssuer}
	return s.provider, nil
}

func (s *signIn) oauth(p *discovered, flow web.Flow) *oauth2.Config {
	return &oauth2.Config{
		ClientID: s.config.clientID, ClientSecret: s.config.clientSecret.Reveal(), Endpoint: p.Endpoint(),
		RedirectURL: flow.Redirect, Scopes: s.config.scopes,
	}
}

// begin bounds what one request asks the provider, in time and number.
func (s *signIn) begin(ctx context.Context) (context.Context, func(), error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, s.client), oidcTimeout)
	select {
	case s.slots <- struct{}{}:
		return ctx, func() { <-s.slots; cancel() }, nil
	case <-ctx.Done():
		cancel()
		return nil, nil, s.down(ctx.Err())
	}
}

// Start implements web.Provider.
func (s *signIn) Start(ctx context.Context, flow web.Flow) (string, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	p, err := s.discover(ctx)
	if err != nil {
		return "", s.down(err)
	}
	return s.oauth(p, flow).AuthCodeURL(flow.State, oidc.Nonce(flow.Nonce), oauth2.S256ChallengeOption(flow.Verifier)), nil
}

// Finish implements web.Provider.
func (s *signIn) Finish(ctx context.Context, flow web.Flow, answer web.Answer) (string, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	p, err := s.discover(ctx)
	if err != nil {
		return "", s.down(err)
	}
	if answer.Issuer != s.config.issuer && (answer.Issuer != "" || p.namesIssuer) {
		return "", s.refused(ctx, answer, errors.New("the answer names another issuer"))
	}
	tokens, err := s.oauth(p, flow).Exchange(ctx, answer.Code, oauth2.VerifierOption(flow.Verifier))
	if _, answered := errors.AsType[*oauth2.RetrieveError](err); answered {
		return "", s.refused(ctx, answer, fmt.Errorf("redeem code: %w", err))
	}
	if err != nil {
		return "", s.down(fmt.Errorf("redeem code: %w", err))
	}
	claims, err := s.verified(ctx, p, tokens, flow.Nonce)
	if err != nil {
		return "", s.refused(ctx, answer, err)
	}
	if claims, err = s.completed(ctx, p, tokens, claims); err != nil {
		return "", s.down(err)
	}
	return s.admit(ctx, claims, answer)
}

// verified are the claims of the ID token, once everything about it holds.
func (s *signIn) verified(ctx context.Context, p *discovered, tokens *oauth2.Token, nonce string) (claims, error) {
	raw, _ := tokens.Extra("id_token").(string)
	if raw == "" {
		return nil, errors.New("the answer has no ID token: is openid among the scopes?")
	}
	token, err := p.VerifierContext(ctx, &oidc.Config{ClientID: s.config.clientID}).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("verify ID token: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1 {
		return nil, errors.New("verify ID token: its nonce is not the one of this sign-in")
	}
	if token.AccessTokenHash != "" {
		if err := token.VerifyAccessToken(tokens.AccessToken); err != nil {
			return nil, fmt.Errorf("verify ID token: %w", err)
		}
	}
	all := claims{}
	if err := token.Claims(&all); err != nil {
		return nil, fmt.Errorf("read ID token: %w", err)
	}
	if party := all.text("azp"); party != "" && party != s.config.clientID {
		return nil, errors.New("verify ID token: it was made for another client")
	}
	if all.text("sub") == "" {
		return nil, errors.New("verify ID token: it names nobody")
	}
	return all, nil
}

// completed adds what the ID token leaves to the userinfo endpoint, where it lacks
// what is needed.
func (s *signIn) completed(ctx context.Context, p *discovered, tokens *oauth2.Token, has claims) (claims, error) {
	if p.UserInfoEndpoint() == "" || has.values(s.config.claim) != nil && has.text("email") != "" {
		return has, nil
	}
	info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	if err != nil {
		return nil, fmt.Errorf("read userinfo: %w", err)
	}
	more := claims{}
	if err := info.Claims(&more); err != nil {
		return nil, fmt.Errorf("read userinfo: %w", err)
	}
	if info.Subject != has.text("sub") {
		return nil, errors.New("read userinfo: it is about somebody else")
	}
	maps.Copy(more, has) // what is signed counts
	return more, nil
}

// admit makes the session of a person who is known, where they may have one.
func (s *signIn) admit(ctx context.Context, who claims, answer web.Answer) (string, error) {
	person := api.Person{Issuer: s.config.issuer, Subject: who.text("sub"), Name: who.name(), Scopes: s.config.scopesOf(who)}
	because := "none of their groups may use it"
	if !s.config.emailAllowed(who) {
		person.Scopes, because = nil, "their e-mail address is not verified, or of a domain that may not use it"
	}
	token, _, err := s.people.SignIn(ctx, person, answer.Remote)
	switch {
	case err == nil:
		return token, nil
	case errors.Is(err, api.ErrNoScopes):
		s.log.Warn().Str("subject", person.Subject).Str("because", because).Msg("a person was not let in")
		return "", &web.SignInError{
			Status: http.StatusForbidden,
			Text:   "You are signed in to " + s.config.name + " as " + person.Name + ", who may not use rowcall: ask whoever runs it (ROWCALL_OIDC_ROLES).",
		}
	case store.Unavailable(err):
		return "", &web.SignInError{Status: http.StatusServiceUnavailable, Text: "The store does not answer, so nobody can sign in. Deliveries wait and are not lost. Try again in a moment.", Err: err}
	}
	return "", err
}

// down says that the provider is not to be had.
func (s *signIn) down(err error) error {
	if _, blocked := errors.AsType[*dispatch.BlockedError](err); blocked {
		return &web.SignInError{Status: http.StatusBadGateway, Text: s.config.name + " is an address that rowcall may not call: the operator can allow it with ROWCALL_EGRESS_ALLOW. An API key signs in.", Err: err}
	}
	return &web.SignInError{Status: http.StatusBadGateway, Text: s.config.name + " does not answer, so nobody can sign in by it. Try again in a moment, or use an API key.", Err: err}
}

// refused says that what came back does not hold, and counts it.
func (s *signIn) refused(ctx context.Context, answer web.Answer, err error) error {
	e := &web.SignInError{Status: http.StatusUnauthorized, Text: "What " + s.config.name + " sent back does not hold. Begin again; where that does not help, rowcall's log says why.", Err: err}
	if s.people.FailedSignIn(ctx, answer.Remote) > 0 {
		e.Status, e.Text = http.StatusTooManyRequests, "Too many failed tries from this address. Wait a minute; a valid API key still works."
	}
	return e
}
