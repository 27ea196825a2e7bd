package dispatch

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
	ReasonNone          Reason = ""
	ReasonRejected      Reason = "rejected"
	ReasonUnauthorized  Reason = "unauthorized"
	ReasonNotFound      Reason = "not_found"
	ReasonThrottled     Reason = "throttled"
	ReasonUnavailable   Reason = "unavailable"
	ReasonServerError   Reason = "server_error"
	ReasonClientError   Reason = "client_error"
	ReasonGone          Reason = "gone"
	ReasonRedirect      Reason = "redirect"
	ReasonRefused       Reason = "refused"
	ReasonReset         Reason = "reset"
	ReasonDNS           Reason = "dns"
	ReasonTLS           Reason = "tls"
	ReasonTimeout       Reason = "timeout"
	ReasonTooLarge      Reason = "too_large"
	ReasonProtocol      Reason = "protocol"
	ReasonBlocked       Reason = "blocked"
	ReasonLocalResource Reason = "local_resource"
	ReasonUnknown       Reason = "unknown"
)

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
func Judge(r Reply) Verdict { panic("unwritten") }
