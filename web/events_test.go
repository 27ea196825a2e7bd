package web_test

import (
	"html"
	"regexp"
	"strings"
	"testing"
)

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
