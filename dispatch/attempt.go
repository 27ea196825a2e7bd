package dispatch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Bounds of what is read and kept of a response's body.
const (
	maxRead = 64 << 10
	maxKept = 4 << 10
	maxSaid = 200
)

// maxPooled bounds the buffers that are kept for later requests; those of
// batches may be as large as these.
const maxPooled = 1 << 20

// errTooLarge says that a success's body went past maxRead.
var errTooLarge = errors.New("read response: the body is larger than 64 KiB")

// Sender makes single HTTP attempts. It is safe for concurrent use.
type Sender struct {
	rt        http.RoundTripper
	userAgent []string
	tokens    tokens
	tracer    trace.Tracer // nil: attempts are not traced
}

// NewSender sends through rt with the header User-Agent: rowcall/<version>.
//
// Headers and bodies of requests are used again: rt must not keep a request, or
// its Header, beyond the end of the response. (They are only where rt says by
// httptrace's WroteRequest that it has done with them, as *http.Transport does.)
//
// A target with TLS settings of its own can be sent to only where rt is a
// *Transport.
func NewSender(rt http.RoundTripper, version string) *Sender {
	return &Sender{rt: rt, userAgent: []string{"rowcall/" + version}}
}

// Reply is what an attempt brought back. Exactly one of Status and Err says it.
type Reply struct {
	Status     int           // of the response; 0: none
	Err        error         // why there is none, or why a 2xx was not whole
	Header     http.Header   // of a failure's response
	Body       []byte        // of a failure's response: at most 4 KiB, valid UTF-8 without NUL
	RetryAfter time.Duration // of 429 and 503, clamped to 1 s–24 h; 0: none
	At         time.Time     // when it started
	Duration   time.Duration
	Fresh      bool // a connection was made for it
	Timings    store.Timings
}

// Try makes one attempt (attempt 1 is the first): the payload is assembled,
// signed and POSTed, and the response read to 64 KiB, all within the target's
// timeout. It never retries and follows nothing. Where the endpoint asks for an
// OAuth 2.0 token, fetching one is part of the attempt.
//
// A 2xx counts only if its body comes to an end within these bounds; of any
// other status the head says all there is to say, and its body is read for
// people as far as it comes.
//
// The body is the event alone, or, where the subscription asks for batches, an
// array of one.
func (s *Sender) Try(ctx context.Context, t *Target, e *store.Event, attempt int) Reply {
	return s.try(ctx, t, e, nil, attempt)
}

// TryBatch is Try for several events at once, at least one, of a subscription
// that asks for batches.
func (s *Sender) TryBatch(ctx context.Context, t *Target, events []*store.Event, attempt int) Reply {
	return s.try(ctx, t, events[0], events[1:], attempt)
}

func (s *Sender) try(ctx context.Context, t *Target, e *store.Event, more []*store.Event, attempt int) Reply {
	if s.tracer != nil || t.traceContext {
		return s.traced(ctx, t, e, more, attempt)
	}
	return s.send(ctx, t, e, more, attempt, nil)
}

// send makes the attempt; carried is the trace context that goes along, nil for
// a target that wants none.
func (s *Sender) send(ctx context.Context, t *Target, e *store.Event, more []*store.Event, attempt int, carried http.Header) Reply {
	at := time.Now()
	ctx, cancel := context.WithDeadline(ctx, at.Add(t.timeout))
	defer cancel()
	rt := s.rt
	if t.tls != nil {
		own, release, err := s.lease(t.tls)
		if err != nil {
			return Reply{Err: err, At: at, Duration: time.Since(at)}
		}
		defer release()
		rt = own
	}
	var token string
	if t.oauth != nil {
		var err error
		if token, err = s.tokens.get(ctx, s, t.oauth); err != nil {
			return Reply{Err: err, RetryAfter: tokenRetryAfter(err), At: at, Duration: time.Since(at)}
		}
	}
	env := t.envelope()
	body := env.fill(s, t, e, more, at, attempt)
	if t.traceContext {
		env.carry(carried)
	}
	if token != "" {
		env.header["Authorization"] = []string{"Bearer " + token}
	}
	env.reader.Reset(body)
	env.wrote.Store(false)
	env.made.Store(nil)
	ctx = httptrace.WithClientTrace(ctx, &env.trace)
	req := (&http.Request{
		Method:        http.MethodPost,
		URL:           t.url,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Host:          t.url.Host,
		Header:        env.header,
		Body:          env.body,
		ContentLength: int64(len(body)),
	}).WithContext(ctx)
	if len(body) == 0 {
		req.Body = http.NoBody // so that it is known to be empty
	}

	reply := Reply{At: at}
	resp, err := rt.RoundTrip(req)
	if made := env.made.Load(); made != nil {
		reply.Fresh, reply.Timings = true, *made
	}
	if err != nil {
		reply.Err = err
		if failed, ok := errors.AsType[*dialError](err); ok {
			reply.Timings = failed.took
		}
	} else {
		reply.Timings.FirstByte = time.Since(at)
		reply.read(resp, at, t.keepBody)
		// A receiver may answer before it has read the request, which the
		// transport then still holds.
		if reply.Err == nil && env.wrote.Load() && cap(env.content) <= t.pooled {
			t.envelopes.Put(env)
		}
		if t.oauth != nil && reply.Status == http.StatusUnauthorized {
			s.tokens.refused(t.oauth, token)
		}
	}
	reply.Duration = time.Since(at)
	return reply
}

// read takes from a response what is kept of it, and closes it: read to its
// end, its connection is used again. keep has a success's response kept as a
// failure's is.
func (r *Reply) read(resp *http.Response, now time.Time, keep bool) {
	defer resp.Body.Close()
	r.Status = resp.StatusCode
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		if keep {
			r.Header = resp.Header
			r.Body = keptBody(resp.Body)
		}
		if resp.Body == http.NoBody {
			return
		}
		if err := discard(resp.Body); err != nil {
			r.Status, r.Err = 0, err
		}
		return
	}
	r.Header = resp.Header
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		r.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), now)
	}
	if resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	r.Body = keptBody(resp.Body)
	_ = discard(resp.Body) // for the connection's sake alone
}

// said is what is remembered of a failure beside its status: the error, or the
// endpoint's own words, on one line of at most maxSaid bytes. A page of HTML says
// nothing that the status does not.
func (r *Reply) said() string {
	if r.Err != nil {
		return errorText(r.Err)
	}
	body := bytes.TrimSpace(r.Body)
	if bytes.HasPrefix(body, []byte("<")) || strings.Contains(r.Header.Get("Content-Type"), "html") {
		return ""
	}
	text := strings.Join(strings.Fields(string(body[:min(len(body), 4*maxSaid)])), " ")
	if len(text) <= maxSaid {
		return text
	}
	cut := maxSaid - len("…")
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// keptBody is the start of a body, fit to be kept.
func keptBody(body io.Reader) []byte {
	kept := make([]byte, maxKept)
	n, _ := io.ReadFull(body, kept)
	return cleanText(kept[:n])
}

// discard reads body to its end, or fails past maxRead.
func discard(body io.Reader) error {
	n, err := io.CopyN(io.Discard, body, maxRead+1)
	if n > maxRead {
		return errTooLarge
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// cleanText makes a response's bytes fit to be stored and shown: valid UTF-8
// without NUL, at most maxKept bytes. It may write to b.
func cleanText(b []byte) []byte {
	if utf8.Valid(b) && !strings.ContainsRune(string(b), 0) {
		return b
	}
	text := strings.ReplaceAll(strings.ToValidUTF8(string(b), "\uFFFD"), "\x00", "\uFFFD")
	if len(text) > maxKept {
		cut := maxKept
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut]
	}
	return []byte(text)
}

// Bounds of Retry-After.
const (
	minRetryAfter = time.Second
	maxRetryAfter = 24 * time.Hour
)

// retryAfter reads the header in either form, seconds or a date, and clamps it;
// 0 for none and for junk.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	var wait time.Duration
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		// Past int64 the parsed value is its bound, which keeps the sign.
		wait = time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	} else if date, err := http.ParseTime(value); err == nil {
		wait = date.Sub(now)
	} else {
		return 0
	}
	return min(max(wait, minRetryAfter), maxRetryAfter)
}

// envelope is the part of a request that is used again for the next one to the
// same target: header map, buffers, MACs.
type envelope struct {
	header    http.Header
	id        []string // the values in header that differ from try to try
	timestamp []string
	signature []string
	attempt   []string
	extras    []string // names of headers of the last event's extension attributes
	signer    signer
	content   []byte // what is signed: "<id>.<timestamp>.<body>"
	text      []byte
	reader    bytes.Reader
	body      io.ReadCloser // over reader: net/http sends a body of this type together with the header
	trace     httptrace.ClientTrace
	wrote     atomic.Bool                   // the transport has written the request
	made      atomic.Pointer[store.Timings] // of the connection that was made for it; nil: there was one
}

func (t *Target) envelope() *envelope {
	if env, ok := t.envelopes.Get().(*envelope); ok {
		return env
	}
	values := make([]string, 4)
	env := &envelope{
		header:    make(http.Header, len(t.header)+6),
		id:        values[0:1:1],
		timestamp: values[1:2:2],
		signature: values[2:3:3],
		attempt:   values[3:4:4],
		signer:    newSigner(t.keys),
	}
	for name, value := range t.header {
		env.header[name] = value
	}
	env.header[headerID] = env.id
	env.header[headerTimestamp] = env.timestamp
	env.header[headerSignature] = env.signature
	env.header["Rowcall-Attempt"] = env.attempt
	env.body = io.NopCloser(&env.reader)
	env.trace.GotConn = func(info httptrace.GotConnInfo) {
		if !info.Reused {
			env.made.Store(madeFor(info.Conn))
		}
	}
	env.trace.WroteRequest = func(info httptrace.WroteRequestInfo) { env.wrote.Store(info.Err == nil) }
	return env
}

// fill makes the header and the body of one try.
func (env *envelope) fill(s *Sender, t *Target, e *store.Event, more []*store.Event, at time.Time, attempt int) []byte {
	env.header["User-Agent"] = s.userAgent
	content := env.content[:0]
	if t.batched {
		content, env.text = appendBatchID(growForBatch(content, e, more), env.text, e, more)
	} else {
		content = appendWebhookID(content, e)
	}
	idEnd := len(content)
	content = append(content, '.')
	content = strconv.AppendInt(content, at.Unix(), 10)
	timeEnd := len(content)
	content = append(content, '.')
	bodyStart := len(content)
	switch {
	case t.batched:
		content = appendBatch(content, e, more)
	case t.format == subscriptions.CloudEvents:
		content = AppendCloudEvent(content, e)
	default:
		content = append(content, e.Data...)
		env.describe(t.format, e)
	}
	env.content = content

	// One string for all values: they live and die together.
	env.text = append(env.text[:0], content[:timeEnd]...)
	env.text = env.signer.appendTo(env.text, content, t.signing(at))
	values := string(env.text)
	env.id[0] = values[:idEnd]
	env.timestamp[0] = values[idEnd+1 : timeEnd]
	env.signature[0] = values[timeEnd:]
	env.attempt[0] = strconv.Itoa(attempt)
	return content[bodyStart:]
}
