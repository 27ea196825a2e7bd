package dispatch

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

// clientTLS are the TLS settings of one endpoint, made ready for use. Two with
// the same id are the same.
type clientTLS struct {
	id           [sha256.Size]byte
	certificates []tls.Certificate
	ca           string         // PEM
	roots        *x509.CertPool // of ca alone; nil: those of the system
}

// newClientTLS reads an endpoint's TLS settings; nil for none. Its errors never
// hold the key.
func newClientTLS(settings *subscriptions.TLS) (*clientTLS, error) {
	if settings == nil {
		return nil, nil
	}
	certificate, key, ca := settings.ClientCertificate, settings.ClientKey.Reveal(), settings.CA
	c := &clientTLS{id: identify(certificate, key, ca), ca: ca}
	if certificate == "" && key == "" && ca == "" {
		return nil, errors.New("read endpoint.tls: it is empty")
	}
	if certificate != "" || key != "" {
		pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
		if err != nil {
			return nil, errors.New("read endpoint.tls: the client certificate and its key do not fit")
		}
		c.certificates = []tls.Certificate{pair}
	}
	if ca != "" {
		c.roots = x509.NewCertPool()
		if !c.roots.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("read endpoint.tls: ca holds no certificate")
		}
	}
	return c, nil
}

// identify makes one value of several texts; no two lists have the same.
func identify(texts ...string) [sha256.Size]byte {
	h := sha256.New()
	for _, text := range texts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(text)))
		h.Write(size[:])
		h.Write([]byte(text))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Bounds of transports with TLS settings of their own.
const (
	maxOwnTransports = 256
	maxOwnIdle       = 64              // connections of one that wait for their next request
	ownTransportIdle = 2 * time.Minute // after its last request, it goes
)

// ownTransports keeps a transport for each distinct set of TLS settings: a
// connection that was opened with one client certificate must not be used for
// another's requests, nor a TLS session resumed. One that had nothing to do for
// ownTransportIdle is closed and forgotten. Past maxOwnTransports, the one that
// has been idle for longest makes room; those with a request under way stay, and
// these are bounded by the attempts in flight.
type ownTransports struct {
	mu   sync.Mutex
	byID map[[sha256.Size]byte]*ownTransport
}

type ownTransport struct {
	*http.Transport
	id    [sha256.Size]byte
	uses  int       // requests under way
	used  time.Time // when the last of them ended
	timer *time.Timer
}

// lease returns the transport for an endpoint's TLS settings. The caller calls
// release when its response is read.
func (s *Sender) lease(c *clientTLS) (rt http.RoundTripper, release func(), err error) {
	t, ok := s.rt.(*Transport)
	if !ok {
		return nil, nil, fmt.Errorf("use endpoint.tls: a %T knows no TLS settings", s.rt)
	}
	o := &t.own
	o.mu.Lock()
	defer o.mu.Unlock()
	own := o.byID[c.id]
	if own == nil {
		own = &ownTransport{Transport: t.with(c, c.roots), id: c.id}
		own.MaxIdleConns, own.MaxIdleConnsPerHost = maxOwnIdle, maxOwnIdle
		if o.byID == nil {
			o.byID = make(map[[sha256.Size]byte]*ownTransport)
		}
		o.byID[c.id] = own
		own.uses++
		o.makeRoom()
	} else {
		own.uses++
	}
	if own.timer != nil {
		own.timer.Stop()
	}
	return own, func() { o.release(own) }, nil
}

// with is a transport with an endpoint's certificate that trusts roots; nil:
// whom the common transport trusts.
func (t *Transport) with(c *clientTLS, roots *x509.CertPool) *http.Transport {
	if roots == nil {
		roots = t.TLSClientConfig.RootCAs
	}
	return t.guard.transport(&tls.Config{
		MinVersion:         tls.VersionTLS12,
		Certificates:       c.certificates,
		RootCAs:            roots,
		ClientSessionCache: tls.NewLRUClientSessionCache(16),
	})
}

func (o *ownTransports) release(own *ownTransport) {
	o.mu.Lock()
	defer o.mu.Unlock()
	own.uses--
	own.used = time.Now()
	if own.uses > 0 {
		return
	}
	if own.timer == nil {
		own.timer = time.AfterFunc(ownTransportIdle, func() { o.expire(own) })
	} else {
		own.timer.Reset(ownTransportIdle)
	}
}

// expire closes a transport that nobody has used since its timer was set.
func (o *ownTransports) expire(own *ownTransport) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if own.uses == 0 && time.Since(own.used) >= ownTransportIdle {
		o.drop(own)
	}
}

// drop closes one that is idle. mu is held.
func (o *ownTransports) drop(own *ownTransport) {
	if own.timer != nil {
		own.timer.Stop()
	}
	own.CloseIdleConnections()
	if o.byID[own.id] == own {
		delete(o.byID, own.id)
	}
}

// makeRoom closes those that have been idle for longest. mu is held.
func (o *ownTransports) makeRoom() {
	for len(o.byID) > maxOwnTransports {
		var oldest *ownTransport
		for _, own := range o.byID {
			if own.uses == 0 && (oldest == nil || own.used.Before(oldest.used)) {
				oldest = own
			}
		}
		if oldest == nil {
			return
		}
		o.drop(oldest)
	}
}

func (o *ownTransports) closeIdle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, own := range o.byID {
		if own.uses == 0 {
			o.drop(own)
		} else {
			own.CloseIdleConnections()
		}
	}
}
