package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
)

func TestTheDeliveriesOfAnEventAreListed(t *testing.T) {
	t.Parallel()
	w, first, lane := failing(t)
	key := w.newKey(`{"name":"growth","scopes":["read"],"labels":{"team":"growth"}}`).Key
	var lanes []store.LaneID
	for i := range 3 {
		labels := `"labels":{"team":"core"}`
		if i == 1 {
			labels = `"labels":{"team":"growth"}`
		}
		id, _ := w.subscribe(fmt.Sprint("more ", i), labels)["id"].(string)
		lanes = append(lanes, w.settle(id, store.Delivery{Offset: 3, State: store.Dead, Keys: []string{"k"}, Reason: "rejected", Status: 422}))
	}
	const event = "01-0000000000000100-2"
	want := []string{deliveryOf(lanes[2], 3), deliveryOf(lanes[1], 3), deliveryOf(lanes[0], 3), deliveryOf(lane, 3)}
	for _, path := range []string{"/v1/events/" + event + "/deliveries", "/v1/deliveries?event=" + event} {
		if got := w.pages(path); !slices.Equal(got, append([]string{}, want...)) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	for query, want := range map[string][]string{
		"event=" + event + "&subscription=" + first:            {deliveryOf(lane, 3)},
		"event=" + event + "&key=k&state=dead":                 want[:3],
		"event=" + event + "&state=blocked":                    nil,
		"event=01-0000000000000100-1":                          {deliveryOf(lane, 2)},
		"event=01-0000000000000100-7":                          nil,
		"event=nothing":                                        nil,
		"event=" + event + "&filter=data.row.n+%3D%3D+3":       nil,
		"event=" + event + "&filter=data.row.n+%3D%3D+2&key=k": want[:3],
	} {
		if got := w.pages("/v1/deliveries?" + query); !slices.Equal(got, append([]string{}, want...)) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	w.do(request{method: "GET", path: "/v1/events/01-0000000000000100-7/deliveries", scope: api.ScopeRead}).problem(t, http.StatusNotFound, "not-found")
	w.do(request{method: "GET", path: "/v1/events/" + event + "/deliveries", key: key}).problem(t, http.StatusForbidden, "forbidden")
	var page struct{ Items []struct{ ID string } }
	w.do(request{method: "GET", path: "/v1/deliveries?event=" + event, key: key}).into(t, &page)
	if len(page.Items) != 1 || page.Items[0].ID != want[1] {
		t.Errorf("a restricted key sees %+v, want %s", page.Items, want[1])
	}
}
