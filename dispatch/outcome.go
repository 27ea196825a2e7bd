package dispatch

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// Outcome is what became of an attempt.
type Outcome int16

const (
	Delivered Outcome = iota
	Failed
	BlockedTarget // the guard refused the address
	Unknown       // the process died before it was known
)

// Reason says why an attempt did not deliver: a closed set, used in metrics, rows and the API.
type Reason string

const (
	ReasonNone           Reason = ""
	ReasonRejected       Reason = "rejected"
	ReasonUnauthorized   Reason = "unauthorized"
	ReasonNotFound       Reason = "not_found"
	ReasonThrottled      Reason = "throttled"
	ReasonUnavailable    Reason = "unavailable"
	ReasonServerError    Reason = "server_error"
	ReasonClientError    Reason = "client_error"
	ReasonGone           Reason = "gone"
	ReasonRedirect       Reason = "redirect"
	ReasonRefused        Reason = "refused"
	ReasonReset          Reason = "reset"
	ReasonDNS            Reason = "dns"
	ReasonTLS            Reason = "tls"
	ReasonTimeout        Reason = "timeout"
	ReasonTooLarge       Reason = "too_large"
	ReasonProtocol       Reason = "protocol"
	ReasonBlocked        Reason = "blocked"
	ReasonLocalResource  Reason = "local_resource"
	ReasonFilterError    Reason = "filter_error" // the subscription's filter failed on the event
	ReasonTransformError Reason = "transform_error"
	ReasonUnknown        Reason = "unknown"
)

// reasons are all of them, none left out.
var reasons = [...]Reason{
	ReasonRejected, ReasonUnauthorized, ReasonNotFound, ReasonThrottled, ReasonUnavailable, ReasonServerError, ReasonClientError,
	ReasonGone, ReasonRedirect, ReasonRefused, ReasonReset, ReasonDNS, ReasonTLS, ReasonTimeout, ReasonTooLarge, ReasonProtocol,
	ReasonBlocked, ReasonLocalResource, ReasonFilterError, ReasonTransformError, ReasonUnknown,
}

// Fault says whom a failure speaks about.
type Fault int8

const (
	FaultNone     Fault = iota // success
	FaultEvent                 // the event: its own retry budget
	FaultEndpoint              // the endpoint: its health
	FaultLocal                 // us: blames nobody
)

// Verdict is what a reply means.
type Verdict struct {
	Outcome Outcome
	Reason  Reason
	Fault   Fault
}

// Judge turns a reply into a verdict, by the table in docs/receiving.md. Pure.
func Judge(r Reply) Verdict {
	if r.Err != nil {
		return judgeError(r.Err)
	}
	return judgeStatus(r.Status)
}

func judgeStatus(status int) Verdict {
	endpoint := func(reason Reason) Verdict { return Verdict{Failed, reason, FaultEndpoint} }
	switch {
	case status == 0:
		return Verdict{Unknown, ReasonUnknown, FaultLocal}
	case status < 100 || status > 599:
		return endpoint(ReasonProtocol)
	case status < 200:
		return endpoint(ReasonRedirect)
	case status < 300:
		return Verdict{Outcome: Delivered}
	case status < 400:
		return endpoint(ReasonRedirect)
	case status == http.StatusServiceUnavailable:
		return endpoint(ReasonUnavailable)
	case status >= 500:
		return endpoint(ReasonServerError)
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return endpoint(ReasonUnauthorized)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return endpoint(ReasonNotFound)
	case http.StatusGone:
		return endpoint(ReasonGone)
	case http.StatusTooManyRequests:
		return endpoint(ReasonThrottled)
	case http.StatusPaymentRequired, http.StatusRequestTimeout, http.StatusMisdirectedRequest,
		http.StatusTooEarly, http.StatusUpgradeRequired:
		return endpoint(ReasonClientError)
	}
	return Verdict{Failed, ReasonRejected, FaultEvent}
}

// judgeError looks for causes from the surest to the vaguest: ours first, so
// that no endpoint is blamed for it, and protocol for what is left.
func judgeError(err error) Verdict {
	endpoint := func(reason Reason) Verdict { return Verdict{Failed, reason, FaultEndpoint} }
	if token, ok := errors.AsType[*tokenError](err); ok {
		if token.err != nil {
			return judgeError(token.err)
		}
		return endpoint(ReasonUnauthorized)
	}
	if _, ok := errors.AsType[*BlockedError](err); ok {
		return Verdict{BlockedTarget, ReasonBlocked, FaultEndpoint}
	}
	if isLocal(err) {
		return Verdict{Failed, ReasonLocalResource, FaultLocal}
	}
	if errors.Is(err, context.Canceled) {
		// The process is going: whether the endpoint has it is not known.
		return Verdict{Unknown, ReasonUnknown, FaultLocal}
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return endpoint(ReasonDNS)
	}
	if errors.Is(err, errTooLarge) || errors.Is(err, errHeadTooLarge) || isHeaderFlood(err) {
		return endpoint(ReasonTooLarge)
	}
	if isTimeout(err) {
		return endpoint(ReasonTimeout)
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED) {
		return endpoint(ReasonReset)
	}
	if isTLS(err) {
		return endpoint(ReasonTLS)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return endpoint(ReasonRefused) // and unreachable hosts and networks
	}
	if stream, ok := errors.AsType[streamError](err); ok && stream.Code != 1 /* PROTOCOL_ERROR */ {
		return endpoint(ReasonReset)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || isServerClosed(err) {
		return endpoint(ReasonReset)
	}
	return endpoint(ReasonProtocol)
}

// isLocal reports whether this machine ran out of something.
func isLocal(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*handshakeError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	// After the handshake: an alert, such as the refusal of a client without
	// certificate under TLS 1.3.
	op, ok := errors.AsType[*net.OpError](err)
	return ok && (op.Op == "remote error" || op.Op == "local error")
}

// streamError has the fields of net/http's own type for RST_STREAM, whose
// method As fills every struct of this form.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "HTTP/2 stream error" }

// isHeaderFlood and isServerClosed know errors of net/http that have no type.
// Tests against real listeners hold their texts.
func isHeaderFlood(err error) bool {
	text := err.Error()
	return strings.Contains(text, "server response headers exceeded") ||
		strings.Contains(text, "response header list larger than advertised limit")
}

func isServerClosed(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "http: server closed idle connection") ||
		strings.HasPrefix(text, "http2: client conn") || // lost, not usable, could not be established
		strings.HasPrefix(text, "http2: server sent GOAWAY")
}
