package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch/hooktest"
)

func TestBatchesArriveAsArraysInOrderThoughAThirdOfThemFails(t *testing.T) {
	t.Parallel()
	w, db := streaming(t, `CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL)`)
	r := hooktest.Start(t, hooktest.Config{})
	sub := w.subscribe(t, map[string]any{
		"name": "items", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()},
		"batch": map[string]any{"max_events": 50, "max_bytes": 32 << 10},
		"retry": map[string]any{"initial": "100ms", "max": "300ms", "max_attempts": 1000},
	})
	verified := hooktest.Start(t, hooktest.Config{Secrets: []string{sub.Secret}})
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 1))
	verified.Script(func(hooktest.Delivery) hooktest.Reply {
		mu.Lock()
		defer mu.Unlock()
		if random.IntN(10) < 3 {
			return hooktest.Reply{Status: []int{500, 503, 400, 422}[random.IntN(4)]}
		}
		return hooktest.Reply{}
	})
	if _, err := w.api.PatchSubscription(t.Context(), sub.ID, map[string]any{"endpoint": map[string]any{"url": verified.URL()}}, 0); err != nil {
		t.Fatal(err)
	}
	const items, rounds = 200, 10
	mustExec(t, db, `INSERT INTO items SELECT i, 0 FROM generate_series(1, $1) i`, items)
	for n := range rounds - 1 {
		mustExec(t, db, `UPDATE items SET n = $1`, n+1)
	}
	waitFor(t, 2*time.Minute, "everything has arrived", func() bool { return len(arrived(verified)) == items*rounds }, w.gateway.tail)

	// With max_wait, what is written one by one arrives together.
	if _, err := w.api.PatchSubscription(t.Context(), sub.ID, map[string]any{"batch": map[string]any{"max_wait": "5s"}}, 0); err != nil {
		t.Fatal(err)
	}
	verified.Script(nil)
	together := false
	for round := 0; round < 5 && !together; round++ { // the edit may take a moment
		before, total := len(verified.Deliveries()), items*rounds+3*(round+1)
		for n := range 3 {
			mustExec(t, db, `INSERT INTO items VALUES ($1, 0)`, items+1+3*round+n)
		}
		waitFor(t, time.Minute, "three more have arrived", func() bool { return len(arrived(verified)) == total }, w.gateway.tail)
		together = len(verified.Deliveries()) == before+1
	}
	if !together {
		t.Error("three events that could wait for each other never arrived together")
	}
	w.stop(t)
	for _, fault := range verified.Check() {
		t.Error(fault)
	}
	if twice := verified.Duplicates(); len(twice) > 0 {
		t.Errorf("%d events came twice", len(twice))
	}
	largest := 0
	for _, d := range verified.Deliveries() {
		largest = max(largest, len(d.Batch))
		if len(d.Batch) == 0 || len(d.Batch) > 50 || len(d.Body) > 32<<10 {
			t.Fatalf("a body of %d events and %d bytes", len(d.Batch), len(d.Body))
		}
	}
	if largest < 20 {
		t.Errorf("the largest batch has %d events", largest)
	}
}

func TestARefusedEventInABatchOfAThousandIsFoundAndAloneBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	w, db := streaming(t, `CREATE TABLE items (id bigint PRIMARY KEY)`)
	var mu sync.Mutex
	var refused []int // sizes
	isPoison := func(d hooktest.Delivery) bool { return bytes.Contains(d.Data, []byte(`"id":700}`)) }
	r := hooktest.Start(t, hooktest.Config{Reply: func(d hooktest.Delivery) hooktest.Reply {
		if !slices.ContainsFunc(d.Batch, isPoison) {
			return hooktest.Reply{}
		}
		mu.Lock()
		defer mu.Unlock()
		refused = append(refused, len(d.Batch))
		return hooktest.Reply{Status: 422, Body: "not this one"}
	}})
	sub := w.subscribe(t, map[string]any{
		"name": "items", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()},
		"batch": map[string]any{"max_events": 1000, "max_wait": "30s"},
		"retry": map[string]any{"initial": "100ms", "max_attempts": 2},
	})
	mustExec(t, db, `INSERT INTO items SELECT i FROM generate_series(1, 1000) i`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var dead []client.Delivery
	waitFor(t, time.Minute, "a dead letter", func() bool {
		page, err := w.api.Deliveries(ctx, client.DeliveryQuery{Subscription: sub.ID})
		dead = page.Items
		return err == nil && len(dead) == 1 && dead[0].State == "dead"
	}, w.gateway.tail)
	waitFor(t, time.Minute, "the others have arrived", func() bool { return len(arrived(r)) == 999 }, w.gateway.tail)

	mu.Lock()
	defer mu.Unlock()
	if len(refused) > 1+10+1 || refused[0] != 1000 || refused[len(refused)-1] != 1 {
		t.Errorf("refused were POSTs of %v events", refused)
	}
	if posts := r.Counts().Received; posts > 1+2*10+1 {
		t.Errorf("%d POSTs", posts)
	}
	if len(r.Duplicates()) > 0 {
		t.Errorf("%d events were accepted twice", len(r.Duplicates()))
	}
	// Each try of the event is in its history, the shared ones too.
	var poison hooktest.Delivery
	for _, d := range r.Events() {
		if isPoison(d) {
			poison = d
		}
	}
	tries, err := w.api.Attempts(ctx, client.AttemptQuery{Event: poison.ID})
	if err != nil || len(tries.Items) != len(refused) {
		t.Errorf("%d attempts of the event, want %d: %v", len(tries.Items), len(refused), err)
	}
	for _, a := range tries.Items {
		if first := a.Timings.FirstByte; first == nil || *first <= 0 || *first > a.DurationMS {
			t.Errorf("attempt %d took %v ms, of which it says %+v", a.Attempt, a.DurationMS, a.Timings)
		}
	}
	w.stop(t)
}
