package subscriptions_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/subscriptions"
)

const canary = "canary4711"

// newCertificate makes a certificate that signs itself and its key, in PEM.
func newCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

func bearer(token string) *subscriptions.Auth {
	return &subscriptions.Auth{Type: "bearer", Token: subscriptions.NewSecret(token)}
}

func TestURLsOfEndpointsAreTaken(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"https://example.com", "https://example.com/", "http://example.com:8080/a/b?token=x&y=%20", "https://my_host/hooks",
		"http://localhost:1", "https://192.0.2.1/x", "https://[2001:db8::1]:8443/x", "https://xn--bcher-kva.example/",
		"https://a.b.c.example.com:65535", "HTTPS://Example.COM/", "https://example.com/a%2Fb", "https://1e100.net/", "https://3com.com/",
		"https://example.com/" + strings.Repeat("a", 2048-20), "http://[::1]/",
	} {
		if err := subscriptions.CheckURL(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestURLsThatHideTheirTargetAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                                 "is required",
		"example.com/hooks":                                "must start with https:// or http://",
		"//example.com":                                    "must start with https:// or http://",
		"/hooks":                                           "must start with https:// or http://",
		"ftp://example.com":                                "must start with https:// or http://",
		"file:///etc/passwd":                               "must start with https:// or http://",
		"javascript:alert(1)":                              "must start with https:// or http://",
		"https:example.com":                                "must name a host",
		"https:///hooks":                                   "must name a host",
		"https://":                                         "must name a host",
		"https://:443/":                                    "must have a host of dot-separated names",
		"https://user@example.com/":                        "must not have a user name or password",
		"https://u:canary@example.com/":                    "must not have a user name or password",
		"https://@example.com/":                            "must not have a user name or password",
		"https://example.com/#":                            "must not have a fragment",
		"https://example.com/#frag":                        "must not have a fragment",
		"https://example.com/a b":                          "must not have spaces",
		" https://example.com/":                            "must not have spaces",
		"https://example.com/\r\nX: y":                     "must not have spaces",
		"https://example.com\\@evil/":                      "must not have spaces, control characters or backslashes",
		"https://example.com/\x00":                         "must not have spaces",
		"https://bücher.example/":                          "must be ASCII",
		"https://example.com/ü":                            "must be ASCII",
		"https://example。com/":                             "must be ASCII",
		"https://example.com:/":                            "must have a port after the colon",
		"https://example.com:0/":                           "must have a port from 1 to 65535",
		"https://example.com:65536/":                       "must have a port from 1 to 65535",
		"https://example.com:http/":                        "must be a URL",
		"https://example.com:-1/":                          "must be a URL",
		"https://ex%61mple.com/":                           "must be a URL",
		"https://example.com/%zz":                          "must be a URL",
		"https://example.com./":                            "must have a host without a dot at its end",
		"https://127.1/":                                   "canonical form",
		"https://2130706433/":                              "canonical form",
		"https://0x7f000001/":                              "canonical form",
		"https://0x7f.0.0.1/":                              "canonical form",
		"https://0177.0.0.1/":                              "canonical form",
		"https://127.0.0.01/":                              "canonical form",
		"https://127.0.0.256/":                             "canonical form",
		"https://1.2.3.0x4/":                               "canonical form",
		"https://a.1/":                                     "canonical form",
		"https://127.0.0.1./":                              "without a dot at its end",
		"https://[::ffff:7f00:1]/":                         "canonical form",
		"https://[0:0:0:0:0:0:0:1]/":                       "canonical form",
		"https://[2001:DB8::1]/":                           "canonical form",
		"https://[fe80::1%25eth0]/":                        "canonical form",
		"https://[127.0.0.1]/":                             "must be a URL",
		"https://::1/":                                     "must ",
		"https://a..b/":                                    "must have a host of dot-separated names",
		"https://-a.example/":                              "must have a host of dot-separated names",
		"https://a-.example/":                              "must have a host of dot-separated names",
		"https://ex*mple.com/":                             "must have a host of dot-separated names",
		"https://ex$mple.com/":                             "must have a host of dot-separated names",
		"https://" + strings.Repeat("a", 64) + ".example/": "must have a host of dot-separated names",
		"https://" + strings.Repeat("a.", 127) + "aa/":     "must have a host of at most 253 characters",
		"https://example.com/" + strings.Repeat("a", 2029): "must have at most 2048 bytes",
	} {
		err := subscriptions.CheckURL(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("error echoes the URL: %v", err)
		}
	}
}

func TestHeadersThatAreNotTheAuthorsAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Host", "content-length", "Transfer-Encoding", "Connection", "TE", "Upgrade", "Proxy-Authorization", "proxy-x", "Forwarded",
		"X-Forwarded-For", "Cookie", "Webhook-Id", "webhook-signature", "Rowcall-Attempt", "Content-Type", "User-Agent", "ce-id",
		"Metadata", "Metadata-Flavor", "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds", "Trailer", "Expect",
	} {
		got := faultsOf(t, func(s *subscriptions.Spec) { s.Endpoint.Headers = map[string]string{name: "v"} })
		if diff := cmp.Diff([]string{"endpoint.headers." + name + ": must not be set by a subscription; remove it"}, got); diff != "" {
			t.Error(diff)
		}
	}
	for _, name := range []string{"", "X A", "X:", "X\n", "Ünder", "X(", "\x00"} {
		got := faultsOf(t, func(s *subscriptions.Spec) { s.Endpoint.Headers = map[string]string{name: "v"} })
		if len(got) != 1 || !strings.Contains(got[0], "must have a name of letters") {
			t.Errorf("%q: %v", name, got)
		}
	}
	for _, value := range []string{canary + "\r\nX: y", canary + "\n", "\x00" + canary, canary + "\t", " " + canary, "\x7f" + canary, canary + "\u0085", "\xff" + canary} {
		got := faultsOf(t, func(s *subscriptions.Spec) { s.Endpoint.Headers = map[string]string{"X-A": value} })
		if len(got) != 1 || !strings.HasPrefix(got[0], "endpoint.headers.X-A: must not ") || strings.Contains(got[0], canary) {
			t.Errorf("%q: %v", value, got)
		}
	}
	ok := map[string]string{"Authorization": "Bearer x", "X-Env": "prod", "X_Y.Z~1": "", "Hosts": "é", "Accept": "a, b"}
	if got := faultsOf(t, func(s *subscriptions.Spec) { s.Endpoint.Headers = ok }); got != nil {
		t.Error(got)
	}
}

func TestAuthHasTheMembersOfItsType(t *testing.T) {
	t.Parallel()
	secret := subscriptions.NewSecret
	for name, c := range map[string]struct {
		auth subscriptions.Auth
		want []string
	}{
		"basic":             {subscriptions.Auth{Type: "basic", Username: "u", Password: secret("p")}, nil},
		"bearer":            {*bearer("t"), nil},
		"oauth2":            {subscriptions.Auth{Type: "oauth2", TokenURL: "https://a.example", ClientID: "c", ClientSecret: secret("s"), Scopes: []string{"a:b"}}, nil},
		"no type":           {subscriptions.Auth{Token: secret("t")}, []string{`endpoint.auth.type: must be "basic" or "bearer" or "oauth2"`}},
		"missing":           {subscriptions.Auth{Type: "basic"}, []string{`endpoint.auth.username: is required with type "basic"`, `endpoint.auth.password: is required with type "basic"`}},
		"of another type":   {subscriptions.Auth{Type: "bearer", Token: secret("t"), Password: secret(canary), Scopes: []string{"s"}}, []string{`endpoint.auth.password: belongs to type "basic" only; remove it`, `endpoint.auth.scopes: belongs to type "oauth2" only; remove it`}},
		"colon in the name": {subscriptions.Auth{Type: "basic", Username: "a:b", Password: secret("p")}, []string{"endpoint.auth.username: must not have a colon: it ends the name"}},
		"token of lines":    {*bearer(canary + "\n"), []string{"endpoint.auth.token: must not have control characters, tabs or line breaks"}},
		"token too long":    {*bearer(strings.Repeat("t", 4097)), []string{"endpoint.auth.token: must have at most 4096 bytes"}},
		"scopes of spaces":  {subscriptions.Auth{Type: "oauth2", TokenURL: "https://a.example", ClientID: "c", ClientSecret: secret("s"), Scopes: []string{"a", "b c", ""}}, []string{"endpoint.auth.scopes[1]: must be printable ASCII without spaces, quotes and backslashes", "endpoint.auth.scopes[2]: must be printable ASCII without spaces, quotes and backslashes"}},
		"too many scopes":   {subscriptions.Auth{Type: "oauth2", TokenURL: "https://a.example", ClientID: "c", ClientSecret: secret("s"), Scopes: slices.Repeat([]string{"a"}, 51)}, []string{"endpoint.auth.scopes: must have at most 50 members"}},
		"token URL":         {subscriptions.Auth{Type: "oauth2", TokenURL: "ftp://" + canary, ClientID: "c", ClientSecret: secret("s")}, []string{"endpoint.auth.token_url: must start with https:// or http://"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := faultsOf(t, func(s *subscriptions.Spec) { s.Endpoint.Auth = &c.auth })
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTLSIsPEMThatFits(t *testing.T) {
	t.Parallel()
	certificate, private := newCertificate(t)
	key, other := subscriptions.NewSecret(private), subscriptions.NewSecret(canary)
	for name, c := range map[string]struct {
		tls  subscriptions.TLS
		want []string
	}{
		"pair":                {subscriptions.TLS{ClientCertificate: certificate, ClientKey: key}, nil},
		"pair and authority":  {subscriptions.TLS{ClientCertificate: certificate, ClientKey: key, CA: certificate}, nil},
		"certificate alone":   {subscriptions.TLS{ClientCertificate: certificate}, []string{"endpoint.tls.client_key: is required with a client_certificate"}},
		"key alone":           {subscriptions.TLS{ClientKey: key}, []string{"endpoint.tls.client_certificate: is required with a client_key"}},
		"pair of two":         {subscriptions.TLS{ClientCertificate: certificate, ClientKey: other}, []string{"endpoint.tls.client_certificate: must be a certificate chain in PEM that fits client_key in PEM"}},
		"authority of no PEM": {subscriptions.TLS{CA: "x"}, []string{"endpoint.tls.ca: must be certificates in PEM"}},
		"chain too long":      {subscriptions.TLS{ClientCertificate: certificate + strings.Repeat("x", 64<<10), ClientKey: key}, []string{"endpoint.tls.client_certificate: must have at most 65536 bytes"}},
		"too long":            {subscriptions.TLS{CA: strings.Repeat("x", 64<<10+1)}, []string{"endpoint.tls.ca: must have at most 65536 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := faultsOf(t, func(s *subscriptions.Spec) { s.Endpoint.TLS = &c.tls })
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	got := faultsOf(t, func(s *subscriptions.Spec) { s.Endpoint.TLS = &subscriptions.TLS{} })
	want := []string{"endpoint.tls: must have a client_certificate with its client_key, or a ca; null stands for none"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, text := range []string{"https://example.com/a?b", "http://[::1]:80", "https://127.1", "https://u@h#f", "https://%zz"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if subscriptions.CheckURL(text) != nil {
			return
		}
		// What is taken is the same to every reader of URLs.
		rest, ok := strings.CutPrefix(strings.ToLower(text), "http")
		if !ok || !strings.HasPrefix(strings.TrimPrefix(rest, "s"), "://") || strings.ContainsAny(text, "#\\ \r\n\t") {
			t.Errorf("%q is taken", text)
		}
	})
}
