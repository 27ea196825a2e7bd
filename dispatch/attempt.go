package dispatch

import (
	"context"
	"net/http"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Target is an endpoint made ready for sending: URL parsed, headers checked,
// secrets decoded, once for all of its attempts.
type Target struct{}

// NewTarget prepares a subscription's endpoint.
func NewTarget(sub *subscriptions.Subscription) (*Target, error) { panic("unwritten") }

// Sender makes single HTTP attempts.
type Sender struct{}

// NewSender sends through rt with the header User-Agent: rowcall/<version>.
func NewSender(rt http.RoundTripper, version string) *Sender { panic("unwritten") }

// Reply is what an attempt brought back. Exactly one of Status and Err says it.
type Reply struct {
	Status     int           // of the response; 0: none
	Err        error         // why there is none, or why the response was not whole
	Header     http.Header   // of a failure's response
	Body       []byte        // of a failure's response: at most 4 KiB
	RetryAfter time.Duration // of 429 and 503, clamped to 1 s–24 h; 0: none
	At         time.Time     // when it started
	Duration   time.Duration
}

// Try makes one attempt (attempt 1 is the first): the payload is assembled,
// signed and POSTed, and the response read to 64 KiB, all within the target's
// timeout. It never retries and follows nothing.
func (s *Sender) Try(ctx context.Context, t *Target, e *store.Event, attempt int) Reply {
	panic("unwritten")
}
