package main

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

// configured reads what a configuration file declares for a source.
func configured(t *testing.T, content, source string, env ...string) declared {
	t.Helper()
	s := &settings{env: lookupIn(env), names: settingNames()}
	s.parse("rowcall.yaml", []byte(content))
	guard, err := dispatch.NewGuard(dispatch.GuardConfig{Allow: "private"})
	if err != nil {
		t.Fatal(err)
	}
	doc := s.configured(source, guard)
	if err := s.err(); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestEveryStartMakesSubscriptionsWhatTheConfigurationDeclares(t *testing.T) {
	t.Parallel()
	c := newConfig(t, storetest.EmptyURL(t))
	master := masterKey(t, &c)
	var logs bytes.Buffer
	c.logger = zerolog.New(zerolog.SyncWriter(&logs)).Level(zerolog.InfoLevel)
	signing := subscriptions.NewSigningSecret().Reveal()
	content := `
listen: 127.0.0.1:0
subscriptions:
  - name: paid
    events: [public.orders.updated]
    secret: "${file:` + file(t, signing+"\n") + `}"
    endpoint:
      url: http://127.0.0.1:9/paid
      auth: {type: bearer, token: "${PARTNER_TOKEN}"}
  - name: all
    events: ['**']
    endpoint: {url: http://127.0.0.1:9/all}
`
	c.declared = configured(t, content, c.sourceName, "PARTNER_TOKEN=a-partners-token")
	t.Run("the first makes them", func(t *testing.T) {
		env := clientEnv(start(t, c), c)
		got := call(t, env, "subs", "get", "paid", "-o", "json").stdout
		if !strings.Contains(got, `"managed_by": "`+c.sourceName+`"`) || !strings.Contains(got, `"type": "bearer"`) {
			t.Errorf("paid is %s", got)
		}
		if got := call(t, env, "subs", "update", "paid", "--max-in-flight=3"); got.code != exitOK || !strings.Contains(got.stdout, "lasts until the next start") {
			t.Errorf("an edit by hand: %+v", got)
		}
		if got := call(t, env, "subs", "delete", "paid"); got.code != exitFailed || !strings.Contains(got.stderr, "take it out of the file") {
			t.Errorf("a deletion by hand: %+v", got)
		}
		document := file(t, "subscriptions: [{name: paid, events: [x], endpoint: {url: 'http://127.0.0.1:9/x'}}]")
		if got := call(t, env, "apply", "-f", document); got.code != exitFailed || !strings.Contains(got.stderr, "declared in the configuration of rowcall") {
			t.Errorf("applying it too: %+v", got)
		}
	})
	c.declared = configured(t, content[:strings.Index(content, "  - name: all")], c.sourceName, "PARTNER_TOKEN=another-token")
	t.Run("another undoes what was changed by hand, and releases what is declared no more", func(t *testing.T) {
		env := clientEnv(start(t, c), c)
		if got := call(t, env, "subs", "get", "paid", "-o", "json").stdout; !strings.Contains(got, `"max_in_flight": 64`) {
			t.Errorf("paid is %s", got)
		}
		if got := call(t, env, "subs", "delete", "all", "--yes"); got.code != exitOK {
			t.Errorf("deleting what was released: %+v", got)
		}
	})
	t.Run("somebody makes one by hand", func(t *testing.T) {
		env := clientEnv(start(t, c), c)
		if got := call(t, env, "subs", "create", "--name=by-hand", "--events=x.y", "--endpoint=http://127.0.0.1:9/h"); got.code != exitOK {
			t.Fatalf("create: %+v", got)
		}
	})
	t.Run("a file that declares it takes it over, and the log warns", func(t *testing.T) {
		c := c
		c.declared = configured(t, content+"  - {name: by-hand, events: [x.y], endpoint: {url: 'http://127.0.0.1:9/h'}}\n", c.sourceName, "PARTNER_TOKEN=x")
		start(t, c)
	})
	if !regexp.MustCompile(`"level":"warn"[^\n]*"subscription":"by-hand"[^\n]*that was nobody's`).MatchString(logs.String()) {
		t.Errorf("the log does not warn:\n%s", logs.String())
	}
	t.Run("one of another owner stops before it changes anything", func(t *testing.T) {
		c := c
		c.declared = configured(t, "owner: somebody-else\n"+content, c.sourceName, "PARTNER_TOKEN=x")
		err := serve(t.Context(), c, func(string) { t.Error("it serves") })
		if _, ok := errors.AsType[faultsError](err); !ok || !strings.Contains(err.Error(), `subscriptions[0].name of "paid" is declared by owner "`+c.sourceName+`"`) ||
			!strings.Contains(err.Error(), `start once with owner: "`+c.sourceName+`" and subscriptions: [], which releases`) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("which check finds, and finds nothing in the file of the owner", func(t *testing.T) {
		for _, owner := range []string{"owner: somebody-else\n", "owner: " + c.sourceName + "\n"} {
			env := []string{"ROWCALL_DATABASE_URL=" + c.databaseURL, master, "ROWCALL_EGRESS_ALLOW=private", "PARTNER_TOKEN=x", "ROWCALL_CONFIG=" + file(t, owner+content)}
			got := call(t, env, "check")
			if fault := `subscriptions[0].name of "paid" is declared by owner "` + c.sourceName + `" already`; strings.Contains(got.stdout, fault) != strings.Contains(owner, "else") {
				t.Errorf("%s%s%s", owner, got.stdout, got.stderr)
			}
		}
	})
	for _, secret := range []string{"a-partners-token", "another-token", signing} {
		if strings.Contains(logs.String(), secret) {
			t.Error("a secret is logged")
		}
	}
	if !strings.Contains(logs.String(), `"changed":["max_in_flight","endpoint credentials"]`) {
		t.Errorf("the log does not say what was changed:\n%s", logs.String())
	}
}

func TestAFaultyDeclarationStopsServeAndCheckWithOneMessage(t *testing.T) {
	t.Parallel()
	path := file(t, `
listen: 127.0.0.1:0
prune: true
subscriptions:
  - name: paid
    events: []
    endpoint: {url: "http://10.0.0.1/x"}
  - name: private
    events: [a]
    endpoint: {url: "http://10.0.0.1/x"}
  - {name: secrets, events: [a], endpoint: {url: "https://x.test", auth: {type: bearer, token: "${NOWHERE}"}}}
  - {name: files, events: [a], secret: "${file:/no/such/file}", endpoint: {url: "https://x.test"}}
  - {name: files, events: [a], secret: hunter2, endpoint: {url: "https://x.test"}}
`)
	env := append(required(), "ROWCALL_CONFIG="+path)
	for _, command := range []string{"serve", "check"} {
		got := call(t, env, command)
		for _, want := range []string{
			"prune needs an owner",
			path + `:5 subscriptions[0].events of "paid" `,
			path + `:8 subscriptions[1].endpoint.url of "private" `, "ROWCALL_EGRESS_ALLOW",
			"subscriptions[2].endpoint.auth.token: ${NOWHERE} is not set",
			"subscriptions[3].secret: ${file:} cannot be read (/no/such/file",
			`subscriptions[4].secret of "files" must be whsec_`, `subscriptions[4].name "files" stands twice`,
		} {
			if !strings.Contains(got.stderr, want) {
				t.Errorf("%s: no %q in\n%s", command, want, got.stderr)
			}
		}
		if got.code != exitUsage || strings.Contains(got.stderr, "hunter2") {
			t.Errorf("%s: exit code %d\n%s", command, got.code, got.stderr)
		}
	}
}

func TestAConfigurationFileMayDeclareSubscriptionsForCommandsThatDoNotCare(t *testing.T) {
	t.Parallel()
	path := file(t, "log_level: warn\nowner: x\nsubscriptions: [{name: a, events: [b], endpoint: {url: 'https://x/${NOWHERE}'}}]\n")
	var cli commands
	p := &program{stdout: os.Stdout, stderr: os.Stderr}
	p.settings = &settings{env: lookupIn(nil), names: settingNames()}
	parser, err := newParser(&cli, p, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"--config=" + path, "subs", "list"}); err != nil || p.settings.err() != nil {
		t.Errorf("%v, %v", err, p.settings.err())
	}
	for content, want := range map[string]string{
		"subscription: []\n": "did you mean subscriptions?", "subscriptions: 7\n": "subscriptions is no list",
		"subscriptions: []\nsubscriptions: []\n": "a second time", "owner: ''\nsubscriptions: []\n": "owner is no name",
		"owner: a\nprune: perhaps\nsubscriptions: []\n": "prune is neither true nor false",
		"owner: a\nprune: true\nsubscriptions: []\n":    `prune would delete every subscription that owner "a" declared`,
	} {
		_, err := read(t, required(), "--config="+file(t, content))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", content, err, want)
		}
	}
}
