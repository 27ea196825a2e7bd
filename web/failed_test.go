package web_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
)

// failing makes a subscription with n dead letters, of the rows n = 0, 1, ….
func (w *world) failing(n int) (id string) {
	w.t.Helper()
	claim := w.source("shop")
	id = w.subscribe(nil).ID
	data := make([]string, n)
	for i := range data {
		data[i] = fmt.Sprintf(`{"n":%d}`, i)
	}
	first := w.writeEach(claim, data...)
	var dead []store.Delivery
	for i := range n {
		dead = append(dead, store.Delivery{
			Offset: first + store.Offset(i), State: store.Dead, Keys: []string{"public.orders/id=0"}, Attempts: 2, Reason: "rejected", Status: 422,
			Error: "=cmd|' /C calc'!A0", FirstFailedAt: time.Now(),
		})
	}
	w.settle(id, dead, nil)
	return id
}

func TestASearchLeadsToWhatWasMeant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.failing(1)
	for text, want := range map[string]string{
		"dlv_1_1":                "/deliveries/dlv_1_1",
		"01-0000000003F2A8C0-0":  "/events/01-0000000003F2A8C0-0",
		"public.orders/id=1":     "/failed/deliveries?key=public.orders%2Fid%3D1",
		"public.orders.inserted": "/failed/deliveries?type=public.orders.inserted",
		"data.n == 3":            "/failed/deliveries?where=data.n+%3D%3D+3",
	} {
		a := w.do(request{path: "/failed?q=" + url.QueryEscape(text), scope: api.ScopeRead})
		if a.status != http.StatusSeeOther || a.header.Get("Location") != want {
			t.Errorf("%s leads to %s, want %s", text, a.header.Get("Location"), want)
		}
	}
}

func TestFailuresAreFoundByTheirPayloads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.failing(5)
	page := w.page("/failed/deliveries?where=" + url.QueryEscape("data.n == 3"))
	if n := strings.Count(page, `name="id" value=`); n != 1 || !strings.Contains(page, `value="dlv_1_4"`) {
		t.Errorf("found %d", n)
	}
	if strings.Contains(page, "/failed/retry") {
		t.Error("what only a search selects is offered to be retried as a whole")
	}
	page = w.page("/failed/deliveries?where=" + url.QueryEscape("data.n == ("))
	if !strings.Contains(page, "Nothing was looked for.") || !strings.Contains(page, "data.n == (") {
		t.Error("an expression that cannot be used is not said to be one")
	}
}

func TestFailuresAreExportedAsTheyAreFiltered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.failing(3)
	a := w.do(request{path: "/failed/export?format=jsonl&state=dead&subscription=" + id, scope: api.ScopeRead})
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	if a.status != http.StatusOK || len(lines) != 3 || !strings.HasPrefix(a.header.Get("Content-Disposition"), `attachment; filename="deliveries-`) {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	var first struct {
		ID    string
		Name  string `json:"subscription_name"`
		Event struct{ Data json.RawMessage }
	}
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil || first.ID != "dlv_1_3" || first.Name != "orders" || string(first.Event.Data) != `{"n":2}` {
		t.Errorf("%v %s", err, lines[0])
	}
	a = w.do(request{path: "/failed/export?format=csv&where=" + url.QueryEscape("data.n < 2"), scope: api.ScopeRead})
	rows, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
	if err != nil || len(rows) != 3 || rows[1][0] != "dlv_1_2" || rows[1][6] != "'=cmd|' /C calc'!A0" {
		t.Errorf("%v %q", err, rows)
	}
	for _, path := range []string{"/failed/export?format=exe", "/failed/export?format=csv&where=%28", "/failed/export?format=csv&state=odd"} {
		if a := w.do(request{path: path, scope: api.ScopeRead}); a.status < 400 || a.status > 499 || strings.Contains(a.header.Get("Content-Type"), "csv") {
			t.Errorf("%s: %d %s", path, a.status, a.header.Get("Content-Type"))
		}
	}
}

func TestWhatAHoldLimitGaveUpIsListedAndDiscardedAfterAQuestion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.failing(3)
	w.exec(`INSERT INTO rowcall.dead_ranges (lane, "from", past, patterns, events, bytes, reason) VALUES (1, 1, 3, '{public.**}', 2, 4096, 'hold_limit')`)
	page := w.page("/failed")
	for _, want := range []string{"Given up at a hold limit", "1 to 3", "≤ 2", "4.0 KiB", "/dead-ranges/drg_1/discard", "from=1&amp;to=3"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if page := w.page("/dead-ranges/drg_1/discard"); !strings.Contains(page, "Discard 2 events of orders?") {
		t.Error("discarding does not ask")
	}
	a := w.do(request{method: "POST", path: "/dead-ranges/drg_1/discard", scope: api.ScopeDeliver, form: url.Values{"note": {"the vendor has its own copy"}}})
	if a.status != http.StatusSeeOther || strings.Contains(w.page("/failed"), "drg_1") {
		t.Errorf("discarding: %d %s", a.status, a.body)
	}
}

func TestWhyStandsInTheAuditTrail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.failing(2)
	const why = "Zahlungsdienst repariert: INC-7 <b>"
	if page := w.page("/failed/discard?state=dead"); !strings.Contains(page, `name="note"`) {
		t.Error("the page does not ask why")
	}
	a := w.do(request{method: "POST", path: "/failed/discard?state=dead", scope: api.ScopeDeliver, form: url.Values{"note": {why}}})
	if a.status != http.StatusSeeOther {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if page := w.page("/audit"); !strings.Contains(page, "<q>Zahlungsdienst repariert: INC-7 &lt;b&gt;</q>") {
		t.Error("the trail does not say why")
	}
	a = w.do(request{method: "POST", path: "/deliveries/dlv_1_1/retry", scope: api.ScopeDeliver, form: url.Values{"note": {strings.Repeat("x", 501)}}})
	if a.status != http.StatusUnprocessableEntity {
		t.Errorf("a note that is too long: %d", a.status)
	}
}

func TestAGroupIsRetriedFromWhereItIsListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.failing(1)
	retry := `<a class="button" href="(/failed/retry\?reason=rejected&amp;state=dead&amp;status=422&amp;subscription=` + id + `)">Retry…`
	for path, scope := range map[string]api.Scope{"/failed": api.ScopeDeliver, "/subscriptions/" + id: api.ScopeDeliver} {
		found := regexp.MustCompile(retry).FindStringSubmatch(w.do(request{path: path, scope: scope}).body)
		if found == nil {
			t.Fatalf("%s does not offer it", path)
		}
		asked := w.do(request{path: strings.ReplaceAll(found[1], "&amp;", "&"), scope: scope})
		if !strings.Contains(asked.body, "Retry 1 delivery?") || !strings.Contains(asked.body, "It is tried as soon as its endpoint takes it") {
			t.Errorf("it asks\n%s", asked.body)
		}
		if page := w.do(request{path: path, scope: api.ScopeRead}); strings.Contains(page.body, "/failed/retry") {
			t.Errorf("%s offers it to whom it is refused", path)
		}
	}
}

func TestTheOverviewAccountsForEverythingAndDrawsWhatHappened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.failing(3)
	for _, path := range []string{"/?window=day", "/subscriptions/" + id + "?window=day"} {
		page := w.page(path)
		for _, want := range []string{"owed", "Events a second", "Time of a try", "Failed tries", `aria-current="true">24 h</a>`, "<path class=\"grid\""} {
			if !strings.Contains(page, want) {
				t.Errorf("%s lacks %q", path, want)
			}
		}
	}
	if page := w.page("/"); !strings.Contains(page, `Captured: 3 from <a href="/sources/shop">shop</a>.`) {
		t.Error("it is not said how many were captured")
	}
}

func TestTheOverviewAccountsForEachSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.failing(3)
	if page := w.page("/"); strings.Contains(page, "By source") {
		t.Error("one source is told apart from itself")
	}
	w.write(w.source("bank"), 2, "{}") // of a table of the same name
	wants := []string{`bank\s+2\s+0\s+0`, `shop\s+3\s+0\s+0`, `bank\s+\+\s+shop\s+–\s+5\s+0\s+≤ 2\s+0\s+0\s+3\s`}
	// The balance is remembered for a while where it took long.
	for late := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, table, _ := strings.Cut(w.page("/"), `aria-label="By source"`)
		table, _, _ = strings.Cut(table, "</table>")
		cells := regexp.MustCompile(`<[^>]+>`).ReplaceAllString(strings.ReplaceAll(table, "</tr>", "\n"), " ")
		missing := slices.DeleteFunc(slices.Clone(wants), func(want string) bool { return regexp.MustCompile(want).MatchString(cells) })
		if len(missing) == 0 {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%q are not in\n%s", missing, cells)
		}
	}
}
