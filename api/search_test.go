package api_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
)

func TestListsAreSearchedByAnExpression(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	id := w.subscribe("orders")["id"].(string)
	first := w.write(claim, 100, 30, func(i int) string {
		if i == 7 {
			return `{"other":true}`
		}
		return `{"n":` + strconv.Itoa(i) + `}`
	})
	var dead []store.Delivery
	for i := range 30 {
		dead = append(dead, store.Delivery{Offset: first + store.Offset(i), State: store.Dead, Keys: []string{"k"}, Reason: "rejected", FirstFailedAt: time.Now()})
	}
	w.settle(id, dead...)
	for _, path := range []string{"/v1/events", "/v1/deliveries"} {
		// Every page is followed: short ones are allowed.
		count := func(filter string) (n int) {
			for cursor := ""; ; {
				a := w.do(request{method: "GET", path: path + "?limit=4&filter=" + url.QueryEscape(filter) + cursor, scope: api.ScopeRead})
				var page struct {
					Items []struct{ ID string }
					Next  *string `json:"next_cursor"`
				}
				if a.into(t, &page); a.status != http.StatusOK {
					t.Fatalf("%s: %d %s", path, a.status, a.body)
				}
				if n += len(page.Items); page.Next == nil {
					return n
				}
				cursor = "&cursor=" + url.QueryEscape(*page.Next)
			}
		}
		for filter, want := range map[string]int{"data.n >= 20": 10, "data.n == 3": 1, "has(data.other)": 1, "data.n < 0": 0, "type == 'none'": 0} {
			if n := count(filter); n != want {
				t.Errorf("%s finds %d by %s, want %d", path, n, filter, want)
			}
		}
		for _, filter := range []string{"data.n ==", "1 + 1", "nobody.n > 3"} {
			p := w.do(request{method: "GET", path: path + "?filter=" + url.QueryEscape(filter), scope: api.ScopeRead}).problem(t, http.StatusUnprocessableEntity, "validation")
			if !strings.Contains(p.locations(), "query.filter") {
				t.Errorf("%s: %s is faulty at %s", path, filter, p.locations())
			}
		}
	}
}

func TestANoteStandsBesideTheChangeThatItIsOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.subscribe("orders")["id"].(string)
	a := w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/pause", scope: api.ScopeDeliver, header: map[string]string{"Rowcall-Note": " Wartung überall "}})
	if a.status != http.StatusOK {
		t.Fatal(a.body)
	}
	var page struct {
		Items []struct{ Action, Note string }
	}
	w.do(request{method: "GET", path: "/v1/audit", scope: api.ScopeAdmin}).into(t, &page)
	if len(page.Items) != 2 || page.Items[0].Note != "Wartung überall" || page.Items[1].Note != "" {
		t.Errorf("%+v", page.Items)
	}
	for _, note := range []string{strings.Repeat("ü", 501), "a\x01b", "\xff"} {
		w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/resume", scope: api.ScopeDeliver, header: map[string]string{"Rowcall-Note": note}}).
			problem(t, http.StatusUnprocessableEntity, "validation")
	}
}
