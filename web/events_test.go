package web_test

import (
	"html"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/store"
)

func TestWhatAnExpressionHoldsIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sub := w.subscribe(map[string]any{"filter": "data.op == 'insert'"})
	first := w.write(w.source("shop"), 1, "{}")
	w.settle(sub.ID, []store.Delivery{{Offset: first, State: store.Blocked, Keys: []string{"k"}, Reason: "filter_error", Error: "no such key: op"}}, nil)
	if page := w.page("/failed"); !strings.Contains(page, "orders has a filter that fails on the event") || strings.Contains(page, "waiting behind") {
		t.Error("the failures do not say that the filter fails")
	}
	w.exec(`UPDATE rowcall.cursors SET health = '{"hold":"filter_error","hold_error":"no such key: op","hold_version":1}'`)
	for path, want := range map[string]string{
		"/":                        "Nothing flows: orders",
		"/subscriptions":           "1 subscription: 1 faulty.",
		"/subscriptions/" + sub.ID: "on most of them it fails: no such key: op",
	} {
		if page := w.page(path); !strings.Contains(page, want) || path == "/" && !strings.Contains(page, "no such key: op") {
			t.Errorf("%s does not say %q", path, want)
		}
	}
}

func TestATimeBoundsWhatIsDoneToMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sub := w.subscribe(nil)
	first := w.write(w.source("shop"), 3, "{}")
	w.settle(sub.ID, []store.Delivery{{Offset: first, State: store.Dead, Keys: []string{"k"}, Reason: "rejected"}}, nil)
	for query, want := range map[string]string{
		"within=1h": "Discard 1 delivery?", "within=odd": "Discard 0 deliveries?", "since=odd": "Discard 0 deliveries?", "until=odd": "Discard 0 deliveries?",
		"since=2020-01-01T00:00:00Z": "Discard 1 delivery?", "until=2020-01-01T00:00:00Z": "Discard 0 deliveries?", "since=2020-01-01T00:00:00Z&until=odd": "Discard 0 deliveries?",
	} {
		if page := w.page("/failed/discard?state=dead&" + query); !strings.Contains(page, want) {
			t.Errorf("%s does not ask: %s", query, want)
		}
	}
	page := w.page("/failed/deliveries?state=dead&since=2020-01-01T00:00:00Z&until=2099-01-01T00:00:00Z")
	for _, kept := range []string{`name="since" value="2020-01-01T00:00:00Z"`, `name="until" value="2099-01-01T00:00:00Z"`} {
		if !strings.Contains(page, kept) {
			t.Errorf("the form of filters forgets %s", kept)
		}
	}
	job, err := w.api.RetryDeliveries(t.Context(), client.BulkFilter{State: "dead", Since: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	if page := html.UnescapeString(w.page("/jobs/" + job.ID)); !strings.Contains(page, "/failed/deliveries?since=2020-01-01T00%3A00%3A00Z&state=dead&until=2099-01-01T00%3A00%3A00Z") {
		t.Error("the job leads to deliveries that it is not about")
	}
}

func TestWhatIsLostIsNotCalledSafe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, said string }{
		"an accepted gap": {`INSERT INTO rowcall.gaps (source, reason, from_lsn, to_lsn, marker, accepted_at, accepted_by) SELECT id, 'x', 1, 2, 1, now(), 'ann' FROM rowcall.sources`, ""},
		"a hold limit":    {`UPDATE rowcall.cursors SET dropped = 5`, "5 events were dropped by a hold limit"},
		"the retention":   {`UPDATE rowcall.cursors SET expired = 5`, "5 dead letters have expired"},
	} {
		w := newWorld(t)
		w.subscribe(nil)
		w.source("shop")
		if page := w.page("/"); !strings.Contains(page, "Nothing is lost.") {
			t.Errorf("nothing is lost, and that is not said:\n%s", page)
		}
		w.exec(c.sql)
		// Where counting took long, the balance may be seconds old.
		for late := time.After(30 * time.Second); ; {
			page := w.page("/")
			if !strings.Contains(page, "Nothing is lost") && strings.Contains(html.UnescapeString(page), c.said) {
				break
			}
			select {
			case <-late:
				t.Fatalf("%s: something was lost, and the page says otherwise", name)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

func TestAnEventIsReachedWhateverItsIDHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range []string{"a/b", "a?b", "a#b", "50%2F", "a b+c&d", "../../x", `"'<>`, "é😀"} {
		if _, err := w.store.Publish(t.Context(), []store.Published{{ID: id, Type: "x"}}); err != nil {
			t.Fatal(err)
		}
		link := regexp.MustCompile(`<a href="(/events/[^"]+)">x</a>`).FindStringSubmatch(w.page("/events"))
		if link == nil {
			t.Fatalf("%s is not listed", id)
		}
		if page := w.page(html.UnescapeString(link[1])); !strings.Contains(html.UnescapeString(page), `<span class="faint mono">`+id+`</span>`) {
			t.Errorf("%s leads to another page than that of %q", link[1], id)
		}
	}
}

func TestAPageOfEventsThatFindsNoneYetLeadsOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(w.source("shop"), 1, "{}")
	w.exec(`UPDATE rowcall.log_head SET next = next + 1000000000, partitioned_to = next + 1000000000`) // more than any page looks through
	w.write(w.source("crm"), 1, "{}")
	w.exec(`UPDATE rowcall.events SET key = 'public.orders/id=rare' WHERE "offset" = 1`)
	const path = "/events?where=key+%3D%3D+%22public.orders%2Fid%3Drare%22"
	page := w.page(path)
	next := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(page)
	if next == nil || !strings.Contains(page, "None so far") || strings.Contains(page, "The log holds no event") {
		t.Fatalf("the first page does not lead on:\n%s", page)
	}
}
