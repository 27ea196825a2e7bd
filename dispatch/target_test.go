package dispatch_test

import (
	"strings"
	"testing"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/subscriptions"
)

func TestNewTargetRefusesHeadersThatSpeakForOthers(t *testing.T) {
	t.Parallel()
	many, big := map[string]string{}, map[string]string{"X-Big": strings.Repeat("x", 8<<10)}
	for i := range 21 {
		many["X-"+strings.Repeat("a", i+1)] = "1"
	}
	for name, headers := range map[string]map[string]string{
		"too many": many, "too large": big, "twice": {"X-A": "1", "x-a": "2"},
		"empty name": {"": "x"}, "space in name": {"X A": "x"}, "colon in name": {"X:A": "x"}, "newline in name": {"X\nA": "x"}, "not ASCII": {"X-Ä": "x"},
		"newline in value": {"X-A": "1\r\nX-B: 2"}, "NUL in value": {"X-A": "\x00"}, "DEL in value": {"X-A": "\x7f"},
	} {
		sub := testSubscription("https://example.com/")
		sub.Endpoint.Headers = headers
		if _, err := dispatch.NewTarget(sub); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, name := range []string{
		"Host", "content-length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "TE", "Trailer", "Upgrade", "Expect",
		"Proxy-Authorization", "Proxy-Connection", "Forwarded", "X-Forwarded-For", "x-forwarded-host", "Cookie", "User-Agent",
		"webhook-id", "Webhook-Signature", "webhook-timestamp", "rowcall-attempt", "Rowcall-Subscription", "rowcall-replay", "ce-id",
		"Metadata", "Metadata-Flavor", "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds",
		"Idempotency-Key", "X-Idempotency-Key", "Accept-Encoding",
	} {
		sub := testSubscription("https://example.com/")
		sub.Endpoint.Headers = map[string]string{name: "x"}
		if _, err := dispatch.NewTarget(sub); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewTargetRefusesWhatItCannotSend(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*subscriptions.Subscription){
		"an option for authentication": func(s *subscriptions.Subscription) { s.Endpoint.Auth = &subscriptions.Auth{Type: "basic"} },
		"a client certificate":         func(s *subscriptions.Subscription) { s.Endpoint.TLS = &subscriptions.TLS{} },
		"an unknown format":            func(s *subscriptions.Subscription) { s.Format = "xml" },
		"an unknown signature":         func(s *subscriptions.Subscription) { s.Signing = []string{"v1", "v9"} },
		"no secret":                    func(s *subscriptions.Subscription) { s.Secrets = nil },
		"a bad URL":                    func(s *subscriptions.Subscription) { s.Endpoint.URL = "https://u:p@example.com/" },
	} {
		sub := testSubscription("https://example.com/")
		change(sub)
		if _, err := dispatch.NewTarget(sub); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWhatIsOnTheWire(t *testing.T) {
	t.Parallel()
	receiver := hooktest.Start(t, hooktest.Config{Secrets: []string{testSecret}})
	sub := testSubscription(receiver.URL() + "?a=1")
	sub.Endpoint.Headers = map[string]string{"x-env": "prod", "Authorization": "Bearer t"}
	sender, target := newSender(t), newTarget(t, sub)
	for attempt := range 3 {
		sender.Try(t.Context(), target, testEvent(), attempt+1)
	}
	for i, d := range receiver.Deliveries() {
		for name, want := range map[string]string{
			"Content-Type": "application/cloudevents+json", "User-Agent": "rowcall/test", "Rowcall-Subscription": "sub_01",
			"Webhook-Id": "01-0000000003F2A8C0-0", "Rowcall-Attempt": string(rune('1' + i)), "X-Env": "prod", "Authorization": "Bearer t",
		} {
			if got := d.Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		for _, name := range []string{"Accept-Encoding", "Transfer-Encoding", "Idempotency-Key", "Cookie", "Referer"} {
			if d.Header.Get(name) != "" {
				t.Errorf("%s is sent", name)
			}
		}
		if d.Invalid != nil || string(d.Body) != string(dispatch.AppendCloudEvent(nil, testEvent())) {
			t.Errorf("body %s: %v", d.Body, d.Invalid)
		}
	}
}
