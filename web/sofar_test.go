package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/web"
)

// A list that ended before it found anything does not say that there is nothing.
func TestAnEmptyPageThatIsNotTheLastLeadsOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *web.Config) {
		served := c.API
		c.API = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/v1/deliveries", "/v1/attempts", "/v1/events":
				rw.Header().Set("Content-Type", "application/json")
				_, _ = rw.Write([]byte(`{"items":[],"next_cursor":"further"}`))
			default:
				served.ServeHTTP(rw, r)
			}
		})
	})
	sub := w.subscribe(nil)
	first := w.write(w.source("shop"), 1, "{}")
	w.settle(sub.ID, []store.Delivery{{Offset: first, State: store.Dead, Keys: []string{"k"}, Reason: "tls"}}, nil)
	for path, more := range map[string][]string{
		"/failed/deliveries?reason=tls": {"/failed/retry?reason=tls", "/failed/discard?reason=tls", "/failed/export?", "cursor=further"},
		"/attempts":                     {"/attempts?cursor=further"},
		"/attempts?outcome=failed":      {"/attempts?cursor=further&amp;outcome=failed"},
		"/events?type=a.b":              {"/events?cursor=further&amp;type=a.b"},
	} {
		page := w.page(path)
		for _, want := range append(more, "None so far", "Next page") {
			if !strings.Contains(page, want) {
				t.Errorf("%s lacks %q", path, want)
			}
		}
	}
	page := w.page("/subscriptions/" + sub.ID)
	if strings.Contains(page, "Nothing was sent to it yet") || !strings.Contains(page, "/attempts?cursor=further&amp;"+url.Values{"subscription": {sub.ID}}.Encode()) {
		t.Error("the page of a subscription does not lead to its attempts")
	}
	if a := w.do(request{path: "/failed/deliveries?reason=tls", scope: api.ScopeRead}); strings.Contains(a.body, "/failed/retry") {
		t.Error("who may not retry is offered it")
	}
}
