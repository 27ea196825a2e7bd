package dispatch_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

func TestADraftIsWhatIsSentWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	r := hooktest.Start(t, hooktest.Config{})
	secret := subscriptions.NewSigningSecret()
	event := &store.Event{Offset: 7, LSN: 9, Generation: 1, Kind: store.KindRow, Source: "/sources/main", Type: "public.orders.inserted", Key: "public.orders/id=1", Data: []byte(`{"op":"insert","row":{"id":1}}`)}
	for _, format := range []subscriptions.Format{subscriptions.CloudEvents, subscriptions.CloudEventsBinary, subscriptions.Raw} {
		sub := &subscriptions.Subscription{ID: "sub_1", Secrets: []subscriptions.Secret{secret}, Spec: subscriptions.Spec{
			Format: format, Signing: []string{"v1", "v1a"},
			Endpoint: subscriptions.Endpoint{
				URL: r.URL(), Headers: map[string]string{"X-Env": "prod"},
				Auth: &subscriptions.Auth{Type: subscriptions.AuthBearer, Token: subscriptions.NewSecret("a-token")},
			},
		}}
		target, err := dispatch.NewTarget(sub)
		if err != nil {
			t.Fatal(err)
		}
		if reply := dispatch.NewSender(http.DefaultTransport, "v1").Try(context.Background(), target, event, 3); reply.Status != http.StatusOK {
			t.Fatalf("%+v", reply)
		}
		all := r.Deliveries()
		sent := all[len(all)-1]
		draft, err := dispatch.NewDraft(sub, event, "", time.Now(), 3, "v1")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(draft.Body, sent.Body) || draft.URL != r.URL() {
			t.Errorf("%s: the body is %s, and %s was sent", format, draft.Body, sent.Body)
		}
		differ := map[string]bool{"Authorization": true, "Webhook-Signature": true, "Webhook-Timestamp": true, "Host": true, "Content-Length": true, "Accept-Encoding": true}
		for name := range sent.Header {
			if !differ[name] && draft.Header.Get(name) != sent.Header.Get(name) {
				t.Errorf("%s: %s is %q, and %q was sent", format, name, draft.Header.Get(name), sent.Header.Get(name))
			}
		}
		if got := draft.Header.Get("Authorization"); got != "Bearer [redacted]" {
			t.Errorf("Authorization is %q", got)
		}
		if got := draft.Header.Get("Webhook-Signature"); got != "v1,[redacted] v1a,[redacted]" {
			t.Errorf("the signature is %q", got)
		}
		var header strings.Builder
		if err := draft.Header.Write(&header); err != nil || strings.Contains(header.String(), "a-token") {
			t.Errorf("%v %s", err, header.String())
		}
	}
}
