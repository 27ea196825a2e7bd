package dispatch

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// edit changes the subscription as the API does.
func (m *memory) edit(t *testing.T, change func(*subscriptions.Subscription)) {
	t.Helper()
	m.mu.Lock()
	sub := m.sub
	m.mu.Unlock()
	change(&sub)
	if err := m.UpdateSubscription(t.Context(), &sub, sub.Version); err != nil {
		t.Fatal(err)
	}
}

// saved is what the lane's row has of its endpoint.
func (m *memory) saved() store.EndpointHealth {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.health
}

// requests is how many came.
func (e *endpoint) requests() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.got)
}

func TestAnEventDoesNotAgeWhileItsLaneIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		e := newEndpoint(func(string, int) (int, time.Duration) {
			if time.Since(start) < 10*time.Minute {
				return 422, time.Millisecond
			}
			return 200, time.Millisecond
		})
		m := newMemory(simulated(func(s *subscriptions.Spec) {
			s.Retry.MaxAge = subscriptions.Duration(time.Hour)
			s.Retry.Max = subscriptions.Duration(time.Minute)
			s.Retry.MaxAttempts = 1000
		}))
		_, kill := life(t, m, e)
		m.append(rowEvent(0, 0))
		await(t, time.Minute, "tried", func() bool { return e.requests() > 2 })
		m.edit(t, func(sub *subscriptions.Subscription) {
			sub.State, sub.StateReason = subscriptions.Paused, "by a person"
		})
		await(t, time.Minute, "held", func() bool { h := m.saved(); return h.Hold == string(HoldPaused) && !h.HeldSince.IsZero() })
		tried := e.requests()
		time.Sleep(24 * time.Hour)
		kill() // the time before a crash counts too, and that of the crash
		time.Sleep(time.Hour)
		end, _ := life(t, m, e)
		time.Sleep(time.Hour)
		if got := e.requests(); got != tried {
			t.Errorf("%d requests while paused", got-tried)
		}
		resumed := time.Now()
		m.edit(t, func(sub *subscriptions.Subscription) { sub.State, sub.StateReason = subscriptions.Active, "" })
		await(t, 10*time.Second, "delivered, not dead: it had seconds of its hour", func() bool { return e.delivered() == 1 })
		await(t, time.Minute, "held no more", func() bool { h := m.saved(); return h.Hold == "" && h.HeldSince.IsZero() })
		end()
		held := time.Duration(m.heldMS) * time.Millisecond
		if want := 26 * time.Hour; held < want || held > want+time.Minute {
			t.Errorf("held for %v at %v, want 26 h", held, resumed)
		}
	})
}

// What is due at once after a hold goes out spread, not as one wave.
func TestAfterAHoldDuesAreSpreadAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var well bool
		var at []time.Time
		e := newEndpoint(nil)
		e.answer = func(string, int) (int, time.Duration) {
			if !well {
				return 422, 0
			}
			at = append(at, time.Now())
			return 200, 0
		}
		m := newMemory(simulated(func(s *subscriptions.Spec) { s.Retry.Initial = subscriptions.Duration(time.Hour) }))
		end, _ := life(t, m, e)
		for n := range 15 { // below the sample that parks
			m.append(rowEvent(n, n))
		}
		await(t, time.Minute, "all tried", func() bool { return e.requests() == 15 })
		m.edit(t, func(sub *subscriptions.Subscription) { sub.State = subscriptions.Paused })
		time.Sleep(24 * time.Hour)
		e.mu.Lock()
		well = true
		e.mu.Unlock()
		m.edit(t, func(sub *subscriptions.Subscription) { sub.State = subscriptions.Active })
		await(t, time.Minute, "all delivered", func() bool { return e.delivered() == 15 })
		end()
		together := 0
		for i := 1; i < len(at); i++ {
			if at[i].Sub(at[i-1]) < time.Millisecond {
				together++
			}
		}
		if together > 5 || at[14].Sub(at[0]) > 2*time.Second {
			t.Errorf("%d of 15 went together, over %v", together, at[14].Sub(at[0]))
		}
	})
}

func TestAnEndpointAtANewOriginIsProbedBeforeItGetsMore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		url   string
		probe bool
	}{
		"another host":   {"https://other.example/hook", true},
		"another scheme": {"http://sim.example/hook", true},
		"another port":   {"https://sim.example:8443/hook", true},
		"another path":   {"https://sim.example:443/hook/2", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var down bool
				e := newEndpoint(nil)
				e.answer = func(string, int) (int, time.Duration) {
					if down {
						return 503, time.Second
					}
					return 200, time.Second
				}
				m := newMemory(simulated(nil))
				end, _ := life(t, m, e)
				m.append(rowEvent(0, 0))
				await(t, time.Minute, "delivered", func() bool { return e.delivered() == 1 })
				await(t, time.Minute, "noted", func() bool { return m.saved().Origin == "https://sim.example:443" })
				e.mu.Lock()
				down = true
				e.mu.Unlock()
				m.edit(t, func(sub *subscriptions.Subscription) { sub.Endpoint.URL = c.url })
				time.Sleep(time.Second)
				for n := range 50 {
					m.append(rowEvent(1+n, 1+n))
				}
				time.Sleep(2500 * time.Millisecond)
				sent := e.requests() - 1
				if c.probe && sent != 1 || !c.probe && sent < 4 {
					t.Errorf("%d requests to the new endpoint in two seconds", sent)
				}
				e.mu.Lock()
				down = false
				e.mu.Unlock()
				await(t, time.Hour, "all delivered", func() bool { return e.delivered() == 51 })
				end()
				e.check(t, false)
			})
		})
	}
}

func TestAnEventThatIsDiscardedInFlightIsNotSentAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ status, want int }{
		"it fails":        {http.StatusBadRequest, 1},
		"it is refused":   {0, 1},
		"it is delivered": {http.StatusOK, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				first := "01-0000000000000000-0"
				e := newEndpoint(func(id string, try int) (int, time.Duration) {
					switch {
					case id != first:
						return 200, time.Millisecond
					case try == 1:
						return 400, time.Millisecond
					}
					return c.status, 10 * time.Second
				})
				m := newMemory(simulated(nil))
				end, _ := life(t, m, e)
				m.append(rowEvent(0, 0))
				m.append(rowEvent(1, 0))
				await(t, time.Minute, "tried again", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.tries[first] == 2 })
				m.wish("discard", 1)
				time.Sleep(time.Second)
				if got := e.delivered(); got != 0 {
					t.Errorf("%d events of the key were sent while the first was in flight", got)
				}
				await(t, time.Minute, "the next of its key delivered, nothing left", func() bool {
					m.mu.Lock()
					defer m.mu.Unlock()
					return e.delivered() == c.want && len(m.deliveries) == 0 && len(m.intents) == 0
				})
				time.Sleep(24 * time.Hour)
				end()
				if e.tries[first] != 2 {
					t.Errorf("%d tries, want 2", e.tries[first])
				}
				e.check(t, false)
			})
		})
	}
}

// A lane whose rows the store refuses sends nothing twice while its attempts are
// still under way, and nothing more until a person resumes it.
func TestALaneWhoseRowsAreRefusedEndsBeforeItIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(id string, _ int) (int, time.Duration) {
			if id == "01-0000000000000000-0" {
				return 422, time.Millisecond
			}
			return 200, 10 * time.Second
		})
		m := newMemory(simulated(nil))
		m.refuses = errors.New("value out of range")
		end, _ := life(t, m, e)
		for n := range 50 {
			m.append(rowEvent(n, n))
		}
		await(t, time.Minute, "disabled", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.sub.State == subscriptions.Disabled
		})
		time.Sleep(time.Hour)
		for id, tries := range e.tries {
			if tries > 1 {
				t.Errorf("event %s was sent %d times", id, tries)
			}
		}
		if got := m.saved().Hold; got != string(HoldDisabled) {
			t.Errorf("held because of %q", got)
		}
		m.mu.Lock()
		m.refuses = nil
		m.mu.Unlock()
		m.edit(t, func(sub *subscriptions.Subscription) { sub.State, sub.StateReason = subscriptions.Active, "" })
		await(t, 3*time.Hour, "all others delivered", func() bool { return e.delivered() == 49 })
		end()
	})
}

func TestADrainThatCannotSettleIsNoError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(string, int) (int, time.Duration) { return 200, time.Second })
		m := newMemory(simulated(nil))
		end, _ := life(t, m, e)
		for n := range 50 {
			m.append(rowEvent(n, n))
		}
		await(t, time.Minute, "some delivered", func() bool { return e.delivered() > 8 })
		m.mu.Lock()
		m.down = errors.New("the store is down")
		m.mu.Unlock()
		time.Sleep(1500 * time.Millisecond)
		end() // fails the test where Run returns an error
		m.mu.Lock()
		m.down = nil
		m.mu.Unlock()
		m.restart()
		end, _ = life(t, m, e)
		await(t, time.Minute, "all delivered", func() bool { return e.delivered() == 50 })
		end()
		e.check(t, true)
	})
}
