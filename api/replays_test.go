package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/api/client"
)

func TestAReplayIsCountedFirstAndThenMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	w.write(claim, 0x100, 10, func(int) string { return `{"n":1}` })
	id, _ := w.subscribe("replayed")["id"].(string)
	ctx, c := t.Context(), w.client(api.ScopeAdmin)
	spec := client.NewReplay{Subscription: id, From: client.ReplayPlace{Offset: 3}, To: &client.ReplayPlace{Offset: 8}, Rate: &client.RateLimit{PerSecond: 2.5}}
	n, err := c.CountReplay(ctx, spec)
	if err != nil || n.Total != 5 || n.Bytes != 5*7 || n.From.Offset != 3 || n.To.Offset != 8 || n.Seconds == nil || *n.Seconds != 2 {
		t.Errorf("dry run %+v, %v", n, err)
	}
	spec.Types = []string{"public.*.deleted"}
	if n, err := c.CountReplay(ctx, spec); err != nil || n.Total != 0 {
		t.Errorf("of another type: %+v, %v", n, err)
	}
	if page, err := c.Replays(ctx, client.ReplayQuery{}); err != nil || len(page.Items) != 0 {
		t.Errorf("dry runs left %+v, %v", page, err)
	}
	spec.Types, spec.To = []string{"public.orders.*"}, &client.ReplayPlace{Offset: 1000} // past the head
	r, err := c.CreateReplay(ctx, spec)
	if err != nil || !strings.HasPrefix(r.ID, "rpl_") || r.Total != 8 || r.To.Offset != 11 || r.State != "running" || r.Rate == nil || r.ETA == nil || len(r.Types) != 1 {
		t.Fatalf("replay %+v, %v", r, err)
	}
	a := w.do(request{method: "POST", path: "/v1/replays", scope: api.ScopeDeliver, body: fmt.Sprintf(`{"subscription":%q,"from":{"time":"2020-01-01T00:00:00Z"},"rate":null}`, id)})
	if a.status != http.StatusAccepted || !strings.Contains(a.body, `"rate":null`) || !strings.Contains(a.body, `"total":10`) || !strings.Contains(a.body, `"created_by":"key_deliver"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = w.do(request{method: "POST", path: "/v1/replays", scope: api.ScopeDeliver, body: fmt.Sprintf(`{"subscription":%q,"from":{"offset":1},"filter":"type == 'x' // none"}`, id)})
	var filtered struct{ ID, Filter string }
	if a.into(t, &filtered); a.status != http.StatusAccepted || filtered.Filter != "type == 'x' // none" {
		t.Errorf("with a filter: %d %s", a.status, a.body)
	}
	if _, err := c.CancelReplay(ctx, filtered.ID); err != nil {
		t.Error(err)
	}
	a = w.do(request{method: "POST", path: "/v1/replays", scope: api.ScopeDeliver, body: fmt.Sprintf(`{"subscription":%q,"from":{"offset":1},"to":null,"types":[],"filter":null,"dry_run":true}`, id)})
	if a.status != http.StatusOK || !strings.Contains(a.body, `"seconds":0.1`) {
		t.Errorf("the standard rate: %d %s", a.status, a.body)
	}
	for _, step := range []struct {
		state string
		call  func(id string) (client.Replay, error)
	}{
		{"paused", func(id string) (client.Replay, error) { return c.PauseReplay(ctx, id) }},
		{"running", func(id string) (client.Replay, error) { return c.ResumeReplay(ctx, id) }},
		{"cancelled", func(id string) (client.Replay, error) { return c.CancelReplay(ctx, id) }},
	} {
		if got, err := step.call(r.ID); err != nil || got.State != step.state {
			t.Errorf("%s: %+v, %v", step.state, got, err)
		}
	}
	_, err = c.PauseReplay(ctx, r.ID)
	wantProblem(t, err, client.Conflict)
	if got, err := c.Replay(ctx, r.ID); err != nil || got.EndedAt == nil || got.ETA != nil {
		t.Errorf("get %+v, %v", got, err)
	}
	page, err := c.Replays(ctx, client.ReplayQuery{State: "running", Subscription: id})
	if err != nil || len(page.Items) != 1 || page.Items[0].ID == r.ID {
		t.Errorf("list %+v, %v", page, err)
	}
	// A replay is a job, a job is not a replay.
	if got := w.jobs("&kind=replay"); len(got) != 3 || got[2] != r.ID {
		t.Errorf("jobs %v", got)
	}
	j, err := c.RetryDeliveries(ctx, client.BulkFilter{State: "dead"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Replay(ctx, j.ID)
	wantProblem(t, err, client.NotFound)
	_, err = c.CancelReplay(ctx, j.ID)
	wantProblem(t, err, client.NotFound)
}

func TestAReplayThatIsNotClearIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim, _ := w.claim("shop")
	w.write(claim, 0x100, 10, func(int) string { return `{}` })
	id, _ := w.subscribe("replayed")["id"].(string)
	refused := func(members, want string) {
		t.Helper()
		p := w.do(request{method: "POST", path: "/v1/replays", scope: api.ScopeDeliver, body: strings.ReplaceAll(members, "SUB", id)}).
			problem(t, http.StatusUnprocessableEntity, "validation")
		if p.locations() != want {
			t.Errorf("%s: %+v, want %s", members, p.Errors, want)
		}
	}
	for members, want := range map[string]string{
		`{}`: "body.subscription body.from",
		`{"subscription":"x","from":{"offset":1}}`:                                 "body.subscription",
		`{"subscription":"SUB","from":null}`:                                       "body.from",
		`{"subscription":"SUB","from":1}`:                                          "body.from",
		`{"subscription":"SUB","from":{}}`:                                         "body.from",
		`{"subscription":"SUB","from":{"offset":0}}`:                               "body.from.offset",
		`{"subscription":"SUB","from":{"offset":1.5}}`:                             "body.from.offset",
		`{"subscription":"SUB","from":{"time":"now"}}`:                             "body.from.time",
		`{"subscription":"SUB","from":{"offset":1,"time":"2026-01-01T00:00:00Z"}}`: "body.from",
		`{"subscription":"SUB","from":{"offset":1,"lsn":"0/1"}}`:                   "body.from.lsn",
		`{"subscription":"SUB","from":{"offset":5},"to":{"offset":5}}`:             "body.to",
		`{"subscription":"SUB","from":{"offset":1},"types":"a"}`:                   "body.types",
		`{"subscription":"SUB","from":{"offset":1},"types":["a..b"]}`:              "body.types",
		`{"subscription":"SUB","from":{"offset":1},"filter":1}`:                    "body.filter",
		`{"subscription":"SUB","from":{"offset":1},"filter":"1 +"}`:                "body.filter",
		`{"subscription":"SUB","from":{"offset":1},"filter":"true) || (true"}`:     "body.filter",
		`{"subscription":"SUB","from":{"offset":1},"rate":5}`:                      "body.rate",
		`{"subscription":"SUB","from":{"offset":1},"rate":{}}`:                     "body.rate.per_second",
		`{"subscription":"SUB","from":{"offset":1},"rate":{"per_second":0}}`:       "body.rate.per_second",
		`{"subscription":"SUB","from":{"offset":1},"rate":{"per_second":100001}}`:  "body.rate.per_second",
		`{"subscription":"SUB","from":{"offset":1},"limit":1}`:                     "body.limit",
		`{"filter":"1 +"}`: "body.subscription body.from body.filter",
		`{"subscription":"sub_aaaaaaaaaaaaaaaaaaaaaaaaaa","from":{"offset":1},"filter":"1 +"}`: "body.subscription body.filter",
	} {
		refused(members, want)
	}
	refused(`{"subscription":"sub_aaaaaaaaaaaaaaaaaaaaaaaaaa","from":{"offset":1}}`, "body.subscription")

	// What the log no longer has is not passed over in silence.
	conn, err := pgx.Connect(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), `UPDATE rowcall.log_head SET oldest = 6`); err != nil {
		t.Fatal(err)
	}
	refused(`{"subscription":"SUB","from":{"offset":5}}`, "body.from")
	refused(`{"subscription":"SUB","from":{"time":"2020-01-01T00:00:00Z"}}`, "body.from")
	a := w.do(request{method: "POST", path: "/v1/replays", scope: api.ScopeDeliver, body: fmt.Sprintf(`{"subscription":%q,"from":{"offset":6},"dry_run":true}`, id)})
	if a.status != http.StatusOK || !strings.Contains(a.body, `"total":5`) {
		t.Errorf("from the oldest: %d %s", a.status, a.body)
	}
}
