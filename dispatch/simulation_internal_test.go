package dispatch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// endpoint is a receiver without sockets: it answers as told and remembers what
// it was sent.
type endpoint struct {
	mu     sync.Mutex
	answer func(id string, try int) (status int, wait time.Duration)
	batch  func(ids []string) (status int, wait time.Duration) // answers arrays
	posts  []int                                               // sizes of the bodies that were sent
	tries  map[string]int
	got    []seen
	done   map[string]bool // acknowledged
	flying map[string]int  // by key
	faults []string
}

// seen is one request that was answered.
type seen struct {
	id, key  string
	sequence int
	ok       bool
	at       time.Time
	post     int // number of the request
}

func newEndpoint(answer func(id string, try int) (int, time.Duration)) *endpoint {
	return &endpoint{answer: answer, tries: map[string]int{}, done: map[string]bool{}, flying: map[string]int{}}
}

func (e *endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	type event struct{ ID, Partitionkey, Sequence string }
	var events []event
	array := r.Header.Get("Content-Type") == batchContent
	if array {
		err = json.Unmarshal(body, &events)
	} else {
		events = make([]event, 1)
		err = json.Unmarshal(body, &events[0])
	}
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	keys := map[string]bool{}
	ids := make([]string, len(events))
	for i, event := range events {
		e.tries[event.ID]++
		ids[i] = event.ID
		keys[event.Partitionkey] = true
	}
	for key := range keys {
		if e.flying[key]++; e.flying[key] > 1 {
			e.faults = append(e.faults, fmt.Sprintf("two events of key %s in flight", key))
		}
	}
	var status int
	var wait time.Duration
	e.posts = append(e.posts, len(ids))
	post := len(e.posts)
	if array {
		status, wait = e.batch(ids)
	} else {
		status, wait = e.answer(ids[0], e.tries[ids[0]])
	}
	e.mu.Unlock()
	var cut error
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		cut = r.Context().Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for key := range keys {
		e.flying[key]--
	}
	if cut != nil {
		return nil, cut
	}
	for _, event := range events {
		sequence, err := strconv.Atoi(event.Sequence)
		if err != nil {
			return nil, err
		}
		if status/100 == 2 {
			e.done[event.ID] = true
		}
		e.got = append(e.got, seen{event.ID, event.Partitionkey, sequence, status/100 == 2, time.Now(), post})
	}
	if status == 0 {
		return nil, errors.New("connection reset by peer")
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(nil)), Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// check finds what must never be: an event sent before an earlier one of its key
// was acknowledged (I9), or sent again after it was acknowledged without a crash.
func (e *endpoint) check(t *testing.T, crashes bool) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	acknowledged := map[string]int{} // highest sequence of a key
	done := map[string]bool{}
	for _, s := range e.got {
		if done[s.id] {
			if !crashes {
				t.Errorf("event %s was sent again after it was acknowledged", s.id)
			}
			continue
		}
		if s.sequence < acknowledged[s.key] {
			t.Errorf("key %s: %d was sent after %d", s.key, s.sequence, acknowledged[s.key])
		}
		if s.ok {
			done[s.id] = true
			acknowledged[s.key] = s.sequence
		}
	}
	for _, f := range e.faults {
		t.Error(f)
	}
}

// delivered is how many events were acknowledged.
func (e *endpoint) delivered() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.done)
}

// simulated is a subscription for simulations.
func simulated(edit func(*subscriptions.Spec)) subscriptions.Subscription {
	sub := subscriptions.Subscription{ID: "sub_sim", Version: 1, State: subscriptions.Active, Secrets: []subscriptions.Secret{subscriptions.NewSigningSecret()}}
	sub.Spec = subscriptions.Spec{Name: "sim", Events: []string{"**"}, Endpoint: subscriptions.Endpoint{URL: "https://sim.example/hook"}}
	sub.Normalize()
	if edit != nil {
		edit(&sub.Spec)
	}
	return sub
}

func rowEvent(n, key int) store.Event {
	return store.Event{
		LSN: store.LSN(n), Time: time.Now().UnixMicro(), Generation: 1, Kind: store.KindRow, Type: "public.t.updated",
		Key: "public.t/id=" + strconv.Itoa(key), Source: "/sources/sim", Data: []byte(`{"n":` + strconv.Itoa(n) + `}`),
	}
}

// life runs a dispatcher until the returned function ends it; kill cuts it off
// where it stands, as a SIGKILL would: what it settles from then on is fenced.
func life(t *testing.T, m *memory, e http.RoundTripper) (end, kill func()) {
	t.Helper()
	return liveWith(t, m, e, limits{})
}

// liveWith is life with small limits.
func liveWith(t *testing.T, m *memory, e http.RoundTripper, l limits) (end, kill func()) {
	t.Helper()
	return liveAs(t, m, Config{Transport: e, Version: "sim", Drain: time.Minute, Logger: zerolog.Nop(), limits: l})
}

// liveAs is life with settings of one's own.
func liveAs(t *testing.T, m *memory, config Config) (end, kill func()) {
	t.Helper()
	d, err := newDispatcher(m, config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	end = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	kill = func() {
		m.mu.Lock()
		m.cut = true
		m.mu.Unlock()
		cancel()
		<-done
		m.restart()
	}
	return end, kill
}

// histories runs a simulation for so many seeds, each with its own chances: random
// is for what happens to it, chance for what the endpoint answers.
func histories(t *testing.T, seeds uint64, run func(t *testing.T, seed uint64, random, chance *rand.Rand)) {
	t.Helper()
	for seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				run(t, seed, rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2)))
			})
		})
	}
}

// upset leaves the outcome of some settlements in doubt, while some time passes.
func (m *memory) upset(random *rand.Rand) {
	m.mu.Lock()
	m.doubtful = random.IntN(3)
	m.mu.Unlock()
	time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
}

// sessionOver is a session that has not been started.
func sessionOver(t *testing.T, s keeper) *session {
	t.Helper()
	d, err := newDispatcher(s, Config{Transport: newEndpoint(nil)})
	if err != nil {
		t.Fatal(err)
	}
	return newSession(d, store.Lease{Instance: "sim", Epoch: 1})
}

// refusedUntil answers as an endpoint that refuses the log's first event for a time.
func refusedUntil(healed *atomic.Bool) func(store.Offset, int) (int, time.Duration) {
	return func(at store.Offset, _ int) (int, time.Duration) {
		if at == 1 && !healed.Load() {
			return 422, time.Millisecond
		}
		return 200, time.Millisecond
	}
}

// await lets simulated time pass until ok.
func await(t *testing.T, bound time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(bound); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("after %v of simulated time: not yet %s", bound, what)
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
	}
}

func TestARandomlyFailingEndpointGetsEverythingInOrderOfItsKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random, chance := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
		e := newEndpoint(func(string, int) (int, time.Duration) {
			status := 200
			if chance.IntN(10) < 3 {
				status = []int{500, 400, 503, 0}[chance.IntN(4)]
			}
			return status, time.Duration(chance.IntN(20)) * time.Millisecond
		})
		m := newMemory(simulated(func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 1000 }))
		end, _ := life(t, m, e)
		const events = 5000
		for n := range events {
			m.append(rowEvent(n, random.IntN(200)))
			if n%100 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		await(t, 2*time.Hour, "all delivered", func() bool { return e.delivered() == events })
		end()
		e.check(t, false)
		if len(m.deliveries) != 0 {
			t.Errorf("%d deliveries are left", len(m.deliveries))
		}
		if got := max(m.cursor, m.floor); got != events+1 {
			t.Errorf("cursor %d, want %d", got, events+1)
		}
	})
}

func TestNothingIsLostOrReorderedOverManyCrashes(t *testing.T) {
	t.Parallel()
	histories(t, 6, func(t *testing.T, seed uint64, random, chance *rand.Rand) {
		e := newEndpoint(func(string, int) (int, time.Duration) {
			status := 200
			if chance.IntN(10) < 2 {
				status = 500
			}
			return status, time.Duration(chance.ExpFloat64()*30) * time.Millisecond
		})
		m := newMemory(simulated(func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 1000; s.Retry.Max = s.Retry.Initial }))
		n := 0
		const lives = 30
		for range lives {
			_, kill := life(t, m, e)
			for range random.IntN(300) {
				m.append(rowEvent(n, random.IntN(20)))
				n++
				time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond)
			}
			time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
			kill()
		}
		end, _ := life(t, m, e)
		await(t, 2*time.Hour, "all delivered", func() bool { return e.delivered() == n })
		end()
		e.check(t, true)
		if len(m.deliveries) != 0 {
			t.Errorf("%d deliveries are left", len(m.deliveries))
		}
	})
}

func TestAFailingEventBlocksItsOwnKeyOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		poison := "01-0000000000000003-0"
		var healed atomic.Bool
		e := newEndpoint(func(id string, _ int) (int, time.Duration) {
			if id == poison && !healed.Load() {
				return 422, time.Millisecond
			}
			return 200, time.Millisecond
		})
		m := newMemory(simulated(func(s *subscriptions.Spec) {
			s.Retry.MaxAttempts = 1000
			s.Retry.MaxAge = subscriptions.Duration(1000 * time.Hour)
		}))
		end, _ := life(t, m, e)
		const events = 4000 // more than a window: what waits must not fill it
		for n := range events {
			m.append(rowEvent(n, n%10))
		}
		await(t, time.Hour, "all other keys delivered", func() bool { return e.delivered() == events*9/10 })
		healed.Store(true)
		await(t, 3*time.Hour, "the blocked key delivered", func() bool { return e.delivered() == events })
		end()
		e.check(t, false)
	})
}

func TestAnEventThatUsesUpItsBudgetBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		onDead subscriptions.OnDead
		want   int // delivered of ten of one key, of which the first is refused
	}{{subscriptions.Skip, 9}, {subscriptions.Block, 0}} {
		t.Run(string(tc.onDead), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var healed atomic.Bool
				e := newEndpoint(func(id string, _ int) (int, time.Duration) {
					if !healed.Load() && id == "01-0000000000000000-0" {
						return 400, 0
					}
					return 200, 0
				})
				m := newMemory(simulated(func(s *subscriptions.Spec) { s.Retry.MaxAttempts = 4; s.OnDead = tc.onDead }))
				end, _ := life(t, m, e)
				for n := range 10 {
					m.append(rowEvent(n, 0))
				}
				dead := func() bool {
					m.mu.Lock()
					defer m.mu.Unlock()
					return m.deliveries[1].State == store.Dead
				}
				await(t, time.Hour, "dead", dead)
				time.Sleep(time.Minute)
				if got := e.delivered(); got != tc.want {
					t.Errorf("%d delivered, want %d", got, tc.want)
				}
				if got := e.tries["01-0000000000000000-0"]; got != 4 {
					t.Errorf("%d tries, want 4", got)
				}
				// A restart remembers it, and a person's retry takes it up again.
				end()
				m.restart()
				end, _ = life(t, m, e)
				healed.Store(true)
				m.wish("retry", 1)
				await(t, time.Hour, "all delivered", func() bool { return e.delivered() == 10 })
				await(t, time.Minute, "no delivery left", func() bool {
					m.mu.Lock()
					defer m.mu.Unlock()
					return len(m.deliveries) == 0 && len(m.intents) == 0
				})
				end()
			})
		})
	}
}

// outliveStore takes the store away for two hours under load, in which at most so
// many events are delivered.
func outliveStore(t *testing.T, m *memory, e *endpoint, most int) {
	t.Helper()
	end, _ := life(t, m, e)
	for n := range 3000 {
		m.append(rowEvent(n, n%100))
	}
	await(t, time.Minute, "some delivered", func() bool { return e.delivered() > 500 })
	m.mu.Lock()
	m.down = errors.New("the store is down")
	m.mu.Unlock()
	time.Sleep(time.Hour)
	before := e.delivered()
	for n := range 3000 {
		m.append(rowEvent(3000+n, n%100))
	}
	time.Sleep(time.Hour)
	if after := e.delivered(); after-before > most {
		t.Errorf("%d events were delivered while nothing could be settled", after-before)
	}
	m.mu.Lock()
	m.down = nil
	m.mu.Unlock()
	await(t, time.Minute, "all delivered", func() bool { return e.delivered() == 6000 })
	end()
	e.check(t, false)
}

func TestAStoreThatIsDownStopsNeitherOrderNorMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(string, int) (int, time.Duration) { return 200, time.Millisecond })
		m := newMemory(simulated(nil))
		outliveStore(t, m, e, maxUnsettled)
	})
}

func TestAStragglerDoesNotHoldTheCursor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := "01-0000000000000000-0"
		e := newEndpoint(func(id string, _ int) (int, time.Duration) {
			if id == slow {
				return 200, 14 * time.Second
			}
			return 200, time.Millisecond
		})
		m := newMemory(simulated(nil))
		end, _ := life(t, m, e)
		for n := range 5000 {
			m.append(rowEvent(n, n%100))
		}
		await(t, 5*time.Second, "the cursor past the straggler", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return max(m.cursor, m.floor) > 4000 && m.deliveries[1].State == store.Retrying && m.deliveries[1].Attempts == 0
		})
		await(t, time.Minute, "all delivered", func() bool { return e.delivered() == 5000 })
		await(t, time.Minute, "no delivery left", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.deliveries) == 0
		})
		end()
		e.check(t, false)
	})
}

func TestAPausedSubscriptionHoldsAndGoesOnWhereItStood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(string, int) (int, time.Duration) { return 200, 5 * time.Millisecond })
		m := newMemory(simulated(nil))
		end, _ := life(t, m, e)
		set := func(state subscriptions.State) {
			m.mu.Lock()
			sub := m.sub
			m.mu.Unlock()
			sub.State = state
			if err := m.UpdateSubscription(t.Context(), &sub, sub.Version); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 1000 {
			m.append(rowEvent(n, n%50))
		}
		await(t, time.Minute, "some delivered", func() bool { return e.delivered() > 100 })
		set(subscriptions.Paused)
		time.Sleep(time.Second)
		held := e.delivered()
		for n := range 1000 {
			m.append(rowEvent(1000+n, n%50))
		}
		time.Sleep(24 * time.Hour)
		if got := e.delivered(); got != held {
			t.Errorf("%d events were delivered while paused", got-held)
		}
		set(subscriptions.Active)
		await(t, time.Minute, "all delivered", func() bool { return e.delivered() == 2000 })
		end()
		e.check(t, false)
	})
}

func TestGoneDisablesTheSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(func(string, int) (int, time.Duration) { return 410, 0 })
		m := newMemory(simulated(nil))
		end, _ := life(t, m, e)
		m.append(rowEvent(0, 0))
		await(t, time.Minute, "disabled", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.sub.State == subscriptions.Disabled && m.sub.StateReason != ""
		})
		time.Sleep(time.Hour)
		if got := len(e.got); got > 2 {
			t.Errorf("%d requests to an endpoint that is gone", got)
		}
		end()
		if m.cursor != 1 {
			t.Errorf("cursor %d, want 1: the event is held", m.cursor)
		}
	})
}
