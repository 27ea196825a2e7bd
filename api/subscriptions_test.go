package api_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/subscriptions"
)

func TestASubscriptionIsMadeWithDefaultsAndShowsItsSecretOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	created := w.do(request{
		method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite,
		body: `{"name":"paid","events":["public.orders.updated"],"endpoint":{"url":"https://receiver.test/hooks"}}`,
	})
	if created.status != http.StatusCreated || created.header.Get("ETag") != `"1"` {
		t.Fatalf("create: %d, ETag %q: %s", created.status, created.header.Get("ETag"), created.body)
	}
	var sub map[string]any
	created.into(t, &sub)
	id, _ := sub["id"].(string)
	if got := created.header.Get("Location"); got != "/v1/subscriptions/"+id {
		t.Errorf("Location %q", got)
	}
	secret, _ := sub["secret"].(string)
	if !strings.HasPrefix(secret, "whsec_") || len(secret) < 40 {
		t.Fatal("the answer to create holds no secret")
	}
	delete(sub, "secret")
	for member, want := range map[string]any{
		"description": "", "labels": map[string]any{}, "filter": nil, "format": "cloudevents", "ordering": "key",
		"ordering_key": nil, "on_dead": "skip", "compact": false, "max_in_flight": 64.0, "rate_limit": nil,
		"endpoint": map[string]any{"url": "https://receiver.test/hooks", "headers": map[string]any{}, "timeout": "15s", "auth": nil, "tls": nil},
		"batch":    map[string]any{"max_events": 1.0, "max_wait": "0s", "max_bytes": 1048576.0},
		"retry":    map[string]any{"initial": "1s", "max": "1h", "max_attempts": 20.0, "max_age": "72h"},
		"outage":   map[string]any{"probe": "5s..15m", "hold_limit": map[string]any{"age": "30d", "bytes": nil, "then": "dead-letter"}},
		"window":   nil, "signing": []any{"v1"}, "state": "active", "state_reason": "", "version": 1.0,
	} {
		if diff := cmp.Diff(want, sub[member]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", member, diff)
		}
	}
	got := w.do(request{method: "GET", path: "/v1/subscriptions/" + id, scope: api.ScopeRead})
	var read map[string]any
	got.into(t, &read)
	if diff := cmp.Diff(sub, read); diff != "" || got.header.Get("ETag") != `"1"` {
		t.Errorf("get differs from create (-create +get), ETag %q:\n%s", got.header.Get("ETag"), diff)
	}
	// The document and the answer name the same members.
	schema := loadDocument(t, w.api).Components.Schemas["Subscription"].Value.Properties
	want := slices.DeleteFunc(slices.Sorted(maps.Keys(schema)), func(name string) bool { return name == "secret" })
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(read))); diff != "" {
		t.Errorf("members (-document +answer):\n%s", diff)
	}
}

func TestWhereASubscriptionStartsIsSaidAtCreation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, start := range []string{`"now"`, `"earliest"`, `1`, `17`, `"2026-11-20T12:00:00Z"`, `"2026-11-20T12:00:00.5+01:00"`, `null`} {
		w.subscribe(fmt.Sprintf("good %d", i), `"start":`+start)
	}
	for i, start := range []string{`"soon"`, `0`, `-1`, `1.5`, `1e3`, `true`, `{}`, `[]`, `""`, `"2026-11-20"`, `99999999999999999999`, `"0001-01-01T00:00:00Z"`} {
		a := w.do(request{
			method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite,
			body: fmt.Sprintf(`{"name":"bad %d","events":["a.b"],"endpoint":{"url":"https://receiver.test"},"start":%s}`, i, start),
		})
		if p := a.problem(t, http.StatusUnprocessableEntity, "validation"); p.locations() != "body.start" {
			t.Errorf("start %s: faults at %q", start, p.locations())
		}
	}
	backlogs, err := w.store.Backlogs(t.Context())
	if err != nil || len(backlogs) != 7 {
		t.Errorf("%d lanes, %v; want 7", len(backlogs), err)
	}
}

func TestEveryFaultyFieldIsNamedAndNoValueRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const canary = "canary-7391"
	for body, locations := range map[string]string{
		`{}`: "body.name body.events body.endpoint.url",
		`{"name":"x","events":["a.b"],"endpoint":{"url":"https://denied.test/` + canary + `"}}`:                              "body.endpoint.url",
		`{"name":"x","events":["a.b"],"endpoint":{"url":"ftp://` + canary + `"}}`:                                            "body.endpoint.url",
		`{"name":"x","events":["a.b"],"endpoint":{"url":"https://user:` + canary + `@receiver.test"}}`:                       "body.endpoint.url",
		`{"name":"x","events":["a.b"],"endpoint":{"url":"https://r.test","timeout":"` + canary + `"}}`:                       "body.endpoint.timeout",
		`{"name":"x","events":["a.b"],"endpoint":{"url":"https://r.test"},"unknown":"` + canary + `"}`:                       "body.unknown",
		`{"name":"x","events":["a.b"],"endpoint":{"url":"https://r.test"},"secret":"` + canary + `"}`:                        "body.secret",
		`{"name":"x","Name":"` + canary + `","events":["a.b"],"endpoint":{"url":"https://r.test"}}`:                          "body.Name",
		`{"name":"x","name":"` + canary + `","events":["a.b"],"endpoint":{"url":"https://r.test"}}`:                          "body.name",
		`{"name":"x","start":1,"start":"` + canary + `","events":["a.b"],"endpoint":{"url":"https://r.test"}}`:               "body.start body.start",
		`{"name":"x","Start":"` + canary + `","events":["a.b"],"endpoint":{"url":"https://r.test"}}`:                         "body.Start",
		`{"name":"x","events":"` + canary + `","endpoint":{"url":"https://r.test"},"retry":{"initial":"1ns","max":7}}`:       "body.events body.retry.initial body.retry.max",
		`{"name":"x","events":["a.b"],"endpoint":{"url":"https://r.test","headers":{"Host":"` + canary + `"}},"start":"no"}`: "body.endpoint.headers.Host body.start",
		`["` + canary + `"]`: "body",
		`"` + canary + `"`:   "body",
		`null`:               "body",
	} {
		a := w.do(request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: body})
		p := a.problem(t, http.StatusUnprocessableEntity, "validation")
		if p.locations() != locations {
			t.Errorf("%s:\n got %q\nwant %q", body, p.locations(), locations)
		}
		if strings.Contains(a.body, canary) {
			t.Errorf("%s: the answer repeats a value: %s", body, a.body)
		}
	}
	if logs := w.logs.String(); strings.Contains(logs, canary) {
		t.Errorf("the log repeats a value: %s", logs)
	}
}

func TestANameIsTakenOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.subscribe("first")
	second, _ := w.subscribe("second")["id"].(string)
	a := w.do(request{
		method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite,
		body: `{"name":"first","events":["a.b"],"endpoint":{"url":"https://r.test"}}`,
	})
	if p := a.problem(t, http.StatusConflict, "conflict"); p.locations() != "body.name" {
		t.Errorf("create: %+v", p)
	}
	a = w.do(request{method: "PATCH", path: "/v1/subscriptions/" + second, scope: api.ScopeWrite, body: `{"name":"first"}`})
	if p := a.problem(t, http.StatusConflict, "conflict"); p.locations() != "body.name" {
		t.Errorf("rename: %+v", p)
	}
}

func TestAPatchMergesIntoTheVersionThatWasRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := w.subscribe("first", `"labels":{"a":"1","b":"2"}`)["id"].(string)
	path := "/v1/subscriptions/" + id
	patch := func(body, ifMatch string) answer {
		header := map[string]string{"Content-Type": "application/merge-patch+json"}
		if ifMatch != "" {
			header["If-Match"] = ifMatch
		}
		return w.do(request{method: "PATCH", path: path, scope: api.ScopeWrite, body: body, header: header})
	}
	a := patch(`{"labels":{"a":null,"c":"3"},"max_in_flight":7}`, `"1"`)
	var sub map[string]any
	a.into(t, &sub)
	if a.status != http.StatusOK || a.header.Get("ETag") != `"2"` || sub["version"] != 2.0 || sub["max_in_flight"] != 7.0 || sub["secret"] != nil {
		t.Fatalf("patch: %d, ETag %q: %s", a.status, a.header.Get("ETag"), a.body)
	}
	if diff := cmp.Diff(map[string]any{"b": "2", "c": "3"}, sub["labels"]); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	for _, stale := range []string{`"1"`, `W/"2"`, `"9", "1"`} {
		patch(`{"max_in_flight":8}`, stale).problem(t, http.StatusPreconditionFailed, "precondition-failed")
	}
	for _, bad := range []string{`2`, `"2`, `""2""`, `"2" "3"`} {
		patch(`{"max_in_flight":8}`, bad).problem(t, http.StatusBadRequest, "malformed")
	}
	for i, good := range []string{`*`, `"9", "3"`, ""} {
		if a := patch(`{"max_in_flight":null}`, good); a.status != http.StatusOK || a.header.Get("ETag") != fmt.Sprintf(`"%d"`, i+3) {
			t.Errorf("If-Match %q: %d, ETag %q", good, a.status, a.header.Get("ETag"))
		}
	}
	patch(`{"max_in_flight":8}`, "").into(t, &sub)
	for body, location := range map[string]string{
		`{"state":"paused"}`: "body.state",
		`{"id":"sub_x"}`:     "body.id",
		`{"start":"now"}`:    "body.start",
		`{"name":null}`:      "body.name",
		`{"endpoint":{"url":"https://denied.test"}}`:    "body.endpoint.url",
		`{"endpoint":{"url":null}}`:                     "body.endpoint.url",
		`{"max_in_flight":1001}`:                        "body.max_in_flight",
		`{"retry":{"max_attempts":5,"max_attempts":6}}`: "body.retry.max_attempts",
		`[]`: "body",
	} {
		if p := patch(body, "").problem(t, http.StatusUnprocessableEntity, "validation"); p.locations() != location {
			t.Errorf("%s: faults at %q, want %q", body, p.locations(), location)
		}
	}
	var after map[string]any
	w.do(request{method: "GET", path: path, scope: api.ScopeRead}).into(t, &after)
	if diff := cmp.Diff(sub, after); diff != "" {
		t.Errorf("a refused patch changed something (-before +after):\n%s", diff)
	}
}

func TestEditsThatMeetAllTakePlaceOrAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := w.subscribe("shared")["id"].(string)
	path := "/v1/subscriptions/" + id
	const editors = 4
	var wg sync.WaitGroup
	taken := make(chan string, editors)
	for i := range editors {
		wg.Go(func() {
			label := fmt.Sprintf("editor-%d", i)
			a := w.do(request{method: "PATCH", path: path, scope: api.ScopeWrite, body: `{"labels":{"` + label + `":"was here"}}`})
			switch a.status {
			case http.StatusOK:
				taken <- label
			case http.StatusConflict:
			default:
				t.Errorf("%s: %d %s", label, a.status, a.body)
			}
		})
	}
	wg.Wait()
	close(taken)
	var sub struct {
		Labels  map[string]string
		Version int
	}
	w.do(request{method: "GET", path: path, scope: api.ScopeRead}).into(t, &sub)
	var want []string
	for label := range taken {
		want = append(want, label)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(sub.Labels))); diff != "" || sub.Version != 1+len(want) {
		t.Errorf("version %d; labels (-answered 200 +there):\n%s", sub.Version, diff)
	}
}

func TestPauseAndResumeHoldAndLetGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := w.subscribe("held")["id"].(string)
	post := func(action string) (sub struct {
		State       subscriptions.State
		StateReason string `json:"state_reason"`
		Version     int
	},
	) {
		a := w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/" + action, scope: api.ScopeDeliver})
		if a.status != http.StatusOK || a.header.Get("ETag") != fmt.Sprintf(`"%s"`, versionOf(t, a)) {
			t.Fatalf("%s: %d, ETag %q: %s", action, a.status, a.header.Get("ETag"), a.body)
		}
		a.into(t, &sub)
		return sub
	}
	if sub := post("pause"); sub.State != subscriptions.Paused || sub.Version != 2 || !strings.Contains(sub.StateReason, "key_deliver") {
		t.Errorf("paused: %+v", sub)
	}
	if sub := post("pause"); sub.State != subscriptions.Paused || sub.Version != 2 {
		t.Errorf("paused again: %+v", sub)
	}
	if sub := post("resume"); sub.State != subscriptions.Active || sub.Version != 3 || sub.StateReason != "" {
		t.Errorf("resumed: %+v", sub)
	}
	stored, err := w.store.Subscription(t.Context(), subscriptions.ID(id))
	if err != nil || stored.State != subscriptions.Active {
		t.Errorf("stored: %s, %v", stored.State, err)
	}
	a := w.do(request{method: "POST", path: "/v1/subscriptions/" + id + "/pause", scope: api.ScopeDeliver, header: map[string]string{"If-Match": `"1"`}})
	a.problem(t, http.StatusPreconditionFailed, "precondition-failed")
}

func versionOf(t *testing.T, a answer) string {
	t.Helper()
	var v struct{ Version int }
	a.into(t, &v)
	return fmt.Sprint(v.Version)
}

func TestADeletedSubscriptionIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := w.subscribe("short-lived")["id"].(string)
	path := "/v1/subscriptions/" + id
	w.do(request{method: "DELETE", path: path, scope: api.ScopeWrite, header: map[string]string{"If-Match": `"7"`}}).
		problem(t, http.StatusPreconditionFailed, "precondition-failed")
	a := w.do(request{method: "DELETE", path: path, scope: api.ScopeWrite, header: map[string]string{"If-Match": `"1"`}})
	if a.status != http.StatusNoContent || a.body != "" {
		t.Fatalf("delete: %d %q", a.status, a.body)
	}
	for _, r := range []request{
		{method: "GET", path: path, scope: api.ScopeRead},
		{method: "DELETE", path: path, scope: api.ScopeWrite},
		{method: "PATCH", path: path, scope: api.ScopeWrite, body: `{}`},
		{method: "POST", path: path + "/pause", scope: api.ScopeDeliver},
	} {
		w.do(r).problem(t, http.StatusNotFound, "not-found")
	}
	w.subscribe("short-lived") // the name is free again
}

func TestADeletionDoesNotReachWhatWasChangedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.newKey(`{"name":"growth","scopes":["write"],"labels":{"team":"growth"}}`).Key
	conn, err := pgx.Connect(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	watch, err := pgx.Connect(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Close(context.WithoutCancel(t.Context())) }()
	for name, c := range map[string]struct {
		change string
		r      request
		status int
	}{
		"an ETag that was overtaken":         {`version = version + 1`, request{header: map[string]string{"If-Match": `"1"`}, scope: api.ScopeWrite}, http.StatusPreconditionFailed},
		"labels that the key does not see":   {`version = version + 1, spec = spec || '{"labels":{"team":"core"}}'`, request{key: key}, http.StatusNotFound},
		"an edit that changes nothing of it": {`version = version + 1`, request{scope: api.ScopeWrite}, http.StatusNoContent},
	} {
		id, _ := w.subscribe(name, `"labels":{"team":"growth"}`)["id"].(string)
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `UPDATE rowcall.subscriptions SET `+c.change+` WHERE id = $1`, id); err != nil {
			t.Fatal(err)
		}
		c.r.method, c.r.path = "DELETE", "/v1/subscriptions/"+id
		answers := make(chan answer)
		go func() { answers <- w.do(c.r) }()
		// It has read the version before, and waits for the row.
		for waiting := 0; waiting == 0; {
			const sql = `SELECT count(*) FROM pg_stat_activity, pg_sleep(0.01) WHERE datname = current_database() AND wait_event_type = 'Lock'`
			if err := watch.QueryRow(t.Context(), sql).Scan(&waiting); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a := <-answers; a.status != c.status {
			t.Errorf("%s: %d %s, want %d", name, a.status, a.body, c.status)
		}
	}
}

func TestSubscriptionsAreListedPageByPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var want []string
	for i := range 7 {
		id, _ := w.subscribe(fmt.Sprintf("s%d", i))["id"].(string)
		want = append(want, id)
	}
	slices.Sort(want)
	w.do(request{method: "POST", path: "/v1/subscriptions/" + want[3] + "/pause", scope: api.ScopeDeliver})
	if diff := cmp.Diff(want, w.pages("/v1/subscriptions?limit=3")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, w.pages("/v1/subscriptions?limit=7")); diff != "" {
		t.Errorf("a page that is just full (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[3:4], w.pages("/v1/subscriptions?state=paused")); diff != "" {
		t.Errorf("paused (-want +got):\n%s", diff)
	}
	if got := w.pages("/v1/subscriptions?name=s2"); len(got) != 1 {
		t.Errorf("by name: %v", got)
	}
}

// pages goes through a list and returns the ids (or names) of its items. It
// fails where a page holds more than its limit.
func (w *world) pages(path string) []string {
	w.t.Helper()
	u, err := url.Parse(path)
	if err != nil {
		w.t.Fatal(err)
	}
	limit := 100
	if text := u.Query().Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil {
			w.t.Fatal(err)
		}
	}
	ids := []string{}
	for cursor := ""; ; {
		a := w.do(request{method: "GET", path: path + cursor, scope: api.ScopeRead})
		if a.status != http.StatusOK {
			w.t.Fatalf("list %s: %d %s", path+cursor, a.status, a.body)
		}
		var page struct {
			Items []struct {
				ID, Sequence, Name string
				Attempt            int
			}
			NextCursor *string `json:"next_cursor"`
		}
		a.into(w.t, &page)
		if page.Items == nil || len(page.Items) > limit {
			w.t.Fatalf("%d items, limit %d: %.500s", len(page.Items), limit, a.body)
		}
		for _, item := range page.Items {
			switch {
			case item.ID != "":
				ids = append(ids, item.ID)
			case item.Attempt != 0:
				ids = append(ids, fmt.Sprintf("%s/%d", item.Sequence, item.Attempt))
			default:
				ids = append(ids, item.Name)
			}
		}
		if page.NextCursor == nil {
			return ids
		}
		sep := "&"
		if !strings.Contains(path, "?") {
			sep = "?"
		}
		cursor = sep + "cursor=" + *page.NextCursor
	}
}

func TestOneAnswerNamesAllFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const body = `{"name":"","events":["a"],"max_in_flight":0,"filter":"nosuch == 1","endpoint":{"url":"https://denied.test/x"}}`
	p := w.do(request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: body}).problem(t, 422, "validation")
	for _, want := range []string{"body.name", "body.max_in_flight", "body.filter", "body.endpoint.url"} {
		if !slices.Contains(strings.Fields(p.locations()), want) || len(p.Errors) != 4 {
			t.Errorf("created: %+v, want %s", p.Errors, want)
		}
	}
	id, _ := w.subscribe("patched")["id"].(string)
	p = w.do(request{
		method: "PATCH", path: "/v1/subscriptions/" + id, scope: api.ScopeWrite,
		body: `{"max_in_flight":0,"filter":"nosuch == 1","endpoint":{"url":"https://denied.test/x"}}`,
	}).problem(t, 422, "validation")
	if len(p.Errors) != 3 {
		t.Errorf("patched: %+v", p.Errors)
	}
}
