package main

import (
	"strings"
	"testing"

	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

func TestApplyMakesWhatRunsWhatAFileDeclares(t *testing.T) {
	t.Parallel()
	c := newConfig(t, storetest.EmptyURL(t))
	env := append(clientEnv(start(t, c), c), "PARTNER_TOKEN=first-secret")
	document := `
owner: billing
subscriptions:
  - name: paid
    events: [public.orders.updated]
    labels: {team: growth}
    endpoint:
      url: http://127.0.0.1:9/paid
      headers: {X-Env: prod, X-Old: "1"}
      auth: {type: bearer, token: "${PARTNER_TOKEN}"}
  - name: all
    events: ['**']
    endpoint: {url: http://127.0.0.1:9/all}
`
	if got := call(t, env, "subs", "create", "--name=by-hand", "--events=x.y", "--endpoint=http://127.0.0.1:9/h"); got.code != exitOK {
		t.Fatalf("create: %+v", got)
	}
	apply := func(document string, flags ...string) result {
		t.Helper()
		return call(t, env, append([]string{"apply", "-f", file(t, document)}, flags...)...)
	}
	want := func(got result, code int, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !strings.Contains(got.stdout, line) {
				t.Errorf("no %q in\n%s%s", line, got.stdout, got.stderr)
			}
		}
		if got.code != code || strings.Contains(got.stdout, "secret") {
			t.Errorf("exit code %d, want %d:\n%s%s", got.code, code, got.stdout, got.stderr)
		}
	}
	plan := []string{"+ create paid\n", "+ create all\n", `    endpoint.url: "http://127.0.0.1:9/paid"`, "= 0 unchanged\n"}
	want(apply(document, "--dry-run"), exitOK, plan...)
	want(apply(document, "--check"), exitFailed, plan...)
	if got := call(t, env, "subs", "list"); strings.Contains(got.stdout, "paid") {
		t.Fatalf("a dry run made something:\n%s", got.stdout)
	}
	made := apply(document)
	want(made, exitOK, plan...)
	if strings.Count(made.stderr, "whsec_") != 2 {
		t.Errorf("signing secrets: %s", made.stderr)
	}
	want(apply(document, "--check"), exitOK, "= 2 unchanged\n")

	// Drift: somebody changes what is declared.
	if got := call(t, env, "subs", "update", "paid", "--max-in-flight=3", "--timeout=3s"); got.code != exitOK {
		t.Fatalf("update: %+v", got)
	}
	drift := []string{"~ update paid\n    endpoint.timeout: \"3s\" -> \"15s\"\n    max_in_flight: 3 -> 64\n= 1 unchanged\n"}
	want(apply(document, "--check"), exitFailed, drift...)
	want(apply(document), exitOK, drift...)
	want(apply(document), exitOK, "= 2 unchanged\n")

	// A header and a label go, another URL takes its credentials with it.
	changed := strings.NewReplacer(`, X-Old: "1"`, "", ":9/paid", ":10/paid", "labels: {team: growth}", "labels: {}").Replace(document)
	want(apply(changed), exitOK, `endpoint.headers.X-Old: "1" -> (default)`, `labels.team: "growth" -> (default)`)
	if got := call(t, env, "subs", "get", "paid", "-o", "json"); !strings.Contains(got.stdout, ":10/paid") || strings.Contains(got.stdout, "X-Old") || !strings.Contains(got.stdout, `"type": "bearer"`) {
		t.Errorf("paid is %s", got.stdout)
	}
	want(apply(changed), exitOK, "= 2 unchanged\n")
	want(apply(changed, "--secrets"), exitOK, "~ update paid\n", "endpoint credentials", "= 1 unchanged\n")

	// What is declared no more goes if it is ours, and if that is asked for.
	one := changed[:strings.Index(changed, "  - name: all")]
	want(apply(one), exitOK, "= 1 unchanged\n")
	want(apply(one, "--prune", "--dry-run"), exitOK, "- delete all\n")
	if got := apply(one, "--prune"); got.code != exitUsage || !strings.Contains(got.stderr, "1 subscription will be deleted") {
		t.Errorf("nobody agreed: %+v", got)
	}
	want(apply(one, "--prune", "--yes"), exitOK, "- delete all\n")
	list := call(t, env, "subs", "list").stdout
	if strings.Contains(list, ":9/all") || !strings.Contains(list, "by-hand") || !strings.Contains(list, "paid") {
		t.Errorf("left:\n%s", list)
	}
	// What somebody made by hand is taken over where that is agreed to, and is the owner's then.
	byHand := "owner: billing\nsubscriptions:\n  - {name: by-hand, events: [x.y], compact: true, endpoint: {url: 'http://127.0.0.1:9/h'}}\n"
	takes := "~ update by-hand\n    ! nobody declared it: it will be managed by billing, and --prune will delete it once the document drops it\n" +
		"    compact: (default) -> true\n    labels.rowcall/owner: (default) -> \"billing\"\n= 0 unchanged\n"
	want(apply(byHand, "--dry-run"), exitOK, takes)
	if got := apply(byHand); got.code != exitUsage || !strings.Contains(got.stderr, "1 subscription that nobody declared will be taken over. Go on?") {
		t.Errorf("nobody agreed: %+v", got)
	}
	want(apply(strings.Replace(byHand, "owner: billing\n", "", 1), "--dry-run"), exitOK, "~ update by-hand\n    compact: (default) -> true\n")
	want(apply(byHand, "--yes"), exitOK, takes)
	want(apply(byHand), exitOK, "= 1 unchanged\n")
	if got := apply(strings.Replace(byHand, "billing", "another", 1), "--yes"); got.code != exitFailed || !strings.Contains(got.stderr, `belongs to owner "billing"`) {
		t.Errorf("another owner: %+v", got)
	}
	want(apply("owner: billing\nsubscriptions: []\n", "--prune", "--yes"), exitOK, "- delete by-hand\n", "- delete paid\n")
}

func TestASigningSecretOfADocumentIsNeverShownAndItsLimitsAreSaid(t *testing.T) {
	t.Parallel()
	c := newConfig(t, storetest.EmptyURL(t))
	signing := subscriptions.NewSigningSecret().Reveal()
	env := append(clientEnv(start(t, c), c), "SIGNING="+signing)
	document := file(t, "subscriptions: [{name: paid, secret: '${SIGNING}', events: [x.y], endpoint: {url: 'http://127.0.0.1:9/h'}}]\n")
	for _, step := range []struct{ flag, want, stderr string }{
		{"--yes", "+ create paid", "paid is made, with the signing secret of the document"},
		{"--yes", "= 1 unchanged", "paid: its secret counts when it is made"},
		{"--check", "= 1 unchanged", "paid: its secret counts when it is made"},
	} {
		got := call(t, env, "apply", "-f", document, step.flag)
		if got.code != exitOK || !strings.Contains(got.stdout, step.want) || !strings.Contains(got.stderr, step.stderr) {
			t.Errorf("apply %s: %+v", step.flag, got)
		}
		if strings.Contains(got.stdout+got.stderr, signing) {
			t.Errorf("apply %s shows the secret", step.flag)
		}
	}
}

func TestApplyNamesEveryFaultOfADocumentBeforeItAsksAnybody(t *testing.T) {
	t.Parallel()
	env := []string{"ROWCALL_URL=http://127.0.0.1:1", "ROWCALL_API_KEY=12345678901234567890"}
	got := call(t, env, "apply", "-f", file(t, `
ower: x
subscriptions:
  - {name: a, events: [], endpoint: {url: "http://x/${NOWHERE}"}}
  - {name: a, events: [x], endpoint: {url: "https://x/$${NOWHERE}"}, nonsense: 1}
  - 7
`))
	for _, want := range []string{
		"ower is not known here", "${NOWHERE} is not set", "subscriptions[0].events", "subscriptions[1].nonsense", `subscriptions[1].name "a" stands twice`, "subscriptions[2] is no object",
	} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("no %q in\n%s", want, got.stderr)
		}
	}
	if got.code != exitUsage || strings.Count(got.stderr, "NOWHERE") != 1 {
		t.Errorf("exit code %d:\n%s", got.code, got.stderr)
	}
	if got := call(t, env, "apply", "-f", file(t, "subscriptions: []"), "--prune"); got.code != exitUsage || !strings.Contains(got.stderr, "owner") {
		t.Errorf("a prune without an owner: %+v", got)
	}
}
