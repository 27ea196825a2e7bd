package web_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/api"
)

func TestWhileTheStoreIsAwayAPageSaysWhatIsSafeAndLoadsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.subscribe(nil)
	w.session(api.ScopeRead)
	elsewhere := w.conn.Config().Copy()
	database := pgx.Identifier{elsewhere.Database}.Sanitize()
	elsewhere.Database = "postgres"
	conn, err := pgx.ConnectConfig(t.Context(), elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	exec := func(sql string, args ...any) {
		if _, err := conn.Exec(context.WithoutCancel(t.Context()), sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	t.Cleanup(func() {
		exec(`ALTER DATABASE ` + database + ` ALLOW_CONNECTIONS true`)
		_ = conn.Close(context.WithoutCancel(t.Context()))
	})
	exec(`ALTER DATABASE ` + database + ` ALLOW_CONNECTIONS false`)
	exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, w.conn.Config().Database)
	a := w.do(request{path: "/subscriptions?q=x&condition=parked", scope: api.ScopeRead})
	if a.status != http.StatusServiceUnavailable || a.header.Get("Content-Security-Policy") != policy {
		t.Errorf("%d %v", a.status, a.header)
	}
	for _, want := range []string{"The store does not answer.", "Nothing is lost", `<a href="/subscriptions?q=x&amp;condition=parked">Load it again</a>`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the page lacks %q:\n%s", want, a.body)
		}
	}
	a = w.do(request{method: "POST", path: "/failed/retry?state=dead", scope: api.ScopeRead, form: url.Values{"note": {"mended"}}})
	if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, `action="/failed/retry?state=dead"><input type="hidden" name="note" value="mended">`) {
		t.Errorf("what was filled in is lost: %d %s", a.status, a.body)
	}
	exec(`ALTER DATABASE ` + database + ` ALLOW_CONNECTIONS true`)
	for late := time.After(30 * time.Second); w.do(request{path: "/subscriptions", scope: api.ScopeRead}).status != http.StatusOK; {
		select {
		case <-late:
			t.Fatal("the store is back, and the page is not")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestAProblemLeadsBackToWhereOneCameFrom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for path, want := range map[string]string{
		"/attempts?outcome=odd":       `<a href="/attempts">The same without filters</a>`,
		"/subscriptions?condition=no": `<a href="/subscriptions">The same without filters</a>`,
		"/subscriptions/sub_nobody":   `<a href="/subscriptions">Subscriptions</a>`,
		"/deliveries/dlv_1_1":         `<a href="/failed">Failed deliveries</a>`,
		"/events/nobody":              `<a href="/events">Events</a>`,
		"/nowhere":                    `<a href="/">Overview</a>`,
	} {
		if a := w.do(request{path: path, scope: api.ScopeRead}); a.status/100 != 4 || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d, without %s", path, a.status, want)
		}
	}
	// Nobody fills in a form to be refused.
	id := w.subscribe(nil).ID
	for path, scope := range map[string]string{
		"/subscriptions/new": "write", "/subscriptions/" + id + "/edit": "write", "/subscriptions/" + id + "/delete": "write", "/subscriptions/" + id + "/pause": "deliver",
		"/failed/retry?state=dead": "deliver", "/deliveries/dlv_1_1/discard": "deliver", "/replays/new": "deliver", "/keys/new": "admin", "/sources/main/accept-gap": "admin",
	} {
		a := w.do(request{path: path, scope: api.ScopeRead})
		if a.status != http.StatusForbidden || !strings.Contains(a.body, "needs a key with scope "+scope+". Nothing was changed.") || !strings.Contains(a.body, `<a href="/sign-in?next=`+url.QueryEscape(path)+`">Sign in with another key</a>`) {
			t.Errorf("%s: %d, %s", path, a.status, a.body)
		}
	}
	if a := w.do(request{path: "/attempts?outcome=odd", scope: api.ScopeRead}); strings.Contains(a.body, "query.") || !strings.Contains(a.body, "The address asks for what there is not.") {
		t.Errorf("%s", a.body)
	}
}
