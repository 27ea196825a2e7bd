package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/storetest"
)

func TestARotationReachesDeliveriesAtOnceAndEndsTheSecretBeforeWhenToldTo(t *testing.T) {
	t.Parallel()
	database := storetest.EmptyURL(t)
	execSQL(t, database, "CREATE TABLE orders (id int PRIMARY KEY)")
	c := newConfig(t, database)
	receiver := hooktest.Start(t, hooktest.Config{})
	env := clientEnv(start(t, c), c)
	eventually(t, env, "streaming", "sources")

	document := file(t, "signing: [v1, v1a]\nendpoint: {auth: {type: basic, username: ann, password: pw7391}}\n")
	created := call(t, env, "subscriptions", "create", "-f", document, "--name=all", "--events=public.orders.*", "--endpoint="+receiver.URL(), "-o", "json")
	type answer struct {
		Secret     string
		PublicKeys []string `json:"public_keys"`
	}
	read := func(printed string) (a answer) {
		t.Helper()
		if err := json.Unmarshal([]byte(printed), &a); err != nil || a.Secret == "" || len(a.PublicKeys) == 0 {
			t.Fatalf("answer %s: %v", printed, err)
		}
		return a
	}
	first := read(created.stdout)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// signs writes a row until a delivery is signed with exactly these.
	row := 0
	signs := func(want ...string) {
		t.Helper()
		for {
			row++
			execSQL(t, database, "INSERT INTO orders SELECT max(id) + 1 FROM (SELECT id FROM orders UNION SELECT 0) o (id)")
			if err := receiver.AwaitSucceeded(ctx, row); err != nil {
				t.Fatalf("deliveries are not signed with what they should be: %v", err)
			}
			d := receiver.Deliveries()[row-1]
			good := len(strings.Fields(d.Header.Get("Webhook-Signature"))) == len(want)
			for _, secret := range want {
				good = good && dispatch.Verify(secret, d.Header, d.Body, time.Now()) == nil
			}
			if user, password, _ := receiverAuth(d); user != "ann" || password != "pw7391" {
				t.Fatalf("Authorization %q", d.Header.Get("Authorization"))
			}
			if good {
				return
			}
		}
	}
	signs(first.Secret, first.PublicKeys[0])

	rotated := call(t, env, "subscriptions", "rotate-secret", "all", "--overlap=1h", "-o", "json")
	second := read(rotated.stdout)
	signs(second.Secret, second.PublicKeys[0], first.Secret, first.PublicKeys[0])
	if got := call(t, env, "subscriptions", "rotate-secret", "all"); got.code != exitFailed || !strings.Contains(got.stderr, "two secrets are active") {
		t.Errorf("rotate again: %+v", got)
	}
	if got := call(t, env, "subscriptions", "rotate-secret", "all", "--overlap=soon"); got.code != exitUsage || !strings.Contains(got.stderr, "overlap") {
		t.Errorf("rotate: %+v", got)
	}
	shown := call(t, env, "subscriptions", "get", "all")
	if !strings.Contains(shown.stdout, "signs too, until") || !strings.Contains(shown.stdout, second.PublicKeys[0]) || strings.Contains(shown.stdout, "whsec_") {
		t.Errorf("get: %s", shown.stdout)
	}
	third := read(call(t, env, "subscriptions", "rotate-secret", "all", "--overlap=0s", "-o", "json").stdout)
	signs(third.Secret, third.PublicKeys[0])
}

func receiverAuth(d hooktest.Delivery) (user, password string, ok bool) {
	return (&http.Request{Header: d.Header}).BasicAuth()
}
