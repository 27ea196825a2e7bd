package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/storetest"
)

func TestAnEventPublishedFromTheCommandLineReachesItsWebhookOnce(t *testing.T) {
	t.Parallel()
	c := newConfig(t, storetest.EmptyURL(t))
	receiver := hooktest.Start(t, hooktest.Config{})
	env := clientEnv(start(t, c), c)
	created := call(t, env, "subscriptions", "create", "--name=users", "--events=user.*", "--endpoint="+receiver.URL(), "-o", "json")
	var sub struct{ Secret string }
	if err := json.Unmarshal([]byte(created.stdout), &sub); err != nil {
		t.Fatalf("create: %+v", created)
	}
	document := file(t, `{"plan": "pro", "n": 12345678901234567890}`)
	publish := func(args ...string) result {
		t.Helper()
		return call(t, env, append([]string{"events", "publish"}, args...)...)
	}
	var got result
	for deadline := time.Now().Add(patience); ; { // the lease comes with the first second
		if got = publish("user.signed_up", "--key=7", "--id=a b", "--data=@"+document); got.code == exitOK || time.Now().After(deadline) {
			break
		}
	}
	if got.code != exitOK || !strings.Contains(got.stdout, "published") {
		t.Fatalf("publish: %+v", got)
	}
	if again := publish("user.signed_up", "--key=7", "--id=a b"); again.code != exitOK || !strings.Contains(again.stdout, "was there") {
		t.Errorf("publish again: %+v", again)
	}
	if second := publish("user.left", "--key=7", `--data="bye"`); second.code != exitOK {
		t.Errorf("publish: %+v", second)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := receiver.AwaitSucceeded(ctx, 2); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, d := range receiver.Deliveries() {
		if err := dispatch.Verify(sub.Secret, d.Header, d.Body, time.Now()); err != nil {
			t.Errorf("%s: %v", d.Body, err)
		}
		ids = append(ids, d.Header.Get("Webhook-Id"))
	}
	first := string(receiver.Deliveries()[0].Body)
	for _, part := range []string{`"id":"a b"`, `"source":"/sources/http"`, `"partitionkey":"user.signed_up/7"`, `"data":{"plan":"pro","n":12345678901234567890}`} {
		if !strings.Contains(first, part) {
			t.Errorf("%s is not in %s", part, first)
		}
	}
	if len(ids) != 2 || ids[0] == ids[1] || !strings.HasPrefix(ids[0], "e-") || !strings.Contains(got.stdout, ids[0]) {
		t.Errorf("webhook ids %v, printed %s", ids, got.stdout)
	}
	for args, said := range map[string]string{"--data=pro": "quotes", "--data=@/nowhere": "/nowhere"} {
		if got := publish("user.left", args); got.code != exitUsage || !strings.Contains(got.stderr, said) {
			t.Errorf("%s: %+v", args, got)
		}
	}
	if got := publish("rowcall.mine"); got.code != exitUsage || !strings.Contains(got.stderr, "type") {
		t.Errorf("a reserved type: %+v", got)
	}
}
