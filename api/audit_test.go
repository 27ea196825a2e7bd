package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

func itoa(n int) string { return strconv.Itoa(n) }

type changeJSON struct {
	Actor, Remote, Action, Object string
	Before, After                 map[string]json.RawMessage
}

func (w *world) changes(query string) []changeJSON {
	w.t.Helper()
	a := w.do(request{method: "GET", path: "/v1/audit" + query, scope: api.ScopeAdmin})
	if a.status != 200 {
		w.t.Fatalf("audit: %d %s", a.status, a.body)
	}
	var page struct{ Items []changeJSON }
	a.into(w.t, &page)
	return page.Items
}

func TestEveryChangeIsRecordedWithWhoFromWhereAndWhatWithoutSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sub := w.subscribe("audited")
	id := sub["id"].(string)
	claim, _ := w.claim("shop")
	w.write(claim, 1, 2, func(int) string { return "{}" })
	lane := w.settle(id, store.Delivery{Offset: 1, State: store.Dead, Keys: []string{}, Reason: "rejected"})
	one := "/v1/subscriptions/" + id
	for _, r := range []request{
		{method: "PATCH", path: one, scope: api.ScopeWrite, body: `{"description":"new","endpoint":{"auth":{"type":"bearer","token":"canary-token"}}}`},
		{method: "POST", path: one + "/pause", scope: api.ScopeDeliver},
		{method: "POST", path: one + "/secret/rotate", scope: api.ScopeWrite},
		{method: "POST", path: "/v1/deliveries/" + deliveryOf(lane, 1) + "/discard", scope: api.ScopeDeliver},
		{method: "POST", path: "/v1/deliveries/retry", scope: api.ScopeDeliver, body: `{"subscription":"` + id + `"}`},
		{method: "POST", path: "/v1/sources/shop/accept-gap", scope: api.ScopeAdmin},
		{method: "DELETE", path: one, scope: api.ScopeWrite},
	} {
		r.remote = "[2001:db8::7]:4711"
		if a := w.do(r); a.status >= 300 {
			t.Fatalf("%s %s: %d %s", r.method, r.path, a.status, a.body)
		}
	}
	// What was refused, or changed nothing, is no change.
	w.do(request{method: "POST", path: one + "/pause", scope: api.ScopeDeliver}).problem(t, 404, "not-found")
	w.do(request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: `{}`}).problem(t, 422, "validation")
	changes := w.changes("")
	var got []string
	for _, c := range changes {
		object, _, _ := strings.Cut(c.Object, "/")
		got = append(got, c.Actor+" "+c.Action+" "+object)
		if c.Remote != "2001:db8::7" && c.Action != "create-subscription" {
			t.Errorf("%s came from %q", c.Action, c.Remote)
		}
	}
	if diff := cmp.Diff([]string{
		"key_write delete-subscription subscription", "key_admin accept-gap source", "key_deliver retry-deliveries job",
		"key_deliver discard-delivery delivery", "key_write rotate-secret subscription", "key_deliver pause-subscription subscription",
		"key_write patch-subscription subscription", "key_write create-subscription subscription",
	}, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	patch := changes[6]
	if string(patch.Before["description"]) != `""` || string(patch.After["description"]) != `"new"` || len(patch.After) != 2 || !strings.Contains(string(patch.After["endpoint"]), `"bearer"`) {
		t.Errorf("patch: before %s, after %s", patch.Before, patch.After)
	}
	if pause := changes[5]; string(pause.Before["state"]) != `"active"` || string(pause.After["state"]) != `"paused"` {
		t.Errorf("pause: %+v", pause)
	}
	raw := w.do(request{method: "GET", path: "/v1/audit", scope: api.ScopeAdmin}).body
	for _, secret := range []string{"canary", "whsec_", sub["secret"].(string)} {
		if strings.Contains(raw, secret) {
			t.Errorf("the audit trail holds %s", secret)
		}
	}
	if n := len(w.changes("?object=subscription/" + id + "&actor=key_write&limit=2")); n != 2 {
		t.Errorf("%d of a page of 2", n)
	}
	w.do(request{method: "GET", path: "/v1/audit", scope: api.ScopeRead}).problem(t, 403, "forbidden")
}

func TestAChangeIsInTheTrailOnlyWithItsTransactionAndStaysThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.subscribe("first")
	a := w.do(request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: `{"name":"first","events":["a"],"endpoint":{"url":"https://receiver.test/x"}}`})
	if a.status != http.StatusConflict || len(w.changes("")) != 1 {
		t.Errorf("a change that failed: %d, trail %+v", a.status, w.changes(""))
	}
	conn, err := pgx.Connect(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{`UPDATE rowcall.audit SET actor = 'x'`, `DELETE FROM rowcall.audit`, `TRUNCATE rowcall.audit`} {
		if _, err := conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "inserts alone") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	// Where the trail cannot be written, nothing is changed.
	if _, err := conn.Exec(t.Context(), `ALTER TABLE rowcall.audit RENAME TO away`); err != nil {
		t.Fatal(err)
	}
	if a := w.do(request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: `{"name":"second","events":["a"],"endpoint":{"url":"https://receiver.test/x"}}`}); a.status != 500 {
		t.Errorf("without a trail: %d %s", a.status, a.body)
	}
	if found := w.do(request{method: "GET", path: "/v1/subscriptions?name=second", scope: api.ScopeRead}); !strings.Contains(found.body, `"items":[]`) {
		t.Errorf("made without a trail: %s", found.body)
	}
}

// A route that changes something and records nothing is found here: each is
// called once, and the trail has one row more, or the route is named as one that
// changes nothing to be recorded.
func TestEveryRouteThatChangesSomethingRecordsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var err error
	w.api, err = api.New(w.store, api.Config{
		URLs: anyURL{}, Registry: prometheus.NewRegistry(), Logger: zerolog.New(w.logs),
		Test: func(context.Context, *subscriptions.Subscription) (api.TestReply, error) {
			return api.TestReply{Detail: json.RawMessage("{}")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	unrecorded := strings.Fields(`publish-events create-session delete-session preview-subscription`)
	id, _ := w.subscribe("changed")["id"].(string)
	gone, _ := w.subscribe("gone")["id"].(string)
	claim, _ := w.claim("shop")
	w.write(claim, 1, 9, func(int) string { return "{}" })
	var dead []store.Delivery
	for at := range store.Offset(2) {
		dead = append(dead, store.Delivery{Offset: 1 + at, State: store.Dead, Keys: []string{}, Reason: "rejected"})
	}
	lane := w.settle(id, dead...)
	key := w.newKey(`{"name":"x","scopes":["read"]}`).ID
	// What a route needs beside its path, and what makes that fit.
	var j, r jobJSON
	one, replay := `{"subscription":"`+id+`"}`, `{"subscription":"`+id+`","from":{"offset":1}}`
	job := func() { w.bulk("retry", one).into(t, &j) }
	replaying := func() {
		w.do(request{method: "POST", path: "/v1/replays", scope: api.ScopeDeliver, body: replay}).into(t, &r)
	}
	pausedJob, pausedReplay := func() {
		job()
		w.do(request{method: "POST", path: "/v1/jobs/" + j.ID + "/pause", scope: api.ScopeDeliver})
	}, func() {
		replaying()
		w.do(request{method: "POST", path: "/v1/replays/" + r.ID + "/pause", scope: api.ScopeDeliver})
	}
	paused := func() {
		w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/pause", scope: api.ScopeDeliver})
	}
	active := func() {
		w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/resume", scope: api.ScopeDeliver})
	}
	parked := func() {
		active()
		w.exec(`UPDATE rowcall.cursors SET health = '{"state":"parked"}' WHERE lane = $1`, lane)
	}
	given := func(id int) func() {
		return func() {
			w.exec(`INSERT INTO rowcall.dead_ranges (id, lane, "from", past, patterns, events, bytes, reason) OVERRIDING SYSTEM VALUE
				VALUES ($2, $1, 1, 2, '{public.**}', 1, 1, '')`, lane, id)
		}
	}
	type call struct {
		before   func()
		id, body string
	}
	calls := map[string]call{
		"create-subscription": {body: `{"name":"new","events":["a"],"endpoint":{"url":"https://receiver.test/x"}}`}, "patch-subscription": {body: `{"description":"x"}`},
		"delete-subscription": {id: gone}, "pause-subscription": {before: active}, "resume-subscription": {before: paused}, "rotate-secret": {},
		"probe-subscription": {before: parked}, "test-subscription": {},
		"retry-delivery": {id: deliveryOf(lane, 1)}, "discard-delivery": {id: deliveryOf(lane, 2)},
		"retry-deliveries": {body: one}, "discard-deliveries": {body: one},
		"pause-job": {before: job}, "resume-job": {before: pausedJob}, "cancel-job": {before: job},
		"create-replay": {body: replay}, "pause-replay": {before: replaying}, "resume-replay": {before: pausedReplay}, "cancel-replay": {before: replaying},
		"accept-gap": {}, "discard-dead-range": {before: given(1), id: "drg_1"}, "retry-dead-range": {before: given(2), id: "drg_2"},
		"create-api-key": {body: `{"name":"y","scopes":["read"]}`}, "revoke-api-key": {id: key},
	}
	for path, item := range loadDocument(t, w.api).Paths.Map() {
		for method, op := range item.Operations() {
			if method == http.MethodGet || slices.Contains(unrecorded, op.OperationID) {
				continue
			}
			c, known := calls[op.OperationID]
			if !known {
				t.Errorf("%s %s (%s): let the store's method that it calls record the change, and call it here", method, path, op.OperationID)
				continue
			}
			if c.before != nil {
				c.before()
			}
			of := c.id
			switch kind, _, _ := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/"); kind {
			case "jobs":
				of = j.ID
			case "replays":
				of = r.ID
			case "subscriptions":
				if of == "" {
					of = id
				}
			}
			call := request{method: method, path: strings.NewReplacer("{id}", of, "{name}", "shop").Replace(path), scope: api.ScopeAdmin, body: c.body}
			if method == http.MethodPatch {
				call.header = map[string]string{"Content-Type": "application/merge-patch+json"}
			}
			n := len(w.changes("?action=" + op.OperationID))
			if a := w.do(call); a.status >= 300 {
				t.Errorf("%s: %d %s", op.OperationID, a.status, a.body)
			}
			if now := len(w.changes("?action=" + op.OperationID)); now != n+1 {
				t.Errorf("%s: %d rows in the trail, after %d", op.OperationID, now, n)
			}
		}
	}
}
