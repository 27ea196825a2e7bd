package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/api"
)

func TestHostileBodiesAreRefusedAndLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const good = `{"name":"x","events":["a.b"],"endpoint":{"url":"https://r.test"}}`
	for name, c := range map[string]struct {
		body   string
		header map[string]string
		status int
		kind   string
	}{
		"no body":                     {"", map[string]string{"Content-Type": "application/json"}, 400, "malformed"},
		"white space":                 {"  \n", nil, 400, "malformed"},
		"cut off":                     {good[:20], nil, 400, "malformed"},
		"two values":                  {good + good, nil, 400, "malformed"},
		"something after the value":   {good + "x", nil, 400, "malformed"},
		"a byte order mark":           {"\ufeff" + good, nil, 400, "malformed"},
		"not UTF-8":                   {`{"name":"` + "\xff" + `"}`, nil, 400, "malformed"},
		"UTF-16":                      {"{\x00}\x00", nil, 400, "malformed"},
		"nested 65 deep":              {strings.Repeat("[", 65) + strings.Repeat("]", 65), nil, 400, "malformed"},
		"nested a million deep":       {strings.Repeat(`{"a":`, 180_000), nil, 400, "malformed"},
		"an array of 10,001":          {`{"events":[` + strings.Repeat("0,", 10_000) + "0]}", nil, 400, "malformed"},
		"a comment":                   {"/* */" + good, nil, 400, "malformed"},
		"NaN":                         {`{"max_in_flight":NaN}`, nil, 400, "malformed"},
		"a number of 100,000 digits":  {`{"max_in_flight":` + strings.Repeat("9", 100_000) + "}", nil, 422, "validation"},
		"1 MiB and a byte":            {good + strings.Repeat(" ", 1<<20-len(good)+1), nil, 413, "too-large"},
		"no content type":             {good, map[string]string{"Content-Type": ""}, 415, "unsupported-media-type"},
		"a form":                      {good, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"},
		"text, as a simple request":   {good, map[string]string{"Content-Type": "text/plain"}, 415, "unsupported-media-type"},
		"a merge patch as a creation": {good, map[string]string{"Content-Type": "application/merge-patch+json"}, 415, "unsupported-media-type"},
		"another charset":             {good, map[string]string{"Content-Type": "application/json; charset=utf-7"}, 415, "unsupported-media-type"},
		"a broken content type":       {good, map[string]string{"Content-Type": "application/json;;="}, 415, "unsupported-media-type"},
		"compressed":                  {good, map[string]string{"Content-Encoding": "gzip"}, 415, "unsupported-media-type"},
		"a name with NUL":             {`{"name":"a\u0000b","events":["a.b"],"endpoint":{"url":"https://r.test"}}`, nil, 422, "validation"},
		"a name with a lone half":     {`{"name":"\ud800","events":["a.b"],"endpoint":{"url":"https://r.test"},"x":1}`, nil, 422, "validation"},
		"header injection":            {`{"name":"x","events":["a.b"],"endpoint":{"url":"https://r.test","headers":{"X-A":"1\r\nX-B: 2"}}}`, nil, 422, "validation"},
	} {
		r := request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: c.body, header: c.header}
		a := w.do(r)
		if a.status != c.status {
			t.Errorf("%s: %d %.200s, want %d", name, a.status, a.body, c.status)
			continue
		}
		a.problem(t, c.status, c.kind)
	}
	if got := w.pages("/v1/subscriptions"); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	// What is only just allowed.
	a := w.do(request{
		method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite,
		body: good + strings.Repeat(" ", 1<<20-len(good)), header: map[string]string{"Content-Type": `application/json; charset="UTF-8"`},
	})
	if a.status != http.StatusCreated {
		t.Errorf("a body of exactly 1 MiB: %d %s", a.status, a.body)
	}
}

func TestAPreviewIsAskedForAsPreciselyAsASubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for body, locations := range map[string]string{
		`{"events":["a"],"filter":"true","filter":"false"}`: "body.filter",
		`{"events":["a"],"limit":1,"limit":2}`:              "body.limit",
		`{"events":["a"],"limit":1,"limit":null}`:           "body.limit",
		`{"events":["a"],"limit":1.5}`:                      "body.limit",
		`{"events":["a"],"limit":"1"}`:                      "body.limit",
		`{"events":["a"],"limit":101}`:                      "body.limit",
		`{"events":["a"],"Filter":"true"}`:                  "body.Filter",
		`{"limit":0,"filter":"("}`:                          "body.limit body.events body.filter",
		`[]`:                                                "body",
	} {
		p := w.do(request{method: "POST", path: "/v1/subscriptions/preview", scope: api.ScopeWrite, body: body}).problem(t, http.StatusUnprocessableEntity, "validation")
		if p.locations() != locations {
			t.Errorf("%s: %s", body, p.locations())
		}
	}
	if a := w.do(request{method: "POST", path: "/v1/subscriptions/preview", scope: api.ScopeWrite, body: `{"events":["a"],"filter":null,"limit":null}`}); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestABodyWhoseChunksMakeNoSenseIsTheCallersFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := httptest.NewServer(w.api.Handler())
	defer server.Close()
	for name, body := range map[string]string{"no length": "zz\r\n{}\r\n0\r\n\r\n", "a chunk without its end": "2\r\n{}{}\r\n0\r\n\r\n"} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(conn, "POST /v1/subscriptions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%s",
			w.keys[api.ScopeWrite], body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		_ = conn.Close()
		answer{resp.StatusCode, resp.Header, string(content)}.problem(t, http.StatusBadRequest, "malformed")
		if t.Failed() {
			t.Error(name)
		}
	}
}

func TestHostileParametersAreRefusedByName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const canary = "canary7391"
	cursor := "AAAAAAAAAAAx"
	for path, location := range map[string]string{
		"/v1/events?limit=0":                                    "query.limit",
		"/v1/events?limit=1001":                                 "query.limit",
		"/v1/events?limit=-1":                                   "query.limit",
		"/v1/events?limit=1.5":                                  "query.limit",
		"/v1/events?limit=" + canary:                            "query.limit",
		"/v1/events?limit=99999999999999999999":                 "query.limit",
		"/v1/events?limit=":                                     "query.limit",
		"/v1/events?limit=1&limit=2":                            "query.limit",
		"/v1/events?foo=" + canary:                              "query.foo",
		"/v1/events?Limit=1":                                    "query.Limit",
		"/v1/sources?limit=1":                                   "query.limit",
		"/v1/events?" + canary + "%20%3Cb%3E=1":                 "query",
		"/v1/events?" + canary + strings.Repeat("x", 64) + "=1": "query",
		"/v1/events?cursor=" + cursor:                           "query.cursor",
		"/v1/events?cursor=" + canary:                           "query.cursor",
		"/v1/events?cursor=%00":                                 "query.cursor",
		"/v1/events?cursor=" + strings.Repeat("A", 600):         "query.cursor",
		"/v1/events?type=a%00b":                                 "query.type",
		"/v1/events?type=%ff":                                   "query.type",
		"/v1/events?type=" + strings.Repeat("x", 3000):          "query.type",
		"/v1/deliveries?state=" + canary:                        "query.state",
		"/v1/deliveries?since=" + canary:                        "query.since",
		"/v1/deliveries?since=2026-11-20":                       "query.since",
		"/v1/deliveries?subscription=" + canary:                 "query.subscription",
		"/v1/attempts?subscription=sub_' OR 1=1--":              "query.subscription",
		"/v1/attempts?outcome=" + canary:                        "query.outcome",
		"/v1/subscriptions?state=" + canary:                     "query.state",
		"/v1/subscriptions?state=active&state=paused&name=":     "query.name query.state",
	} {
		a := w.do(request{method: "GET", path: strings.ReplaceAll(path, " ", "%20"), scope: api.ScopeRead})
		if a.status != http.StatusUnprocessableEntity {
			t.Errorf("%.80s: %d %s", path, a.status, a.body)
			continue
		}
		if p := a.problem(t, 422, "validation"); p.locations() != location {
			t.Errorf("%.80s: faults at %q, want %q", path, p.locations(), location)
		}
		if strings.Contains(a.body, canary) {
			t.Errorf("%s: the answer repeats the value: %s", path, a.body)
		}
	}
	for _, path := range []string{"/v1/events?limit=%zz", "/v1/events?a;b=1", "/v1/events/%00", "/v1/events/a%0ab", "/v1/events/%ff", "/v1/sources/" + strings.Repeat("x", 5000)} {
		w.do(request{method: "GET", path: path, scope: api.ScopeRead}).problem(t, http.StatusBadRequest, "malformed")
	}
	for _, path := range []string{"/v1/nothing", "/v1/events/", "/v1", "/", "/v1/subscriptions/sub_x/pause", "/openapi.json", "/docs", "/schemas/Event.json", "/debug/pprof/"} {
		w.do(request{method: "GET", path: path, scope: api.ScopeAdmin}).problem(t, map[bool]int{true: 405, false: 404}[strings.HasSuffix(path, "/pause")],
			map[bool]string{true: "method-not-allowed", false: "not-found"}[strings.HasSuffix(path, "/pause")])
	}
	for _, path := range []string{
		"/v1/subscriptions/nothing", "/v1/subscriptions/sub_'%20OR%201=1", "/v1/sources/%27%3B%20DROP%20TABLE%20x", "/v1/deliveries/dlv_1_1",
		"/v1/events/..%2F..%2Fhealthz", "/v1/events/%E2%80%AE",
	} {
		w.do(request{method: "GET", path: path, scope: api.ScopeRead}).problem(t, http.StatusNotFound, "not-found")
	}
}

func TestEveryAnswerForbidsCachingAndSniffing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, r := range []request{
		{method: "GET", path: "/healthz"},
		{method: "GET", path: "/nothing"},
		{method: "GET", path: "/v1/sources"},
		{method: "GET", path: "/v1/sources", scope: api.ScopeRead},
		{method: "OPTIONS", path: "/v1/sources", header: map[string]string{"Origin": "https://evil.test", "Access-Control-Request-Method": "POST"}},
	} {
		a := w.do(r)
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: headers %v", r.method, r.path, a.header)
		}
		for name := range a.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s %s: another origin is let in by %s", r.method, r.path, name)
			}
		}
	}
}

// The secret is in the answer to create, and in no other answer of any route.
func TestNoAnswerButCreateHoldsASecret(t *testing.T) {
	t.Parallel()
	w, id, lane := failing(t)
	made := w.subscribe("second")
	secret, _ := made["secret"].(string)
	secret = strings.TrimPrefix(secret, "whsec_")
	if len(secret) < 32 {
		t.Fatal("no secret to look for")
	}
	second, _ := made["id"].(string)
	for _, path := range []string{
		"/v1/subscriptions", "/v1/subscriptions/" + second, "/v1/subscriptions/" + id, "/v1/events", "/v1/deliveries",
		fmt.Sprintf("/v1/deliveries/dlv_%d_1", lane), "/v1/attempts", "/v1/sources", "/v1/sources/shop",
		"/healthz", "/readyz", "/metrics", "/v1/openapi.json",
	} {
		w.noSecret(t, request{method: "GET", path: path, scope: api.ScopeAdmin}, secret)
	}
	w.noSecret(t, request{method: "POST", path: "/v1/subscriptions/" + second + "/pause", scope: api.ScopeAdmin}, secret)
	w.noSecret(t, request{method: "POST", path: "/v1/subscriptions/" + second + "/resume", scope: api.ScopeAdmin}, secret)
	w.noSecret(t, request{method: "PATCH", path: "/v1/subscriptions/" + second, scope: api.ScopeAdmin, body: `{"description":"d"}`}, secret)
	if strings.Contains(w.logs.String(), secret) {
		t.Error("the log holds the secret")
	}
}

func (w *world) noSecret(t *testing.T, r request, secret string) {
	t.Helper()
	a := w.do(r)
	if a.status/100 != 2 && r.path != "/readyz" {
		t.Errorf("%s %s: %d %s", r.method, r.path, a.status, a.body)
	}
	if strings.Contains(a.body, secret) || strings.Contains(a.body, "whsec_") {
		t.Errorf("%s %s holds a secret", r.method, r.path)
	}
	for _, key := range w.keys {
		if strings.Contains(a.body, key) {
			t.Errorf("%s %s holds a key", r.method, r.path)
		}
	}
}
