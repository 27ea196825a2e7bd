package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
)

func TestTheRequestOfADeliveryIsShownAsItsSubscriptionMakesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	id := w.subscribe("orders", `"transform":"{\"n\": data.n + 1}"`)["id"].(string)
	first := w.write(claim, 100, 2, func(i int) string { return []string{`{"n":1}`, `{"m":1}`}[i] })
	lane := w.settle(id,
		store.Delivery{Offset: first, State: store.Dead, Keys: []string{"a"}, Reason: "rejected", Status: 422, Attempts: 3, FirstFailedAt: time.Now()},
		store.Delivery{Offset: first + 1, State: store.Retrying, Keys: []string{"b"}, Reason: "transform_error", FirstFailedAt: time.Now()},
	)
	type shown struct {
		URL, Body, Error string
		Headers          map[string]string
		Attempt          int
		Version          int64
		Changed          bool
	}
	get := func(at store.Offset) (s shown) {
		t.Helper()
		a := w.do(request{method: "GET", path: "/v1/deliveries/" + deliveryOf(lane, int(at)) + "/request", scope: api.ScopeRead})
		if a.into(t, &s); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return s
	}
	if s := get(first); !strings.Contains(s.Body, `"data":{"n":2}`) || s.URL == "" || s.Headers["Rowcall-Attempt"] != "3" || s.Attempt != 3 || s.Changed || s.Version != 1 {
		t.Errorf("%+v", s)
	}
	if s := get(first + 1); !strings.Contains(s.Error, "no such key: n") || s.Body != "" {
		t.Errorf("an event that the transform fails on: %+v", s)
	}
	if a := w.do(request{method: "PATCH", path: "/v1/subscriptions/" + id, scope: api.ScopeWrite, body: `{"transform":null,"format":"raw"}`, header: map[string]string{"Content-Type": "application/merge-patch+json"}}); a.status != http.StatusOK {
		t.Fatal(a.body)
	}
	if s := get(first); s.Body != `{"n":1}` || !s.Changed || s.Version != 2 {
		t.Errorf("after a change: %+v", s)
	}
	if a := w.do(request{method: "GET", path: "/v1/deliveries/dlv_99_99/request", scope: api.ScopeRead}); a.status != http.StatusNotFound {
		t.Errorf("of no delivery: %d", a.status)
	}
}
