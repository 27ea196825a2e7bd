package dispatch

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

// oauthClient is how an endpoint's tokens are fetched: OAuth 2.0 client
// credentials (RFC 6749, 4.4). Two with the same id are the same.
type oauthClient struct {
	id     [sha256.Size]byte
	url    *url.URL
	name   string // client_id
	secret subscriptions.Secret
	scope  string
	tls    *clientTLS
}

// newOAuthClient reads the settings; its errors never hold the secret.
func newOAuthClient(auth *subscriptions.Auth, own *clientTLS) (*oauthClient, error) {
	u, err := parseURL(auth.TokenURL)
	if err != nil {
		return nil, fmt.Errorf("check endpoint.auth.token_url: %w", err)
	}
	if auth.ClientID == "" || auth.ClientSecret.IsZero() {
		return nil, errors.New("check endpoint.auth: want a client_id and a client_secret")
	}
	c := &oauthClient{
		url: u, name: auth.ClientID, secret: auth.ClientSecret, scope: strings.Join(auth.Scopes, " "), tls: own,
	}
	settings := ""
	if own != nil {
		settings = string(own.id[:])
	}
	c.id = identify(u.String(), c.name, c.secret.Reveal(), c.scope, settings)
	return c, nil
}

// tokenError is a failure to get a token. Its text holds nothing that the token
// endpoint said but its status and a word out of a closed set.
type tokenError struct {
	err        error // of the transport; nil: the token endpoint refused, or its answer is of no use
	why        string
	retryAfter time.Duration
}

func (e *tokenError) Error() string {
	if e.err != nil {
		return "fetch token: " + e.err.Error()
	}
	return "fetch token: " + e.why
}

func (e *tokenError) Unwrap() error { return e.err }

// tokenRetryAfter is how long a token endpoint asked to be left alone; 0: it
// did not.
func tokenRetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*tokenError](err); ok {
		return e.retryAfter
	}
	return 0
}

// inBody says how a client identifies itself: by HTTP Basic, which every server
// must take (RFC 6749, 2.3.1), or in the body, which is all that some do take.
type inBody bool

// fetch asks for a token and returns it with the time for which it is good.
// Where the server does not take the client's secret in the header, it is tried
// in the body; body says how it went.
func (s *Sender) fetch(ctx context.Context, c *oauthClient, style inBody) (token string, life time.Duration, used inBody, err error) {
	rt := s.rt
	if c.tls != nil {
		own, err := s.tokenTransport(c.tls)
		if err != nil {
			return "", 0, style, &tokenError{err: err}
		}
		defer own.CloseIdleConnections()
		rt = own
	}
	token, life, status, err := s.ask(ctx, rt, c, style)
	if !style && (status == http.StatusBadRequest || status == http.StatusUnauthorized) {
		if again, life, _, err := s.ask(ctx, rt, c, true); err == nil {
			return again, life, true, nil
		}
	}
	return token, life, style, err
}

// tokenTransport is for one conversation with a token endpoint. The endpoint's
// client certificate holds there too; and since it is often another server, with
// a public certificate, whoever the system trusts is trusted beside the ca.
func (s *Sender) tokenTransport(c *clientTLS) (*http.Transport, error) {
	t, ok := s.rt.(*Transport)
	if !ok {
		return nil, fmt.Errorf("use endpoint.tls: a %T knows no TLS settings", s.rt)
	}
	var roots *x509.CertPool
	if c.roots != nil {
		var err error
		if roots = t.TLSClientConfig.RootCAs; roots != nil {
			roots = roots.Clone()
		} else if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool()
		}
		roots.AppendCertsFromPEM([]byte(c.ca))
	}
	return t.with(c, roots), nil
}

// ask makes one request of a token endpoint.
func (s *Sender) ask(ctx context.Context, rt http.RoundTripper, c *oauthClient, style inBody) (token string, life time.Duration, status int, err error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if c.scope != "" {
		form.Set("scope", c.scope)
	}
	header := http.Header{
		"Accept":       {"application/json"},
		"Content-Type": {"application/x-www-form-urlencoded"},
		"User-Agent":   s.userAgent,
	}
	if style {
		form.Set("client_id", c.name)
		form.Set("client_secret", c.secret.Reveal())
	} else {
		pair := url.QueryEscape(c.name) + ":" + url.QueryEscape(c.secret.Reveal())
		header["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(pair))}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, 0, &tokenError{why: "the request cannot be made"}
	}
	req.Header = header
	asked := time.Now()
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return "", 0, 0, &tokenError{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRead+1))
	if err == nil && len(body) > maxRead {
		err = errTooLarge
	}
	if err != nil {
		return "", 0, resp.StatusCode, &tokenError{err: err}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		refusal := &tokenError{why: fmt.Sprintf("the token endpoint answered %d%s", resp.StatusCode, refusalWord(body))}
		if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
			refusal.retryAfter = retryAfter(resp.Header.Get("Retry-After"), asked)
		}
		return "", 0, resp.StatusCode, refusal
	}
	token, life, err = readToken(body)
	return token, life - time.Since(asked), resp.StatusCode, err
}

// refusalWord is the error code of a refusal, in brackets, where it is one of
// those that RFC 6749 knows: what else a server says may be a secret of ours.
func refusalWord(body []byte) string {
	var answer struct{ Error string }
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	switch answer.Error {
	case "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
		"invalid_scope", "access_denied", "server_error", "temporarily_unavailable":
		return " (" + answer.Error + ")"
	}
	return ""
}

// Bounds of the time for which a token is taken to be good.
const (
	defaultTokenLife = 5 * time.Minute // where the server does not say
	maxTokenLife     = 24 * time.Hour
	maxToken         = 16 << 10 // bytes
)

// readToken reads a token endpoint's answer.
func readToken(body []byte) (token string, life time.Duration, err error) {
	var answer struct {
		AccessToken string          `json:"access_token"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return "", 0, &tokenError{why: "the answer is not a token in JSON"}
	}
	switch {
	case answer.AccessToken == "":
		return "", 0, &tokenError{why: "the answer has no access_token"}
	case !strings.EqualFold(answer.TokenType, "bearer"):
		return "", 0, &tokenError{why: `the answer's token_type is not "Bearer"`}
	case len(answer.AccessToken) > maxToken || !isHeaderValue(answer.AccessToken):
		return "", 0, &tokenError{why: "the access_token cannot stand in a header"}
	}
	// A number; some servers write it as a text.
	seconds, err := strconv.ParseFloat(strings.Trim(string(answer.ExpiresIn), `"`), 64)
	if err != nil || !(seconds > 0) {
		return answer.AccessToken, defaultTokenLife, nil
	}
	return answer.AccessToken, time.Duration(min(seconds, maxTokenLife.Seconds()) * float64(time.Second)), nil
}
