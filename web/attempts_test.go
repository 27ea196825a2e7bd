package web_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/store"
)

func TestAttemptsAreListedByPagesAndLeadToTheirDeliveriesAndEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if page := w.page("/attempts"); !strings.Contains(page, "No attempt yet") {
		t.Error("it is not said that there is none")
	}
	claim := w.source("shop")
	sub := w.subscribe(nil)
	first := w.write(claim, 60, "{}")
	now := time.Now()
	var tries []store.Attempt
	for i := range 60 {
		tries = append(tries, store.Attempt{At: now.Add(time.Duration(i) * time.Millisecond), Offset: first + store.Offset(i), Attempt: 1, Status: 200})
	}
	tries[7].Status, tries[7].Outcome, tries[7].Reason, tries[7].Detail = 503, 1, "unavailable", json.RawMessage(`{"error":"said 503"}`)
	w.settle(sub.ID, nil, tries)
	page := w.page("/attempts?subscription=" + sub.ID)
	rows := regexp.MustCompile(`<tr><td class="wide"><a href="(/deliveries/dlv_1_\d+)">public.orders.inserted`)
	if n := len(rows.FindAllString(page, -1)); n != 50 {
		t.Fatalf("the first page has %d rows", n)
	}
	next := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(page)
	if next == nil || !strings.Contains(next[1], "subscription="+sub.ID) {
		t.Fatalf("the next page is at %v", next)
	}
	if n := len(rows.FindAllString(w.page(strings.ReplaceAll(next[1], "&amp;", "&")), -1)); n != 10 {
		t.Errorf("the second page has %d rows", n)
	}
	failed := w.page("/attempts?outcome=failed")
	for _, want := range []string{"503 Service Unavailable", "said 503", `<option selected>failed</option>`, ">orders</a>"} {
		if !strings.Contains(failed, want) {
			t.Errorf("the failed lack %q", want)
		}
	}
	link := rows.FindAllStringSubmatch(failed, -1)
	if len(link) != 1 || !strings.Contains(w.page(link[0][1]), "503 Service Unavailable") {
		t.Fatalf("%v", link)
	}
	if !strings.Contains(w.page(link[0][1]), `public.orders.inserted <span class="mono">id=7</span></a>`) {
		t.Error("a delivery that has ended does not lead to its event")
	}
	event := regexp.MustCompile(`href="/events/([^"]+)">Event</a>`).FindStringSubmatch(failed)
	if event == nil || !strings.Contains(w.page("/events/"+event[1]), "public.orders.inserted") {
		t.Fatalf("%v", event)
	}
	if n := len(rows.FindAllString(w.page("/attempts?event="+event[1]), -1)); n != 1 {
		t.Errorf("%d tries of one event", n)
	}
	// What retention has dropped of the log is listed all the same.
	w.exec(`DELETE FROM rowcall.events`)
	if page := w.page("/attempts?outcome=failed"); !strings.Contains(page, ">offset 8</a>") {
		t.Error("a try whose event is gone is not listed")
	}
	if !strings.Contains(w.page("/attempts?event=nobody"), "None of them") {
		t.Error("it is not said that none fits")
	}
	if a := w.do(request{path: "/attempts?outcome=odd", scope: api.ScopeRead}); a.status != http.StatusUnprocessableEntity {
		t.Errorf("an outcome that there is not: %d", a.status)
	}
	made, err := w.api.CreateAPIKey(t.Context(), client.NewAPIKey{Name: "growth", Scopes: []string{"read"}, Labels: map[string]string{"team": "growth"}})
	if err != nil {
		t.Fatal(err)
	}
	w.keys["growth"] = made.Key
	if a := w.do(request{path: "/attempts?" + url.Values{"outcome": {"failed"}}.Encode(), scope: "growth"}); a.status != http.StatusOK || strings.Contains(a.body, "said 503") {
		t.Errorf("a restricted key sees tries of others: %d", a.status)
	}
}
