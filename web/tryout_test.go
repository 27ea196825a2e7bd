package web_test

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/api"
)

func TestExpressionsAreTriedOnRecentEventsBeforeAnythingIsSaved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.writeEach(w.source("shop"), `{"n":1}`, `{"n":2}`, `{"m":"<b>"}`)
	form := url.Values{"name": {"kept"}, "events": {"public.**"}, "filter": {"data.n == 2"}, "transform": {`{"twice": data.n + data.n}`}}
	a := w.do(request{method: "POST", path: "/subscriptions/try", scope: api.ScopeWrite, form: form})
	for _, want := range []string{"1 of the 3 newest events", `value="kept"`, "data.n == 2", "no such key: n", "&#34;twice&#34;"} {
		if a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("%d, and the answer lacks %q", a.status, want)
		}
	}
	form.Set("filter", "data.n ==")
	a = w.do(request{method: "POST", path: "/subscriptions/try", scope: api.ScopeWrite, form: form})
	if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `id="p-filter"`) {
		t.Errorf("a filter that is none: %d", a.status)
	}
	if page := w.page("/subscriptions"); !strings.Contains(page, "No subscription yet") {
		t.Error("something was saved")
	}
	if a := w.do(request{method: "POST", path: "/subscriptions/try", scope: api.ScopeRead, form: form}); a.status != http.StatusForbidden {
		t.Errorf("trying with a key that may only read: %d", a.status)
	}
	if page := w.page("/events?where=" + url.QueryEscape("has(data.n)")); strings.Count(page, `href="/events/0`) != 2 {
		t.Error("events are not found by what is in them")
	}
}

// follow asks for the stream of events.
func follow(t *testing.T, server *httptest.Server, cookie, more string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/tail?of=events"+more, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Cookie", cookie)
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// What came between the page and the stream is in the stream.
func TestEventsAreFollowedFromBehindThoseOfThePage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.writeEach(w.source("shop"), `{"n":"on the page"}`, `{"n":"behind it"}`)
	server := httptest.NewServer(w.handler)
	t.Cleanup(server.Close)
	resp := follow(t, server, w.session(api.ScopeRead), "&after=1")
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data:") && strings.Contains(lines.Text(), `"n"`) {
			if !strings.Contains(lines.Text(), "behind it") {
				t.Errorf("first came %s", lines.Text())
			}
			return
		}
	}
	t.Error("the stream ended before the event that came after the page")
}

func TestEventsAreFollowedWithASessionAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := w.source("shop")
	server := httptest.NewServer(w.handler)
	t.Cleanup(server.Close)
	if resp := follow(t, server, "", ""); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("without a session: %d", resp.StatusCode)
	}
	resp := follow(t, server, w.session(api.ScopeRead), "")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	written := false
	for lines.Scan() {
		if !written && strings.Contains(lines.Text(), "start") {
			written = true
			w.write(claim, 1, `{"n":1}`)
		}
		if strings.HasPrefix(lines.Text(), "data:") && strings.Contains(lines.Text(), "public.orders.inserted") {
			return
		}
	}
	t.Errorf("no event came: %v", lines.Err())
}
