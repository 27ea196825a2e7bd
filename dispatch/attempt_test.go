package dispatch_test

import (
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="

func testSubscription(url string) *subscriptions.Subscription {
	return &subscriptions.Subscription{
		ID: "sub_01", Secrets: []subscriptions.Secret{subscriptions.NewSecret(testSecret)},
		Spec: subscriptions.Spec{
			Endpoint: subscriptions.Endpoint{URL: url, Timeout: subscriptions.Duration(5 * time.Second)},
			Format:   subscriptions.CloudEvents, Signing: []string{"v1"},
		},
	}
}

func testEvent() *store.Event {
	return &store.Event{
		Offset: 12345, LSN: 0x3F2A8C0, Time: 1795176000123456, Generation: 1, Kind: store.KindRow,
		Type: "public.orders.updated", Key: "public.orders/id=42", Source: "/sources/shop",
		Data: []byte(`{"op":"update","row":{"id":42,"total":"99.90"}}`),
	}
}

func newTarget(t testing.TB, sub *subscriptions.Subscription) *dispatch.Target {
	t.Helper()
	target, err := dispatch.NewTarget(sub)
	if err != nil {
		t.Fatalf("NewTarget: %v", err)
	}
	return target
}

func newGuard(t testing.TB, config dispatch.GuardConfig) *dispatch.Guard {
	t.Helper()
	guard, err := dispatch.NewGuard(config)
	if err != nil {
		t.Fatalf("NewGuard: %v", err)
	}
	return guard
}

// newSender sends through a guard of its own that allows private targets.
func newSender(t testing.TB) *dispatch.Sender {
	t.Helper()
	transport := newGuard(t, dispatch.GuardConfig{Allow: "private"}).Transport()
	t.Cleanup(transport.CloseIdleConnections)
	return dispatch.NewSender(transport, "test")
}

func TestTryDeliversASignedEvent(t *testing.T) {
	t.Parallel()
	receiver := hooktest.Start(t, hooktest.Config{Secrets: []string{testSecret}})
	reply := newSender(t).Try(t.Context(), newTarget(t, testSubscription(receiver.URL())), testEvent(), 3)
	if got := dispatch.Judge(reply); got.Outcome != dispatch.Delivered {
		t.Fatalf("outcome: %+v (%v)", got, reply.Err)
	}
	d := receiver.Deliveries()[0]
	if d.Attempt != 3 || d.Subscription != "sub_01" || d.WebhookID != "01-0000000003F2A8C0-0" || d.Sequence != 12345 {
		t.Errorf("delivery: %+v", d)
	}
	if got := d.Header.Get("User-Agent"); got != "rowcall/test" {
		t.Errorf("user agent: %q", got)
	}
}
