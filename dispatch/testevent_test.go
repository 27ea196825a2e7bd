package dispatch_test

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store"
)

func TestATestEventGoesOutSignedAsAnyOther(t *testing.T) {
	t.Parallel()
	receiver := hooktest.Start(t, hooktest.Config{Secrets: []string{testSecret}})
	receiver.Script(func(hooktest.Delivery) hooktest.Reply { return hooktest.Reply{Body: "thanks"} })
	sub := testSubscription(receiver.URL())
	sub.Name = "paid"
	got, err := newSender(t).Test(t.Context(), sub)
	if err != nil || got.Verdict.Outcome != dispatch.Delivered || got.Reply.Status != 200 {
		t.Fatalf("%+v, %v", got, err)
	}
	d := receiver.Deliveries()[0]
	if d.Invalid != nil || d.Type != "rowcall.test" || d.Attempt != 1 || d.WebhookID != got.WebhookID || d.ID != got.Event || d.Header.Get("Rowcall-Test") != "true" {
		t.Errorf("delivery %+v", d)
	}
	if !strings.Contains(string(d.Data), `"subscription":{"id":"sub_01","name":"paid"}`) {
		t.Errorf("data %s", d.Data)
	}
	if !strings.Contains(string(got.Detail), `"body":"thanks"`) {
		t.Errorf("detail %s", got.Detail)
	}
	again, err := newSender(t).Test(t.Context(), sub)
	if err != nil || again.Event == got.Event {
		t.Errorf("a second one: %+v, %v", again, err)
	}
}

func TestATestSaysHowLongItsStagesTook(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	}))
	t.Cleanup(server.Close)
	transport := newGuard(t, dispatch.GuardConfig{Allow: "private"}).Transport()
	t.Cleanup(transport.CloseIdleConnections)
	transport.TLSClientConfig.RootCAs = x509.NewCertPool()
	transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
	sender := dispatch.NewSender(transport, "test")
	got, err := sender.Test(t.Context(), testSubscription(server.URL))
	if err != nil || got.Verdict.Reason != dispatch.ReasonRejected || !strings.Contains(string(got.Detail), "short and stout") {
		t.Fatalf("%+v, %v", got, err)
	}
	if d := got.Reply.Timings; d.Connect <= 0 || d.TLS <= 0 || d.FirstByte < d.Connect+d.TLS || d.FirstByte > got.Reply.Duration {
		t.Errorf("timings %+v of %s", d, got.Reply.Duration)
	}
	again, err := sender.Test(t.Context(), testSubscription(server.URL))
	if err != nil || again.Reply.Timings.Connect != 0 || again.Reply.Timings.TLS != 0 || again.Reply.Timings.FirstByte <= 0 {
		t.Errorf("over the connection that is there: %+v, %v", again.Reply.Timings, err)
	}
}

func TestATestTellsNothingOfATargetThatIsNotAllowed(t *testing.T) {
	t.Parallel()
	receiver := hooktest.Start(t, hooktest.Config{})
	transport := newGuard(t, dispatch.GuardConfig{}).Transport()
	t.Cleanup(transport.CloseIdleConnections)
	sub := testSubscription(receiver.URL())
	got, err := dispatch.NewSender(transport, "test").Test(t.Context(), sub)
	if err != nil || got.Verdict.Outcome != dispatch.BlockedTarget || got.Reply.Timings != (store.Timings{}) || got.Reply.Duration != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if !strings.Contains(string(got.Detail), "ROWCALL_EGRESS_ALLOW") || len(receiver.Deliveries()) > 0 {
		t.Errorf("detail %s", got.Detail)
	}
	sub.Secrets = nil
	if _, err := newSender(t).Test(t.Context(), sub); err == nil || !strings.Contains(err.Error(), "no signing secret") {
		t.Errorf("settings that cannot be used: %v", err)
	}
}
