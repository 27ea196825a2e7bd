package api_test

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
)

type keyJSON struct {
	ID, Name, Key string
	Scopes        []string
	CreatedBy     string  `json:"created_by"`
	ExpiresAt     *string `json:"expires_at"`
	LastUsedAt    *string `json:"last_used_at"`
}

func (w *world) newKey(body string) keyJSON {
	w.t.Helper()
	a := w.do(request{method: "POST", path: "/v1/api-keys", scope: api.ScopeAdmin, body: body})
	if a.status != http.StatusCreated {
		w.t.Fatalf("create key: %d %s", a.status, a.body)
	}
	var key keyJSON
	a.into(w.t, &key)
	return key
}

func TestAKeyIsMadeShownOnceUsedAndRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	expires := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	key := w.newKey(`{"name":"billing","scopes":["publish","read","read"],"expires_at":"` + expires + `"}`)
	if _, err := api.HashKey(key.Key); err != nil || strings.Join(key.Scopes, " ") != "publish read" || *key.ExpiresAt != expires || key.CreatedBy != "key_admin" {
		t.Fatalf("made %+v, %v", key, err)
	}
	if a := w.do(request{method: "GET", path: "/v1/subscriptions", key: key.Key}); a.status != 200 {
		t.Errorf("its own scope: %d", a.status)
	}
	w.do(request{method: "GET", path: "/v1/api-keys", key: key.Key}).problem(t, 403, "forbidden")
	session := w.do(request{method: "POST", path: "/v1/sessions", key: key.Key})
	var made struct{ Token string }
	session.into(t, &made)
	list := w.do(request{method: "GET", path: "/v1/api-keys?limit=1000", scope: api.ScopeAdmin})
	var page struct{ Items []keyJSON }
	list.into(t, &page)
	seen := map[string]keyJSON{}
	for _, k := range page.Items {
		seen[k.ID] = k
	}
	if len(seen) != 6 || seen[key.ID].Name != "billing" || seen[key.ID].LastUsedAt == nil || strings.Contains(list.body, key.Key[10:40]) || strings.Contains(list.body, `"key"`) {
		t.Errorf("list: %s", list.body)
	}
	revoke := request{method: "DELETE", path: "/v1/api-keys/" + key.ID, scope: api.ScopeAdmin}
	if a := w.do(revoke); a.status != http.StatusNoContent {
		t.Fatalf("revoke: %d %s", a.status, a.body)
	}
	for name, text := range map[string]string{"the key": key.Key, "its session": made.Token} {
		if a := w.do(request{method: "GET", path: "/v1/subscriptions", key: text, remote: "192.0.2.9:1"}); a.status != 401 {
			t.Errorf("%s after its end: %d", name, a.status)
		}
	}
	w.do(revoke).problem(t, 404, "not-found")
	hash, err := api.HashKey(api.NewKey())
	if err == nil {
		err = w.store.SetBootstrapKey(t.Context(), hash)
	}
	keys, err2 := w.store.APIKeys(t.Context(), "", false, 100)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for _, k := range keys {
		if k.Bootstrap {
			w.do(request{method: "DELETE", path: "/v1/api-keys/" + k.ID, scope: api.ScopeAdmin}).problem(t, 409, "conflict")
		}
	}
}

func TestAFaultyKeyIsRefusedByItsFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for body, locations := range map[string]string{
		`{}`:                                                                    "body.name body.scopes",
		`{"name":"a","scopes":["root"]}`:                                        "body.scopes",
		`{"name":"a","scopes":[]}`:                                              "body.scopes",
		`{"name":"a","scopes":"read"}`:                                          "body.scopes body.scopes",
		`{"name":"a\u0001","scopes":["read"]}`:                                  "body.name",
		`{"name":"a","scopes":["read"],"labels":{"A":"b"}}`:                     "body.labels",
		`{"name":"a","scopes":["read"],"labels":{"a":1}}`:                       "body.labels",
		`{"name":"a","scopes":["admin"],"labels":{"a":"b"}}`:                    "body.labels",
		`{"name":"a","scopes":["read"],"expires_at":"2020-01-01T00:00:00Z"}`:    "body.expires_at",
		`{"name":"a","scopes":["read"],"expires_at":"tomorrow"}`:                "body.expires_at",
		`{"name":"a","scopes":["read"],"expire":"x"}`:                           "body.expire",
		`{"name":"a","name":"b","scopes":["read"]}`:                             "body.name",
		`{"name":"` + strings.Repeat("a", 101) + `","scopes":["read","write"]}`: "body.name",
	} {
		p := w.do(request{method: "POST", path: "/v1/api-keys", scope: api.ScopeAdmin, body: body}).problem(t, 422, "validation")
		if p.locations() != locations {
			t.Errorf("%s: %+v", body, p.Errors)
		}
	}
}

func TestAKeyWithLabelsSeesItsSubscriptionsAndNothingOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.newKey(`{"name":"growth","scopes":["read","deliver","write","publish"],"labels":{"team":"growth"}}`).Key
	own := w.subscribe("own", `"labels":{"team":"growth","env":"prod"}`)["id"].(string)
	other := w.subscribe("other", `"labels":{"team":"core"}`)["id"].(string)
	claim, _ := w.claim("shop")
	w.write(claim, 1, 4, func(int) string { return "{}" })
	dead := store.Delivery{Offset: 1, State: store.Dead, Keys: []string{}, Reason: "rejected"}
	ownLane, otherLane := w.settle(own, dead), w.settle(other, dead)
	at := time.Now()
	if err := w.store.SaveAttempts(t.Context(), []store.Attempt{
		{At: at, Lane: ownLane, Offset: 1, Attempt: 1, Status: 400, Outcome: 1, Reason: "rejected"},
		{At: at, Lane: otherLane, Offset: 1, Attempt: 1, Status: 400, Outcome: 1, Reason: "rejected"},
	}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/subscriptions", "/v1/deliveries", "/v1/attempts"} {
		a := w.do(request{method: "GET", path: path, key: key})
		if a.status != 200 || !strings.Contains(a.body, own) || strings.Contains(a.body, other) {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		if a := w.do(request{method: "GET", path: path, scope: api.ScopeAdmin}); !strings.Contains(a.body, other) {
			t.Errorf("%s: an admin does not see the other: %s", path, a.body)
		}
	}
	ownDelivery, otherDelivery := deliveryOf(ownLane, 1), deliveryOf(otherLane, 1)
	for _, r := range []request{
		{method: "GET", path: "/v1/subscriptions/%"},
		{method: "GET", path: "/v1/subscriptions/%/health"},
		{method: "POST", path: "/v1/subscriptions/%/pause"},
		{method: "POST", path: "/v1/subscriptions/%/resume"},
		{method: "POST", path: "/v1/subscriptions/%/secret/rotate"},
		{method: "PATCH", path: "/v1/subscriptions/%", body: `{"description":"x"}`},
		{method: "GET", path: "/v1/deliveries/#"},
		{method: "POST", path: "/v1/deliveries/#/retry"},
		{method: "POST", path: "/v1/deliveries/#/discard"},
		{method: "DELETE", path: "/v1/subscriptions/%"},
	} {
		template := r.path
		r.key = key
		r.path = strings.NewReplacer("%", other, "#", otherDelivery).Replace(template)
		w.do(r).problem(t, 404, "not-found")
		r.path = strings.NewReplacer("%", own, "#", ownDelivery).Replace(template)
		if r.method == "DELETE" {
			continue
		}
		if a := w.do(r); a.status >= 300 {
			t.Errorf("%s %s: %d %s", r.method, r.path, a.status, a.body)
		}
	}
	ownAttempt, otherAttempt := attemptOf(at, ownLane), attemptOf(at, otherLane)
	if a := w.do(request{method: "GET", path: "/v1/attempts/" + ownAttempt, key: key}); a.status != 200 || !strings.Contains(a.body, `"id":"`+ownAttempt) || !strings.Contains(a.body, `"status":400`) {
		t.Errorf("own attempt: %d %s", a.status, a.body)
	}
	w.do(request{method: "GET", path: "/v1/attempts/" + otherAttempt, key: key}).problem(t, 404, "not-found")
	if a := w.do(request{method: "GET", path: "/v1/attempts/" + otherAttempt, scope: api.ScopeRead}); a.status != 200 {
		t.Errorf("the other attempt, for a key that sees all: %d %s", a.status, a.body)
	}
	for _, id := range []string{"att_1_1_1", "att_x_1_1", "att_01_1_1", "att_-1_1_1", "att_9223372036854775807_1_1", "att_", "dlv_1_1", "x"} {
		w.do(request{method: "GET", path: "/v1/attempts/" + id, scope: api.ScopeRead}).problem(t, 404, "not-found")
	}
	// It can neither make nor leave behind what it does not see.
	const spec = `{"name":"new","events":["a"],"endpoint":{"url":"https://receiver.test/hooks"}`
	p := w.do(request{method: "POST", path: "/v1/subscriptions", key: key, body: spec + `}`}).problem(t, 422, "validation")
	if p.locations() != "body.labels" || !strings.Contains(p.Errors[0].Message, "team=growth") {
		t.Errorf("create: %+v", p)
	}
	if a := w.do(request{method: "POST", path: "/v1/subscriptions", key: key, body: spec + `,"labels":{"team":"growth"}}`}); a.status != 201 {
		t.Errorf("create: %d %s", a.status, a.body)
	}
	w.do(request{method: "PATCH", path: "/v1/subscriptions/" + own, key: key, body: `{"labels":{"team":null}}`}).problem(t, 422, "validation")
	// A session of it is restricted as it is; routes about all are not for it.
	var made struct{ Token string }
	w.do(request{method: "POST", path: "/v1/sessions", key: key}).into(t, &made)
	w.do(request{method: "GET", path: "/v1/subscriptions/" + other, key: made.Token}).problem(t, 404, "not-found")
	for _, path := range []string{"/v1/events", "/v1/events/x/deliveries", "/v1/sources"} {
		if p := w.do(request{method: "GET", path: path, key: key}).problem(t, 403, "forbidden"); !strings.Contains(p.Detail, "labels") {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

// Every route of the document, for a key that holds every scope and is restricted:
// it refuses the key, or shows and changes nothing of others.
func TestNoRouteShowsARestrictedKeyWhatIsOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := api.NewKey()
	hash, err := api.HashKey(key)
	if err != nil {
		t.Fatal(err)
	}
	w.exec(`INSERT INTO rowcall.api_keys (id, name, hash, scopes, labels) VALUES ('key_own', 'own', $1, '{admin}', '{"team":"growth"}')`, hash)
	w.subscribe("own", `"labels":{"team":"growth"}`)
	other := w.subscribe("of-others", `"labels":{"team":"core"}`)["id"].(string)
	claim, _ := w.claim("shop")
	w.write(claim, 1, 2, func(int) string { return "{}" })
	lane, at := w.settle(other, store.Delivery{Offset: 1, State: store.Dead, Keys: []string{"k"}, Reason: "rejected"}), time.Now()
	if err := w.store.SaveAttempts(t.Context(), []store.Attempt{{At: at, Lane: lane, Offset: 1, Attempt: 1, Status: 400, Outcome: 1, Reason: "rejected"}}); err != nil {
		t.Fatal(err)
	}
	var j, r jobJSON
	w.bulk("retry", `{"subscription":"`+other+`"}`).into(t, &j)
	w.do(request{method: "POST", path: "/v1/replays", scope: api.ScopeDeliver, body: `{"subscription":"` + other + `","from":{"offset":1}}`}).into(t, &r)
	w.exec(`INSERT INTO rowcall.dead_ranges (lane, "from", past, patterns, events, bytes, reason) VALUES ($1, 1, 2, '{public.**}', 1, 1, '')`, lane)
	w.write(claim, 2, 1, func(int) string { return "{}" }) // which its lane keeps in the log
	ids := map[string]string{
		"subscriptions": other, "deliveries": deliveryOf(lane, 1), "attempts": attemptOf(at, lane), "jobs": j.ID, "replays": r.ID, "dead-ranges": "drg_1",
	}
	refused := 0
	for path, item := range loadDocument(t, w.api).Paths.Map() {
		for method, op := range item.Operations() {
			if op.OperationID == "tail" { // it does not end: it has tests of its own
				continue
			}
			kind, _, _ := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/")
			one := strings.Contains(path, "{")
			r := request{method: method, path: strings.NewReplacer("{id}", cmp.Or(ids[kind], "x"), "{name}", "shop").Replace(path), key: key}
			if op.RequestBody != nil {
				for media := range op.RequestBody.Value.Content {
					r.body, r.header = "{}", map[string]string{"Content-Type": media}
				}
			}
			switch a := w.do(r); {
			case a.status == http.StatusForbidden:
				refused++
				if p := a.problem(t, http.StatusForbidden, "forbidden"); !strings.Contains(p.Detail, "labels") {
					t.Errorf("%s %s: %s", method, path, a.body)
				}
			case one && ids[kind] == "":
				t.Errorf("%s %s lets a restricted key in: have this test ask for one of others", method, path)
			case one && a.status != http.StatusNotFound, strings.Contains(a.body, other), strings.Contains(a.body, "of-others"):
				t.Errorf("%s %s answers of others: %d %s", method, path, a.status, a.body)
			}
		}
	}
	if refused < 8 {
		t.Errorf("only %d routes refuse the key", refused)
	}
	for path, body := range map[string]string{
		"/v1/deliveries/retry": `{"subscription":"` + other + `"}`, "/v1/deliveries/discard": `{"subscription":"` + other + `","dry_run":true}`,
		"/v1/replays": `{"subscription":"` + other + `","from":{"offset":1},"dry_run":true}`,
	} {
		named := w.do(request{method: "POST", path: path, key: key, body: body})
		unknown := w.do(request{method: "POST", path: path, key: key, body: strings.ReplaceAll(body, other, "sub_aaaaaaaaaaaaaaaaaaaaaaaaaa")})
		if named.problem(t, http.StatusUnprocessableEntity, "validation").locations() != "body.subscription" || named.body != unknown.body {
			t.Errorf("%s of others: %s, of none: %s", path, named.body, unknown.body)
		}
	}
	for _, path := range []string{"/v1/jobs", "/v1/replays", "/v1/dead-ranges"} {
		for _, query := range []string{"", "?subscription=" + other} {
			a := w.do(request{method: "GET", path: path + query, key: key})
			if a.status != http.StatusOK || !strings.Contains(a.body, `"items":[]`) {
				t.Errorf("%s%s: %d %s", path, query, a.status, a.body)
			}
		}
	}
	if jobs := w.jobs(""); len(jobs) != 2 {
		t.Errorf("jobs %v; want the two of others", jobs)
	}
}

func deliveryOf(lane store.LaneID, at int) string {
	return "dlv_" + itoa(int(lane)) + "_" + itoa(at)
}

func attemptOf(at time.Time, lane store.LaneID) string {
	return fmt.Sprintf("att_%d_%d_1", at.UnixMicro(), lane)
}

func TestAKeyWithLabelsMendsWhatIsOfItsSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.newKey(`{"name":"growth","scopes":["read","deliver"],"labels":{"team":"growth"}}`).Key
	own := w.subscribe("own", `"labels":{"team":"growth"}`)["id"].(string)
	other := w.subscribe("other", `"labels":{"team":"core"}`)["id"].(string)
	claim, _ := w.claim("shop")
	w.write(claim, 1, 3, func(int) string { return "{}" })
	dead := store.Delivery{Offset: 1, State: store.Dead, Keys: []string{}, Reason: "rejected"}
	ownLane, otherLane := w.settle(own, dead), w.settle(other, dead)
	for _, lane := range []store.LaneID{ownLane, otherLane} {
		for range 2 {
			w.exec(`INSERT INTO rowcall.dead_ranges (lane, "from", past, patterns, events, bytes, reason) VALUES ($1, 1, 2, '{public.**}', 1, 1, 'hold_limit_age')`, lane)
		}
	}
	post := func(path, body string, status int) answer {
		t.Helper()
		a := w.do(request{method: "POST", path: path, key: key, body: body})
		if a.status != status {
			t.Fatalf("POST %s %s: %d %s", path, body, a.status, a.body)
		}
		return a
	}
	var count struct{ Total int }
	post("/v1/deliveries/discard", `{"subscription":"`+own+`","dry_run":true}`, 200).into(t, &count)
	if count.Total != 1 {
		t.Errorf("%d deliveries", count.Total)
	}
	for _, body := range []string{`{"state":"dead"}`, `{"state":"dead","dry_run":true}`} {
		p := post("/v1/deliveries/retry", body, 403).problem(t, http.StatusForbidden, "forbidden")
		if !strings.Contains(p.Detail, "name one of them as subscription") || strings.Contains(p.Title, "scope") {
			t.Errorf("%s: %+v", body, p)
		}
	}
	var j, r jobJSON
	post("/v1/deliveries/retry", `{"subscription":"`+own+`"}`, 202).into(t, &j)
	post("/v1/replays", `{"subscription":"`+own+`","from":{"offset":1},"dry_run":true}`, 200)
	post("/v1/replays", `{"subscription":"`+own+`","from":{"offset":1}}`, 202).into(t, &r)
	for _, path := range []string{"/v1/jobs/" + j.ID, "/v1/replays/" + r.ID} {
		for _, action := range []string{"/pause", "/resume", "/cancel"} {
			post(path+action, "", 200)
		}
		if a := w.do(request{method: "GET", path: path, key: key}); a.status != 200 || !strings.Contains(a.body, `"cancelled"`) {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	w.bulk("retry", `{"subscription":"`+other+`"}`)
	for path, want := range map[string]int{"/v1/jobs": 2, "/v1/replays": 1, "/v1/dead-ranges": 2} {
		var page struct {
			Items []struct{ Subscription string }
		}
		w.do(request{method: "GET", path: path, key: key}).into(t, &page)
		if len(page.Items) != want || page.Items[0].Subscription != own || page.Items[want-1].Subscription != own {
			t.Errorf("%s: %+v, want %d of its own", path, page, want)
		}
	}
	post("/v1/dead-ranges/drg_1/discard", "", 204)
	post("/v1/dead-ranges/drg_2/retry", "", 202)
	for _, path := range []string{"/v1/dead-ranges/drg_3/discard", "/v1/dead-ranges/drg_4/retry"} {
		post(path, "", 404)
	}
}

func TestAKeyWithLabelsHearsNothingOfOthersByNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.newKey(`{"name":"growth","scopes":["read","deliver","write"],"labels":{"team":"growth"}}`).Key
	const spec = `{"name":"new","labels":{"team":"growth"},"endpoint":{"url":"https://receiver.test/hooks"},"events":`
	for _, pattern := range []string{"rowcall.**", "rowcall.subscription.parked", "rowcall.*.*"} {
		for path, body := range map[string]string{
			"/v1/subscriptions": spec + `["public.**","` + pattern + `"]}`, "/v1/subscriptions/preview": `{"events":["` + pattern + `"]}`,
		} {
			p := w.do(request{method: "POST", path: path, key: key, body: body}).problem(t, 422, "validation")
			if p.locations() != "body.events" || !strings.Contains(p.Errors[0].Message, "labels") {
				t.Errorf("%s %s: %+v", path, pattern, p)
			}
		}
	}
	if a := w.do(request{method: "POST", path: "/v1/subscriptions/preview", key: key, body: `{"events":["**"]}`}); a.status != 200 {
		t.Errorf("preview: %d %s", a.status, a.body)
	}
	// One that an admin gave notices is not its to send elsewhere, and what they say stays hidden.
	own := w.subscribe("own", `"labels":{"team":"growth"}`)["id"].(string)
	patch := func(scope api.Scope, key, body string) answer {
		return w.do(request{method: "PATCH", path: "/v1/subscriptions/" + own, scope: scope, key: key, body: body})
	}
	patch("", key, `{"events":["rowcall.**"]}`).problem(t, 422, "validation")
	if a := patch(api.ScopeWrite, "", `{"events":["rowcall.**"]}`); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	patch("", key, `{"endpoint":{"url":"https://elsewhere.test/"}}`).problem(t, 422, "validation")
	hidden := w.subscribe("hidden", `"labels":{"team":"core"}`)["id"].(string)
	if err := w.store.Announce(t.Context(), []store.Notice{{ID: "parked-1", Type: "rowcall.subscription.parked", Subject: hidden, Data: map[string]any{"subscription": hidden}}}); err != nil {
		t.Fatal(err)
	}
	e := w.logged()[0]
	lane, at := w.settle(own, store.Delivery{Offset: e.Offset, State: store.Dead, Keys: []string{e.Key}, Reason: "rejected"}), time.Now()
	if err := w.store.SaveAttempts(t.Context(), []store.Attempt{{At: at, Lane: lane, Offset: e.Offset, Attempt: 1, Status: 400, Outcome: 1, Reason: "rejected"}}); err != nil {
		t.Fatal(err)
	}
	delivery := deliveryOf(lane, int(e.Offset))
	for _, path := range []string{"/v1/attempts", "/v1/attempts/" + attemptOf(at, lane), "/v1/deliveries", "/v1/deliveries/" + delivery} {
		a := w.do(request{method: "GET", path: path, key: key})
		if a.status != 200 || !strings.Contains(a.body, own) || strings.Contains(a.body, hidden) {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	w.do(request{method: "GET", path: "/v1/deliveries/" + delivery + "/request", key: key}).problem(t, http.StatusForbidden, "forbidden")
	if a := w.do(request{method: "GET", path: "/v1/deliveries/" + delivery, scope: api.ScopeRead}); !strings.Contains(a.body, hidden) {
		t.Errorf("for a key that sees all: %s", a.body)
	}
}
