package hooktest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
	other  = "whsec_b3RoZXJzZWNyZXRvdGhlcnNlY3JldG90aGVyc2VjcmV0MTI="
)

// sender delivers events to one receiver.
type sender struct {
	*dispatch.Sender
	target *dispatch.Target
}

func newSender(t *testing.T, url string, timeout time.Duration) sender {
	t.Helper()
	guard, err := dispatch.NewGuard(dispatch.GuardConfig{Allow: "private"})
	if err != nil {
		t.Fatal(err)
	}
	transport := guard.Transport()
	t.Cleanup(transport.CloseIdleConnections)
	target, err := dispatch.NewTarget(&subscriptions.Subscription{
		ID: "sub_01", Secrets: []subscriptions.Secret{subscriptions.NewSecret(secret)},
		Spec: subscriptions.Spec{Endpoint: subscriptions.Endpoint{URL: url, Timeout: subscriptions.Duration(timeout)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return sender{dispatch.NewSender(transport, "test"), target}
}

func (s sender) send(ctx context.Context, sequence int, key string, attempt int) dispatch.Reply {
	return s.Try(ctx, s.target, &store.Event{
		Offset: store.Offset(sequence), LSN: store.LSN(sequence), Generation: 1, Kind: store.KindRow,
		Type: "public.t.inserted", Key: "public.t/" + key, Source: "/sources/x", Data: []byte(fmt.Sprintf(`{"n":%d}`, sequence)),
	}, attempt)
}

func TestADeliveryIsRecordedWhole(t *testing.T) {
	t.Parallel()
	r := hooktest.Start(t, hooktest.Config{Secrets: []string{other, secret}})
	newSender(t, r.URL(), time.Minute).send(t.Context(), 7, "id=1", 2)
	r.WaitFor(t, func(r *hooktest.Receiver) bool { return r.Counts().Succeeded == 1 })
	d := r.Deliveries()[0]
	if d.ID != "01-0000000000000007-0" || d.WebhookID != d.ID || d.Type != "public.t.inserted" || d.Source != "/sources/x" ||
		d.Subject != "id=1" || d.Key != "public.t/id=1" || d.Sequence != 7 || d.Attempt != 2 || d.Subscription != "sub_01" ||
		string(d.Data) != `{"n":7}` || !strings.Contains(string(d.Body), `"specversion"`) || d.Header.Get("Webhook-Id") != d.ID ||
		d.Status != 200 || d.Arrived != 1 || d.Answered != 2 || d.Invalid != nil || d.At.IsZero() {
		t.Errorf("delivery: %+v", d)
	}
	if faults := r.Check(); len(faults) != 0 {
		t.Errorf("faults: %v", faults)
	}
}

func TestAWrongSignatureIsRefusedWhateverTheScriptSays(t *testing.T) {
	t.Parallel()
	r := hooktest.Start(t, hooktest.Config{Secrets: []string{other}, Reply: func(hooktest.Delivery) hooktest.Reply { return hooktest.Reply{} }})
	if reply := newSender(t, r.URL(), time.Minute).send(t.Context(), 1, "a", 1); reply.Status != 401 {
		t.Errorf("reply: %+v", reply)
	}
	if got := r.Counts(); got != (hooktest.Counts{Received: 1, Invalid: 1}) {
		t.Errorf("counts: %+v", got)
	}
	if d := r.Deliveries()[0]; !errors.Is(d.Invalid, dispatch.ErrSignatureMismatch) {
		t.Errorf("invalid: %v", d.Invalid)
	}
	if faults := r.Check(); len(faults) != 1 {
		t.Errorf("faults: %v", faults)
	}
}

func TestRepliesFollowTheScript(t *testing.T) {
	t.Parallel()
	r := hooktest.Start(t, hooktest.Config{Secrets: []string{secret}})
	for _, c := range []struct {
		name   string
		reply  hooktest.Reply
		status int
		reason dispatch.Reason
	}{
		{"200 by default", hooktest.Reply{}, 200, ""},
		{"a status", hooktest.Reply{Status: 503, Header: http.Header{"Retry-After": {"9"}}, Body: "later"}, 503, dispatch.ReasonUnavailable},
		{"a delay", hooktest.Reply{Delay: 20 * time.Millisecond}, 200, ""},
		{"a cut connection", hooktest.Reply{Close: true}, 0, dispatch.ReasonReset},
		{"no answer", hooktest.Reply{Hang: true}, 0, dispatch.ReasonTimeout},
		{"a delay that is too long", hooktest.Reply{Delay: time.Hour}, 0, dispatch.ReasonTimeout},
	} {
		r.Script(func(hooktest.Delivery) hooktest.Reply { return c.reply })
		timeout := time.Minute
		if c.reason == dispatch.ReasonTimeout {
			timeout = 100 * time.Millisecond
		}
		reply := newSender(t, r.URL(), timeout).send(t.Context(), 1, "a", 1)
		if verdict := dispatch.Judge(reply); reply.Status != c.status || verdict.Reason != c.reason {
			t.Errorf("%s: %+v, %+v", c.name, verdict, reply)
		}
		if c.reply.Delay < time.Minute && reply.Duration < c.reply.Delay {
			t.Errorf("%s: answered after %v", c.name, reply.Duration)
		}
		if c.reply.Status == 503 && (reply.RetryAfter != 9*time.Second || string(reply.Body) != "later") {
			t.Errorf("%s: %+v", c.name, reply)
		}
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	t.Parallel()
	r := hooktest.Start(t, hooktest.Config{Reply: func(hooktest.Delivery) hooktest.Reply { return hooktest.Reply{Hang: true} }})
	replies := make(chan dispatch.Reply, 1)
	s := newSender(t, r.URL(), time.Minute)
	go func() { replies <- s.send(context.WithoutCancel(t.Context()), 1, "a", 1) }()
	r.WaitFor(t, func(r *hooktest.Receiver) bool { return r.Counts().Received == 1 })
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if reply := <-replies; dispatch.Judge(reply).Reason != dispatch.ReasonReset {
		t.Errorf("reply: %+v", reply)
	}
	if err := r.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := hooktest.Start(t, hooktest.Config{})
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := r.AwaitSucceeded(ctx, 1); !errors.Is(err, cause) {
		t.Errorf("error: %v", err)
	}
}

func TestChecksFindWhatIsWrong(t *testing.T) {
	t.Parallel()
	fails := func(d hooktest.Delivery) hooktest.Reply {
		if d.Attempt == 1 {
			return hooktest.Reply{Status: 500}
		}
		return hooktest.Reply{}
	}
	type try struct {
		sequence int
		key      string
		attempt  int
	}
	for _, c := range []struct {
		name       string
		tries      []try // the first of an event fails, others succeed
		disorders  int
		never      int
		duplicates int
	}{
		{"in order", []try{{1, "a", 1}, {1, "a", 2}, {2, "a", 1}, {2, "a", 2}}, 0, 0, 0},
		{"another key in between", []try{{1, "a", 1}, {2, "b", 2}, {1, "a", 2}}, 0, 0, 0},
		{"overtaken", []try{{1, "a", 1}, {2, "a", 2}, {1, "a", 2}}, 1, 0, 0},
		{"overtaken, not even in vain", []try{{1, "a", 1}, {2, "a", 1}, {1, "a", 2}, {2, "a", 2}}, 1, 0, 0},
		{"the wrong way round", []try{{2, "a", 2}, {1, "a", 2}}, 1, 0, 0},
		{"left behind", []try{{1, "a", 1}, {2, "a", 2}}, 1, 1, 0},
		{"twice", []try{{1, "a", 2}, {1, "a", 2}, {2, "a", 2}}, 0, 0, 1},
		{"an old copy later", []try{{1, "a", 2}, {2, "a", 2}, {1, "a", 2}}, 0, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := hooktest.Start(t, hooktest.Config{Secrets: []string{secret}, Reply: fails})
			s := newSender(t, r.URL(), time.Minute)
			for _, try := range c.tries {
				if reply := s.send(t.Context(), try.sequence, try.key, try.attempt); reply.Err != nil {
					t.Fatal(reply.Err)
				}
			}
			disorders, never := r.Disorders(), 0
			for _, d := range disorders {
				if d.Never {
					never++
				}
			}
			if len(disorders) != c.disorders || never != c.never {
				t.Errorf("disorders: %v", disorders)
			}
			if got := len(r.Duplicates()); got != c.duplicates {
				t.Errorf("%d duplicates", got)
			}
			if got := len(r.Check()); got != c.disorders-c.never {
				t.Errorf("check: %v", r.Check())
			}
		})
	}
}

func TestOverlapIsADisorderEvenWhenBothSucceed(t *testing.T) {
	t.Parallel()
	r := hooktest.Start(t, hooktest.Config{Secrets: []string{secret}})
	release := make(chan struct{})
	r.Script(func(d hooktest.Delivery) hooktest.Reply {
		if d.Sequence == 1 {
			<-release
		}
		return hooktest.Reply{}
	})
	s := newSender(t, r.URL(), time.Minute)
	first := make(chan dispatch.Reply, 1)
	go func() { first <- s.send(t.Context(), 1, "a", 1) }()
	r.WaitFor(t, func(r *hooktest.Receiver) bool { return r.Counts().Received == 1 })
	s.send(t.Context(), 2, "a", 1)
	close(release)
	<-first
	if got := r.Disorders(); len(got) != 1 || got[0].Never {
		t.Errorf("disorders: %v", got)
	}
}

func TestAnotherBodyUnderTheSameIDIsFound(t *testing.T) {
	t.Parallel()
	r := hooktest.Start(t, hooktest.Config{})
	for _, body := range []string{`{"id":"1"}`, `{"id":"1","x":2}`} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL(), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Webhook-Id", "1")
		transport := &http.Transport{DisableKeepAlives: true}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if faults := r.Check(); len(faults) != 1 || !strings.Contains(faults[0], "another body") {
		t.Errorf("faults: %v", faults)
	}
}

func TestBodiesCanBeDropped(t *testing.T) {
	t.Parallel()
	r := hooktest.Start(t, hooktest.Config{Secrets: []string{secret}, DropBodies: true})
	newSender(t, r.URL(), time.Minute).send(t.Context(), 5, "a", 1)
	if d := r.Deliveries()[0]; d.Body != nil || d.Data != nil || d.Header != nil || d.Sequence != 5 || d.Invalid != nil {
		t.Errorf("delivery: %+v", d)
	}
}
