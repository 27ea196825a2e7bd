package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

func TestASubscriptionIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	sub := &subscriptions.Subscription{
		ID: subscriptions.NewID(), State: subscriptions.Paused, StateReason: "not yet",
		Spec: subscriptions.Spec{
			Name: "paid orders", Description: "α β\nγ", Labels: map[string]string{"team": "growth"},
			Events: []string{"public.orders.*", "user.**"}, Filter: new("data.row.total > 100.0"),
			Endpoint: subscriptions.Endpoint{
				URL: "https://example.com/hook?x=1&y=<2>", Headers: map[string]string{"X-Env": "prod"},
				Timeout: subscriptions.Duration(15 * time.Second), Auth: &subscriptions.Auth{Type: "basic", Username: "ann"},
			},
			Format: subscriptions.Raw, Ordering: subscriptions.OrderKey, OnDead: subscriptions.Block, MaxInFlight: 7,
			RateLimit: &subscriptions.RateLimit{PerSecond: 0.5}, Batch: subscriptions.Batch{MaxEvents: 1, MaxBytes: 1 << 20},
			Retry: subscriptions.Retry{MaxAttempts: 20, MaxAge: subscriptions.Duration(72 * time.Hour)}, Signing: []string{"v1"},
		},
		Secrets: []subscriptions.Secret{subscriptions.NewSigningSecret(), subscriptions.NewSigningSecret()},
	}
	w.says(store.TopicSubscriptions, func() {
		if err := s.CreateSubscription(t.Context(), sub, store.Start{Now: true}); err != nil {
			t.Fatal(err)
		}
	})
	read := func() subscriptions.Subscription {
		t.Helper()
		got, err := s.Subscription(t.Context(), sub.ID)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if sub.Version != 1 || time.Since(sub.CreatedAt).Abs() > time.Minute || sub.UpdatedAt != sub.CreatedAt {
		t.Fatalf("created as version %d at %v", sub.Version, sub.CreatedAt)
	}
	diff(t, "subscription", *sub, read())

	created := sub.CreatedAt
	sub.State, sub.StateReason, sub.Labels = subscriptions.Active, "", map[string]string{}
	sub.Secrets = append([]subscriptions.Secret{subscriptions.NewSigningSecret()}, sub.Secrets[0])
	w.says(store.TopicSubscriptions, func() {
		if err := s.UpdateSubscription(t.Context(), sub, 1); err != nil {
			t.Fatal(err)
		}
	})
	if sub.Version != 2 || !sub.UpdatedAt.After(created) {
		t.Fatalf("updated to version %d at %v", sub.Version, sub.UpdatedAt)
	}
	diff(t, "subscription", *sub, read())
}

func TestTextThatPostgresRefusesIsCleaned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	sub := subscribe(t, s, "plain", store.Start{})
	sub.Description, sub.Name, sub.StateReason = "a\x00b\\u0000", "n\x00\xff", "\x00"
	if err := s.UpdateSubscription(t.Context(), sub, 1); err != nil {
		t.Fatal(err)
	}
	got, err := s.Subscription(t.Context(), sub.ID)
	if err != nil || got.Description != "a\uFFFDb\\u0000" || got.Name != "n\uFFFD\uFFFD" || got.StateReason != "\uFFFD" {
		t.Fatalf("read %+v, error %v", got, err)
	}
}

func TestAnUpdateOfAnotherVersionIsAConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	sub := subscribe(t, s, "x", store.Start{})
	sub.Description = "first"
	if err := s.UpdateSubscription(t.Context(), sub, 1); err != nil {
		t.Fatal(err)
	}
	stale := *sub
	stale.Description = "second"
	for _, version := range []int64{0, 1, 3} {
		if err := s.DeleteSubscription(t.Context(), sub.ID, version); !errors.Is(err, store.ErrConflict) {
			t.Errorf("delete of version %d: error %v, want conflict", version, err)
		}
		if err := s.UpdateSubscription(t.Context(), &stale, version); !errors.Is(err, store.ErrConflict) {
			t.Errorf("update of version %d: error %v, want conflict", version, err)
		}
	}
	got, err := s.Subscription(t.Context(), sub.ID)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "subscription", *sub, got)
	stale.ID = subscriptions.NewID()
	if err := s.UpdateSubscription(t.Context(), &stale, 2); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("error %v, want not found", err)
	}
}

func TestANameIsTakenUntilItsSubscriptionIsDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	x, y := subscribe(t, s, "x", store.Start{}), subscribe(t, s, "y", store.Start{})
	again := *x
	again.ID = subscriptions.NewID()
	if err := s.CreateSubscription(t.Context(), &again, store.Start{}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("error %v, want conflict", err)
	}
	y.Name = "x"
	if err := s.UpdateSubscription(t.Context(), y, y.Version); !errors.Is(err, store.ErrConflict) {
		t.Errorf("error %v, want conflict", err)
	}
	sameID := *x
	sameID.Name = "z"
	if err := s.CreateSubscription(t.Context(), &sameID, store.Start{}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("error %v, want conflict", err)
	}
	if err := s.DeleteSubscription(t.Context(), x.ID, x.Version); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateSubscription(t.Context(), &again, store.Start{}); err != nil {
		t.Errorf("the name of a deleted one: %v", err)
	}
}

func TestADeletedSubscriptionLeavesItsRowAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	x, y := subscribe(t, s, "x", store.Start{}), subscribe(t, s, "y", store.Start{})
	lanes := claim(t, s)
	for _, name := range []string{"x", "y"} {
		l := lanes[name]
		settle(t, s, store.Settlement{Lanes: []store.LaneSettlement{{Lane: l.ID, Epoch: l.Epoch, Cursor: 5, Upsert: []store.Delivery{{Offset: 1, State: store.Dead}}}}})
		if err := s.Request(t.Context(), store.Intent{Lane: l.ID, Action: "retry", Offset: 1, Actor: "ann"}); err != nil {
			t.Fatal(err)
		}
	}
	w.says(store.TopicSubscriptions, func() {
		if err := s.DeleteSubscription(t.Context(), x.ID, x.Version); err != nil {
			t.Fatal(err)
		}
	})
	got := one[string](w, `SELECT concat_ws(' ',
  (SELECT string_agg(name || coalesce(deleted_at < now() + interval '1 s', false) || octet_length(secrets) / 100, ',' ORDER BY name) FROM rowcall.subscriptions),
  (SELECT array_agg(lane) FROM rowcall.cursors), (SELECT array_agg(lane) FROM rowcall.deliveries), (SELECT array_agg(lane) FROM rowcall.intents))`)
	id := lanes["y"].ID
	if want := fmt.Sprintf("xtrue0,yfalse0 {%d} {%d} {%d}", id, id, id); got != want {
		t.Errorf("left %s, want %s", got, want)
	}
	if n := one[int](w, `SELECT octet_length(secrets) FROM rowcall.subscriptions WHERE id = $1`, x.ID); n != 0 {
		t.Errorf("%d bytes of secrets left", n)
	}
	_, readErr := s.Subscription(t.Context(), x.ID)
	for what, err := range map[string]error{
		"read": readErr, "update": s.UpdateSubscription(t.Context(), x, 2), "delete": s.DeleteSubscription(t.Context(), x.ID, x.Version),
	} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: error %v, want not found", what, err)
		}
	}
	all, err := s.Subscriptions(t.Context(), store.SubscriptionFilter{}, 10)
	if err != nil || len(all) != 1 || all[0].ID != y.ID {
		t.Errorf("listed %v, error %v", all, err)
	}
}

func TestASubscriptionStartsWhereItIsToldTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	c := source(t, s, "shop")
	for i := range store.LSN(100) { // three events a transaction, a µs apart
		mustAppend(t, s, c, batch(i+1, 3))
	}
	w.exec(`UPDATE rowcall.log_head SET oldest = 31`)
	const zero = 1_780_000_000_000_000
	for name, c := range map[string]struct {
		start store.Start
		want  store.Offset
	}{
		"now":                        {store.Start{Now: true, Offset: 40}, 301},
		"earliest":                   {store.Start{Earliest: true, Offset: 40}, 31},
		"offset":                     {store.Start{Offset: 40}, 40},
		"offset that was dropped":    {store.Start{Offset: 30}, 31},
		"no offset":                  {store.Start{}, 31},
		"offset past the head":       {store.Start{Offset: 999}, 301},
		"time of an event":           {store.Start{Time: zero + 50}, 148},
		"time of the oldest":         {store.Start{Time: zero + 11}, 31},
		"time before the oldest":     {store.Start{Time: zero}, 31},
		"time of the newest":         {store.Start{Time: zero + 100}, 298},
		"time that is still to come": {store.Start{Time: zero + 101}, 301},
	} {
		subscribe(t, s, name, c.start)
		if got := w.cursors(s)[name]; got != c.want {
			t.Errorf("%s: starts at %d, want %d", name, got, c.want)
		}
	}
}

func TestSecretsRestSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	sub := subscribe(t, s, "x", store.Start{})
	key := strings.TrimPrefix(sub.Secrets[0].Reveal(), "whsec_")
	if len(key) < 40 {
		t.Fatalf("the secret has %d characters", len(key))
	}
	dump := one[string](w, `SELECT string_agg(s::text || encode(secrets, 'escape'), '') FROM rowcall.subscriptions s`)
	if !strings.Contains(dump, string(sub.ID)) {
		t.Fatal("the dump is not one of the table")
	}
	for _, leak := range []string{key, key[:16], fmt.Sprintf("%x", key[:16]), "whsec", "redacted"} {
		if strings.Contains(dump, leak) {
			t.Errorf("a dump of the table holds %q", leak)
		}
	}
	// Sealed for its place: it opens nowhere else.
	other := subscribe(t, s, "y", store.Start{})
	w.exec(`UPDATE rowcall.subscriptions SET secrets = (SELECT secrets FROM rowcall.subscriptions WHERE id = $1) WHERE id = $2`, sub.ID, other.ID)
	got, err := s.Subscription(t.Context(), other.ID)
	if err != nil || len(got.Secrets) > 0 || got.State != subscriptions.Disabled || got.StateReason == "" {
		t.Errorf("read %+v, error %v", got, err)
	}
}

func TestSecretsThatAreNotGivenStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	sub := subscribe(t, s, "x", store.Start{})
	want := sub.Secrets
	sub.Secrets = nil
	if err := s.UpdateSubscription(t.Context(), sub, 1); err != nil {
		t.Fatal(err)
	}
	got, err := s.Subscription(t.Context(), sub.ID)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "secrets", want, got.Secrets)
}

func TestSubscriptionsAreListedByIDAndFiltered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.instance("a")
	var ids []subscriptions.ID
	for i := range 7 {
		sub := subscribe(t, s, fmt.Sprint(i), store.Start{})
		if i%2 == 0 {
			sub.State = subscriptions.Paused
			if err := s.UpdateSubscription(t.Context(), sub, 1); err != nil {
				t.Fatal(err)
			}
		}
		ids = append(ids, sub.ID)
	}
	list := func(f store.SubscriptionFilter, limit int) (found []subscriptions.ID, names []string) {
		t.Helper()
		for {
			page, err := s.Subscriptions(t.Context(), f, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("a page of %d, error %v", len(page), err)
			}
			for _, sub := range page {
				found, names = append(found, sub.ID), append(names, sub.Name)
			}
			if len(page) < limit {
				return found, names
			}
			f.After = page[len(page)-1].ID
		}
	}
	byID := slices.Sorted(slices.Values(ids))
	for _, limit := range []int{1, 3, 7, 100} {
		found, _ := list(store.SubscriptionFilter{}, limit)
		diff(t, "listed", byID, found)
	}
	_, names := list(store.SubscriptionFilter{State: subscriptions.Active}, 2)
	diff(t, "active", []string{"1", "3", "5"}, slices.Sorted(slices.Values(names)))
	_, names = list(store.SubscriptionFilter{Name: "4"}, 2)
	diff(t, "named", []string{"4"}, names)
}
