package web_test

import (
	"html"
	"regexp"
	"strings"
	"testing"

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
		"/subscriptions":           "1 subscription, 1 faulty.",
		"/subscriptions/" + sub.ID: "on most of them it fails: no such key: op",
	} {
		if page := w.page(path); !strings.Contains(page, want) || path == "/" && !strings.Contains(page, "no such key: op") {
			t.Errorf("%s does not say %q", path, want)
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
	w.exec(`UPDATE rowcall.log_head SET next = next + 300000, partitioned_to = next + 300000`)
	w.write(w.source("crm"), 1, "{}")
	w.exec(`UPDATE rowcall.events SET key = 'public.orders/id=rare' WHERE "offset" = 1`)
	const path = "/events?key=public.orders%2Fid%3Drare"
	page := w.page(path)
	next := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(page)
	if next == nil || !strings.Contains(page, "None so far") || strings.Contains(page, "The log holds no event") {
		t.Fatalf("the first page does not lead on:\n%s", page)
	}
	if page := w.page(html.UnescapeString(next[1])); !strings.Contains(page, "public.orders/id=rare</td>") {
		t.Errorf("the second page does not have it:\n%s", page)
	}
}
