package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/api"
)

// Every route of the document with every scope, and with none.
func TestARouteLetsInTheScopeItDeclaresAndAdminAndNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doc := loadDocument(t, w.api)
	checked := 0
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			declared, _ := op.Extensions["x-scope"].(string)
			filled := strings.NewReplacer("{id}", "x", "{name}", "x").Replace(path)
			// What is let in meets a faulty parameter or body, and changes nothing.
			r := request{method: method, path: filled + "?nonsense=1"}
			for _, scope := range api.Scopes() {
				r.scope = scope
				a := w.do(r)
				if string(scope) == declared || scope == api.ScopeAdmin {
					a.problem(t, http.StatusUnprocessableEntity, "validation")
				} else {
					p := a.problem(t, http.StatusForbidden, "forbidden")
					if !strings.Contains(p.Detail, declared) {
						t.Errorf("%s %s: detail %q does not name %s", method, path, p.Detail, declared)
					}
				}
				checked++
			}
			r.scope = ""
			a := w.do(r)
			a.problem(t, http.StatusUnauthorized, "unauthorized")
			if a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s: no WWW-Authenticate", method, path)
			}
		}
	}
	if checked < 14*5 {
		t.Errorf("only %d pairs were checked", checked)
	}
}

func TestAKeyIsSentAsOneBearerToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.keys[api.ScopeRead]
	for i, c := range []struct {
		headers []string
		status  int
		detail  string
	}{
		{[]string{"Bearer " + good}, 200, ""},
		{[]string{"bearer " + good}, 200, ""},
		{[]string{"Bearer  " + good}, 401, "mistyped"},
		{[]string{"Bearer " + good + " "}, 401, "mistyped"},
		{[]string{"Bearer " + strings.ToUpper(good)}, 401, ""},
		{[]string{"Bearer " + good[:len(good)-1]}, 401, "mistyped"},
		{[]string{"Bearer " + api.NewKey()}, 401, "not known"},
		{[]string{"Bearer"}, 401, ""},
		{[]string{""}, 401, ""},
		{[]string{"Basic " + good}, 401, "Bearer"},
		{[]string{good}, 401, "Bearer"},
		{[]string{"Bearer " + good, "Bearer " + good}, 401, "one"},
		{[]string{"Bearer " + strings.Repeat("x", 10_000)}, 401, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/sources", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header["Authorization"] = c.headers
		req.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i)
		rec := httptest.NewRecorder()
		w.api.Handler().ServeHTTP(rec, req)
		if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.detail) {
			t.Errorf("case %d: %d %s, want %d with %q", i, rec.Code, rec.Body, c.status, c.detail)
		}
		if strings.Contains(rec.Body.String(), good[20:40]) {
			t.Errorf("case %d: the answer repeats the key", i)
		}
	}
	if logs := w.logs.String(); strings.Contains(logs, good[20:40]) {
		t.Error("the log repeats the key")
	}
}

func TestFailedSignInsAreLimitedAndAValidKeyAlwaysWorks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	try := func(key, remote, forwarded string) int {
		return w.do(request{
			method: "GET", path: "/v1/sources", key: key, remote: remote,
			header: map[string]string{"X-Forwarded-For": forwarded, "X-Real-IP": forwarded, "True-Client-IP": forwarded},
		}).status
	}
	var got []int
	for i := range 12 {
		got = append(got, try(api.NewKey(), "192.0.2.1:1000", fmt.Sprintf("198.51.100.%d", i))) // spoofed: not believed
	}
	want := append(slices.Repeat([]int{401}, 10), 429, 429)
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if status := try(w.keys[api.ScopeRead], "192.0.2.1:1001", ""); status != http.StatusOK {
		t.Errorf("a valid key from the same address: %d", status)
	}
	if status := try(api.NewKey(), "192.0.2.2:1000", ""); status != http.StatusUnauthorized {
		t.Errorf("another address: %d", status)
	}
}
