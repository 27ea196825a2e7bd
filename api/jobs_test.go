package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/api/client"
)

type jobJSON struct {
	ID, Kind, State, Subscription string
	Total, Done, Skipped          int64
	AtLeast                       bool   `json:"at_least"`
	CreatedBy                     string `json:"created_by"`
	EndedAt                       *string
	Filter                        map[string]any
}

func (w *world) bulk(action, body string) answer {
	w.t.Helper()
	return w.do(request{method: "POST", path: "/v1/deliveries/" + action, scope: api.ScopeDeliver, body: body})
}

func TestATimeBeyondTheYearsOfJSONIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct{ path, body, location string }{
		{"/v1/deliveries/retry", `{"state":"dead","since":"9999-12-31T23:59:59-01:00"}`, "body.since"},
		{"/v1/deliveries/discard", `{"state":"dead","until":"0001-01-01T00:00:00+01:00"}`, "body.until"},
		{"/v1/api-keys", `{"name":"x","scopes":["read"],"expires_at":"9999-12-31T23:59:59-01:00"}`, "body.expires_at"},
	} {
		a := w.do(request{method: "POST", path: c.path, scope: api.ScopeAdmin, body: c.body})
		if p := a.problem(t, http.StatusUnprocessableEntity, "validation"); p.locations() != c.location {
			t.Errorf("%s: %s", c.path, a.body)
		}
	}
}

func TestABulkRequestIsCountedFirstAndThenAJob(t *testing.T) {
	t.Parallel()
	w, id, _ := failing(t)
	for filter, want := range map[string]int64{
		fmt.Sprintf(`"subscription":%q`, id):                    3,
		`"state":"dead"`:                                        1,
		`"reason":"server_error"`:                               1,
		`"type":"public.orders.inserted"`:                       3,
		`"type":"public.orders.updated"`:                        0,
		`"key":"public.orders/id=0"`:                            2, // one of this key, and one that waits behind it
		`"until":"2020-01-01T00:00:00Z"`:                        0,
		`"since":"2020-01-01T00:00:00+01:00","state":"blocked"`: 1,
		`"subscription":"sub_aaaaaaaaaaaaaaaaaaaaaaaaaa"`:       0,
		`"state":"retrying","reason":null,"subscription":null`:  1,
	} {
		a := w.bulk("discard", "{"+filter+`,"dry_run":true}`)
		var count struct {
			DryRun  bool `json:"dry_run"`
			Total   int64
			AtLeast bool `json:"at_least"`
		}
		a.into(t, &count)
		if a.status != http.StatusOK || !count.DryRun || count.Total != want || count.AtLeast {
			t.Errorf("%s: %d %s, want %d", filter, a.status, a.body, want)
		}
	}
	if got := w.jobs(""); len(got) != 0 {
		t.Errorf("dry runs left %v", got)
	}
	a := w.bulk("retry", fmt.Sprintf(`{"subscription":%q,"state":"dead"}`, id))
	var j jobJSON
	a.into(t, &j)
	if a.status != http.StatusAccepted || a.header.Get("Location") != "/v1/jobs/"+j.ID || !strings.HasPrefix(j.ID, "job_") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if j.Kind != "retry" || j.State != "running" || j.Total != 1 || j.Subscription != id || j.CreatedBy != "key_deliver" || j.Filter["state"] != "dead" || len(j.Filter) != 1 {
		t.Errorf("job %+v", j)
	}
	for _, step := range []struct{ action, state string }{
		{"pause", "paused"}, {"pause", "paused"}, {"resume", "running"}, {"pause", "paused"}, {"cancel", "cancelled"}, {"cancel", "cancelled"},
	} {
		a := w.do(request{method: "POST", path: "/v1/jobs/" + j.ID + "/" + step.action, scope: api.ScopeDeliver})
		var now jobJSON
		a.into(t, &now)
		if a.status != http.StatusOK || now.State != step.state {
			t.Errorf("%s: %d %s", step.action, a.status, a.body)
		}
	}
	for _, action := range []string{"pause", "resume"} {
		w.do(request{method: "POST", path: "/v1/jobs/" + j.ID + "/" + action, scope: api.ScopeDeliver}).problem(t, http.StatusConflict, "conflict")
		w.do(request{method: "POST", path: "/v1/jobs/job_x/" + action, scope: api.ScopeDeliver}).problem(t, http.StatusNotFound, "not-found")
	}
	got := w.do(request{method: "GET", path: "/v1/jobs/" + j.ID, scope: api.ScopeRead})
	if got.status != http.StatusOK || !strings.Contains(got.body, `"state":"cancelled"`) || strings.Contains(got.body, `"ended_at":null`) {
		t.Errorf("get: %d %s", got.status, got.body)
	}
	w.bulk("discard", `{"state":"blocked"}`)
	if got := w.jobs(""); len(got) != 2 || got[1] != j.ID {
		t.Errorf("listed %v", got)
	}
	if got := w.jobs("&kind=retry&state=cancelled&subscription=" + id); len(got) != 1 || got[0] != j.ID {
		t.Errorf("listed %v", got)
	}
}

// jobs lists the ids of jobs, a page each.
func (w *world) jobs(query string) (ids []string) {
	w.t.Helper()
	for cursor := ""; ; {
		path := "/v1/jobs?limit=1" + query
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		var page struct {
			Items      []jobJSON
			NextCursor *string `json:"next_cursor"`
		}
		w.do(request{method: "GET", path: path, scope: api.ScopeRead}).into(w.t, &page)
		for _, j := range page.Items {
			ids = append(ids, j.ID)
		}
		if page.NextCursor == nil {
			return ids
		}
		cursor = *page.NextCursor
	}
}

func TestABulkRequestThatIsNotClearIsRefused(t *testing.T) {
	t.Parallel()
	w, _, _ := failing(t)
	for body, want := range map[string]string{
		`{}`:                              "body",
		`{"dry_run":true}`:                "body",
		`{"state":null}`:                  "body",
		`[]`:                              "body",
		`{"State":"dead"}`:                "body.State",
		`{"state":"dead","limit":1}`:      "body.limit",
		`{"filter":"true"}`:               "body.filter",
		`{"state":"dead","event":"a"}`:    "body.event",
		`{"state":"dead","state":"dead"}`: "body.state",
		`{"state":"alive"}`:               "body.state",
		`{"state":1}`:                     "body.state",
		`{"subscription":"x"}`:            "body.subscription",
		`{"reason":""}`:                   "body.reason",
		`{"reason":"a\u0000"}`:            "body.reason",
		`{"key":"` + strings.Repeat("k", 2049) + `"}`:          "body.key",
		`{"since":"yesterday","until":5}`:                      "body.since body.until",
		`{"since":"0001-01-01T00:00:00Z"}`:                     "body.since",
		`{"state":"dead","dry_run":"yes"}`:                     "body.dry_run",
		`{"type":["public.orders.inserted"],"reason":{"a":1}}`: "body.reason body.type",
	} {
		p := w.bulk("retry", body).problem(t, http.StatusUnprocessableEntity, "validation")
		if p.locations() != want {
			t.Errorf("%s: %+v, want %s", body, p.Errors, want)
		}
	}
	w.bulk("retry", `{"state":`).problem(t, http.StatusBadRequest, "malformed")
	if got := w.jobs(""); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}

func TestTheClientWorksWithJobs(t *testing.T) {
	t.Parallel()
	w, id, _ := failing(t)
	ctx, c := t.Context(), w.client(api.ScopeAdmin)
	filter := client.BulkFilter{Subscription: id, State: "dead"}
	if n, err := c.CountDeliveries(ctx, filter); err != nil || n.Total != 1 || !n.DryRun {
		t.Errorf("count %+v, %v", n, err)
	}
	j, err := c.DiscardDeliveries(ctx, filter)
	if err != nil || j.Kind != "discard" || j.Filter != filter && j.Filter.State != "dead" {
		t.Fatalf("discard %+v, %v", j, err)
	}
	for state, call := range map[string]func() (client.Job, error){
		"paused":  func() (client.Job, error) { return c.PauseJob(ctx, j.ID) },
		"running": func() (client.Job, error) { return c.ResumeJob(ctx, j.ID) },
	} {
		if state == "running" {
			if _, err := c.PauseJob(ctx, j.ID); err != nil {
				t.Error(err)
			}
		}
		if got, err := call(); err != nil || got.State != state {
			t.Errorf("%s: %+v, %v", state, got, err)
		}
	}
	if got, err := c.CancelJob(ctx, j.ID); err != nil || got.EndedAt == nil {
		t.Errorf("cancel: %+v, %v", got, err)
	}
	retried, err := c.RetryDeliveries(ctx, client.BulkFilter{State: "dead"})
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.Jobs(ctx, client.JobQuery{Kind: "retry", State: "running"})
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != retried.ID {
		t.Errorf("jobs %+v, %v", page, err)
	}
	if got, err := c.Job(ctx, retried.ID); err != nil || got.Total != 1 {
		t.Errorf("job %+v, %v", got, err)
	}
}
