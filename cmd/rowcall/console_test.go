package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/storetest"
)

// browser is a tab of a real browser.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string
	axe  string // source of axe-core
}

// newBrowser starts Chromium, which .ci/setup installs.
func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	path := os.Getenv("ROWCALL_TEST_CHROMIUM")
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "../../.tools/browser/chromium/run"} {
		if path == "" {
			path, _ = exec.LookPath(name)
		}
	}
	if path == "" {
		t.Fatal("no Chromium here: .ci/setup test installs it, or set ROWCALL_TEST_CHROMIUM")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()))
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() { cancel(); stop() })
	b := &browser{t: t, ctx: ctx, base: base}
	source, err := os.ReadFile(filepath.Join("..", "..", ".tools", "browser", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatalf("axe-core, which .ci/setup test installs, is missing: %v", err)
	}
	b.axe = string(source)
	b.do(chromedp.EmulateViewport(1280, 900))
	_, err = chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `
		window.faults = [];
		addEventListener("securitypolicyviolation", (e) => faults.push("policy: " + e.violatedDirective + " " + e.blockedURI));
		addEventListener("error", (e) => faults.push("error: " + e.message));`})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx := b.ctx
	if chromedp.FromContext(ctx) != nil && chromedp.FromContext(ctx).Target != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(b.ctx, patience)
		defer cancel()
	}
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%v\nat %s:\n%s", err, b.eval("location.href"), b.eval("document.body.innerText"))
	}
}

func (b *browser) eval(expression string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%.200s: %v", expression, err)
	}
	return text
}

// open goes to a page of the console.
func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + path))
}

// press clicks what leads to another page, and waits for that.
func (b *browser) press(selector string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`document.documentElement.dataset.before = "yes"; undefined`), chromedp.Click(chromedp.CSS(selector)))
	b.await("another page after "+selector, `document.documentElement.dataset.before === undefined && document.readyState === "complete"`)
}

// await waits until an expression is true; the page is left as it is.
func (b *browser) await(what, expression string) {
	b.t.Helper()
	waitFor(b.t, patience, what, func() bool {
		yes, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
		return err == nil && yes
	}, func() string { return b.eval("location.href + '\\n' + document.body.innerText") })
}

// awaitText opens a page again and again until it says something.
func (b *browser) awaitText(path, text string) {
	b.t.Helper()
	waitFor(b.t, patience, fmt.Sprintf("%s says %q", path, text), func() bool {
		b.open(path)
		return strings.Contains(b.eval("document.body.innerText"), text)
	}, func() string { return b.eval("document.body.innerText") })
}

// check looks at the page as it is for what no page may have; where rules are named,
// of axe's by those alone.
func (b *browser) check(name string, rules ...string) {
	b.t.Helper()
	if faults := b.eval(`faults.join("\n")`); faults != "" {
		b.t.Errorf("%s: %s", name, faults)
	}
	if wide := b.eval(`String(document.documentElement.scrollWidth - innerWidth)`); !strings.HasPrefix(wide, "-") && wide != "0" {
		b.t.Errorf("%s is %s px wider than the window", name, wide)
	}
	only := ""
	if len(rules) > 0 {
		only = fmt.Sprintf(", runOnly: %q", rules)
	}
	found := b.eval(b.axe + `;axe.run({resultTypes: ["violations"]` + only + `}).then((r) => r.violations.map((v) =>
		v.id + " (" + v.impact + "): " + v.nodes.slice(0, 3).map((n) => n.target.join(" ")).join(", ")).join("\n"))`)
	if found != "" {
		b.t.Errorf("%s: %s", name, found)
	}
}

func TestAPersonFindsAndMendsAFailureInTheConsole(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	w := newWorld(t, cluster, cluster)
	w.path = built(t)
	db := database(t, cluster)
	mustExec(t, db, `CREATE TABLE orders (id bigint PRIMARY KEY, status text NOT NULL)`)
	mustExec(t, db, `CREATE TABLE logs (line text)`)
	w.start(t)
	w.awaitState(t, "streaming")
	r := hooktest.Start(t, hooktest.Config{})
	b := newBrowser(t, "http://"+w.listen)

	b.open("/failed")
	b.check("sign-in")
	b.do(chromedp.SendKeys(chromedp.CSS("#key"), worldKey))
	b.press("button.main")
	if at := b.eval("location.pathname"); at != "/failed" {
		t.Errorf("signed in to %s", at)
	}
	b.awaitText("/", "there is no subscription")
	b.check("empty overview")

	b.open("/subscriptions/new")
	b.do(chromedp.SendKeys(chromedp.CSS("[name=name]"), "orders-to-billing"), chromedp.SendKeys(chromedp.CSS("[name='endpoint.url']"), "gopher://nowhere"))
	b.press("form.form button.main")
	if problem := b.eval(`document.getElementById("p-endpoint.url").innerText + document.getElementById("p-events").innerText`); problem == "" {
		t.Error("nothing stands beside the faulty fields")
	}
	b.check("form with faults")
	b.do(
		chromedp.SetValue(chromedp.CSS("[name='endpoint.url']"), r.URL()), chromedp.SendKeys(chromedp.CSS("[name=events]"), "public.orders.*"),
		chromedp.Evaluate[chromedp.Void](`document.querySelectorAll("details").forEach((d) => d.open = true); undefined`),
		chromedp.SendKeys(chromedp.CSS("[name='retry.max_attempts']"), "1"),
	)
	b.press("form.form button.main")
	if secret := b.eval(`document.getElementById("secret").innerText`); !strings.HasPrefix(secret, "whsec_") {
		t.Errorf("the secret is %q", secret)
	}
	b.press(".confirm a.main")
	sub := regexp.MustCompile(`sub_[a-z0-9]+`).FindString(b.eval("location.href"))

	mustExec(t, db, `INSERT INTO orders VALUES (1, 'new')`)
	r.WaitFor(t, func(r *hooktest.Receiver) bool { return r.Counts().Succeeded == 1 })
	b.awaitText("/subscriptions/"+sub, "delivered to")
	b.awaitText("/subscriptions/"+sub, "delivered\t")
	b.awaitText("/", "Everything flows.")

	// The receiver breaks for one event; others go through.
	r.Script(func(d hooktest.Delivery) hooktest.Reply {
		if strings.Contains(string(d.Body), "broken") {
			return hooktest.Reply{Status: http.StatusUnprocessableEntity, Body: `{"detail":"<script>alert(1)</script> status must be known"}`}
		}
		return hooktest.Reply{}
	})
	mustExec(t, db, `INSERT INTO orders VALUES (2, 'broken')`)
	mustExec(t, db, `INSERT INTO orders VALUES (3, 'new')`)
	b.awaitText("/failed", "orders-to-billing refused the event")
	b.awaitText("/", "Everything flows; 1 event ended undelivered.")
	b.check("overview")
	b.open("/failed")
	b.press("#groups a")
	b.press("table a")
	if text := b.eval("document.body.innerText"); !strings.Contains(text, "422 Unprocessable Entity") || !strings.Contains(text, "<script>alert(1)</script> status must be known") {
		t.Errorf("the delivery shows\n%s", text)
	}
	delivery := b.eval("location.pathname")

	pages := []string{
		"/", "/subscriptions", "/subscriptions/new", "/subscriptions/" + sub, "/subscriptions/" + sub + "/edit", "/subscriptions/" + sub + "/delete",
		"/subscriptions/" + sub + "/rotate", "/subscriptions/" + sub + "/pause", "/subscriptions/" + sub + "/test", "/failed", "/failed/deliveries",
		"/failed/retry?state=dead", "/failed/discard?state=dead", "/jobs", delivery, delivery + "/retry", delivery + "/discard", "/events", "/attempts", "/sources", "/sources/main", "/nowhere",
		"/replays", "/replays/new", "/replays/new?count=yes&from=1h&subscription=" + sub, "/replays/new?count=yes", "/keys", "/keys/new", "/audit",
	}
	events, err := w.api.Events(t.Context(), client.EventQuery{})
	if err != nil || len(events.Items) == 0 {
		t.Fatalf("%+v, %v", events, err)
	}
	pages = append(pages, "/events/"+events.Items[0].ID)
	key, err := w.api.CreateAPIKey(t.Context(), client.NewAPIKey{Name: "to be revoked", Scopes: []string{"read"}})
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, "/keys/"+key.ID+"/revoke", "/failed/deliveries?key=nothing", "/attempts?outcome=odd")
	for scheme, rules := range [][]string{nil, {"color-contrast"}} { // another scheme changes colours alone
		scheme := []string{"light", "dark"}[scheme]
		_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range pages {
			b.open(path)
			b.check(scheme+" "+path, rules...)
		}
	}
	b.do(chromedp.EmulateViewport(400, 800))
	for _, path := range pages {
		b.open(path)
		if wide := b.eval(`String(document.documentElement.scrollWidth - innerWidth)`); wide != "0" {
			t.Errorf("on a phone, %s is %s px wider than the window", path, wide)
		}
	}
	b.do(chromedp.EmulateViewport(1280, 900))

	// By keyboard alone: to the list, to its first row, into it.
	b.open("/")
	b.do(chromedp.KeyEvent("g"), chromedp.KeyEvent("f"))
	b.await("the list of failures", `location.pathname === "/failed" && document.readyState === "complete"`)
	b.do(chromedp.KeyEvent("j"), chromedp.KeyEvent("\r"))
	b.await("the deliveries of the group", `location.pathname === "/failed/deliveries" && document.readyState === "complete"`)
	b.do(chromedp.KeyEvent("g"), chromedp.KeyEvent("t"))
	b.await("the list of attempts", `location.pathname === "/attempts" && document.readyState === "complete"`)
	b.do(chromedp.KeyEvent("j"), chromedp.KeyEvent("\r"))
	b.await("the delivery of an attempt", `location.pathname.startsWith("/deliveries/") && document.readyState === "complete"`)
	b.do(chromedp.KeyEvent("g"), chromedp.KeyEvent("s"))
	b.await("the board", `location.pathname === "/subscriptions" && document.readyState === "complete"`)
	b.do(chromedp.KeyEvent("j"), chromedp.KeyEvent("a"))
	b.await("what can be done about the row", `document.querySelector(".menu:popover-open button").innerText === "Send a test event"`)
	b.check("menu of a row")
	b.do(chromedp.KeyEvent("?"))
	b.await("the help", `document.getElementById("help").open`)
	b.check("help")

	r.Script(nil)
	b.open(delivery)
	b.press("a.main")
	b.press("form.confirm button.main")
	r.WaitFor(t, func(r *hooktest.Receiver) bool { return r.Counts().Succeeded == 3 })
	b.awaitText("/failed", "No failures")
	b.awaitText("/", "Everything flows.")
	for _, fault := range r.Check() {
		t.Error(fault)
	}

	// The endpoint goes down as a whole: its events are held, which is no failure.
	r.Script(func(hooktest.Delivery) hooktest.Reply {
		return hooktest.Reply{Status: http.StatusServiceUnavailable, Body: "busy"}
	})
	mustExec(t, db, `INSERT INTO orders SELECT n, 'new' FROM generate_series(100, 139) n`)
	b.awaitText("/", "Nothing flows: orders-to-billing is not there.")
	b.awaitText("/failed", "nothing to do: delivered in order when it answers")
	r.Script(nil)
	b.awaitText("/subscriptions/"+sub, "Nothing is lost: its events are held, in order")
	b.check("subscription that is parked")
	b.do(chromedp.KeyEvent("m"), chromedp.KeyEvent("\r"))
	b.await("the page that asks", `location.pathname.endsWith("/probe") && document.readyState === "complete"`)
	b.press("form.confirm button.main")
	waitFor(t, patience, "it is said to recover", func() bool {
		b.open("/subscriptions/" + sub)
		text := b.eval("document.body.innerText")
		return strings.Contains(text, "orders-to-billing answers again") || strings.Contains(text, "orders-to-billing is delivered to.")
	})

	// Many at once, with a reason that is kept.
	r.Script(func(d hooktest.Delivery) hooktest.Reply {
		if strings.Contains(string(d.Body), "broken") {
			return hooktest.Reply{Status: http.StatusUnprocessableEntity}
		}
		return hooktest.Reply{}
	})
	mustExec(t, db, `UPDATE orders SET status = 'broken' WHERE id BETWEEN 100 AND 104`)
	waitFor(t, patience, "five are refused", func() bool {
		found, err := w.api.Deliveries(t.Context(), client.DeliveryQuery{State: "dead", Reason: "rejected"})
		return err == nil && len(found.Items) == 5
	})
	r.Script(nil)
	b.open("/failed/retry?state=dead")
	b.check("bulk retry")
	b.do(chromedp.SendKeys(chromedp.CSS("#note"), "the receiver knows the status now"))
	b.press("form.confirm button.main")
	r.WaitFor(t, func(r *hooktest.Receiver) bool { return r.Counts().Succeeded == 48 })
	b.awaitText("/jobs", "done")
	b.awaitText("/audit", "the receiver knows the status now")
	b.check("audit")

	// A replay, counted first.
	b.open("/replays/new?subscription=" + sub)
	b.do(chromedp.SendKeys(chromedp.CSS("[name=from]"), "1"), chromedp.SendKeys(chromedp.CSS("[name=types]"), "public.orders.updated"))
	b.press("form.form button.main")
	b.check("counted replay")
	b.press("form.counted button.main")
	r.WaitFor(t, func(r *hooktest.Receiver) bool { return r.Counts().Succeeded == 53 })
	b.awaitText("/replays", "done")
	replay := b.eval(`document.querySelector("#rows a").getAttribute("href")`)
	b.awaitText(replay, "is done: 5 events.")
	b.check("replay")

	// While it is written, a filter is tried; events come in by themselves.
	b.open("/subscriptions/new")
	b.do(chromedp.SendKeys(chromedp.CSS("[name=events]"), "public.orders.*"),
		chromedp.Evaluate[chromedp.Void](`document.querySelectorAll("details").forEach((d) => d.open = true); undefined`),
		chromedp.SendKeys(chromedp.CSS("[name=filter]"), "data.row.id == 104"))
	b.await("what the filter selects", `document.getElementById("tried").innerText.includes("newest events of these types would be sent")`)
	b.check("form that tries")
	b.open("/events")
	b.do(chromedp.Click(chromedp.CSS("[data-tail]")))
	b.await("the stream", `document.querySelector("[data-tail]").getAttribute("aria-pressed") === "true"`)
	n := 200
	b.await("an event that comes by itself", func() string {
		mustExec(t, db, `INSERT INTO orders VALUES ($1, 'followed')`, n)
		return fmt.Sprintf(`document.getElementById("rows").innerText.includes("public.orders/id=%d")`, n)
	}())
	b.check("events that are followed")

	// Without script all of it still works.
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	b.open("/subscriptions")
	b.press("#rows a")
	b.press(".actions a[href$='/pause']")
	b.press("form.confirm button.main")
	if text := b.eval("document.body.innerText"); !strings.Contains(text, "orders-to-billing is paused.") {
		t.Errorf("without script, pausing says\n%s", text)
	}
	b.open("/subscriptions?condition=paused")
	b.press("#rows form[action$='/resume'] button")
	if at, text := b.eval("location.href"), b.eval("document.body.innerText"); !strings.HasSuffix(at, "/subscriptions?condition=paused&done=resumed") || !strings.Contains(text, "Held events go out first") {
		t.Errorf("without script, resuming in place leads to %s:\n%s", at, text)
	}
	b.open("/subscriptions/" + sub + "/edit")
	b.press("button[formaction='/subscriptions/try']")
	if text := b.eval(`document.getElementById("tried").innerText`); !strings.Contains(text, "newest events of these types would be sent") {
		t.Errorf("without script, trying says %q", text)
	}
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{}); err != nil {
		t.Fatal(err)
	}
	// Numbers that are no longer kept current say so.
	b.open("/")
	b.eval(`fetch("/sign-out", {method: "POST"}).then(() => "")`)
	b.await("it says as of when it is", `document.getElementById("stale")?.innerText.includes("you are signed out. Sign in")`)
	b.open("/subscriptions")
	if at := b.eval("location.pathname"); at != "/sign-in" {
		t.Errorf("signed out, and at %s", at)
	}
	w.stop(t)
}
