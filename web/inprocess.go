package web

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"github.com/rowcall/rowcall/api/client"
)

// client calls the API in process with a key or session, on behalf of a request.
func (c *Console) client(r *http.Request, key string) *client.Client {
	made, err := client.New(client.Config{
		BaseURL: "http://api", Key: key, Timeout: visitTimeout, UserAgent: "rowcall-console",
		Transport: inProcess{handler: c.config.API, remote: r.RemoteAddr},
	})
	if err != nil {
		panic(err) // the configuration is constant
	}
	return made
}

// inProcess is a RoundTripper onto a handler. The API sees the address of the
// visitor, by which it counts failed sign-ins.
type inProcess struct {
	handler http.Handler
	remote  string
}

// RoundTrip serves the request. The answer is whole when it returns: the API
// bounds what it says.
func (t inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	inner := req.Clone(bareContext{req.Context()})
	inner.RemoteAddr, inner.RequestURI = t.remote, req.URL.RequestURI()
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	defer func() { _ = inner.Body.Close() }()
	rec := &recorder{header: http.Header{}}
	t.handler.ServeHTTP(rec, inner)
	if err := context.Cause(req.Context()); err != nil {
		return nil, err
	}
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	return &http.Response{
		Status: http.StatusText(rec.status), StatusCode: rec.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rec.header, Body: io.NopCloser(&rec.body), ContentLength: int64(rec.body.Len()), Request: req,
	}, nil
}

// bareContext ends when its context does and carries nothing: the API's router
// would take the console's for its own.
type bareContext struct{ context.Context }

// Value implements context.Context.
func (bareContext) Value(any) any { return nil }

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK {
		r.status = status
	}
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}
