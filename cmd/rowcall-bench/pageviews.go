package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// views are what is measured: every list of the API by each of its filters, alone
// and together, from its start and at three depths; every other address that reads;
// every page of the console.
func (w *world) views(ctx context.Context) ([]view, error) {
	var subs struct {
		Items []struct{ ID, Name string } `json:"items"`
	}
	if err := w.call(ctx, http.MethodGet, "/v1/subscriptions?limit=1000", nil, &subs); err != nil {
		return nil, err
	}
	var busy, idle string
	for _, s := range subs.Items {
		switch s.Name {
		case "bench":
			busy = s.ID
		case "pages-500":
			idle = s.ID
		}
	}
	var newest struct {
		Items []struct{ ID, PartitionKey string } `json:"items"`
	}
	if err := w.call(ctx, http.MethodGet, "/v1/events?limit=1", nil, &newest); err != nil {
		return nil, err
	}
	if len(newest.Items) == 0 || busy == "" {
		return nil, fmt.Errorf("the store was not filled")
	}
	id, key := newest.Items[0].ID, newest.Items[0].PartitionKey
	// One that is amid a transaction of half a million.
	amid := newest
	if err := w.call(ctx, http.MethodGet, "/v1/events?limit=1&cursor="+cursor("events", `""""""`, strconv.Itoa(pagesRows*3/4)), nil, &amid); err != nil {
		return nil, err
	}
	keys, err := w.restricted(ctx)
	if err != nil {
		return nil, err
	}
	ago := func(hours int) string {
		return time.Now().Add(-time.Duration(hours) * time.Hour).UTC().Format(time.RFC3339)
	}
	all := append(amidViews(amid.Items[0].ID), restrictedViews(keys, busy, id, key, ago)...)
	all = append(all, listViews(busy, idle, id, key, ago)...)
	all = append(all, oneViews(busy, idle, id, ago)...)
	return append(all, consoleViews(busy, idle, id, key)...), nil
}

// depths are positions after a tenth, the half and nearly all of a list.
func depths(form func(n int64) string) []string {
	return []string{form(pagesRows * 9 / 10), form(pagesRows / 2), form(pagesRows / 100)}
}

func listViews(busy, idle, id, key string, ago func(int) string) (views []view) {
	const deep = "public.orders/id=77"
	add := func(l list, by ...[]string) {
		for _, b := range by {
			for _, at := range append([]string{""}, l.positions...) {
				views = append(views, view{path: l.by(at, b...)})
			}
		}
	}
	add(list{
		name: "events", path: "/v1/events", positions: depths(number),
		filters: []filter{{name: "type"}, {name: "key"}, {name: "filter"}},
	},
		nil, []string{"type=public.orders.inserted"}, []string{"type=public.orders.updated"}, []string{"type=none.such"},
		[]string{"key=" + key}, []string{"key=" + deep}, []string{"key=none/such"}, []string{"type=public.orders.inserted", "key=" + deep},
		[]string{"filter=data.row.id == 77"}, []string{"filter=data.row.status == 'new'"}, []string{"type=public.orders.inserted", "filter=data.row.id == 77"})
	add(attemptList(),
		nil, []string{"subscription=" + busy}, []string{"subscription=" + idle}, []string{"outcome=delivered"}, []string{"outcome=failed"}, []string{"outcome=blocked"},
		[]string{"event=" + id}, []string{"event=none"}, []string{"delivery=dlv_1_500000"}, []string{"delivery=dlv_1_999999999"},
		[]string{"subscription=" + busy, "outcome=blocked"}, []string{"subscription=" + idle, "outcome=failed"}, []string{"subscription=" + idle, "event=" + id})
	add(deliveryList(),
		nil, []string{"subscription=" + busy}, []string{"subscription=" + idle}, []string{"state=dead"}, []string{"state=retrying"}, []string{"state=blocked"},
		[]string{"reason=rejected"}, []string{"reason=none"}, []string{"reason=tls"}, []string{"status=422"}, []string{"status=418"},
		[]string{"type=public.orders.inserted"}, []string{"type=public.orders.updated"}, []string{"type=none.such"},
		[]string{"key=" + key}, []string{"key=" + deep}, []string{"key=none/such"},
		[]string{"filter=data.row.id == 77"}, []string{"filter=data.row.status == 'new'"},
		[]string{"since=" + ago(1)}, []string{"until=" + ago(20)}, []string{"until=" + ago(100)}, []string{"since=" + ago(5), "until=" + ago(4)},
		[]string{"subscription=" + busy, "state=dead", "reason=timeout"}, []string{"subscription=" + busy, "state=dead", "status=422"},
		[]string{"subscription=" + busy, "state=retrying"}, []string{"subscription=" + busy, "reason=none"}, []string{"subscription=" + busy, "status=418"},
		[]string{"subscription=" + busy, "key=" + deep}, []string{"subscription=" + idle, "key=" + deep}, []string{"subscription=" + busy, "key=none/such"},
		[]string{"subscription=" + busy, "type=none.such"}, []string{"subscription=" + busy, "until=" + ago(100)},
		[]string{"subscription=" + idle, "state=dead", "status=418", "type=public.orders.inserted"}, []string{"state=dead", "type=none.such", "since=" + ago(5)},
		[]string{"subscription=" + busy, "filter=data.row.id == 77"}, []string{"state=dead", "status=418", "filter=data.row.id == 77"})
	add(list{
		name: "audit", path: "/v1/audit", positions: depths(number),
		filters: []filter{{name: "actor"}, {name: "action"}, {name: "object"}, {name: "since"}, {name: "until"}},
	},
		nil, []string{"actor=key_7"}, []string{"actor=none"}, []string{"action=pause-subscription"}, []string{"action=none"},
		[]string{"object=subscription/sub_77"}, []string{"object=none"}, []string{"since=" + ago(1)}, []string{"until=" + ago(8000)}, []string{"since=" + ago(5), "until=" + ago(4)},
		[]string{"actor=key_7", "action=pause-subscription", "object=subscription/sub_77"}, []string{"actor=key_7", "action=none"}, []string{"actor=key_7", "object=none"},
		[]string{"action=pause-subscription", "object=none"}, []string{"actor=key_7", "until=" + ago(10000)}, []string{"object=subscription/sub_77", "until=" + ago(10000)})
	return views
}

// amidViews are those of an event of a large transaction, and of one that it has not.
func amidViews(id string) []view {
	none := id[:strings.LastIndex(id, "-")+1] + "999999999"
	return []view{
		{path: "/v1/events/" + id},
		{path: "/v1/events/" + none, status: http.StatusNotFound},
		{path: "/v1/attempts?event=" + id},
		{path: "/v1/attempts?event=" + none},
		{path: "/events/" + id},
		{path: "/attempts?event=" + id},
	}
}

// restricted makes keys that see the subscription that has half of everything, one
// that has little, one without an attempt, twenty, and five hundred.
func (w *world) restricted(ctx context.Context) (keys []key, err error) {
	for _, label := range [][2]string{{"lane", "1"}, {"lane", "502"}, {"lane", "1000"}, {"team", "7"}, {"half", "0"}} {
		var made struct{ Key string }
		if err := w.call(ctx, http.MethodPost, "/v1/api-keys", map[string]any{
			"name": label[0] + label[1], "scopes": []string{"read"}, "labels": map[string]string{label[0]: label[1]},
		}, &made); err != nil {
			return nil, err
		}
		keys = append(keys, key{label[0] + " " + label[1], made.Key})
	}
	return keys, nil
}

// restrictedViews are the lists as restricted keys see them.
func restrictedViews(keys []key, busy, id, of string, ago func(int) string) (views []view) {
	for i := range keys {
		attempts, deliveries := attemptList(), deliveryList()
		for _, position := range append([]string{""}, attempts.positions...) {
			for _, by := range [][]string{nil, {"outcome=failed"}, {"outcome=blocked"}, {"subscription=" + busy}} {
				views = append(views, view{path: attempts.by(position, by...), key: &keys[i]})
			}
		}
		for _, position := range append([]string{""}, deliveries.positions...) {
			for _, by := range [][]string{nil, {"state=dead"}, {"key=" + of}, {"key=none/such"}} {
				views = append(views, view{path: deliveries.by(position, by...), key: &keys[i]})
			}
		}
		for _, path := range []string{"/v1/attempts?event=" + id, "/v1/deliveries/groups", "/v1/deliveries/groups?since=" + ago(22), "/v1/endpoints", "/v1/stats"} {
			views = append(views, view{path: path, key: &keys[i]})
		}
	}
	return views
}

func attemptList() list {
	return list{
		name: "attempts", path: "/v1/attempts", filters: []filter{{name: "subscription"}, {name: "event"}, {name: "delivery"}, {name: "outcome"}},
		positions: depths(func(n int64) string {
			return number(time.Now().Add(-2*time.Hour-time.Duration(pagesRows-n)*40*time.Millisecond).UnixMicro()) + ".1." + number(n)
		}),
	}
}

func deliveryList() list {
	return list{
		name: "deliveries", path: "/v1/deliveries", positions: depths(func(n int64) string { return number(n) + ".1" }),
		filters: []filter{
			{name: "subscription"}, {name: "state"}, {name: "reason"}, {name: "status", unset: "0"}, {name: "type"}, {name: "key"}, {name: "event"}, {name: "filter"}, {name: "since"}, {name: "until"},
		},
	}
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// oneViews are the lists that do not grow so large, and single things.
func oneViews(busy, idle, id string, ago func(int) string) (views []view) {
	for _, path := range []string{
		"/v1/subscriptions", "/v1/subscriptions?limit=1000", "/v1/subscriptions?name=pages-500", "/v1/subscriptions?state=paused",
		"/v1/subscriptions/" + busy, "/v1/subscriptions/" + idle, "/v1/subscriptions/" + busy + "/health", "/v1/subscriptions/" + busy + "/stats", "/v1/subscriptions/" + busy + "/stats?window=week",
		"/v1/endpoints", "/v1/endpoints?limit=1000", "/v1/endpoints?condition=healthy", "/v1/endpoints?q=pages-5", "/v1/endpoints?subscription=" + busy,
		"/v1/deliveries/groups", "/v1/deliveries/groups?subscription=" + busy, "/v1/deliveries/groups?state=dead&reason=timeout",
		"/v1/deliveries/groups?since=" + ago(1), "/v1/deliveries/groups?since=" + ago(22), "/v1/deliveries/groups?subscription=" + busy + "&since=" + ago(22),
		"/v1/deliveries/dlv_1_500000", "/v1/deliveries/dlv_1_500000/request", "/v1/events/" + id,
		"/v1/jobs", "/v1/jobs?limit=1000", "/v1/jobs?kind=discard", "/v1/jobs?state=running", "/v1/jobs?subscription=" + idle, "/v1/jobs/job_00000000000000000000005000",
		"/v1/replays", "/v1/replays?state=running", "/v1/replays?subscription=" + idle, "/v1/dead-ranges", "/v1/dead-ranges?subscription=" + busy,
		"/v1/sources", "/v1/sources/main", "/v1/api-keys", "/v1/log", "/v1/stats", "/v1/stats?window=day", "/v1/stats?window=week", "/v1/sessions",
		"/metrics", "/healthz",
	} {
		views = append(views, view{path: path})
	}
	for _, unknown := range []string{"/v1/events/00000009-0000000000000001-1", "/v1/events/none", "/v1/events/e-0123456789abcdef0123456789abcdef", "/v1/deliveries/dlv_1_999999999"} {
		views = append(views, view{path: unknown, status: http.StatusNotFound})
	}
	for _, filter := range []string{
		`"subscription": "` + busy + `"`, `"subscription": "` + idle + `"`, `"state": "dead"`, `"state": "retrying"`, `"reason": "timeout"`, `"status": 418`,
		`"key": "public.orders/id=77"`, `"type": "public.orders.inserted"`, `"type": "none.such"`, `"since": "` + ago(1) + `"`,
		`"state": "dead", "subscription": "` + busy + `", "reason": "timeout"`,
	} {
		views = append(views, view{path: "/v1/deliveries/retry", body: `{"dry_run": true, ` + filter + `}`})
	}
	for _, filter := range []string{`"from": {"offset": 1}`, `"from": {"offset": 1}, "types": ["public.orders.updated"]`, `"from": {"time": "` + ago(0) + `"}`} {
		views = append(views, view{path: "/v1/replays", body: `{"dry_run": true, "subscription": "` + busy + `", ` + filter + `}`})
	}
	return views
}

func consoleViews(busy, idle, id, key string) (views []view) {
	where := url.QueryEscape("data.row.id == 77")
	key = url.QueryEscape(key)
	for _, path := range []string{
		"/", "/?window=day", "/?window=week", "/subscriptions", "/subscriptions?condition=healthy", "/subscriptions?q=pages-5", "/subscriptions/new",
		"/subscriptions/" + busy, "/subscriptions/" + busy + "?window=week", "/subscriptions/" + idle, "/subscriptions/" + busy + "/edit", "/subscriptions/" + busy + "/pause",
		"/failed", "/failed?subscription=" + busy, "/failed?state=dead&reason=timeout", "/failed?within=1h", "/failed?within=24h",
		"/failed/deliveries", "/failed/deliveries?subscription=" + busy + "&state=dead&status=422", "/failed/deliveries?key=" + key, "/failed/deliveries?key=none",
		"/failed/deliveries?type=none.such", "/failed/deliveries?where=" + where, "/failed/deliveries?within=1h", "/failed/deliveries?state=retrying",
		"/failed/retry?state=dead", "/failed/discard?subscription=" + busy + "&reason=timeout", "/failed/retry?key=" + key,
		"/deliveries/dlv_1_500000", "/deliveries/dlv_1_1000", "/deliveries/dlv_1_500000/retry", "/jobs", "/jobs/job_00000000000000000000005000",
		"/replays", "/replays/new", "/replays/new?count=yes&from=1&subscription=" + busy, "/replays/rpl_00000000000000000000005001",
		"/attempts", "/attempts?outcome=failed", "/attempts?outcome=blocked", "/attempts?subscription=" + busy, "/attempts?subscription=" + idle, "/attempts?event=" + id,
		"/events", "/events?key=" + key, "/events?type=none.such", "/events?where=" + where, "/events/" + id, "/sources", "/sources/main",
		"/keys", "/keys/new", "/audit", "/audit?action=pause-subscription", "/audit?actor=none", "/audit?object=none",
	} {
		views = append(views, view{path: path})
	}
	for _, l := range []list{
		{name: "events", path: "/events", filters: make([]filter, 3), positions: depths(number)},
		{name: "deliveries", path: "/failed/deliveries", filters: []filter{3: {unset: "0"}, 8: {}}, positions: depths(func(n int64) string { return number(n) + ".1" })},
		{name: "audit", path: "/audit", filters: make([]filter, 5), positions: depths(number)},
	} {
		for _, at := range l.positions {
			views = append(views, view{path: l.by(at)})
		}
	}
	return append(views, view{path: "/events/" + strings.ReplaceAll(id, "0", "9"), status: http.StatusNotFound})
}
