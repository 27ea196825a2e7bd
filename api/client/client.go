package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an answer, in bytes. A page of events ends
// at 8 MiB, but one event alone may be larger.
const maxAnswer = 128 << 20

// Config says which API to call, and how.
type Config struct {
	BaseURL   string            // such as http://127.0.0.1:8080, without /v1; required
	Key       string            // API key; may be empty for Health and Ready
	Transport http.RoundTripper // default http.DefaultTransport
	Timeout   time.Duration     // of one call; default 30s
	UserAgent string            // default "rowcall-client"
}

// Client calls the API. It is safe for concurrent use. Errors of the API are a
// *Problem; any other error means that no answer was got or understood.
type Client struct {
	base   *url.URL
	config Config
	http   *http.Client
	note   string
}

// Noting is a client whose changes stand in the audit trail with a note: why, in
// words, 500 characters at most. Empty: without.
func (c *Client) Noting(note string) *Client {
	noting := *c
	noting.note = note
	return &noting
}

// New makes a client. Its error names the member of config that is wrong.
func New(config Config) (*Client, error) {
	base, err := url.Parse(config.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, errors.New("configure client: BaseURL: want http or https, a host, and at most a path")
	}
	if config.Timeout < 0 {
		return nil, errors.New("configure client: Timeout: below zero")
	}
	if config.Timeout == 0 {
		config.Timeout = 30 * time.Second
	}
	if config.UserAgent == "" {
		config.UserAgent = "rowcall-client"
	}
	return &Client{base: base, config: config, http: &http.Client{
		Transport: config.Transport,
		Timeout:   config.Timeout,
		// A key goes to the host it was meant for and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// call is one request.
type call struct {
	method  string
	path    []string // segments, not yet escaped
	query   url.Values
	ifMatch int64 // version; 0: none
	media   string
	body    any
}

// request makes the request of a call.
func (c *Client) request(ctx context.Context, in call) (*http.Request, error) {
	u := *c.base
	path, raw := strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.EscapedPath(), "/")
	for _, segment := range in.path {
		path += "/" + segment
		raw += "/" + url.PathEscape(segment)
	}
	u.Path, u.RawPath, u.RawQuery = path, raw, in.query.Encode()
	var reader io.Reader
	if in.body != nil {
		encoded, err := json.Marshal(in.body)
		if err != nil {
			return nil, fmt.Errorf("write request: %w", err)
		}
		reader = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, in.method, u.String(), reader)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.config.UserAgent)
	if c.config.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.config.Key)
	}
	if in.body != nil {
		req.Header.Set("Content-Type", in.media)
	}
	if c.note != "" && in.method != http.MethodGet {
		req.Header.Set("Rowcall-Note", c.note)
	}
	if in.ifMatch != 0 {
		req.Header.Set("If-Match", fmt.Sprintf(`"%d"`, in.ifMatch))
	}
	return req, nil
}

// do makes a call and reads a 2xx answer into out (nil: there is none to read).
// It returns the status and the answer's bytes.
func (c *Client) do(ctx context.Context, in call, out any) (status int, body []byte, err error) {
	req, err := c.request(ctx, in)
	if err != nil {
		return 0, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("call %s: %w", in.method, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, fmt.Errorf("read answer: %w", err)
	}
	if len(body) > maxAnswer {
		return 0, nil, fmt.Errorf("read answer: more than %d bytes", maxAnswer)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp.StatusCode, body, problemOf(resp, body)
	}
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			return resp.StatusCode, body, fmt.Errorf("read answer: %w", err)
		}
	}
	return resp.StatusCode, body, nil
}

func (c *Client) get(ctx context.Context, out any, query url.Values, path ...string) error {
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query}, out)
	return err
}

func (c *Client) post(ctx context.Context, out, body any, path ...string) error {
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: path, media: "application/json", body: body}, out)
	return err
}
