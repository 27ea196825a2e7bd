package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
)

// Every test here goes by the document: a route that is added is called without
// anybody thinking of it. Answers are held against it by world.do; what changes
// something is called in TestEveryRouteThatChangesSomethingRecordsIt.

// furnished is a world in which there is one of everything, and where to find it.
func furnished(t *testing.T) (w *world, ids map[string]string, values map[string]string) {
	t.Helper()
	w, sub, lane := failing(t)
	stopping := make(chan struct{})
	close(stopping) // a stream ends when it has begun
	var err error
	w.api, err = api.New(w.store, api.Config{URLs: anyURL{}, Registry: prometheus.NewRegistry(), Logger: zerolog.New(w.logs), Draining: stopping})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Truncate(time.Microsecond)
	if err := w.store.SaveAttempts(t.Context(), []store.Attempt{{At: at, Lane: lane, Offset: 1, Attempt: 1, Status: 500, Outcome: 1, Reason: "server_error"}}); err != nil {
		t.Fatal(err)
	}
	w.exec(`INSERT INTO rowcall.dead_ranges (lane, "from", past, patterns, events, bytes, reason) VALUES ($1, 1, 2, '{public.**}', 1, 1, 'hold_limit_age')`, lane)
	var job, replay struct{ ID string }
	w.do(request{method: "POST", path: "/v1/deliveries/retry", scope: api.ScopeDeliver, body: `{"subscription":"` + sub + `"}`}).into(t, &job)
	w.do(request{method: "POST", path: "/v1/replays", scope: api.ScopeDeliver, body: `{"subscription":"` + sub + `","from":{"offset":1}}`}).into(t, &replay)
	const event = "01-0000000000000100-0"
	ids = map[string]string{
		"subscriptions": sub, "deliveries": deliveryOf(lane, 3), "events": event, "jobs": job.ID, "replays": replay.ID, "dead-ranges": "drg_1",
		"attempts": fmt.Sprintf("att_%d_%d_1", at.UnixMicro(), lane), "sources": "shop",
	}
	values = map[string]string{
		"limit": "1", "subscription": sub, "event": event, "delivery": deliveryOf(lane, 1), "type": "public.orders.inserted", "key": "public.orders/id=0",
		"since": "2026-11-20T12:00:00Z", "until": "2026-11-20T12:00:00Z", "name": "failing", "actor": "key_admin", "action": "create-subscription",
		"object": "subscription/" + sub, "label": "team=growth", "q": "fail", "recent": "true", "revoked": "true", "reason": "rejected", "status": "422", "filter": "data.row.n == 1",
	}
	return w, ids, values
}

// each calls f for every operation of the document, with its path filled.
func each(t *testing.T, w *world, ids map[string]string, f func(method, path string, op *openapi3.Operation)) {
	t.Helper()
	doc := loadDocument(t, w.api)
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		kind, _, _ := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/")
		filled := strings.NewReplacer("{id}", url.PathEscape(ids[kind]), "{name}", url.PathEscape(ids[kind])).Replace(path)
		for method, op := range doc.Paths.Value(path).Operations() {
			f(method, filled, op)
		}
	}
}

func TestEveryRouteThatReadsAnswersWithEachOfItsParameters(t *testing.T) {
	t.Parallel()
	w, ids, values := furnished(t)
	calls := 0
	each(t, w, ids, func(method, path string, op *openapi3.Operation) {
		if method != http.MethodGet {
			return
		}
		queries := []string{""}
		for _, p := range op.Parameters {
			if p.Value.In != "query" {
				continue
			}
			good := []string{values[p.Value.Name]}
			if enum := p.Value.Schema.Value.Enum; len(enum) > 0 {
				good = nil
				for _, v := range enum {
					good = append(good, fmt.Sprint(v))
				}
			}
			if p.Value.Name == "cursor" {
				continue // below
			}
			for _, v := range good {
				if v == "" {
					t.Errorf("GET %s: say here what a good %s is", path, p.Value.Name)
				}
				queries = append(queries, "?"+p.Value.Name+"="+url.QueryEscape(v))
			}
		}
		for _, query := range queries {
			a := w.do(request{method: method, path: path + query, scope: api.ScopeAdmin})
			if a.status != http.StatusOK {
				t.Errorf("GET %s%s: %d %s", path, query, a.status, a.body)
			}
			calls++
		}
		if op.Parameters.GetByInAndName("query", "cursor") == nil {
			return
		}
		var page struct {
			Next *string `json:"next_cursor"`
		}
		w.do(request{method: method, path: path + "?limit=1", scope: api.ScopeAdmin}).into(t, &page)
		if page.Next == nil {
			return
		}
		if a := w.do(request{method: method, path: path + "?limit=1&cursor=" + url.QueryEscape(*page.Next), scope: api.ScopeAdmin}); a.status != http.StatusOK {
			t.Errorf("GET %s, second page: %d %s", path, a.status, a.body)
		}
	})
	if calls < 60 {
		t.Errorf("only %d calls were made", calls)
	}
}

// hostile are texts that end up in queries, paths and terminals.
func hostile() []string {
	return []string{
		"'", "' OR 1=1--", "%", "\\", "\x00", "\xff", "../../etc/passwd", "<script>", "${7*7}", "\u202e", "-1", "99999999999999999999", "1e400",
		strings.Repeat("x", 2049), "null", "{}", "sub_00000000000000000000000000", "dlv_1_9223372036854775807", "att_9223372036854775807_1_1",
		"9999-12-31T23:59:59Z", "0000-00-00T00:00:00Z", "rc_", "true && true", "data.row.n.matches('(a+)+$')",
	}
}

func TestNothingThatIsPutIntoAParameterOrAPathIsAFaultOfOurs(t *testing.T) {
	t.Parallel()
	w, ids, _ := furnished(t)
	each(t, w, ids, func(method, path string, op *openapi3.Operation) {
		for _, p := range op.Parameters {
			for _, text := range hostile() {
				r := request{method: method, scope: api.ScopeAdmin}
				switch {
				case p.Value.In == "query":
					r.path = path + "?" + p.Value.Name + "=" + url.QueryEscape(text)
				case p.Value.In == "path" && method == http.MethodGet:
					kind, rest, _ := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/")
					_, after, more := strings.Cut(rest, "/")
					r.path = "/v1/" + kind + "/" + url.PathEscape(text)
					if more {
						r.path += "/" + after
					}
				default:
					continue
				}
				if a := w.do(r); a.status >= 500 || a.status/100 != 4 && a.status != http.StatusOK {
					t.Errorf("%s %.120q: %d %s", method, r.path, a.status, a.body)
				}
			}
		}
	})
	if logs := w.logs.String(); strings.Contains(logs, "panicked") {
		t.Errorf("a handler panicked: %s", logs)
	}
}

func TestNoBodyIsAFaultOfOurs(t *testing.T) {
	t.Parallel()
	w, ids, _ := furnished(t)
	deep := strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70)
	bodies := []string{
		"x", "null", "[]", "{}", "7", `"text"`, "true", deep, `{"":1}`, `{"a":1,"a":2}`, "{\"a\":\"\xff\"}", `{"name":"\u0000"}`, `{"name":{}}`, `{"events":7}`, `{"events":[7]}`,
		`{"endpoint":[]}`, `{"endpoint":{"url":7}}`, `{"endpoint":{"url":"http://[::1"}}`, `{"endpoint":{"headers":{"a":{}}}}`, `{"retry":{"max":"1e9h"}}`, `{"labels":{"a":null}}`,
		`{"subscription":7}`, `{"subscription":"sub_x"}`, `{"from":7}`, `{"from":{"offset":-1}}`, `{"from":{"offset":1e400}}`, `{"from":{"time":"x"}}`, `{"rate":{"per_second":-1}}`,
		`{"type":"a.b","data":` + deep + `}`, `{"type":7}`, `[{"type":"a.b"},7]`, `{"scopes":[{}]}`, `{"expires_at":7}`, `{"overlap":"-1s"}`, `{"limit":-1}`, `{"dry_run":"x"}`,
		`{"since":"0000-00-00T00:00:00Z"}`, `{"filter":7}`, `{"specversion":"1.0"}`, `{"NAME":"x"}`, strings.Repeat("[", 100_000),
	}
	bad := map[string]bool{}
	each(t, w, ids, func(method, path string, op *openapi3.Operation) {
		if op.RequestBody == nil {
			return
		}
		for _, media := range slices.Sorted(maps.Keys(op.RequestBody.Value.Content)) {
			for _, body := range bodies {
				a := w.do(request{method: method, path: path, scope: api.ScopeAdmin, body: body, header: map[string]string{"Content-Type": media}})
				if a.status >= 500 {
					t.Errorf("%s %s with %.60s as %s: %d %s", method, path, body, media, a.status, a.body)
				}
				if a.status/100 == 4 {
					bad[op.OperationID] = true
				}
			}
		}
		w.do(request{method: method, path: path, scope: api.ScopeAdmin, body: "{}", header: map[string]string{"Content-Type": "text/html"}}).
			problem(t, http.StatusUnsupportedMediaType, "unsupported-media-type")
		w.do(request{method: method, path: path, scope: api.ScopeAdmin, body: `"` + strings.Repeat("x", 1<<20) + `"`, header: map[string]string{"Content-Type": "application/json"}})
	})
	if len(bad) < 9 {
		t.Errorf("only %v refused a bad body", bad)
	}
	if logs := w.logs.String(); strings.Contains(logs, "panicked") {
		t.Errorf("a handler panicked: %s", logs)
	}
}
