package subscriptions

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// merged is what a document makes of s before anything is judged.
func merged(t *testing.T, s Spec, document string) (Spec, FieldErrors) {
	t.Helper()
	tree, err := parseTree([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	var e FieldErrors
	m := merger{faults: &e}
	m.merge(tree, reflect.ValueOf(&s).Elem(), reflect.ValueOf(defaults()), "")
	return s, e
}

func TestMembersThatAreNotAvailableYetAreRead(t *testing.T) {
	t.Parallel()
	got, e := merged(t, Spec{}, `{"filter":"f","transform":"t","ordering_key":"k","compact":true,"rate_limit":{"per_second":0.5},
		"outage":{"hold_limit":{"bytes":5000000000,"age":"1h"}},"window":{"cron":"0 2 * * *","for":"4h"},
		"endpoint":{"auth":{"type":"oauth2","client_secret":"s","scopes":["a","b"]},"tls":{"client_key":"k","ca":"c"}}}`)
	want := Spec{
		Filter: new("f"), Transform: new("t"), OrderingKey: new("k"), Compact: true, RateLimit: &RateLimit{PerSecond: 0.5},
		Outage: Outage{HoldLimit: HoldLimit{Bytes: new(int64(5_000_000_000)), Age: Duration(day / 24)}},
		Window: &Window{Cron: "0 2 * * *", For: Duration(day / 6)},
		Endpoint: Endpoint{
			Auth: &Auth{Type: "oauth2", ClientSecret: NewSecret("s"), Scopes: []string{"a", "b"}},
			TLS:  &TLS{ClientKey: NewSecret("k"), CA: "c"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" || len(e) > 0 {
		t.Errorf("%v\n%s", e, diff)
	}

	_, e = merged(t, Spec{}, `{"rate_limit":{"per_second":1e999},"outage":{"hold_limit":{"bytes":1.5}},"window":{"for":4},
		"endpoint":{"auth":{"token":5,"scopes":[1]}}}`)
	lines := FieldErrors{
		{"rate_limit.per_second", "must be a number"},
		{"outage.hold_limit.bytes", "must be a whole number"},
		{"window.for", "must be a string"},
		{"endpoint.auth.token", "must be a string"},
		{"endpoint.auth.scopes[0]", "must be a string"},
	}
	if diff := cmp.Diff(lines, e); diff != "" {
		t.Error(diff)
	}
}

func TestPatchKeepsSecretsItDoesNotName(t *testing.T) {
	t.Parallel()
	before, _ := merged(t, Spec{}, `{"endpoint":{"auth":{"type":"basic","username":"u","password":"p"}},"window":{"cron":"a","for":"1h"}}`)
	kept := *before.Endpoint.Auth
	after, _ := merged(t, before, `{"endpoint":{"auth":{"username":"v"}},"window":{"cron":"b"}}`)
	if a := after.Endpoint.Auth; a.Username != "v" || a.Password.Reveal() != "p" || a.Type != "basic" {
		t.Errorf("after: %q %q", a.Username, a.Password.Reveal())
	}
	if after.Window.Cron != "b" || after.Window.For != Duration(day/24) {
		t.Errorf("after: %+v", after.Window)
	}
	if diff := cmp.Diff(kept, *before.Endpoint.Auth); diff != "" || before.Window.Cron != "a" {
		t.Errorf("the patched Spec itself changed: %s", diff)
	}
	reset, _ := merged(t, before, `{"endpoint":{"auth":null},"window":null}`)
	if reset.Endpoint.Auth != nil || reset.Window != nil {
		t.Errorf("null does not reset: %+v", reset)
	}
}
