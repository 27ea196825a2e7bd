package main

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/migrations"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

// fit is an environment in which a database is all that check could object to.
func fit(database string) []string {
	return []string{"ROWCALL_DATABASE_URL=" + database, "ROWCALL_SECRET_KEY=" + subscriptions.NewMasterKey(), "ROWCALL_API_KEY=" + api.NewKey()}
}

// masterKey gives a configuration a cipher, and returns the setting that does.
func masterKey(t *testing.T, c *config) string {
	t.Helper()
	key := subscriptions.NewMasterKey()
	var err error
	if c.cipher, err = subscriptions.NewCipher(key); err != nil {
		t.Fatal(err)
	}
	return "ROWCALL_SECRET_KEY=" + key
}

const faultyExpressions = `
subscriptions:
  - {name: broken, events: [public.orders.*], filter: "nosuch == 1", endpoint: {url: "http://127.0.0.1:9/a"}}
  - {name: typed, events: [public.orders.*], filter: "data.row.total == 'x'", endpoint: {url: "http://127.0.0.1:9/b"}}
  - {name: old, events: [public.orders.updated], filter: "data.old.total > 1.0", endpoint: {url: "http://127.0.0.1:9/c"}}
  - {name: right, events: [public.orders.*], filter: "data.row.total > 1.0", endpoint: {url: "http://127.0.0.1:9/d"}}
`

func TestCheckJudgesDeclaredExpressionsByTheTablesThatAreThere(t *testing.T) {
	t.Parallel()
	database := storetest.EmptyURL(t)
	execSQL(t, database, "CREATE TABLE orders (id int PRIMARY KEY, total numeric)")
	path := file(t, faultyExpressions)
	env := append(fit(database), "ROWCALL_EGRESS_ALLOW=private", "ROWCALL_CONFIG="+path)
	judged := func(env []string, want ...string) {
		t.Helper()
		got := call(t, env, "check")
		for _, want := range want {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("no %q in\n%s%s", want, got.stdout, got.stderr)
			}
		}
		if got.code != exitFailed || strings.Contains(got.stdout, `"right"`) {
			t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
		}
	}
	undeclared := "✗ config  " + path + `:3 subscriptions[0].filter of "broken" must be a CEL expression: line 1, column`
	typed := path + `:4 subscriptions[1].filter of "typed" must be a CEL expression`
	identity := path + `:5 subscriptions[2].filter of "old" `
	judged(env, undeclared, typed, identity, "REPLICA IDENTITY FULL")
	judged(append(env, "ROWCALL_DATABASE_URL=postgres://127.0.0.1:1/x"), undeclared) // what needs no database

	// What is there already is not stopped by a table that has changed since.
	c := newConfig(t, database)
	c.declared = configured(t, "owner: me\n"+faultyExpressions[:strings.Index(faultyExpressions, "  - {name: broken")]+
		faultyExpressions[strings.Index(faultyExpressions, "  - {name: right"):], c.sourceName)
	env[1] = masterKey(t, &c)
	t.Run("serve makes one of them", func(t *testing.T) { start(t, c) })
	execSQL(t, database, "ALTER TABLE orders ALTER total TYPE text")
	env = append(env, "ROWCALL_SOURCE_NAME="+c.sourceName, "ROWCALL_CONFIG="+file(t, "owner: me\n"+faultyExpressions))
	judged(env, `subscriptions[0].filter of "broken"`)

	c.declared = configured(t, "owner: me\n"+faultyExpressions, c.sourceName)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := serve(ctx, c, func(string) { t.Error("it serves"); cancel() })
	if _, ok := errors.AsType[faultsError](err); !ok || !strings.Contains(err.Error(), `subscriptions[0].filter of "broken"`) || strings.Contains(err.Error(), `"right"`) {
		t.Errorf("serve: %v", err)
	}
}

func TestCheckFindsWhatElseServeWouldRefuse(t *testing.T) {
	t.Parallel()
	database := storetest.EmptyURL(t)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	declares := "subscriptions: [{name: a, events: [b], endpoint: {url: 'http://127.0.0.1:" + u.Port() + "/x'}}]"
	env := fit(database)
	// Every setting of serve, before any database is asked.
	got := call(t, append(env, "ROWCALL_RETENTION=1", "ROWCALL_LOG_MAX_BYTES=3", "ROWCALL_ATTEMPTS=few", "ROWCALL_PUBLIC_URL=https://:8080",
		"ROWCALL_API_KEY=x", "ROWCALL_SECRET_KEY=y", "ROWCALL_TLS_CERT_FILE=/no/such/file", "ROWCALL_LOG_LEVEL=loud", "ROWCALL_API_RATE=-1"), "check")
	for _, setting := range []string{"RETENTION", "LOG_MAX_BYTES", "ATTEMPTS", "PUBLIC_URL", "API_KEY", "SECRET_KEY", "TLS_KEY_FILE", "LOG_LEVEL", "API_RATE"} {
		if !strings.Contains(got.stderr, "\n  ROWCALL_"+setting+" is ") {
			t.Errorf("nothing is said of %s: %+v", setting, got)
		}
	}
	if got.code != exitUsage || got.stdout != "" {
		t.Errorf("%+v", got)
	}
	finds := func(env []string, code int, want ...string) {
		t.Helper()
		got := call(t, env, "check")
		for _, want := range want {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("no %q in\n%s%s", want, got.stdout, got.stderr)
			}
		}
		if got.code != code {
			t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
		}
	}
	finds(env[:1], exitFailed, "✗ config  ROWCALL_SECRET_KEY is not set", "✗ config  ROWCALL_API_KEY is not set, and this is the first start", "✓ store")
	finds(append(env, "ROWCALL_LISTEN=203.0.113.1:8080", "ROWCALL_RETENTOIN=1h", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9", "OTEL_RESOURCE_ATTRIBUTES=x"),
		exitFailed, "✗ config  ROWCALL_LISTEN is no address to listen on", "! config  ROWCALL_RETENTOIN is no setting", "✗ config  OTEL_… cannot be used")
	finds(append(env, "ROWCALL_EGRESS_ALLOW=private", "ROWCALL_CONFIG="+file(t, declares)), exitFailed, `subscriptions[0].endpoint.url of "a" `)

	// What earlier starts have left.
	if _, err := migrations.Up(t.Context(), database); err != nil {
		t.Fatal(err)
	}
	finds(env[:2], exitFailed, "✗ config  ROWCALL_API_KEY is not set, and this is the first start")
	c := newConfig(t, database)
	master := masterKey(t, &c)
	t.Run("serve seals with another key", func(t *testing.T) { start(t, c) })
	finds(env, exitFailed, "✗ config  ROWCALL_SECRET_KEY is not the key that the stored secrets were sealed with")
	finds([]string{env[0], master}, exitOK, "0 faults")
	execSQL(t, database, "DELETE FROM rowcall.schema_migrations WHERE version_id = (SELECT max(version_id) FROM rowcall.schema_migrations)")
	finds([]string{env[0], master}, exitOK, "! store   schema rowcall is of an older version")
	execSQL(t, database, "INSERT INTO rowcall.schema_migrations (version_id, is_applied) VALUES (99999, true)")
	finds([]string{env[0], master}, exitFailed, "✗ store   newer schema version")
}
