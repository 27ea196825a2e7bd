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

// What a row, a receiver or a low-right key can put into every place that pages
// show. It must come out as text.
const hostile = `"'><script>alert(1)</script><img src=x onerror=alert(1)>`

func TestWhatIsStoredIsShownAsText(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := w.source("shop")
	sub := w.subscribe(map[string]any{"name": hostile, "description": hostile, "labels": map[string]any{"team": hostile}})
	data, _ := json.Marshal(map[string]any{hostile: hostile})
	first := w.write(claim, 2, string(data))
	detail, _ := json.Marshal(map[string]any{"error": hostile, "body": hostile, "headers": map[string]string{"x": hostile}})
	w.settle(sub.ID, []store.Delivery{
		{Offset: first, State: store.Dead, Keys: []string{hostile}, Attempts: 1, Reason: "rejected", Status: 422, Error: hostile, FirstFailedAt: time.Now()},
	}, []store.Attempt{{At: time.Now(), Offset: first, Attempt: 1, Status: 422, Outcome: 1, Reason: "rejected", Detail: detail}})
	if err := w.store.SetSourceState(t.Context(), claim, store.SourceRefused, hostile, hostile); err != nil {
		t.Fatal(err)
	}
	if err := w.store.SetRelations(t.Context(), claim, []store.Relation{{Schema: hostile, Name: hostile, Identity: "nothing", Reason: hostile, Remedy: hostile}}); err != nil {
		t.Fatal(err)
	}
	w.exec(`UPDATE rowcall.events SET type = $1, key = $1, subject = $1`, hostile)
	w.exec(`UPDATE rowcall.subscriptions SET state = 'paused', state_reason = $1`, hostile)
	w.exec(`UPDATE rowcall.api_keys SET name = $1`, hostile)
	dead, err := w.api.Deliveries(t.Context(), deliveryQuery())
	if err != nil || len(dead.Items) != 1 {
		t.Fatalf("%+v, %v", dead, err)
	}
	event := dead.Items[0].Event.ID
	harmful := regexp.MustCompile(`(?i)<script>|<img|onerror=alert\(1\)>`)
	for _, path := range []string{
		"/", "/subscriptions", "/subscriptions?q=" + url.QueryEscape(hostile), "/subscriptions/" + sub.ID, "/subscriptions/" + sub.ID + "/edit",
		"/subscriptions/" + sub.ID + "/delete", "/failed", "/failed/deliveries", "/deliveries/" + dead.Items[0].ID,
		"/deliveries/" + dead.Items[0].ID + "/retry", "/events", "/events?key=" + url.QueryEscape(hostile), "/attempts", "/events/" + event, "/sources", "/sources/shop",
		"/keys", "/audit", "/audit?object=" + url.QueryEscape(hostile), "/replays/new?filter=" + url.QueryEscape(hostile),
	} {
		page := w.page(path)
		if at := harmful.FindStringIndex(page); at != nil {
			t.Errorf("%s holds %q", path, page[max(0, at[0]-80):at[1]])
		}
		if !strings.Contains(page, "alert(1)") {
			t.Errorf("%s does not show the text", path)
		}
	}
}

func TestPagesHoldNoInlineStyleOrScript(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.subscribe(nil)
	inline := regexp.MustCompile(`(?i)<style|<script[^>]*>[^<]|\sstyle=|\son[a-z]+=|javascript:`)
	for _, path := range []string{"/", "/subscriptions", "/subscriptions/new", "/failed", "/failed/deliveries", "/jobs", "/events", "/attempts", "/sources", "/replays", "/replays/new", "/keys", "/keys/new", "/audit"} {
		if at := inline.FindString(w.page(path)); at != "" {
			t.Errorf("%s holds %q", path, at)
		}
	}
	page := w.page("/")
	for _, asset := range regexp.MustCompile(`/assets/[^"]+`).FindAllString(page, -1) {
		a := w.do(request{path: asset})
		if a.status != http.StatusOK || !strings.Contains(a.header.Get("Cache-Control"), "immutable") || len(a.body) < 1000 {
			t.Errorf("%s: %d %v", asset, a.status, a.header)
		}
	}
}

func TestAKeySeesTheActionsThatItMayDoAndNoOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.subscribe(nil).ID
	for _, c := range []struct {
		scope               api.Scope
		pause, edit, create bool
	}{{api.ScopeRead, false, false, false}, {api.ScopeDeliver, true, false, false}, {api.ScopeWrite, false, true, true}, {api.ScopeAdmin, true, true, true}} {
		page := w.do(request{path: "/subscriptions/" + id, scope: c.scope}).body
		list := w.do(request{path: "/subscriptions", scope: c.scope}).body
		if strings.Contains(page, id+"/pause") != c.pause || strings.Contains(page, id+"/edit") != c.edit || strings.Contains(list, "/subscriptions/new") != c.create {
			t.Errorf("%s sees other actions than it may do", c.scope)
		}
	}
	a := w.do(request{method: "POST", path: "/subscriptions/" + id + "/pause", scope: api.ScopeRead, form: url.Values{"version": {"1"}}})
	if a.status != http.StatusForbidden || !strings.Contains(a.body, "Your key may not do this.") {
		t.Errorf("pausing with a key that may not: %d", a.status)
	}
}

func TestFailuresAreGroupedAndLeadToSingleDeliveries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := w.source("shop")
	sub := w.subscribe(nil)
	first := w.write(claim, 5, `{"op":"insert"}`)
	failed := func(i int, state store.DeliveryState, reason string, status int) store.Delivery {
		return store.Delivery{
			Offset: first + store.Offset(i), State: state, Keys: []string{"public.orders/id=1"}, Attempts: 1, Reason: reason, Status: status,
			Error: "currency: must be ISO 4217", FirstFailedAt: time.Now(), DueAt: time.Now().Add(time.Hour),
		}
	}
	w.settle(sub.ID, []store.Delivery{
		failed(0, store.Retrying, "timeout", 0), failed(1, store.Blocked, "", 0), failed(2, store.Blocked, "", 0),
		failed(3, store.Dead, "rejected", 422), failed(4, store.Dead, "rejected", 422),
	}, nil)
	page := w.page("/failed")
	for _, want := range []string{"2 dead, 1 retrying, 2 blocked", "orders refused the event", "422 Unprocessable Entity", "orders did not answer in time", "currency: must be ISO 4217"} {
		if !strings.Contains(page, want) {
			t.Errorf("the groups lack %q", want)
		}
	}
	link := regexp.MustCompile(`/failed/deliveries\?reason=rejected[^"]+`).FindString(page)
	list := w.page(strings.ReplaceAll(link, "&amp;", "&"))
	ids := regexp.MustCompile(`name="id" value="(dlv_[^"]+)"`).FindAllStringSubmatch(list, -1)
	if len(ids) != 2 {
		t.Fatalf("%s lists %v", link, ids)
	}
	if !strings.Contains(link, "status=422") {
		t.Errorf("the group's link %s leaves its status out", link)
	}
	dead := w.page("/deliveries/" + ids[0][1])
	for _, want := range []string{"&#34;partitionkey&#34;", "Webhook-Id", "v1,[redacted]", "curl -i -X POST &#39;https://receiver.test/hooks&#39;"} {
		if !strings.Contains(dead, want) {
			t.Errorf("the delivery's page lacks %q", want)
		}
	}
	blocked, err := w.api.Deliveries(t.Context(), deliveryQuery("blocked"))
	if err != nil {
		t.Fatal(err)
	}
	if page := w.page("/deliveries/" + blocked.Items[0].ID); !strings.Contains(page, "It waits behind 2 earlier events of its key") {
		t.Error("it is not said what a blocked delivery waits behind")
	}
	// What was ticked is asked about before it is done.
	form := url.Values{"action": {"retry"}, "id": {ids[0][1], ids[1][1]}}
	asked := w.do(request{method: "POST", path: "/failed/deliveries?state=dead", scope: api.ScopeDeliver, form: form})
	if asked.status != http.StatusOK || !strings.Contains(asked.body, "Retry 2 deliveries?") {
		t.Errorf("asking: %d", asked.status)
	}
	var intents int
	count := func() int {
		if err := w.conn.QueryRow(t.Context(), `SELECT count(*) FROM rowcall.intents`).Scan(&intents); err != nil {
			t.Fatal(err)
		}
		return intents
	}
	if n := count(); n != 0 {
		t.Errorf("%d were asked for before anybody was sure", n)
	}
	form.Set("sure", "yes")
	done := w.do(request{method: "POST", path: "/failed/deliveries?state=dead", scope: api.ScopeDeliver, form: form})
	if done.status != http.StatusSeeOther || done.header.Get("Location") != "/failed/deliveries?done=retry&state=dead" {
		t.Errorf("doing: %d to %s", done.status, done.header.Get("Location"))
	}
	if n := count(); n != 2 {
		t.Errorf("%d were asked for", n)
	}
	// Many at once: counted first, then a job that says how far it is.
	bulk := w.do(request{path: "/failed/retry?state=dead&subscription=" + sub.ID, scope: api.ScopeDeliver})
	if bulk.status != http.StatusOK || !strings.Contains(bulk.body, "Retry 2 deliveries?") {
		t.Errorf("asking about all: %d", bulk.status)
	}
	made := w.do(request{method: "POST", path: "/failed/retry?state=dead&subscription=" + sub.ID, scope: api.ScopeDeliver, form: url.Values{}})
	if job := w.page(strings.TrimSuffix(made.header.Get("Location"), "?done=started")); !strings.Contains(job, "The retry ") || !strings.Contains(job, " 2") {
		t.Errorf("the job is not shown: %d to %s", made.status, made.header.Get("Location"))
	}
	if !strings.Contains(w.page("/jobs"), "retry of orders") {
		t.Error("the job is not listed")
	}
}

func TestARestrictedKeySeesItsOwnSubscriptionsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := w.source("shop")
	own := w.subscribe(map[string]any{"name": "own-of-growth", "labels": map[string]any{"team": "growth"}})
	other := w.subscribe(map[string]any{"name": "other-of-billing", "labels": map[string]any{"team": "billing"}})
	first := w.write(claim, 2, "{}")
	for _, id := range []string{own.ID, other.ID} {
		w.settle(id, []store.Delivery{{Offset: first, State: store.Dead, Keys: []string{"k"}, Reason: "rejected", Status: 422}}, nil)
	}
	made, err := w.api.CreateAPIKey(t.Context(), client.NewAPIKey{Name: "growth", Scopes: []string{"read"}, Labels: map[string]string{"team": "growth"}})
	if err != nil {
		t.Fatal(err)
	}
	w.keys["growth"] = made.Key
	for _, path := range []string{"/", "/subscriptions", "/failed", "/failed/deliveries"} {
		a := w.do(request{path: path, scope: "growth"})
		if a.status != http.StatusOK || !strings.Contains(a.body, "own-of-growth") || strings.Contains(a.body, "other-of-billing") {
			t.Errorf("%s: %d, own %v, other %v", path, a.status, strings.Contains(a.body, "own-of-growth"), strings.Contains(a.body, "other-of-billing"))
		}
	}
	if a := w.do(request{path: "/failed", scope: "growth"}); !strings.Contains(a.body, "1 dead, 0 retrying") {
		t.Error("the dead letters of others are counted")
	}
	for path, status := range map[string]int{"/subscriptions/" + other.ID: 404, "/events": 403, "/sources": 403} {
		if a := w.do(request{path: path, scope: "growth"}); a.status != status {
			t.Errorf("%s: %d, want %d", path, a.status, status)
		}
	}
}

func TestAnAddressThatMakesNoSenseIsAPageThatSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for path, status := range map[string]int{
		"/subscriptions/sub_nobody": 404, "/subscriptions/%2e%2e%2fx": 404, "/deliveries/dlv_1_1": 404, "/events/nobody": 404, "/sources/nobody": 404,
		"/failed?state=sleepy": 422, "/failed/deliveries?cursor=made-up": 422, "/events?cursor=x": 422, "/subscriptions?condition=odd": 422,
		"/subscriptions/x/y/z": 404, "/assets/nothing.js": 404, "/failed?subscription=x": 422, "/failed?within=odd": 200,
	} {
		a := w.do(request{path: path, scope: api.ScopeAdmin})
		if a.status != status || a.header.Get("Content-Security-Policy") != policy {
			t.Errorf("%s: %d, want %d", path, a.status, status)
		}
	}
}

func TestFurtherPagesOfAListKeepItsFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := w.source("shop")
	sub := w.subscribe(nil)
	first := w.write(claim, 120, "{}")
	var dead []store.Delivery
	for i := range 120 {
		dead = append(dead, store.Delivery{Offset: first + store.Offset(i), State: store.Dead, Keys: []string{"k"}, Reason: "rejected", Status: 422})
	}
	w.settle(sub.ID, dead, nil)
	at := "/failed/deliveries?state=dead&status=422&within=24h"
	next := regexp.MustCompile(`rel="next" href="([^"]+)"`)
	for n, want := range []int{50, 50, 20} {
		page := w.page(at)
		if got := strings.Count(page, `name="id" value=`); got != want {
			t.Errorf("page %d has %d rows, want %d", n+1, got, want)
		}
		if n > 0 && !strings.Contains(page, `href="/failed/deliveries?since=`) {
			t.Errorf("page %d does not lead to the first with its filters", n+1)
		}
		if m := next.FindStringSubmatch(page); m != nil {
			at = strings.ReplaceAll(m[1], "&amp;", "&")
			if !strings.Contains(at, "since=") || !strings.Contains(at, "status=422") {
				t.Errorf("page %d is at %s", n+2, at)
			}
		}
	}
	if w.do(request{path: "/deliveries/dlv_1_1000", scope: api.ScopeRead}).status != http.StatusNotFound {
		t.Error("there is a delivery that never was")
	}
}

func TestADeliveryThatHasEndedIsShownByItsTries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := w.source("shop")
	sub := w.subscribe(nil)
	first := w.write(claim, 1, "{}")
	now := time.Now()
	w.settle(sub.ID, nil, []store.Attempt{
		{At: now.Add(-time.Minute), Offset: first, Attempt: 1, Status: 503, Outcome: 1, Reason: "unavailable", Detail: json.RawMessage(`{"body":"{\"busy\":true,\"queue\":7}"}`)},
		{At: now.Add(-time.Second), Offset: first, Attempt: 2, Status: 503, Outcome: 1, Reason: "unavailable", Detail: json.RawMessage(`{"body":"{\"busy\":true,\"queue\":9}"}`)},
		{At: now, Offset: first, Attempt: 3, Status: 200, Duration: 10 * time.Millisecond, Timings: store.Timings{
			DNS: time.Millisecond, Connect: 2 * time.Millisecond, TLS: 3 * time.Millisecond, FirstByte: 8 * time.Millisecond,
		}},
	})
	page := w.page("/deliveries/dlv_1_1")
	for _, want := range []string{"This was delivered.", `aria-label="DNS 1.0 ms, connect 2.0 ms, TLS 3.0 ms, first byte 2.0 ms, rest 2.0 ms"`, "503 Service Unavailable", "How the answer changed", "<del>  &#34;queue&#34;: 7", "<ins>  &#34;queue&#34;: 9"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
