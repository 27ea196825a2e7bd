package subscriptions_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Who may edit a subscription, and does not know its secrets, does not get them
// sent to a place of their choice.
func TestASecretIsNotSentToAnotherOriginThanItWasGivenFor(t *testing.T) {
	t.Parallel()
	certificate, key := newCertificate(t)
	encode := func(v any) string {
		t.Helper()
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	tls := encode(map[string]any{"client_certificate": certificate, "client_key": key})
	const again = ": must be given again: it was given for another origin than the one that would get it now"
	basic := `{"type":"basic","username":"u","password":"p"}`
	bearer := `{"type":"bearer","token":"t"}`
	oauth := `{"type":"oauth2","token_url":"https://id.example/token","client_id":"c","client_secret":"s"}`
	for name, c := range map[string]struct {
		auth, tls, patch string
		want             []string
	}{
		"basic, another host":        {basic, "null", `{"endpoint":{"url":"https://b.example/x"}}`, []string{"endpoint.auth.password" + again}},
		"basic, another port":        {basic, "null", `{"endpoint":{"url":"https://a.example:8443/x"}}`, []string{"endpoint.auth.password" + again}},
		"basic, another scheme":      {basic, "null", `{"endpoint":{"url":"http://a.example/x"}}`, []string{"endpoint.auth.password" + again}},
		"basic, another user too":    {basic, "null", `{"endpoint":{"url":"https://b.example/x","auth":{"username":"v"}}}`, []string{"endpoint.auth.password" + again}},
		"basic, null is no password": {basic, "null", `{"endpoint":{"url":"https://b.example/x","auth":{"password":null}}}`, []string{`endpoint.auth.password: is required with type "basic"`}},
		"basic, another path":        {basic, "null", `{"endpoint":{"url":"https://A.example:443/y?z"}}`, nil},
		"basic, something else":      {basic, "null", `{"description":"d"}`, nil},
		"basic, given again":         {basic, "null", `{"endpoint":{"url":"https://b.example/x","auth":{"password":"p"}}}`, nil},
		"basic, taken away":          {basic, "null", `{"endpoint":{"url":"https://b.example/x","auth":null}}`, nil},
		"basic to bearer":            {basic, "null", `{"endpoint":{"url":"https://b.example/x","auth":{"type":"bearer","token":"u","username":null,"password":null}}}`, nil},
		"bearer, another host":       {bearer, "null", `{"endpoint":{"url":"https://b.example/x"}}`, []string{"endpoint.auth.token" + again}},
		"bearer, given again":        {bearer, "null", `{"endpoint":{"url":"https://b.example/x","auth":{"token":"t"}}}`, nil},
		"oauth2, another host":       {oauth, "null", `{"endpoint":{"url":"https://b.example/x"}}`, []string{"endpoint.auth.client_secret" + again}},
		"oauth2, another token_url":  {oauth, "null", `{"endpoint":{"auth":{"token_url":"https://evil.example/token"}}}`, []string{"endpoint.auth.client_secret" + again}},
		"oauth2, another token path": {oauth, "null", `{"endpoint":{"auth":{"token_url":"https://id.example/token/2"}}}`, nil},
		"oauth2, given again": {
			oauth, "null",
			`{"endpoint":{"url":"https://b.example/x","auth":{"token_url":"https://evil.example/token","client_secret":"s"}}}`, nil,
		},
		"certificate, another host":   {"null", tls, `{"endpoint":{"url":"https://b.example/x"}}`, []string{"endpoint.tls.client_key" + again}},
		"certificate, given again":    {"null", tls, `{"endpoint":{"url":"https://b.example/x","tls":` + tls + `}}`, nil},
		"certificate, taken away":     {"null", tls, `{"endpoint":{"url":"https://b.example/x","tls":null}}`, nil},
		"all, another token_url":      {oauth, tls, `{"endpoint":{"auth":{"token_url":"https://evil.example/t"}}}`, []string{"endpoint.auth.client_secret" + again, "endpoint.tls.client_key" + again}},
		"with other faults beside it": {basic, "null", `{"endpoint":{"url":"https://b.example/x","timeout":"1h"}}`, []string{"endpoint.timeout: must be from 100ms to 2m", "endpoint.auth.password" + again}},
		"a URL that is none":          {basic, "null", `{"endpoint":{"url":"://"}}`, []string{"endpoint.url: must be a URL such as https://example.com/hooks", "endpoint.auth.password" + again}},
		"given under a wrong name": {
			basic, "null", `{"endpoint":{"url":"https://b.example/x","auth":{"Password":"p"}}}`,
			[]string{`endpoint.auth.Password: must be written "password"`, "endpoint.auth.password" + again},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := mustParse(t, `{"name":"n","events":["a.b"],"endpoint":{"url":"https://a.example/x","auth":`+c.auth+`,"tls":`+c.tls+`}}`)
			_, err := spec.Patch([]byte(c.patch))
			var got []string
			if err != nil {
				got = faults(t, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
