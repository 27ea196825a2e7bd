package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
)

func TestTheBoardDrawsTheLastHourAndSaysWhenABacklogIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := w.source("shop")
	w.subscribe(map[string]any{"name": "quiet", "events": []string{"other"}})
	sub := w.subscribe(nil)
	first := w.write(claim, 11, "{}")
	var tries []store.Attempt
	for i := range 3 {
		tries = append(tries, store.Attempt{At: time.Now(), Offset: first + store.Offset(i), Attempt: 1, Status: 200})
	}
	tries = append(tries, store.Attempt{At: time.Now(), Offset: first + 3, Attempt: 1, Status: 503, Outcome: 1, Reason: "unavailable"})
	w.settle(sub.ID, nil, tries)
	w.exec(`UPDATE rowcall.cursors SET "offset" = $1 WHERE subscription = $2`, int64(first)+4, sub.ID) // the others wait
	row := regexp.MustCompile(`(?s)<tr><td class="wide"><a href="/subscriptions/` + sub.ID + `">.*?</tr>`)
	var got string
	for late := time.After(20 * time.Second); !strings.Contains(got, "<small>3 delivered, 1 failed</small>"); {
		select {
		case <-late:
			t.Fatalf("the row says %s", got)
		case <-time.After(50 * time.Millisecond):
		}
		got = row.FindString(w.page("/subscriptions"))
	}
	if !regexp.MustCompile(`class="f-ok" d="M0 20[HV0-9.]+V5[HV0-9.]*Z"`).MatchString(got) || !strings.Contains(got, `class="f-warn" d="M0 20`) {
		t.Errorf("nothing is drawn in %s", got)
	}
	if !strings.Contains(got, `aria-label="Last 24 hours: some failed for `) || !strings.Contains(got, `some failed, 3 delivered, 1 failed</title>`) {
		t.Errorf("the last day is not drawn in %s", got)
	}
	if page := w.page("/subscriptions/" + sub.ID); !strings.Contains(page, `aria-label="Last 24 hours: some failed for `) || !strings.Contains(page, `some failed</span></td><td class="n">3</td><td class="n">1</td>`) {
		t.Error("the subscription's page does not say how its last day went")
	}
	if !regexp.MustCompile(`class="n">≤ \d+ (s|min)</td>`).MatchString(got) {
		t.Errorf("it is not said when the backlog is gone: %s", got)
	}
	// What is held goes nowhere.
	w.do(request{method: "POST", path: "/subscriptions/" + sub.ID + "/pause", scope: api.ScopeDeliver, form: url.Values{"version": {"1"}}})
	if got = row.FindString(w.page("/subscriptions")); !strings.Contains(got, `data-label="Gone in" class="n">–</td>`) || !strings.Contains(got, "3 delivered") {
		t.Errorf("paused, the row says %s", got)
	}
	if quiet := w.page("/subscriptions?q=quiet"); !strings.Contains(quiet, "nothing sent") {
		t.Error("a subscription that nothing was sent to does not say so")
	}
}

func TestTheBoardActsInPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.subscribe(map[string]any{"labels": map[string]any{"team": "growth"}}).ID
	w.subscribe(map[string]any{"name": "other"})
	const here = "/subscriptions?label=team%3Dgrowth"
	list := w.page(here)
	for _, want := range []string{`<option value="team=growth" selected>team=growth (1)`, id + "/pause?back=%2fsubscriptions%3flabel", id + "/rotate?back=", id + "/edit", "Send a test event"} {
		if !strings.Contains(list, want) {
			t.Errorf("the board lacks %s", want)
		}
	}
	if strings.Contains(list, ">other<") {
		t.Error("the label does not filter")
	}
	// What interrupts asks first, and leads back.
	asked := w.do(request{method: "POST", path: "/subscriptions/" + id + "/pause", scope: api.ScopeDeliver, form: url.Values{"back": {here}}})
	if asked.status != http.StatusOK || !strings.Contains(asked.body, "Pause orders?") || !strings.Contains(asked.body, `<a class="button" href="`+here+`">`) {
		t.Errorf("pausing asks with %d", asked.status)
	}
	act := func(action string, form url.Values) answer {
		return w.do(request{method: "POST", path: "/subscriptions/" + id + "/" + action, scope: api.ScopeDeliver, form: form})
	}
	if a := act("pause", url.Values{"back": {here}, "version": {"1"}}); a.header.Get("Location") != here+"&done=paused" {
		t.Errorf("pausing leads to %s", a.header.Get("Location"))
	}
	list = w.page(here + "&done=paused")
	if !strings.Contains(list, `action="/subscriptions/`+id+`/resume"`) || !strings.Contains(list, "Its events are held, in order") || strings.Contains(list, id+"/pause") {
		t.Error("a paused subscription is not offered to be resumed in place")
	}
	if a := act("resume", url.Values{"back": {here}}); a.header.Get("Location") != here+"&done=resumed" {
		t.Errorf("resuming in place leads to %s", a.header.Get("Location"))
	}
	w.exec(`UPDATE rowcall.cursors c SET health = '{"state":"parked","reason":"refused","next_probe":"2099-01-01T00:00:00Z"}' WHERE subscription = $1`, id)
	if !strings.Contains(w.page(here), `action="/subscriptions/`+id+`/probe"`) {
		t.Error("a parked endpoint is not offered to be probed in place")
	}
	if a := act("probe", url.Values{"back": {here}}); a.header.Get("Location") != here+"&done=probed" {
		t.Errorf("probing in place leads to %s: %d", a.header.Get("Location"), a.status)
	}
	// Nobody is led elsewhere, and what destroys is never done at once.
	for _, elsewhere := range []string{"https://elsewhere.test/subscriptions", "//elsewhere.test/subscriptions", "/keys", "javascript:alert(1)", "/subscriptions/../keys"} {
		if a := act("probe", url.Values{"back": {elsewhere}}); a.header.Get("Location") != "/subscriptions/"+id+"?done=probed" {
			t.Errorf("back to %q leads to %s", elsewhere, a.header.Get("Location"))
		}
	}
	for _, action := range []string{"rotate", "delete"} {
		a := w.do(request{method: "POST", path: "/subscriptions/" + id + "/" + action, scope: api.ScopeWrite, form: url.Values{"back": {here}}})
		if a.status != http.StatusOK || !strings.Contains(a.body, `class="confirm"`) {
			t.Errorf("%s at once: %d", action, a.status)
		}
	}
	for scope, want := range map[api.Scope]bool{api.ScopeRead: false, api.ScopeDeliver: true} {
		list := w.do(request{path: "/subscriptions", scope: scope}).body
		if strings.Contains(list, id+"/probe") != want || strings.Contains(list, id+"/rotate") {
			t.Errorf("%s sees other actions than it may do", scope)
		}
	}
}
