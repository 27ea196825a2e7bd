package subscriptions

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	maxCredential = 4 << 10  // bytes
	maxPEM        = 64 << 10 // bytes
	maxScopes     = 50
)

// Auth types.
const (
	AuthBasic  = "basic"
	AuthBearer = "bearer"
	AuthOAuth2 = "oauth2"
)

func (e *FieldErrors) checkEndpoint(p *Endpoint) {
	e.check("endpoint.url", CheckURL(p.URL))
	e.checkHeaders("endpoint.headers", p.Headers)
	checkRange(e, "endpoint.timeout", p.Timeout, Duration(100*time.Millisecond), Duration(120*time.Second))
	if p.Auth != nil {
		e.checkAuth(p.Auth)
		for name := range p.Headers {
			if strings.EqualFold(name, "Authorization") {
				e.add(memberPath("endpoint.headers", name), "must not be given beside endpoint.auth, which sets it")
			}
		}
	}
	if p.TLS != nil {
		e.checkTLS(p.TLS)
	}
	for name := range p.Headers {
		if p.TraceContext && (strings.EqualFold(name, "traceparent") || strings.EqualFold(name, "tracestate")) {
			e.add(memberPath("endpoint.headers", name), "must not be given beside endpoint.trace_context, which sets it")
		}
	}
}

func (e *FieldErrors) checkAuth(a *Auth) {
	checkOneOf(e, "endpoint.auth.type", a.Type, AuthBasic, AuthBearer, AuthOAuth2)
	if e.has("endpoint.auth.type") {
		return
	}
	for _, member := range []struct {
		name, of, text string
	}{
		{"username", AuthBasic, a.Username},
		{"password", AuthBasic, a.Password.Reveal()},
		{"token", AuthBearer, a.Token.Reveal()},
		{"token_url", AuthOAuth2, a.TokenURL},
		{"client_id", AuthOAuth2, a.ClientID},
		{"client_secret", AuthOAuth2, a.ClientSecret.Reveal()},
	} {
		path := "endpoint.auth." + member.name
		switch {
		case member.of != a.Type && member.text != "":
			e.add(path, "belongs to type %q only; remove it", member.of)
		case member.of == a.Type && member.text == "":
			e.add(path, "is required with type %q", a.Type)
		case member.text == "":
		case member.name == "token_url":
			e.check(path, CheckURL(member.text))
		case len(member.text) > maxCredential:
			e.add(path, "must have at most %d bytes", maxCredential)
		default:
			e.check(path, checkHeaderValue(member.text))
		}
	}
	if strings.Contains(a.Username, ":") {
		e.add("endpoint.auth.username", "must not have a colon: it ends the name")
	}
	switch {
	case len(a.Scopes) > 0 && a.Type != AuthOAuth2:
		e.add("endpoint.auth.scopes", "belongs to type %q only; remove it", AuthOAuth2)
	case len(a.Scopes) > maxScopes:
		e.add("endpoint.auth.scopes", "must have at most %d members", maxScopes)
	default:
		for i, scope := range a.Scopes {
			wrong := func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' }
			if scope == "" || strings.ContainsFunc(scope, wrong) {
				e.add(fmt.Sprintf("endpoint.auth.scopes[%d]", i), "must be printable ASCII without spaces, quotes and backslashes")
			}
		}
	}
}

func (e *FieldErrors) checkTLS(t *TLS) {
	certificate, key, ca := t.ClientCertificate, t.ClientKey.Reveal(), t.CA
	switch {
	case certificate == "" && key == "" && ca == "":
		e.add("endpoint.tls", "must have a client_certificate with its client_key, or a ca; null stands for none")
	case certificate != "" && key == "":
		e.add("endpoint.tls.client_key", "is required with a client_certificate")
	case certificate == "" && key != "":
		e.add("endpoint.tls.client_certificate", "is required with a client_key")
	case len(certificate) > maxPEM:
		e.add("endpoint.tls.client_certificate", "must have at most %d bytes", maxPEM)
	case certificate != "":
		e.check("endpoint.tls.client_certificate", checkKeyPair(certificate, key))
	}
	switch {
	case len(ca) > maxPEM:
		e.add("endpoint.tls.ca", "must have at most %d bytes", maxPEM)
	case ca != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(ca)):
		e.add("endpoint.tls.ca", "must be certificates in PEM")
	}
}

func checkKeyPair(certificate, key string) error {
	if _, err := tls.X509KeyPair([]byte(certificate), []byte(key)); err != nil {
		return errors.New("must be a certificate chain in PEM that fits client_key in PEM")
	}
	return nil
}
