package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

func TestEventsAreShownAsTheyAreDelivered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	// What a second JSON encoder would change, or refuse.
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	data := []string{
		`{"op":"insert", "row":{"html":"<b>&</b>","big":9223372036854775807,"num":1.10, "sep":"` + "\u2028" + `"}}`,
		`{"op":"insert","row":{"nul":"\u0000","lone":"\ud800","deep":` + deep + `}}`,
	}
	w.write(claim, 0x3F2A8C0, 2, func(i int) string { return data[i] })
	a := w.do(request{method: "GET", path: "/v1/events/01-0000000003F2A8C0-0", scope: api.ScopeRead})
	if a.status != http.StatusOK || !strings.HasSuffix(strings.TrimSpace(a.body), `,"data":`+data[0]+"}") {
		t.Errorf("get: %d, data is not as stored: %s", a.status, a.body)
	}
	var e map[string]any
	a.into(t, &e)
	if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(e["time"])); err != nil {
		t.Error(err)
	}
	delete(e, "data")
	delete(e, "time")
	want := map[string]any{
		"specversion": "1.0", "id": "01-0000000003F2A8C0-0", "source": "/sources/shop", "type": "public.orders.inserted",
		"subject": "id=0", "datacontenttype": "application/json", "partitionkey": "public.orders/id=0",
		"sequence": "00000000000000000001",
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	list := w.do(request{method: "GET", path: "/v1/events", scope: api.ScopeRead})
	for _, d := range data {
		if !strings.Contains(list.body, `,"data":`+d+"}") {
			t.Errorf("the list lacks %.60s", d)
		}
	}
	for _, id := range []string{"01-0000000003F2A8C0-7", "nobody", "%2F..%2F", "01-0000000003f2a8c0-0"} {
		w.do(request{method: "GET", path: "/v1/events/" + id, scope: api.ScopeRead}).problem(t, http.StatusNotFound, "not-found")
	}
}

func TestEventsAreListedNewestFirstPageByPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	const n = 45
	w.write(claim, 0x100, n, func(int) string { return `{}` })
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("01-%016X-%d", 0x100, n-1-i))
	}
	for _, limit := range []int{1, 7, 20, 44, 45, 46, 1000} {
		if diff := cmp.Diff(want, w.pages(fmt.Sprintf("/v1/events?limit=%d", limit))); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
	if got := w.pages("/v1/events?limit=3&key=" + url.QueryEscape("public.orders/id=7")); !slices.Equal(got, want[n-8:n-7]) {
		t.Errorf("by key: %v", got)
	}
	if got := w.pages("/v1/events?type=public.orders.inserted"); len(got) != n {
		t.Errorf("by type: %d", len(got))
	}
	if got := w.pages("/v1/events?type=public.orders.deleted"); len(got) != 0 {
		t.Errorf("by another type: %v", got)
	}
}

// What is rare is looked for a part of the log at a time: a page says so by its
// cursor, whether it found something or not.
func TestARareEventIsFoundOnALaterPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	w.write(claim, 0x100, 2, func(int) string { return `{}` })
	const between = 600_000
	w.exec(fmt.Sprintf(`UPDATE rowcall.log_head SET next = next + %d, partitioned_to = next + %d`, between, between))
	if at := w.write(claim, 0x200, 2, func(int) string { return `{}` }); at < between {
		t.Fatalf("the log goes on at %d", at)
	}
	want := []string{"01-0000000000000200-0", "01-0000000000000100-0"}
	only := url.QueryEscape(`subject == "id=0"`)
	var found []string
	cursor, pages := "", 0
	for more := true; more; pages++ {
		a := w.do(request{method: "GET", path: "/v1/events?limit=5&filter=" + only + cursor, scope: api.ScopeRead})
		var list struct {
			Items      []struct{ ID string }
			NextCursor *string `json:"next_cursor"`
		}
		a.into(t, &list)
		for _, e := range list.Items {
			found = append(found, e.ID)
		}
		if more = list.NextCursor != nil; more {
			cursor = "&cursor=" + *list.NextCursor
		}
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	if pages < 2 { // more, where the machine has other things to do
		t.Errorf("%d pages for %d offsets", pages, between)
	}
	// A key is known by the ranges that have it.
	if found := w.pages("/v1/events?limit=5&key=" + url.QueryEscape("public.orders/id=0")); !slices.Equal(found, want) {
		t.Errorf("by key: %v", found)
	}
	// Of a type, blocks that have none are jumped over, and do not end a page.
	if _, err := w.store.Captured(t.Context()); err != nil { // counts the log, as Run does
		t.Fatal(err)
	}
	for late := time.After(30 * time.Second); ; {
		a := w.do(request{method: "GET", path: "/v1/events?limit=5&type=public.orders.inserted", scope: api.ScopeRead})
		if n := strings.Count(a.body, `"specversion"`); n == 4 {
			break
		}
		select {
		case <-late:
			t.Fatalf("no page reaches over the gap: %s", a.body)
		default: // the machine has other things to do
		}
	}
}

func TestAPageOfLargePayloadsEndsEarlyAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	large := `"` + strings.Repeat("x", 3<<20) + `"`
	w.write(claim, 0x100, 7, func(int) string { return large })
	a := w.do(request{method: "GET", path: "/v1/events", scope: api.ScopeRead})
	if len(a.body) > 8<<20+4096 {
		t.Errorf("a page of %d bytes", len(a.body))
	}
	if got := w.pages("/v1/events"); len(got) != 7 {
		t.Errorf("%d events on all pages, want 7", len(got))
	}
}

// failing is a world with one subscription and deliveries in every state.
func failing(t *testing.T) (w *world, id string, lane store.LaneID) {
	t.Helper()
	w = newWorld(t)
	id, _ = w.subscribe("failing")["id"].(string)
	claim, _ := w.claim("shop")
	w.write(claim, 0x100, 3, func(i int) string { return fmt.Sprintf(`{"row":{"n":%d}}`, i) })
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	lane = w.settle(id,
		store.Delivery{Offset: 1, State: store.Retrying, Keys: []string{"public.orders/id=0"}, Attempts: 2, DueAt: at.Add(time.Hour), FirstFailedAt: at, Reason: "server_error", Status: 500},
		store.Delivery{Offset: 2, State: store.Blocked, Keys: []string{"public.orders/id=0"}},
		store.Delivery{Offset: 3, State: store.Dead, Keys: []string{"public.orders/id=2"}, Attempts: 20, FirstFailedAt: at, Reason: "rejected", Status: 422, Error: "the endpoint answered 422"},
	)
	return w, id, lane
}

func TestDeliveriesAreShownWithTheirEvents(t *testing.T) {
	t.Parallel()
	w, id, lane := failing(t)
	dead := fmt.Sprintf("dlv_%d_3", lane)
	a := w.do(request{method: "GET", path: "/v1/deliveries/" + dead, scope: api.ScopeRead})
	if a.status != http.StatusOK || !strings.Contains(a.body, `,"data":{"row":{"n":2}}}`) {
		t.Fatalf("get: %d %s", a.status, a.body)
	}
	var d map[string]any
	a.into(t, &d)
	event, _ := d["event"].(map[string]any)
	if event["id"] != "01-0000000000000100-2" {
		t.Errorf("event %v", event)
	}
	delete(d, "event")
	delete(d, "updated_at")
	want := map[string]any{
		"id": dead, "subscription": id, "replay": nil, "state": "dead", "sequence": "00000000000000000003", "keys": []any{"public.orders/id=2"},
		"attempts": 20.0, "due_at": nil, "first_failed_at": "2026-11-20T12:00:00Z", "reason": "rejected", "status": 422.0,
		"error": "the endpoint answered 422",
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	list := w.do(request{method: "GET", path: "/v1/deliveries", scope: api.ScopeRead})
	if strings.Contains(list.body, `"data"`) || strings.Count(list.body, `"partitionkey"`) != 3 {
		t.Errorf("a list shows the event without data: %s", list.body)
	}
	for _, wrong := range []string{"dlv_9_3", fmt.Sprintf("dlv_%d_9", lane), fmt.Sprintf("dlv_0%d_3", lane), "dlv_1", "dlv_-1_3", "dlv_1_3 ", "dlv_99999999999_1", "3"} {
		w.do(request{method: "GET", path: "/v1/deliveries/" + url.PathEscape(wrong), scope: api.ScopeRead}).problem(t, http.StatusNotFound, "not-found")
	}
}

func TestDeliveriesAreListedByFilter(t *testing.T) {
	t.Parallel()
	w, id, lane := failing(t)
	all := []string{fmt.Sprintf("dlv_%d_3", lane), fmt.Sprintf("dlv_%d_2", lane), fmt.Sprintf("dlv_%d_1", lane)}
	other := string(subscriptions.NewID())
	hourAgo, inAnHour := stamp(-time.Hour), stamp(time.Hour)
	for query, want := range map[string][]string{
		"":                                     all,
		"?limit=1":                             all,
		"?subscription=" + id:                  all,
		"?subscription=" + other:               {},
		"?state=dead":                          all[:1],
		"?state=blocked":                       all[1:2],
		"?reason=server_error":                 all[2:],
		"?type=public.orders.inserted&limit=2": all,
		"?type=public.orders.updated":          {},
		"?key=public.orders%2Fid%3D2":          all[:1],
		"?since=" + hourAgo:                    all,
		"?since=" + inAnHour:                   {},
		"?until=" + inAnHour + "&limit=1":      all,
		"?until=" + hourAgo:                    {},
	} {
		if diff := cmp.Diff(want, w.pages("/v1/deliveries"+query)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
}

func stamp(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }

func TestRetryAndDiscardLeaveAnIntentForTheLanesOwner(t *testing.T) {
	t.Parallel()
	w, _, lane := failing(t)
	for _, action := range []string{"retry", "discard"} {
		a := w.do(request{method: "POST", path: fmt.Sprintf("/v1/deliveries/dlv_%d_3/%s", lane, action), scope: api.ScopeDeliver})
		var got struct{ ID, Action string }
		a.into(t, &got)
		if a.status != http.StatusAccepted || got.ID != fmt.Sprintf("dlv_%d_3", lane) || got.Action != action {
			t.Errorf("%s: %d %s", action, a.status, a.body)
		}
		w.do(request{method: "POST", path: fmt.Sprintf("/v1/deliveries/dlv_%d_99/%s", lane, action), scope: api.ScopeDeliver}).
			problem(t, http.StatusNotFound, "not-found")
	}
	intents, err := w.store.Intents(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range intents {
		intents[i].ID = 0
	}
	want := []store.Intent{
		{Lane: lane, Action: "retry", Offset: 3, Actor: "key_deliver"},
		{Lane: lane, Action: "discard", Offset: 3, Actor: "key_deliver"},
	}
	if diff := cmp.Diff(want, intents); diff != "" {
		t.Errorf("intents (-want +got):\n%s", diff)
	}
}

func TestAttemptsAreListedByFilter(t *testing.T) {
	t.Parallel()
	w, id, lane := failing(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	tries := []store.Attempt{
		{At: now, Lane: lane, Offset: 1, Attempt: 1, Duration: 1500 * time.Microsecond, Status: 500, Outcome: 1, Reason: "server_error", Detail: json.RawMessage(`{"error":"said 500"}`), Timings: store.Timings{Connect: time.Millisecond, FirstByte: 1250 * time.Microsecond}},
		{At: now.Add(time.Second), Lane: lane, Offset: 1, Attempt: 2, Outcome: 2, Reason: "blocked", Timings: store.Timings{DNS: 77 * time.Millisecond}, Detail: json.RawMessage(`{"error":"canary 10.0.0.7"}`)},
		{At: now.Add(time.Second), Lane: lane, Offset: 2, Attempt: 1, Status: 200},
		{At: now.Add(time.Second), Lane: lane, Offset: 3, Attempt: 1, Outcome: 3, Reason: "unknown"},
	}
	if err := w.store.SaveAttempts(t.Context(), tries); err != nil {
		t.Fatal(err)
	}
	seq := func(offset, attempt int) string {
		for _, try := range tries {
			if int(try.Offset) == offset && try.Attempt == attempt {
				return fmt.Sprintf("att_%d_%d_%d", try.At.UnixMicro(), lane, offset)
			}
		}
		return ""
	}
	all := []string{seq(3, 1), seq(2, 1), seq(1, 2), seq(1, 1)}
	for query, want := range map[string][]string{
		"":                             all,
		"?limit=1":                     all,
		"?limit=2":                     all,
		"?subscription=" + id:          all,
		"?event=01-0000000000000100-0": {seq(1, 2), seq(1, 1)},
		"?event=nobody":                {},
		"?outcome=delivered":           {seq(2, 1)},
		"?outcome=failed":              {seq(1, 1)},
		"?outcome=blocked":             {seq(1, 2)},
		"?outcome=unknown":             {seq(3, 1)},
	} {
		if diff := cmp.Diff(want, w.pages("/v1/attempts"+query)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	a := w.do(request{method: "GET", path: "/v1/attempts", scope: api.ScopeRead})
	if strings.Contains(a.body, "canary") || strings.Contains(a.body, ":77") {
		t.Error("what is behind a target that is not allowed is shown")
	}
	if !strings.Contains(a.body, `"detail":{"error":"said 500"}`) || !strings.Contains(a.body, `"duration_ms":1.5,"timings":{"dns_ms":null,"connect_ms":1,"tls_ms":null,"first_byte_ms":1.25}`) {
		t.Errorf("a failure's detail, duration and timings are missing: %s", a.body)
	}
	if !strings.Contains(a.body, `"event":{"id":"01-0000000000000100-0","type":"public.orders.inserted","subject":"id=0","partitionkey":"public.orders/id=0","time":"`) {
		t.Errorf("it is not said what was tried: %s", a.body)
	}
}

func TestSourcesAreShownAndAGapIsAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	w.claim("archive")
	if err := w.store.SetRelations(t.Context(), claim, []store.Relation{
		{Schema: "public", Name: "orders", Identity: "default", Captured: true, Key: []string{"id"}},
		{Schema: "public", Name: "logs", Identity: "nothing", Reason: "no key", Remedy: "ALTER TABLE public.logs REPLICA IDENTITY FULL"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.store.RecordGap(t.Context(), claim, store.Gap{Reason: "slot lost", From: 0x10, To: 0x1_0000_0020}, store.Checkpoint{Commit: 0x20, End: 0x20}); err != nil {
		t.Fatal(err)
	}
	// A subscription that has had all up to it waits there, and says so.
	id, _ := w.subscribe("orders", `"start":"earliest"`)["id"].(string)
	w.settle(id)
	w.exec(`UPDATE rowcall.cursors SET "offset" = (SELECT marker FROM rowcall.gaps)`)
	waits := func(want bool) {
		t.Helper()
		condition, hold, since := "healthy", `"hold":null`, "null"
		if want {
			condition, hold, since = "gap", `"hold":"gap"`, `"20`
		}
		board := w.do(request{method: "GET", path: "/v1/endpoints", scope: api.ScopeRead}).body
		health := w.do(request{method: "GET", path: "/v1/subscriptions/" + id + "/health", scope: api.ScopeRead}).body
		if !strings.Contains(board, `"condition":"`+condition+`"`) || !strings.Contains(health, hold) || !strings.Contains(health, `"held_since":`+since) {
			t.Errorf("waits at the gap %t: %s\n%s", want, board, health)
		}
	}
	waits(true)
	if got := w.pages("/v1/sources"); !slices.Equal(got, []string{"archive", "shop"}) {
		t.Errorf("list: %v", got)
	}
	a := w.do(request{method: "GET", path: "/v1/sources/shop", scope: api.ScopeRead})
	var s struct {
		Name, State string
		Relations   []map[string]any
		Gaps        []map[string]any
	}
	a.into(t, &s)
	if s.State != "gap" || len(s.Gaps) != 1 || s.Gaps[0]["from"] != "0/10" || s.Gaps[0]["to"] != "1/20" || s.Gaps[0]["reason"] != "slot lost" {
		t.Errorf("source: %s", a.body)
	}
	if len(s.Relations) != 2 || !strings.Contains(a.body, `"remedy":"ALTER TABLE public.logs REPLICA IDENTITY FULL"`) {
		t.Errorf("relations: %s", a.body)
	}
	for _, want := range []string{`{"accepted":1}`, `{"accepted":0}`} {
		a = w.do(request{method: "POST", path: "/v1/sources/shop/accept-gap", scope: api.ScopeAdmin})
		if a.status != http.StatusOK || strings.TrimSpace(a.body) != want {
			t.Errorf("accept: %d %s, want %s", a.status, a.body, want)
		}
	}
	waits(false)
	if gaps, err := w.store.OpenGaps(t.Context()); err != nil || len(gaps) != 0 {
		t.Errorf("open gaps: %v, %v", gaps, err)
	}
	w.do(request{method: "GET", path: "/v1/sources/nobody", scope: api.ScopeRead}).problem(t, http.StatusNotFound, "not-found")
	w.do(request{method: "POST", path: "/v1/sources/nobody/accept-gap", scope: api.ScopeAdmin}).problem(t, http.StatusNotFound, "not-found")
}
