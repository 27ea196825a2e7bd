package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

type rotated struct {
	Secret     string
	PublicKeys []string   `json:"public_keys"`
	Ends       *time.Time `json:"previous_secret_ends_at"`
	Version    int64
}

// stored are the secrets that sign, newest first.
func (w *world) stored(id string) string {
	w.t.Helper()
	sub, err := w.store.Subscription(w.t.Context(), subscriptions.ID(id))
	if err != nil {
		w.t.Fatal(err)
	}
	var texts []string
	for _, s := range sub.Secrets {
		texts = append(texts, s.Reveal())
	}
	return strings.Join(texts, " ")
}

func TestARotatedSecretIsShownOnceAndTheOneBeforeEndsAfterTheOverlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.subscribe("x", `"signing":["v1","v1a"]`)
	id, _ := made["id"].(string)
	first, _ := made["secret"].(string)
	path := "/v1/subscriptions/" + id
	rotate := func(body string) answer {
		return w.do(request{method: "POST", path: path + "/secret/rotate", scope: api.ScopeWrite, body: body})
	}
	get := func() (out rotated) {
		w.do(request{method: "GET", path: path, scope: api.ScopeRead}).into(t, &out)
		return out
	}
	public := func(secret string) string {
		key, err := subscriptions.PublicKey(subscriptions.NewSecret(secret))
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	if got := get(); got.Secret != "" || got.Ends != nil || strings.Join(got.PublicKeys, " ") != public(first) {
		t.Errorf("before: %+v", got)
	}

	before := time.Now()
	var now rotated
	a := rotate("")
	a.into(t, &now)
	if a.status != http.StatusOK || a.header.Get("ETag") != `"2"` || now.Version != 2 || !strings.HasPrefix(now.Secret, "whsec_") || now.Secret == first {
		t.Fatalf("rotate: %d %s", a.status, a.body)
	}
	if now.Ends == nil || now.Ends.Before(before.Add(24*time.Hour-time.Second)) || now.Ends.After(time.Now().Add(24*time.Hour)) {
		t.Errorf("the one before ends at %v", now.Ends)
	}
	if w.stored(id) != now.Secret+" "+first {
		t.Error("not both are active, newest first")
	}
	if got := get(); got.Secret != "" || got.Ends == nil || !got.Ends.Equal(*now.Ends) || strings.Join(got.PublicKeys, " ") != public(now.Secret)+" "+public(first) {
		t.Errorf("get: %+v", got)
	}

	// A third would cut off who holds the first.
	for _, body := range []string{"", "{}", `{"overlap":"1h"}`, `{"overlap":null}`} {
		p := rotate(body).problem(t, http.StatusConflict, "conflict")
		if !strings.Contains(p.Detail, now.Ends.Format(time.RFC3339)) {
			t.Errorf("%s: %s", body, p.Detail)
		}
	}
	// But a leak is ended at once.
	var last rotated
	rotate(`{"overlap":"0s"}`).into(t, &last)
	if last.Ends != nil || last.Secret == now.Secret || w.stored(id) != last.Secret || strings.Join(last.PublicKeys, " ") != public(last.Secret) {
		t.Errorf("ended at once: %+v", last)
	}
	var week rotated
	rotate(`{"overlap":"7d"}`).into(t, &week)
	if week.Ends == nil || time.Until(*week.Ends).Round(time.Hour) != 7*24*time.Hour || w.stored(id) != week.Secret+" "+last.Secret {
		t.Errorf("over a week: %+v", week)
	}
	// An edit of something else leaves both.
	w.do(request{method: "PATCH", path: path, scope: api.ScopeWrite, body: `{"description":"d","signing":["v1"]}`})
	if got := get(); w.stored(id) != week.Secret+" "+last.Secret || got.Ends == nil || len(got.PublicKeys) != 0 {
		t.Errorf("after an edit: %+v", got)
	}
	if logs := w.logs.String(); strings.Contains(logs, "whsec_") {
		t.Errorf("a secret is logged: %s", logs)
	}
}

func TestRotationRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.subscribe("x")
	id, _ := made["id"].(string)
	path := "/v1/subscriptions/" + id + "/secret/rotate"
	for body, location := range map[string]string{
		`{"overlap":"canary"}`: "body.overlap", `{"overlap":5}`: "body.overlap", `{"overlap":"-1s"}`: "body.overlap",
		`{"overlap":"30d1s"}`: "body.overlap", `{"overlap":"31d"}`: "body.overlap", `{"overlap":"1h","overlap":"1h"}`: "body.overlap",
		`{"Overlap":"1h"}`: "body.Overlap", `{"secret":"canary"}`: "body.secret", `[]`: "body", `null`: "body",
	} {
		a := w.do(request{method: "POST", path: path, scope: api.ScopeWrite, body: body})
		if p := a.problem(t, http.StatusUnprocessableEntity, "validation"); p.locations() != location || strings.Contains(a.body, "canary") {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	w.do(request{method: "POST", path: path, scope: api.ScopeWrite, body: `{"overlap"`}).problem(t, http.StatusBadRequest, "malformed")
	w.do(request{method: "POST", path: path, scope: api.ScopeWrite, body: `{}`, header: map[string]string{"Content-Type": "text/plain"}}).
		problem(t, http.StatusUnsupportedMediaType, "unsupported-media-type")
	w.do(request{method: "POST", path: path, scope: api.ScopeWrite, body: `{}`, header: map[string]string{"Content-Type": ""}}).
		problem(t, http.StatusUnsupportedMediaType, "unsupported-media-type")
	w.do(request{method: "POST", path: path, scope: api.ScopeWrite, header: map[string]string{"If-Match": `"7"`}}).
		problem(t, http.StatusPreconditionFailed, "precondition-failed")
	w.do(request{method: "POST", path: path, scope: api.ScopeDeliver}).problem(t, http.StatusForbidden, "forbidden")
	w.do(request{method: "POST", path: strings.Replace(path, id, string(subscriptions.NewID()), 1), scope: api.ScopeWrite}).
		problem(t, http.StatusNotFound, "not-found")
	if first, _ := made["secret"].(string); w.stored(id) != first {
		t.Error("a refused rotation changed the secret")
	}
}

func TestSecretsOfAnEndpointAreWrittenOnlyAndStayWhereAPatchDoesNotNameThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const canary = "canary-7391"
	answers := ""
	do := func(method, path, body string) answer {
		a := w.do(request{method: method, path: path, scope: api.ScopeAdmin, body: body})
		answers += a.body
		return a
	}
	a := do("POST", "/v1/subscriptions", `{"name":"x","events":["a.b"],"format":"raw","endpoint":{"url":"https://receiver.test",
		"auth":{"type":"basic","username":"ann","password":"`+canary+`"}}}`)
	var sub struct {
		ID       string
		Endpoint struct{ Auth map[string]any }
	}
	a.into(t, &sub)
	if a.status != http.StatusCreated || len(sub.Endpoint.Auth) != 2 || sub.Endpoint.Auth["username"] != "ann" {
		t.Fatalf("create: %d %s", a.status, a.body)
	}
	path := "/v1/subscriptions/" + sub.ID
	auth := func() subscriptions.Auth {
		got, err := w.store.Subscription(t.Context(), subscriptions.ID(sub.ID))
		if err != nil || got.Endpoint.Auth == nil {
			t.Fatalf("read %+v, %v", got, err)
		}
		return *got.Endpoint.Auth
	}
	for _, body := range []string{`{"description":"d"}`, `{"endpoint":{"timeout":"5s"}}`, `{"endpoint":{"auth":{"username":"bob"}}}`} {
		if a := do("PATCH", path, body); a.status != http.StatusOK || auth().Password.Reveal() != canary {
			t.Errorf("%s: %d %s, password %t", body, a.status, a.body, auth().Password.Reveal() == canary)
		}
	}
	do("POST", path+"/pause", "")
	do("POST", path+"/resume", "")
	do("GET", path, "")
	do("GET", "/v1/subscriptions", "")
	if auth().Username != "bob" || auth().Password.Reveal() != canary {
		t.Error("the password has not stayed")
	}
	do("PATCH", path, `{"endpoint":{"auth":{"password":"`+canary+`-2"}}}`)
	if auth().Password.Reveal() != canary+"-2" {
		t.Error("the password was not changed")
	}
	for body, location := range map[string]string{
		`{"endpoint":{"auth":{"type":"bearer"}}}`:                     "body.endpoint.auth.username body.endpoint.auth.password body.endpoint.auth.token",
		`{"endpoint":{"auth":{"password":null}}}`:                     "body.endpoint.auth.password",
		`{"endpoint":{"tls":{"client_key":"` + canary + `"}}}`:        "body.endpoint.tls.client_certificate",
		`{"endpoint":{"headers":{"Authorization":"` + canary + `"}}}`: "body.endpoint.headers.Authorization",
		`{"endpoint":{"auth":{"type":"oauth2","token_url":"https://denied.test/","username":null,"password":null,"client_id":"c","client_secret":"s"}}}`: "body.endpoint.auth.token_url",
	} {
		if p := do("PATCH", path, body).problem(t, http.StatusUnprocessableEntity, "validation"); p.locations() != location {
			t.Errorf("%s: faults at %q", body, p.locations())
		}
	}
	if a := do("PATCH", path, `{"endpoint":{"auth":null}}`); a.status != http.StatusOK {
		t.Errorf("remove: %d %s", a.status, a.body)
	}
	if strings.Contains(answers, canary) || strings.Contains(answers, "redacted") || strings.Contains(w.logs.String(), canary) {
		t.Error("an answer or the log shows a secret")
	}
	found, err := w.store.Subscriptions(t.Context(), store.SubscriptionFilter{}, 10)
	if err != nil || len(found) != 1 || found[0].Endpoint.Auth != nil {
		t.Errorf("read %+v, %v", found, err)
	}
}
