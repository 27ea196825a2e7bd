package web_test

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/api/client"
)

func deliveryQuery(state ...string) client.DeliveryQuery {
	return client.DeliveryQuery{State: strings.Join(state, "")}
}

// formOf reads the form of a page as a browser would send it back.
func formOf(t *testing.T, page string) url.Values {
	t.Helper()
	values := url.Values{}
	unescape := strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&lt;", "<", "&gt;", ">", "&amp;", "&", "&#43;", "+").Replace
	for _, m := range regexp.MustCompile(`<input[^>]*>`).FindAllString(page, -1) {
		name := regexp.MustCompile(` name="([^"]*)"`).FindStringSubmatch(m)
		value := regexp.MustCompile(` value="([^"]*)"`).FindStringSubmatch(m)
		if name == nil || strings.Contains(m, "checkbox") && !strings.Contains(m, " checked") {
			continue
		}
		values.Add(name[1], unescape(value[1]))
	}
	for _, m := range regexp.MustCompile(`(?s)<textarea[^>]* name="([^"]*)"[^>]*>(.*?)</textarea>`).FindAllStringSubmatch(page, -1) {
		values.Add(m[1], unescape(m[2]))
	}
	for _, m := range regexp.MustCompile(`(?s)<select[^>]* name="([^"]*)"[^>]*>(.*?)</select>`).FindAllStringSubmatch(page, -1) {
		if chosen := regexp.MustCompile(`value="([^"]*)" selected`).FindStringSubmatch(m[2]); chosen != nil {
			values.Add(m[1], chosen[1])
		}
	}
	return values
}

func TestASubscriptionIsMadeByTheFormAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	form := url.Values{
		"name": {"orders"}, "events": {"public.orders.*\r\n\r\n public.users.** \r\n"}, "endpoint.url": {"https://receiver.test/hooks"},
		"start": {"1"}, "labels": {"team=growth\r\ntier=1"}, "endpoint.headers": {"X-Env=a=b"}, "format": {"raw"}, "ordering": {"none"},
		"max_in_flight": {"7"}, "retry.max_attempts": {"3"}, "endpoint.timeout": {"5s"}, "signing": {"v1", "v1a"}, "on_dead": {"block"},
		"endpoint.auth.type": {"basic"}, "endpoint.auth.username": {"u"}, "endpoint.auth.password": {"secret-password"},
	}
	a := w.do(request{method: "POST", path: "/subscriptions/new", scope: api.ScopeWrite, form: form})
	if a.status != http.StatusOK || !strings.Contains(a.body, "whsec_") || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	page, err := w.api.Subscriptions(t.Context(), client.SubscriptionQuery{Name: "orders"})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	got := page.Items[0].Spec
	want := client.Spec{
		Name: "orders", Events: []string{"public.orders.*", "public.users.**"}, Labels: map[string]string{"team": "growth", "tier": "1"},
		Format: "raw", Ordering: "none", OnDead: "block", MaxInFlight: 7, Signing: []string{"v1", "v1a"},
		Endpoint: client.Endpoint{
			URL: "https://receiver.test/hooks", Headers: map[string]string{"X-Env": "a=b"}, Timeout: "5s",
			Auth: &client.Auth{Type: "basic", Username: "u"},
		},
		Batch: got.Batch, Retry: client.Retry{Initial: "1s", Max: "1h", MaxAttempts: 3, MaxAge: got.Retry.MaxAge}, Outage: got.Outage,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if strings.Contains(w.page("/subscriptions/"+page.Items[0].ID+"/edit"), "secret-password") {
		t.Error("a secret is shown again")
	}
}

func TestAFormSentBackAsItIsChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sub := w.subscribe(map[string]any{
		"labels": map[string]any{"team": "growth"}, "max_in_flight": 3, "signing": []string{"v1a"}, "format": "raw",
		"endpoint": map[string]any{"url": "https://receiver.test/a?b=c&d", "headers": map[string]any{"X-A": "1"}, "auth": map[string]any{"type": "bearer", "token": "t"}},
	})
	path := "/subscriptions/" + sub.ID + "/edit"
	form := formOf(t, w.page(path))
	if a := w.do(request{method: "POST", path: path, scope: api.ScopeWrite, form: form}); a.status != http.StatusSeeOther {
		t.Fatalf("%d %s", a.status, a.body)
	}
	now, err := w.api.Subscription(t.Context(), sub.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sub.Spec, now.Spec); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	// What is emptied gets its default back, and what is taken out of a list is gone.
	form = formOf(t, w.page(path))
	form.Set("labels", "")
	form.Set("endpoint.headers", "X-B=2")
	form.Set("max_in_flight", "")
	form.Set("endpoint.auth.type", "")
	if a := w.do(request{method: "POST", path: path, scope: api.ScopeWrite, form: form}); a.status != http.StatusSeeOther {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if now, err = w.api.Subscription(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
	if len(now.Labels) != 0 || !maps.Equal(now.Endpoint.Headers, map[string]string{"X-B": "2"}) || now.MaxInFlight != 64 || now.Endpoint.Auth != nil {
		t.Errorf("after emptying: %+v", now.Spec)
	}
	// The form of an older version does not overwrite.
	form.Set("version", "1")
	if a := w.do(request{method: "POST", path: path, scope: api.ScopeWrite, form: form}); a.status != http.StatusPreconditionFailed {
		t.Errorf("an old form: %d", a.status)
	}
}

func TestFaultsStandBesideTheirFieldsAndWhatWasWrittenStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	form := url.Values{
		"name": {""}, "events": {"public..x\nok.*"}, "endpoint.url": {"ftp://receiver.test"}, "max_in_flight": {"lots"},
		"endpoint.auth.type": {"basic"}, "endpoint.auth.username": {"kept"}, "endpoint.auth.password": {"hidden-password"}, "start": {"yesterday"},
	}
	a := w.do(request{method: "POST", path: "/subscriptions/new", scope: api.ScopeWrite, form: form})
	if a.status != http.StatusUnprocessableEntity {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, name := range []string{"name", "events", "endpoint.url", "max_in_flight", "start"} {
		if !strings.Contains(a.body, `id="p-`+name+`"`) || !regexp.MustCompile(`name="`+regexp.QuoteMeta(name)+`"[^>]* aria-invalid="true"`).MatchString(a.body) {
			t.Errorf("no fault stands beside %s", name)
		}
	}
	if !strings.Contains(a.body, `value="kept"`) || !strings.Contains(a.body, "ftp://receiver.test") || strings.Contains(a.body, "hidden-password") {
		t.Error("the form came back with other values")
	}
	w.subscribe(map[string]any{"name": "taken"})
	a = w.do(request{method: "POST", path: "/subscriptions/new", scope: api.ScopeWrite, form: url.Values{
		"name": {"taken"}, "events": {"a"}, "endpoint.url": {"https://receiver.test"},
	}})
	if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `id="p-name"`) {
		t.Errorf("a name that is taken: %d", a.status)
	}
}
