package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store/storetest"
)

func TestAKeyFromTheCommandLineMayDoWhatItsScopesSay(t *testing.T) {
	t.Parallel()
	c := newConfig(t, storetest.EmptyURL(t))
	addr := start(t, c)
	env := clientEnv(addr, c)
	made := call(t, env, "keys", "create", "growth", "--scopes=read", "--labels=team=growth", "--expires=1d", "-o", "json")
	var key struct {
		ID, Key   string
		Labels    map[string]string
		ExpiresAt time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal([]byte(made.stdout), &key); err != nil || key.Labels["team"] != "growth" || time.Until(key.ExpiresAt) < 23*time.Hour {
		t.Fatalf("create: %+v, %v", made, err)
	}
	with := []string{"ROWCALL_URL=http://" + addr, "ROWCALL_API_KEY=" + key.Key}
	if got := call(t, with, "subscriptions", "list"); got.code != exitOK {
		t.Errorf("list with the key: %+v", got)
	}
	if got := call(t, with, "keys", "list"); got.code != exitFailed || !strings.Contains(got.stderr, "admin") {
		t.Errorf("list keys with the key: %+v", got)
	}
	if got := call(t, env, "keys", "list"); !strings.Contains(got.stdout, key.ID) || !strings.Contains(got.stdout, "team=growth") || strings.Contains(got.stdout, key.Key) {
		t.Errorf("list: %+v", got)
	}
	if got := call(t, env, "keys", "create", "x", "--scopes=root"); got.code != exitUsage || !strings.Contains(got.stderr, "scopes") {
		t.Errorf("a scope that is none: %+v", got)
	}
	if got := call(t, env, "keys", "revoke", key.ID); got.code != exitOK || !strings.Contains(got.stdout, "revoked") {
		t.Errorf("revoke: %+v", got)
	}
	if got := call(t, with, "subscriptions", "list"); got.code != exitFailed || !strings.Contains(got.stderr, "ROWCALL_API_KEY") {
		t.Errorf("list with a revoked key: %+v", got)
	}
}
