package main

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch/hooktest"
)

// fails answers every delivery with 503.
func fails(hooktest.Delivery) hooktest.Reply {
	return hooktest.Reply{Status: http.StatusServiceUnavailable}
}

// health asks how a subscription's endpoint does.
func (w *world) health(t *testing.T, id string) client.EndpointHealth {
	t.Helper()
	h, err := w.api.SubscriptionHealth(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestItsProbesDecideWhenAnEndpointThatIsDownIsAsked(t *testing.T) {
	t.Parallel()
	w, db := streaming(t, `CREATE TABLE items (id bigint PRIMARY KEY)`)
	r := hooktest.Start(t, hooktest.Config{Reply: fails})
	sub := w.subscribe(t, map[string]any{
		"name": "items", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()},
		"outage": map[string]any{"probe": "1s..1s"},
	})
	const events = 100
	mustExec(t, db, `INSERT INTO items SELECT i FROM generate_series(1, $1) i`, events)
	down := func(h client.EndpointHealth) bool { return h.Health == "parked" || h.Health == "probing" }
	waitFor(t, time.Minute, "the endpoint is parked", func() bool { return down(w.health(t, sub.ID)) }, w.gateway.tail)
	before := r.Counts().Received
	waitFor(t, time.Minute, "it is probed every second", func() bool { return r.Counts().Received >= before+4 }, w.gateway.tail)

	// Half a year from now: but for the probe that follows an edit, there is none.
	far := time.Now().UTC().AddDate(0, 6, 0)
	cron := fmt.Sprintf("0 3 1 %d *", far.Month())
	patch := func(probe string) {
		t.Helper()
		body := map[string]any{"outage": map[string]any{"probe": probe}}
		if _, err := w.api.PatchSubscription(t.Context(), sub.ID, body, 0); err != nil {
			t.Fatal(err)
		}
	}
	patch(cron)
	var h client.EndpointHealth
	waitFor(t, time.Minute, "the next probe is the cron expression's", func() bool {
		h = w.health(t, sub.ID)
		return h.NextProbeAt != nil && h.NextProbeAt.After(time.Now().Add(24*time.Hour))
	}, w.gateway.tail)
	if next := h.NextProbeAt.UTC(); next.Month() != far.Month() || next.Day() != 1 || next.Hour() != 3 || next.Minute() != 0 || next.Second() > 0 {
		t.Errorf("with %q the next probe is at %v", cron, next)
	}
	if n := r.Counts().Received; n >= before+events/2 {
		t.Errorf("%d requests to an endpoint that is down", n-before)
	}
	if h.Health != "parked" || h.Since == nil || h.Reason == nil || *h.Reason != "unavailable" || h.Hold == nil || *h.Hold != "parked" ||
		h.HeldSince == nil || h.FailureRate == nil || *h.FailureRate < 0.5 || h.LastSuccessAt != nil || h.Backlog < events || h.Backlog > events+10 || h.Oldest == nil {
		t.Errorf("it says of its health: %+v", h)
	}

	r.Script(nil)
	if err := w.api.ProbeSubscription(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
	waitFor(t, time.Minute, "everything has arrived, after a probe that a person asked for", func() bool { return r.Counts().Succeeded >= events }, w.gateway.tail)
	waitFor(t, time.Minute, "it is healthy, and owed nothing", func() bool {
		h = w.health(t, sub.ID)
		return h.Health == "healthy" && h.Hold == nil && h.LastSuccessAt != nil && h.Backlog == 0
	}, func() string { return fmt.Sprintf("%+v", h) })
	if err := w.api.ProbeSubscription(t.Context(), sub.ID); !isConflict(err) {
		t.Errorf("probe of a healthy endpoint: %v", err)
	}
	w.stop(t)
	for _, fault := range r.Check() {
		t.Error(fault)
	}
}

func isConflict(err error) bool {
	problem, ok := errors.AsType[*client.Problem](err)
	return ok && problem.Type == client.Conflict
}

func TestItsWindowDecidesWhenAnEndpointGetsAnything(t *testing.T) {
	t.Parallel()
	w, db := streaming(t, `CREATE TABLE items (id bigint PRIMARY KEY)`)
	window := func(opened time.Time) map[string]any {
		return map[string]any{"cron": fmt.Sprintf("%d %d * * *", opened.Minute(), opened.Hour()), "for": "6h"}
	}
	shut, open := hooktest.Start(t, hooktest.Config{}), hooktest.Start(t, hooktest.Config{})
	now := time.Now().UTC()
	closed := w.subscribe(t, map[string]any{
		"name": "closed", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": shut.URL()}, "window": window(now.Add(-12 * time.Hour)),
	})
	w.subscribe(t, map[string]any{
		"name": "open", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": open.URL()}, "window": window(now.Add(-2 * time.Hour)),
	})
	const events = 50
	mustExec(t, db, `INSERT INTO items SELECT i FROM generate_series(1, $1) i`, events)
	waitFor(t, time.Minute, "those with an open window get it", func() bool { return open.Counts().Succeeded == events }, w.gateway.tail)
	var h client.EndpointHealth
	waitFor(t, time.Minute, "the other one's events are held", func() bool {
		h = w.health(t, closed.ID)
		return h.Hold != nil && *h.Hold == "window" && h.HeldSince != nil && h.OpensAt != nil && h.Backlog >= events
	}, func() string { return fmt.Sprintf("%+v", h) })
	if n := shut.Counts().Received; n > 0 {
		t.Errorf("%d requests while the window is closed", n)
	}
	if _, err := w.api.PatchSubscription(t.Context(), closed.ID, map[string]any{"window": window(now.Add(-time.Hour))}, 0); err != nil {
		t.Fatal(err)
	}
	waitFor(t, time.Minute, "it gets them once its window is open", func() bool { return shut.Counts().Succeeded == events }, w.gateway.tail)
	w.stop(t)
	for _, fault := range append(shut.Check(), open.Check()...) {
		t.Error(fault)
	}
}

func TestItsRateLimitSpreadsWhatAnEndpointGets(t *testing.T) {
	t.Parallel()
	w, db := streaming(t, `CREATE TABLE items (id bigint PRIMARY KEY)`)
	r := hooktest.Start(t, hooktest.Config{})
	w.subscribe(t, map[string]any{
		"name": "items", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()}, "rate_limit": map[string]any{"per_second": 20},
	})
	const events = 60
	mustExec(t, db, `INSERT INTO items SELECT i FROM generate_series(1, $1) i`, events)
	waitFor(t, time.Minute, "everything has arrived", func() bool { return r.Counts().Succeeded == events }, w.gateway.tail)
	// A busy machine may deliver late what was sent in time, and so bring requests
	// closer together: none of them further than the first and the last.
	at := r.Deliveries()
	if took, least := at[events-1].At.Sub(at[0].At), 2500*time.Millisecond; took < least {
		t.Errorf("%d requests within %v, want %v at 20 a second", events, took, least)
	}
	w.stop(t)
}
