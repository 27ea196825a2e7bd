package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const hunter = "hunter2-7391"

// secretEndpoints are endpoints with a secret each, by its name.
func secretEndpoints() map[string]subscriptions.Endpoint {
	secret := subscriptions.NewSecret(hunter)
	with := func(auth *subscriptions.Auth, tls *subscriptions.TLS) subscriptions.Endpoint {
		return subscriptions.Endpoint{URL: "https://example.com/", Auth: auth, TLS: tls}
	}
	return map[string]subscriptions.Endpoint{
		"password":      with(&subscriptions.Auth{Type: "basic", Username: "ann", Password: secret}, nil),
		"token":         with(&subscriptions.Auth{Type: "bearer", Token: secret}, nil),
		"client secret": with(&subscriptions.Auth{Type: "oauth2", TokenURL: "https://t.example", ClientID: "c", ClientSecret: secret, Scopes: []string{"s"}}, nil),
		"client key":    with(nil, &subscriptions.TLS{ClientCertificate: "PEM", ClientKey: secret, CA: "ca"}),
		"two":           with(&subscriptions.Auth{Type: "bearer", Token: subscriptions.NewSecret(hunter + "b")}, &subscriptions.TLS{ClientCertificate: "PEM", ClientKey: secret}),
	}
}

func TestSecretsOfAnEndpointRestSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	for name, endpoint := range secretEndpoints() {
		sub := subscribe(t, s, name, store.Start{})
		sub.Endpoint = endpoint
		if err := s.UpdateSubscription(t.Context(), sub, 1); err != nil {
			t.Fatal(err)
		}
		if endpoint.Auth != nil && endpoint.Auth.Type == "basic" && endpoint.Auth.Password.IsZero() {
			t.Error("saving took the caller's secret")
		}
		got, err := s.Subscription(t.Context(), sub.ID)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, name, *sub, got)
		if lane := claim(t, s)[name]; lane.ID != 0 {
			diff(t, name+" of the lane", *sub, lane.Subscription)
		} else {
			t.Errorf("%s has no lane", name)
		}
	}
	dump := one[string](w, `SELECT string_agg(s::text || encode(endpoint_secrets, 'escape'), '') FROM rowcall.subscriptions s`)
	for _, leak := range []string{hunter, fmt.Sprintf("%x", hunter), "redacted", "client_key"} {
		if strings.Contains(dump, leak) {
			t.Errorf("a dump of the table holds %q", leak)
		}
	}
	if !strings.Contains(dump, "ann") {
		t.Error("the dump is not one of the table")
	}
}

func TestSecretsOfAnEndpointAreOnesOfItsPlaceAndEndWithIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	made := map[string]*subscriptions.Subscription{}
	for _, name := range []string{"x", "y"} {
		made[name] = subscribe(t, s, name, store.Start{})
		made[name].Endpoint = secretEndpoints()["token"]
		if err := s.UpdateSubscription(t.Context(), made[name], 1); err != nil {
			t.Fatal(err)
		}
	}
	sealed := func(name string) (n int) {
		return one[int](w, `SELECT length(endpoint_secrets) FROM rowcall.subscriptions WHERE name = '`+name+`'`)
	}
	// Moved to another row they do not open; the subscription is held, and an edit
	// of something else does not wipe them.
	before := one[[]byte](w, `SELECT endpoint_secrets FROM rowcall.subscriptions WHERE name = 'y'`)
	w.exec(`UPDATE rowcall.subscriptions SET endpoint_secrets = (SELECT endpoint_secrets FROM rowcall.subscriptions WHERE name = 'x') WHERE name = 'y'`)
	got, err := s.Subscription(t.Context(), made["y"].ID)
	if err != nil || got.State != subscriptions.Disabled || !strings.Contains(got.StateReason, "endpoint.auth") || !got.Endpoint.Auth.Token.IsZero() || len(got.Secrets) != 1 {
		t.Fatalf("read %+v, %v", got, err)
	}
	got.Description = "edited"
	if err := s.UpdateSubscription(t.Context(), &got, 2); err != nil {
		t.Fatal(err)
	}
	if sealed("y") == 0 {
		t.Error("an edit of something else wiped them")
	}
	w.exec(`UPDATE rowcall.subscriptions SET endpoint_secrets = $1 WHERE name = 'y'`, before)
	if got, err = s.Subscription(t.Context(), made["y"].ID); err != nil || got.Endpoint.Auth.Token.Reveal() != hunter {
		t.Errorf("read %+v, %v", got, err)
	}
	// Without auth there is nothing to keep; nor of one that is deleted.
	got.Endpoint.Auth = nil
	if err := s.UpdateSubscription(t.Context(), &got, 3); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteSubscription(t.Context(), made["x"].ID, made["x"].Version); err != nil {
		t.Fatal(err)
	}
	if sealed("x") != 0 || sealed("y") != 0 {
		t.Errorf("%d and %d bytes are left", sealed("x"), sealed("y"))
	}
}

func TestARotationsEndSurvivesARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, leave := w.instance("a")
	sub := subscribe(t, s, "x", store.Start{})
	first := sub.Secrets[0]
	if err := sub.Rotate(time.Now(), subscriptions.DefaultOverlap); err != nil {
		t.Fatal(err)
	}
	if err := s.UpdateSubscription(t.Context(), sub, 1); err != nil {
		t.Fatal(err)
	}
	leave()
	w.expire("a")
	s, _ = w.instance("b")
	got, err := s.Subscription(t.Context(), sub.ID)
	if err != nil || len(got.Secrets) != 2 {
		t.Fatalf("read %+v, %v", got, err)
	}
	diff(t, "subscription", *sub, got)
	// Edits of something else keep it, also where the secrets are not given.
	for version := int64(2); version < 4; version++ {
		got.Description = fmt.Sprint(version)
		if version == 3 {
			got.Secrets, got.PreviousEnds = nil, time.Time{}
		}
		if err := s.UpdateSubscription(t.Context(), &got, version); err != nil {
			t.Fatal(err)
		}
		if got, err = s.Subscription(t.Context(), sub.ID); err != nil || !got.PreviousEnds.Equal(sub.PreviousEnds) || len(got.Secrets) != 2 {
			t.Fatalf("after an edit: %+v, %v", got, err)
		}
	}
	w.exec(`UPDATE rowcall.subscriptions SET previous_ends = now() - interval '1 ms'`)
	got, err = s.Subscription(t.Context(), sub.ID)
	if err != nil || len(got.Secrets) != 1 || got.Secrets[0].Equal(first) || !got.PreviousEnds.IsZero() {
		t.Errorf("%d secrets after the end, the last until %v: %v", len(got.Secrets), got.PreviousEnds, err)
	}
}
