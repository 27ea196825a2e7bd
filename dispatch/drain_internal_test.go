package dispatch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// A stop waits for what is in flight, and may be cut short by a kill: what has
// landed by then is settled.
func TestWhatLandsDuringADrainIsSettledAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		e := newEndpoint(func(id string, _ int) (int, time.Duration) {
			if id == "01-0000000000000000-0" {
				return 200, 30 * time.Second
			}
			return 200, 5 * time.Second
		})
		m := newMemory(simulated(func(s *subscriptions.Spec) { s.Endpoint.Timeout = subscriptions.Duration(time.Minute) }))
		d, err := newDispatcher(m, Config{Transport: e, Drain: time.Minute, Logger: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		for n := range 3 {
			m.append(rowEvent(n, n))
		}
		await(t, time.Second, "all in flight", func() bool {
			e.mu.Lock()
			defer e.mu.Unlock()
			return len(e.posts) == 3
		})
		stop()
		await(t, 10*time.Second, "what has landed is settled", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			_, row := m.deliveries[1]
			return m.cursor == 4 && row || m.cursor == 1 && len(m.ahead) == 1 && m.ahead[0] == store.OffsetRange{From: 2, Past: 4}
		})
		if took := time.Since(began); took > 25*time.Second {
			t.Errorf("only after %v", took)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// However many events end between those that do not, all of them are remembered.
func TestNothingThatEndedAboveTheCursorIsForgotten(t *testing.T) {
	t.Parallel()
	var l lane
	const events = 8000
	for n := range events {
		e := &entry{offset: store.Offset(2*n + 1), state: flying}
		if n%2 == 1 {
			e.state = ended
		}
		l.window.push(e)
	}
	l.skip = []store.OffsetRange{{From: 3 * events, Past: 4 * events}}
	ranges := l.ahead()
	if len(ranges) != events/2+1 || ranges[events/2] != l.skip[0] {
		t.Errorf("%d ranges, want %d and what an earlier life left", len(ranges), events/2)
	}
}
