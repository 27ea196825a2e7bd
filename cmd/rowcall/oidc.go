package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
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
	oidcAnswer  = 1 << 20          // most bytes of one answer
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

// newSignIn makes the provider of the console; nil where none is configured.
func newSignIn(c oidcConfig, transport *dispatch.Transport, people people, log zerolog.Logger) web.Provider {
	if c.issuer == "" {
		return nil
	}
	return &signIn{
		config: c, client: transport.Client(oidcTimeout, oidcAnswer), people: people, log: log, slots: make(chan struct{}, oidcAtOnce),
	}
}

// Name implements web.Provider.
func (s *signIn) Name() string { return s.config.name }

// begin bounds what one request asks the provider, in time and number.
func (s *signIn) begin(ctx context.Context) (context.Context, *asking, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, oidcTimeout)
	select {
	case s.slots <- struct{}{}:
		ctx, a := s.ask(ctx)
		return ctx, a, func() { <-s.slots; cancel() }, nil
	case <-ctx.Done():
		cancel()
		return nil, nil, nil, s.down(ctx.Err())
	}
}

// redirectTo names the address that the provider sends the browser back to.
func redirectTo(flow web.Flow) oauth2.AuthCodeOption {
	return oauth2.SetAuthURLParam("redirect_uri", flow.Redirect)
}

// Start implements web.Provider.
func (s *signIn) Start(ctx context.Context, flow web.Flow) (string, error) {
	ctx, _, end, err := s.begin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	p, err := s.discover(ctx)
	if err != nil {
		return "", s.down(err)
	}
	return p.oauth.Load().AuthCodeURL(flow.State, redirectTo(flow), oidc.Nonce(flow.Nonce), oauth2.S256ChallengeOption(flow.Verifier)), nil
}

// Finish implements web.Provider.
func (s *signIn) Finish(ctx context.Context, flow web.Flow, answer web.Answer) (string, error) {
	ctx, asked, end, err := s.begin(ctx)
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
	tokens, err := p.exchange(ctx, answer.Code, redirectTo(flow), oauth2.VerifierOption(flow.Verifier))
	if err != nil {
		if err = asked.because(fmt.Errorf("redeem code: %w", err)); codeRefused(err) {
			return "", s.refused(ctx, answer, err)
		}
		return "", s.down(err)
	}
	claims, err := s.verified(ctx, p, tokens, flow.Nonce)
	if err != nil && (asked.why() != nil || ctx.Err() != nil) { // the provider's keys were not to be had
		return "", s.down(asked.because(err))
	}
	if err != nil {
		return "", s.refused(ctx, answer, err)
	}
	if claims, err = s.completed(ctx, p, tokens, claims); err != nil {
		return "", s.down(asked.because(err))
	}
	return s.admit(ctx, claims, answer)
}

// SignOut implements web.Provider, by OpenID Connect RP-Initiated Logout 1.0. rowcall
// keeps no ID token that it could hint with: the provider knows it by its id, and asks
// the person whether they mean it.
func (s *signIn) SignOut(ctx context.Context, back string) (web.Leave, error) {
	ctx, _, end, err := s.begin(ctx)
	if err != nil {
		return web.Leave{}, err
	}
	defer end()
	p, err := s.discover(ctx)
	if err != nil || p.endSession == nil {
		return web.Leave{}, err
	}
	address := *p.endSession
	q := address.Query()
	q.Set("client_id", s.config.clientID)
	if s.config.signOut { // else the provider need not know where back is
		q.Set("post_logout_redirect_uri", back)
	}
	address.RawQuery = q.Encode()
	return web.Leave{Address: address.String(), Leads: s.config.signOut}, nil
}

// codeRefused reports whether the provider refused the code, rather than rowcall,
// or everything.
func codeRefused(err error) bool {
	e, answered := errors.AsType[*oauth2.RetrieveError](err)
	if _, silent := errors.AsType[*silentError](err); silent || !answered {
		return false
	}
	switch e.ErrorCode {
	case "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "server_error", "temporarily_unavailable":
		return false
	case "":
		return e.Response.StatusCode == http.StatusBadRequest
	}
	return true
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
// what is needed. For a name alone nobody is kept out.
func (s *signIn) completed(ctx context.Context, p *discovered, tokens *oauth2.Token, has claims) (claims, error) {
	needed, wanted := s.config.lacks(has)
	if p.UserInfoEndpoint() == "" || !needed && !wanted {
		return has, nil
	}
	info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	more := claims{}
	if err == nil {
		err = info.Claims(&more)
	}
	if err == nil && info.Subject != has.text("sub") {
		err = errors.New("it is about somebody else")
	}
	if err != nil && !needed {
		s.log.Warn().Str(zerolog.ErrorFieldName, fmt.Sprintf("%.500s", err)).Msg("the provider does not say a person's name")
		return has, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read userinfo: %w", err)
	}
	return has.with(more), nil
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

// down says that the provider is not to be had: it gives no answer, or one that
// does not fit the settings, for which trying again is no help.
func (s *signIn) down(err error) error {
	_, blocked := errors.AsType[*dispatch.BlockedError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, silent := errors.AsType[*silentError](err)
	e := &web.SignInError{Status: http.StatusBadGateway, Err: err}
	switch {
	case blocked:
		e.Text = s.config.name + " is an address, or leads to one, that rowcall may not call: the operator can allow it with ROWCALL_EGRESS_ALLOW. An API key signs in."
	case untrusted:
		e.Text = s.config.name + " shows a certificate that rowcall does not trust: the operator can add its authority to those of the machine. An API key signs in."
	case silent || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		e.Text = s.config.name + " does not answer, so nobody can sign in by it. Try again in a moment, or use an API key."
	default:
		e.Text = s.config.name + " answers otherwise than it should, so nobody can sign in by it. The operator finds the reason in rowcall's log, " +
			"and should check ROWCALL_OIDC_ISSUER and what the provider knows of rowcall. An API key signs in."
	}
	if _, told := errors.AsType[*repeatedError](err); told {
		e.Err = nil
	}
	return e
}

// refused says that what came back does not hold, and counts it.
func (s *signIn) refused(ctx context.Context, answer web.Answer, err error) error {
	e := &web.SignInError{Status: http.StatusUnauthorized, Text: "What " + s.config.name + " sent back does not hold. Begin again; where that does not help, rowcall's log says why.", Err: err}
	if s.people.FailedSignIn(ctx, answer.Remote) > 0 {
		e.Status, e.Text = http.StatusTooManyRequests, "Too many failed tries from this address. Wait a minute; a valid API key still works."
	}
	return e
}
