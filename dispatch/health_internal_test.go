package dispatch

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/subscriptions"
)

var (
	testProbe = subscriptions.Probe{Min: 5 * time.Second, Max: 15 * time.Minute}
	testStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	failure   = happened{fault: FaultEndpoint, reason: ReasonRefused, others: true}
	success   = happened{}
	refusal   = happened{fault: FaultEvent, reason: ReasonRejected, others: true}
)

func TestAnEndpointIsParkedByTheShareOfKeysThatFail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		e    happened
		want HealthState
	}{
		"one poison row, however often":      {happened{fault: FaultEndpoint, share: shares{keys: 1, failing: 1}, others: true}, Healthy},
		"nineteen keys, all failing":         {happened{fault: FaultEndpoint, share: shares{keys: 19, failing: 1}, others: true}, Healthy},
		"twenty keys, most failing":          {happened{fault: FaultEndpoint, share: shares{keys: 20, failing: .8}, others: true}, Parked},
		"twenty keys, half failing":          {happened{fault: FaultEndpoint, share: shares{keys: 20, failing: .5}, others: true}, Healthy},
		"many keys, nearly all refused":      {happened{fault: FaultEvent, share: shares{keys: 40, refused: .96}, others: true}, Parked},
		"many keys, a third of them refused": {happened{fault: FaultEvent, share: shares{keys: 40, refused: .3}, others: true}, Healthy},
		"twenty keys in a row":               {happened{fault: FaultEndpoint, share: shares{keys: 400, row: 20, failing: .1}, others: true}, Parked},
		"a success among many failures":      {happened{fault: FaultNone, share: shares{keys: 40, failing: .9}, others: true}, Healthy},
		"we are short of sockets":            {happened{fault: FaultLocal, share: shares{keys: 40, failing: .9}, others: true}, Healthy},
		"it asks for time":                   {happened{fault: FaultEndpoint, retryAfter: time.Hour, others: true}, Parked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := health{State: Healthy}.after(test.e, testProbe, 64, testStart, 0)
			if got.State != test.want {
				t.Errorf("is %s, want %s", got.State, test.want)
			}
		})
	}
}

func TestAnEndpointIsParkedByTimeWithoutSuccess(t *testing.T) {
	t.Parallel()
	few := failure
	few.share = shares{keys: 2, failing: 1}
	h := health{State: Healthy}.after(few, testProbe, 64, testStart, 0)
	if h = h.after(few, testProbe, 64, testStart.Add(59*time.Second), 0); h.State != Healthy {
		t.Fatalf("after 59 s is %s", h.State)
	}
	if got := h.after(few, testProbe, 64, testStart.Add(time.Minute), 0); got.State != Parked {
		t.Errorf("after a minute is %s, want parked", got.State)
	}
	if got := h.after(success, testProbe, 64, testStart.Add(time.Minute), 0).after(few, testProbe, 64, testStart.Add(61*time.Second), 0); got.State != Healthy {
		t.Errorf("after a success is %s, want healthy: the minute starts anew", got.State)
	}
	one := failure
	one.share = shares{keys: 1, failing: 1}
	if got := h.after(one, testProbe, 64, testStart.Add(time.Hour), 0); got.State != Healthy {
		t.Errorf("one key of several is enough to park: %s", got.State)
	}
	one.others = false
	if got := h.after(one, testProbe, 64, testStart.Add(time.Hour), 0); got.State != Parked {
		t.Errorf("the only key there is does not park: %s", got.State)
	}
}

func TestRetryAfterIsObeyedExactly(t *testing.T) {
	t.Parallel()
	e := failure
	e.retryAfter, e.reason = 7*time.Minute, ReasonThrottled
	for _, h := range []health{{State: Healthy}, {State: Probing, Failures: 3}, {State: Recovering, Limit: 4}} {
		got := h.after(e, testProbe, 64, testStart, 0.7)
		if got.State != Parked || !got.NextProbe.Equal(testStart.Add(7*time.Minute)) || got.Reason != ReasonThrottled {
			t.Errorf("from %s: %+v, want parked for exactly 7 minutes", h.State, got)
		}
	}
}

func TestAnEventThatIsRefusedShowsThatTheEndpointIsUp(t *testing.T) {
	t.Parallel()
	if got := (health{State: Probing, Failures: 9}).after(refusal, testProbe, 64, testStart, 0); got.State != Recovering || got.Limit != 1 {
		t.Errorf("%+v, want recovering with one at once", got)
	}
}

func TestAShortageOfThisMachineSaysNothingOfTheEndpoint(t *testing.T) {
	t.Parallel()
	h := health{State: Healthy}.after(happened{fault: FaultLocal}, testProbe, 64, testStart, 0)
	last := failure
	last.share, last.others = shares{keys: 1, failing: 1}, false
	if h = h.after(last, testProbe, 64, testStart.Add(time.Hour), 0); h.State != Healthy {
		t.Errorf("one failure, an hour after this machine was short of something: %s", h.State)
	}
}

// Whatever happens, probes grow apart up to the cap until the endpoint is healthy
// again, the ramp starts at 1 and stays within the limit, and only a probe leads
// out of parked.
func TestHealthNeverSkipsAStep(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h, now := health{State: Healthy}, testStart
		const limit = 16
		failures := 0
		t.Repeat(map[string]func(*rapid.T){
			"attempt": func(t *rapid.T) {
				e := rapid.SampledFrom([]happened{failure, success, refusal, {fault: FaultLocal}}).Draw(t, "what")
				e.share = shares{keys: rapid.IntRange(0, 40).Draw(t, "keys"), failing: rapid.Float64Range(0, 1).Draw(t, "failing")}
				before := h
				h = h.after(e, testProbe, limit, now, rapid.Float64Range(0, 0.99).Draw(t, "random"))
				allowed := map[HealthState][]HealthState{
					Healthy: {Healthy, Parked}, Parked: {Parked}, Probing: {Parked, Recovering}, Recovering: {Recovering, Parked, Healthy},
				}
				ok := false
				for _, s := range allowed[before.State] {
					ok = ok || s == h.State
				}
				if !ok {
					t.Fatalf("%s became %s", before.State, h.State)
				}
				if h.State == Parked && before.State != Parked {
					if wait := h.NextProbe.Sub(now); wait < testProbe.Min/2 || wait > testProbe.Max {
						t.Fatalf("the next probe is in %v", wait)
					}
				}
				if h.State == Recovering && (h.Limit < 1 || h.Limit > limit) {
					t.Fatalf("the ramp is at %v", h.Limit)
				}
				if before.State == Recovering && h.State == Recovering {
					switch up := e.fault == FaultNone || e.fault == FaultEvent; {
					case up && (h.Limit < before.Limit || h.Limit > before.Limit+1):
						t.Fatalf("after a success the ramp goes from %v to %v", before.Limit, h.Limit)
					case !up && h.Limit > before.Limit:
						t.Fatalf("after a failure the ramp goes from %v to %v", before.Limit, h.Limit)
					}
				}
				if before.State == Probing && h.State == Recovering && h.Limit != 1 {
					t.Fatalf("the ramp starts at %v", h.Limit)
				}
				if h.State == Healthy {
					failures = 0
				} else if h.Failures < failures {
					t.Fatalf("failures fell from %d to %d before it was healthy", failures, h.Failures)
				}
				failures = h.Failures
			},
			"probe": func(t *rapid.T) {
				if h.State != Parked {
					t.Skip("nothing to probe")
				}
				now = later(now, h.NextProbe)
				h = h.probe()
			},
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "seconds")) * time.Second)
			},
		})
	})
}

func TestASampleCountsKeysAndForgetsOldOnes(t *testing.T) {
	t.Parallel()
	var s sample
	for range 1000 {
		s.add("poison", FaultEndpoint, testStart)
	}
	if !s.active() {
		t.Error("a failure does not begin a sample")
	}
	for i := range 9 {
		s.add(strconv.Itoa(i), FaultNone, testStart)
	}
	if got := s.shares(); got.keys != 10 || got.failing != 0.1 {
		t.Errorf("%+v, want 10 keys of which a tenth fail", got)
	}
	for i := range 20 {
		s.add("r"+strconv.Itoa(i), FaultEndpoint, testStart.Add(40*time.Second))
	}
	if got := s.shares(); got.keys != 30 || got.row != 20 {
		t.Errorf("%+v, want 20 keys that failed in a row", got)
	}
	s.add("0", FaultNone, testStart.Add(40*time.Second))
	if got := s.shares(); got.row != 0 {
		t.Errorf("%+v, want a success to end the row", got)
	}
	s.add("0", FaultNone, testStart.Add(41*time.Second+parkAfter/2))
	s.add("a", FaultEvent, testStart.Add(110*time.Second))
	s.add("b", FaultLocal, testStart.Add(110*time.Second))
	if got := s.shares(); got.keys != 2 || got.refused != 0.5 {
		t.Errorf("%+v, want the first half minute forgotten, and our own trouble left out", got)
	}
	s.add("c", FaultNone, testStart.Add(180*time.Second))
	s.add("c", FaultNone, testStart.Add(230*time.Second))
	if s.active() {
		t.Error("successes are counted long after the last failure")
	}
}
