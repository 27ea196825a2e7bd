package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/rowcall/rowcall/store"
)

const (
	idempotencyHeader = "Idempotency-Key"
	maxIdempotencyKey = 255
)

// claimKey is the context's key of the claim under which a request is carried out.
type claimKey struct{}

// claimOf is nil where the request came without an Idempotency-Key.
func claimOf(ctx context.Context) *store.IdempotencyClaim {
	claim, _ := ctx.Value(claimKey{}).(*store.IdempotencyClaim)
	return claim
}

// idempotencyParam describes the header.
func idempotencyParam() *huma.Param {
	return &huma.Param{
		Name: idempotencyHeader, In: "header",
		Description: "Makes it safe to send the request again, for 24 hours: the same request with the same key has no further effect, and gets the " +
			"first answer, with the header Idempotency-Replayed; another request with it is refused (422). One that failed leaves no trace.",
		Schema: &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(maxIdempotencyKey)},
	}
}

// keptAnswer is an answer as it is kept.
type keptAnswer struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header"`
	Body   []byte            `json:"body"`
}

// idempotent lets a request through once.
func (a *API) idempotent(ctx huma.Context, next func(huma.Context)) {
	r, w := humachi.Unwrap(ctx)
	keys := r.Header.Values(idempotencyHeader)
	if len(keys) == 0 {
		next(ctx)
		return
	}
	if len(keys) > 1 || keys[0] == "" || len(keys[0]) > maxIdempotencyKey || strings.ContainsFunc(keys[0], func(r rune) bool { return r < ' ' || r > '~' }) {
		refuse(ctx, invalid("header."+idempotencyHeader, "must be 1 to 255 printable ASCII characters, once"))
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), r.Body))
	if err != nil || len(body) > maxBody {
		next(ctx) // is refused
		return
	}
	claim, answer, err := a.store.ClaimIdempotency(r.Context(), store.IdempotencyKey{
		Actor: caller(ctx.Context()), Key: keys[0], Fingerprint: fingerprint(ctx.Operation().OperationID, r, body),
	})
	switch {
	case err != nil:
		refuse(ctx, a.idempotencyProblem(r.Context(), err))
	case claim == nil:
		writeKept(w, answer)
	default:
		recorded := &recorder{humaContext: huma.WithValue(ctx, claimKey{}, claim)}
		next(recorded)
		a.settleClaim(ctx.Context(), claim, recorded)
		recorded.send(w)
	}
}

func (a *API) idempotencyProblem(ctx context.Context, err error) *problem {
	if carried, ok := errors.AsType[*store.CarriedOutError](err); ok {
		return newProblem(problemConflict, "the request was carried out, but rowcall ended before its answer was kept: look at "+carried.Object)
	}
	if errors.Is(err, store.ErrReused) {
		return invalid("header."+idempotencyHeader, "came with another request within 24 hours: make a new one")
	}
	if errors.Is(err, store.ErrConflict) {
		return newProblem(problemConflict, "the same request is being carried out: ask again").with("Retry-After", "1")
	}
	return a.problemOf(ctx, "idempotency", err)
}

// settleClaim keeps the answer of a request that was carried out, and forgets one
// that failed. The caller may be gone; what cannot be written is found out by the
// one who asks again.
func (a *API) settleClaim(ctx context.Context, claim *store.IdempotencyClaim, r *recorder) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyTimeout)
	defer cancel()
	var err error
	if r.status/100 == 2 {
		var text []byte
		if text, err = json.Marshal(keptAnswer{r.status, r.header, r.body.Bytes()}); err == nil {
			err = a.store.KeepAnswer(ctx, claim, text)
		}
	} else {
		err = a.store.ReleaseIdempotency(ctx, claim)
	}
	if err != nil {
		a.log.Debug().Err(err).Msg("idempotency key not settled")
	}
}

// fingerprint is the same for the same request.
func fingerprint(operation string, r *http.Request, body []byte) []byte {
	h := sha256.New()
	parts := []string{operation, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("Content-Type"), r.Header.Get("If-Match")}
	var attributes []string // of a CloudEvent in binary mode
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Ce-") {
			attributes = append(attributes, name+":"+strings.Join(values, "\x00"))
		}
	}
	slices.Sort(attributes)
	for _, part := range append(append(parts, attributes...), string(body)) {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		_, _ = io.WriteString(h, part)
	}
	return h.Sum(nil)
}

// derivedID is the id of the nth event of a request that names none: the same when
// the request comes again, so that the log knows it.
func derivedID(claim *store.IdempotencyClaim, n int) string {
	h := sha256.New()
	for _, part := range []string{claim.Actor, claim.Key} {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		_, _ = io.WriteString(h, part)
	}
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func writeKept(w http.ResponseWriter, text []byte) {
	var kept keptAnswer
	if err := json.Unmarshal(text, &kept); err != nil {
		writeProblem(w, newProblem(problemInternal, "the answer that was kept cannot be read"))
		return
	}
	for name, value := range kept.Header {
		w.Header().Set(name, value)
	}
	w.Header().Set("Idempotency-Replayed", "true")
	w.WriteHeader(kept.Status)
	_, _ = w.Write(kept.Body)
}

// humaContext has another name than its method Context.
type humaContext huma.Context

// recorder is a request's context that holds the answer back until it is whole.
type recorder struct {
	humaContext
	status int
	header map[string]string
	body   bytes.Buffer
}

// Unwrap is for humachi.Unwrap.
func (r *recorder) Unwrap() huma.Context { return r.humaContext }

// SetStatus, Status, SetHeader, AppendHeader and BodyWriter are of huma.Context.
func (r *recorder) SetStatus(status int)            { r.status = status }
func (r *recorder) Status() int                     { return r.status }
func (r *recorder) AppendHeader(name, value string) { r.SetHeader(name, value) }
func (r *recorder) BodyWriter() io.Writer           { return &r.body }

// SetHeader sets a header of the answer; none here has several values.
func (r *recorder) SetHeader(name, value string) {
	if r.header == nil {
		r.header = map[string]string{}
	}
	r.header[http.CanonicalHeaderKey(name)] = value
}

func (r *recorder) send(w http.ResponseWriter) {
	for name, value := range r.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body.Bytes())
}
