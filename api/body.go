package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
)

const (
	maxBody  = 1 << 20 // bytes
	maxDepth = 64      // of nested JSON
	maxArray = 10_000  // members
)

// checkBodyHeaders refuses a body of a kind that the route does not read,
// before reading it.
func checkBodyHeaders(ctx huma.Context, next func(huma.Context)) {
	r, _ := humachi.Unwrap(ctx)
	if len(r.Header.Values("Content-Encoding")) > 0 {
		refuse(ctx, newProblem(problemMediaType, "the body must not be encoded: leave Content-Encoding out"))
		return
	}
	var types []string
	for name := range ctx.Operation().RequestBody.Content {
		types = append(types, name)
	}
	if !ctx.Operation().RequestBody.Required && r.ContentLength == 0 && len(r.Header.Values("Content-Type")) == 0 {
		next(ctx)
		return
	}
	slices.Sort(types)
	if !mediaTypeIs(r.Header.Values("Content-Type"), types) {
		refuse(ctx, newProblem(problemMediaType, "want Content-Type: "+strings.Join(types, " or ")))
		return
	}
	if r.ContentLength > maxBody {
		refuse(ctx, newProblem(problemTooLarge, "the body may have 1 MiB"))
		return
	}
	body := &wholeBody{ReadCloser: r.Body}
	r.Body = body
	next(huma.WithValue(ctx, bodyKey{}, body)) // MaxBodyBytes bounds what is read of a body that does not say its length
}

// wholeBody is a body that may break off. The framework would call that an
// internal error: it sees an end instead, and handle asks what it was.
type wholeBody struct {
	io.ReadCloser
	err error // of reading, but for timeouts
}

// bodyKey is the key of a request's *wholeBody in its context.
type bodyKey struct{}

func (b *wholeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if late, ok := errors.AsType[net.Error](err); err == nil || errors.Is(err, io.EOF) || ok && late.Timeout() {
		return n, err
	}
	b.err = err
	return n, io.EOF
}

// checkBodyWhole refuses a request whose body broke off.
func checkBodyWhole(ctx context.Context) error {
	if body, ok := ctx.Value(bodyKey{}).(*wholeBody); ok && body.err != nil {
		return newProblem(problemMalformed, "the body cannot be read: it ends early, or its chunks are not well formed")
	}
	return nil
}

// mediaTypeIs reports whether the one Content-Type is among types, in UTF-8.
func mediaTypeIs(values, types []string) bool {
	if len(values) != 1 {
		return false
	}
	name, params, err := mime.ParseMediaType(values[0])
	if err != nil || !slices.Contains(types, name) {
		return false
	}
	for key, value := range params {
		if key != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}

// checkJSON reports what makes a body unfit to be looked at any further: not
// UTF-8, not one JSON value, nested too deep, arrays too long.
func checkJSON(raw []byte) error {
	if !utf8.Valid(raw) {
		return newProblem(problemMalformed, "the body is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	type level struct {
		array   bool
		members int
	}
	var levels []level
	values := 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) && len(levels) == 0 {
			break
		}
		if err != nil {
			return newProblem(problemMalformed, fmt.Sprintf("the body is not JSON, at byte %d", decoder.InputOffset()))
		}
		delim, isDelim := token.(json.Delim)
		if isDelim && (delim == '}' || delim == ']') {
			levels = levels[:len(levels)-1]
			continue
		}
		if len(levels) == 0 {
			if values++; values > 1 {
				return newProblem(problemMalformed, "the body holds more than one JSON value")
			}
		} else if top := &levels[len(levels)-1]; top.array {
			if top.members++; top.members > maxArray {
				return newProblem(problemMalformed, fmt.Sprintf("an array of the body has more than %d members", maxArray))
			}
		}
		if isDelim {
			if len(levels) == maxDepth {
				return newProblem(problemMalformed, fmt.Sprintf("the body is nested deeper than %d", maxDepth))
			}
			levels = append(levels, level{array: delim == '['})
		}
	}
	if values == 0 {
		return newProblem(problemMalformed, "the body is empty")
	}
	return nil
}
