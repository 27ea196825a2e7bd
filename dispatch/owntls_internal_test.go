package dispatch

import (
	"testing"
	"testing/synctest"
	"time"
)

func lease(t *testing.T, s *Sender, id int) (*ownTransport, func()) {
	t.Helper()
	rt, release, err := s.lease(&clientTLS{id: [32]byte{byte(id), byte(id >> 8)}})
	if err != nil {
		t.Fatal(err)
	}
	own, ok := rt.(*ownTransport)
	if !ok {
		t.Fatalf("a %T", rt)
	}
	return own, release
}

func newOwnSender(t *testing.T) (*Sender, *ownTransports) {
	t.Helper()
	guard, err := NewGuard(GuardConfig{})
	if err != nil {
		t.Fatal(err)
	}
	transport := guard.Transport()
	return NewSender(transport, "test"), &transport.own
}

func (o *ownTransports) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.byID)
}

func TestATransportOfItsOwnIsSharedAndGoesWhenItIsNotUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, o := newOwnSender(t)
		first, release := lease(t, s, 1)
		again, releaseAgain := lease(t, s, 1)
		if first != again || o.count() != 1 {
			t.Fatal("one set of settings has two transports")
		}
		release()
		time.Sleep(10 * ownTransportIdle)
		if o.count() != 1 {
			t.Fatal("it went with a request under way")
		}
		releaseAgain()
		time.Sleep(ownTransportIdle - time.Nanosecond)
		if later, release := lease(t, s, 1); later != first {
			t.Fatal("it went too early")
		} else {
			release()
		}
		time.Sleep(ownTransportIdle - time.Nanosecond)
		synctest.Wait()
		if o.count() != 1 {
			t.Fatal("its time did not begin anew")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if o.count() != 0 {
			t.Fatal("it is still there")
		}
	})
}

func TestTransportsOfTheirOwnAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, o := newOwnSender(t)
		busy, releaseBusy := lease(t, s, 0)
		for id := 1; id < 3*maxOwnTransports; id++ {
			time.Sleep(time.Millisecond)
			_, release := lease(t, s, id)
			release()
			if n := o.count(); n > maxOwnTransports {
				t.Fatalf("%d transports", n)
			}
		}
		if again, release := lease(t, s, 0); again != busy {
			t.Error("one with a request under way made room")
		} else {
			release()
		}
		newest := 3*maxOwnTransports - 1
		if o.byID[[32]byte{byte(newest), byte(newest >> 8)}] == nil || o.byID[[32]byte{1}] != nil {
			t.Error("it was not the one idle for longest that made room")
		}
		releaseBusy()
		s.rt.(*Transport).CloseIdleConnections()
		if o.count() != 0 {
			t.Errorf("%d are left after all were closed", o.count())
		}
	})
}

func TestTokensAreBounded(t *testing.T) {
	t.Parallel()
	var k tokens
	for i := range 3 * maxTokens {
		entry := k.entry(&oauthClient{id: identify(string(rune(i)), string(rune(i>>10)))})
		entry.value, entry.until = "t", time.Now().Add(time.Hour)
		if len(k.byID) > maxTokens {
			t.Fatalf("%d tokens", len(k.byID))
		}
	}
}
