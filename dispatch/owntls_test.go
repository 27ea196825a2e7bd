package dispatch_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/subscriptions"
)

// identity is a certificate that is its own authority, for servers on 127.0.0.1
// and for clients.
type identity struct {
	certificate, key string // PEM
	pair             tls.Certificate
}

func newIdentity(t *testing.T, name string) identity {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	id := identity{
		certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})),
	}
	if id.pair, err = tls.X509KeyPair([]byte(id.certificate), []byte(id.key)); err != nil {
		t.Fatal(err)
	}
	return id
}

// startMutual serves by https to clients with a certificate of one of the
// authorities.
func startMutual(t *testing.T, own identity, http2 bool, handler http.HandlerFunc, authorities ...identity) string {
	t.Helper()
	pool := x509.NewCertPool()
	for _, authority := range authorities {
		pool.AppendCertsFromPEM([]byte(authority.certificate))
	}
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = http2
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own.pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func (id identity) tls(ca string) *subscriptions.TLS {
	return &subscriptions.TLS{ClientCertificate: id.certificate, ClientKey: subscriptions.NewSecret(id.key), CA: ca}
}

func TestAnEndpointSeesTheCertificateOfItsSubscription(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		server, ann, bob, eve := newIdentity(t, "server"), newIdentity(t, "ann"), newIdentity(t, "bob"), newIdentity(t, "eve")
		var mu sync.Mutex
		seen := map[string]int{}
		address := startMutual(t, server, http2, func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			seen[r.Header.Get("Rowcall-Subscription")+" "+r.TLS.PeerCertificates[0].Subject.CommonName+" "+r.Proto]++
		}, ann, bob)
		sender := newSender(t)
		try := func(id string, settings *subscriptions.TLS) dispatch.Reply {
			sub := testSubscription(address)
			sub.ID, sub.Endpoint.TLS = subscriptions.ID(id), settings
			return sender.Try(t.Context(), newTarget(t, sub), testEvent(), 1)
		}
		// All to one server, at once: connections are never shared between two.
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				id, who := "sub_ann", ann
				if i%2 == 1 {
					id, who = "sub_bob", bob
				}
				if reply := try(id, who.tls(server.certificate)); reply.Err != nil || reply.Status != 200 {
					t.Errorf("%s: %d, %v", id, reply.Status, reply.Err)
				}
			})
		}
		wg.Wait()
		proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]
		if len(seen) != 2 || seen["sub_ann ann "+proto] != 20 || seen["sub_bob bob "+proto] != 20 {
			t.Errorf("the endpoint saw %v", seen)
		}
		for name, c := range map[string]struct {
			settings *subscriptions.TLS
			refused  bool // by the server, which under TLS 1.3 comes after the handshake
		}{
			"no settings":                      {nil, false},
			"no certificate":                   {&subscriptions.TLS{CA: server.certificate}, true},
			"a certificate nobody knows":       {eve.tls(server.certificate), true},
			"no private authority":             {ann.tls(""), false},
			"another private authority":        {ann.tls(eve.certificate), false},
			"an authority of the client alone": {ann.tls(ann.certificate), false},
		} {
			reply := try("sub_eve", c.settings)
			v := dispatch.Judge(reply)
			if v.Reason != dispatch.ReasonTLS && !(c.refused && v.Reason == dispatch.ReasonReset) || v.Fault != dispatch.FaultEndpoint {
				t.Errorf("%s, %s: %+v, %v", proto, name, v, reply.Err)
			}
			if reply.Err != nil && strings.Contains(reply.Err.Error(), "PRIVATE") {
				t.Errorf("error %v", reply.Err)
			}
		}
		if len(seen) != 2 {
			t.Errorf("the endpoint saw %v", seen)
		}
	}
}

func TestATokenEndpointSeesTheCertificateToo(t *testing.T) {
	t.Parallel()
	server, ann := newIdentity(t, "server"), newIdentity(t, "ann")
	receiver := &endpoint{}
	address := startMutual(t, server, true, receiver.ServeHTTP, ann)
	tokenURL := startMutual(t, server, true, func(w http.ResponseWriter, r *http.Request) {
		grant(w, 1, 3600)
	}, ann)
	sub := testSubscription(address)
	sub.Endpoint.TLS = ann.tls(server.certificate)
	sub.Endpoint.Auth = oauth(tokenURL)
	delivered(t, newSender(t), newTarget(t, sub), testEvent())
	if got := receiver.all()[0].header.Get("Authorization"); got != "Bearer t1" {
		t.Errorf("Authorization %q", got)
	}
	sub.Endpoint.TLS = &subscriptions.TLS{CA: server.certificate}
	reply := newSender(t).Try(t.Context(), newTarget(t, sub), testEvent(), 1)
	v := dispatch.Judge(reply)
	if v.Reason != dispatch.ReasonTLS && v.Reason != dispatch.ReasonReset || !strings.HasPrefix(fmt.Sprint(reply.Err), "fetch token: ") {
		t.Errorf("without a certificate: %+v, %v", v, reply.Err)
	}
}

func TestTheGuardHoldsForEndpointsWithTLSOfTheirOwn(t *testing.T) {
	t.Parallel()
	ann := newIdentity(t, "ann")
	sub := testSubscription("https://127.0.0.1:9/")
	sub.Endpoint.TLS = ann.tls(ann.certificate)
	transport := newGuard(t, dispatch.GuardConfig{}).Transport()
	reply := dispatch.NewSender(transport, "test").Try(t.Context(), newTarget(t, sub), testEvent(), 1)
	if v := dispatch.Judge(reply); v.Outcome != dispatch.BlockedTarget {
		t.Errorf("verdict %+v, error %v", v, reply.Err)
	}
}
