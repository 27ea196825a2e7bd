package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/api"
)

func TestAReplayIsCountedThenStartedPausedResumedAndCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := w.source("shop")
	sub := w.subscribe(nil)
	w.write(claim, 5, `{"op":"insert"}`)
	if page := w.page("/replays"); !strings.Contains(page, "No replay yet") {
		t.Error("an empty list does not say what a replay is")
	}
	ask := url.Values{"count": {"yes"}, "subscription": {sub.ID}, "from": {"1h"}, "types": {"public.orders.*"}, "rate": {"1"}}
	page := w.page("/replays/new?" + ask.Encode())
	for _, want := range []string{"Replay 5 events to orders?", ">Replay 5</button>", ">5 s<"} {
		if !strings.Contains(page, want) {
			t.Errorf("the count lacks %q", want)
		}
	}
	before, _, _ := strings.Cut(page, `<form class="form" method="get"`)
	start := formOf(t, before)
	if start.Get("from") != "1" || start.Get("to") != "6" {
		t.Errorf("what is started is not what was counted: %v", start)
	}
	a := w.do(request{method: "POST", path: "/replays/new", scope: api.ScopeDeliver, form: start})
	at, _, _ := strings.Cut(a.header.Get("Location"), "?")
	if a.status != http.StatusSeeOther || !strings.HasPrefix(at, "/replays/rpl_") {
		t.Fatalf("starting: %d to %s\n%s", a.status, at, a.body)
	}
	if page = w.page(at); !strings.Contains(page, "The replay to orders is running: 0 of 5.") {
		t.Error("its page does not say how far it is")
	}
	for _, step := range []struct{ action, says string }{{"pause", "is paused at 0 of 5"}, {"resume", "is running: 0 of 5"}, {"cancel", "was cancelled at 0 of 5"}} {
		if a := w.do(request{method: "POST", path: at + "/" + step.action, scope: api.ScopeDeliver, form: url.Values{}}); a.status != http.StatusSeeOther {
			t.Errorf("%s: %d", step.action, a.status)
		}
		if !strings.Contains(w.page(at), step.says) {
			t.Errorf("after %s it does not say %q", step.action, step.says)
		}
	}
	if a := w.do(request{path: at + "/cancel", scope: api.ScopeDeliver}); a.header.Get("Location") != at {
		t.Errorf("it has ended, and is still offered to be cancelled: %d", a.status)
	}
	if page = w.page("/replays"); !strings.Contains(page, `href="`+at+`"`) || !strings.Contains(w.page("/jobs"), `href="`+at+`"`) {
		t.Error("it is not listed")
	}
}

func TestFaultsOfAReplayStandBesideTheirFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sub := w.subscribe(nil)
	for query, field := range map[string]string{
		"":                                       "subscription",
		"subscription=" + sub.ID:                 "from",
		"from=1h&to=soon&subscription=" + sub.ID: "to",
		"from=1h&rate=fast&subscription=" + sub.ID:     "rate",
		"from=1h&filter=%29%28&subscription=" + sub.ID: "filter",
		"from=1h&types=a..b&subscription=" + sub.ID:    "types",
		"from=1h&subscription=sub_nobody":              "subscription",
	} {
		a := w.do(request{path: "/replays/new?count=yes&" + query, scope: api.ScopeDeliver})
		if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `id="p-`+field+`"`) {
			t.Errorf("%s: %d, and nothing beside %s", query, a.status, field)
		}
	}
	if a := w.do(request{path: "/replays/new?count=yes&from=1h&subscription=" + sub.ID, scope: api.ScopeRead}); a.status != http.StatusForbidden {
		t.Errorf("counting with a key that may only read: %d", a.status)
	}
	if link := regexp.MustCompile(`href="/replays/new"`).FindString(w.do(request{path: "/replays", scope: api.ScopeRead}).body); link != "" {
		t.Error("a key that may only read is offered a new replay")
	}
}
