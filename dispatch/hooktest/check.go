package hooktest

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// place is where order is promised: the events of one key at one subscription.
type place struct{ subscription, key string }

// Duplicates returns, by subscription and webhook-id (in a batch: the event's
// own), the deliveries of events that were answered 2xx more than once.
func (r *Receiver) Duplicates() map[string][]Delivery {
	twice := make(map[string][]Delivery)
	for _, d := range r.Events() {
		if d.Succeeded() {
			id := d.Subscription + " " + d.WebhookID
			twice[id] = append(twice[id], d)
		}
	}
	maps.DeleteFunc(twice, func(_ string, ds []Delivery) bool { return len(ds) < 2 })
	return twice
}

// Disorder is a broken promise: Next was tried before Before, which comes first
// in the log and has the same key, was acknowledged.
type Disorder struct {
	Before, Next Delivery // their first attempts
	Never        bool     // Before never succeeded here: no fault if it ended as a dead letter
}

func (d Disorder) String() string {
	verb := "before"
	if d.Never {
		verb = "without"
	}
	return fmt.Sprintf("subscription %s, key %s: sequence %d tried %s the success of %d",
		d.Next.Subscription, d.Next.Key, d.Next.Sequence, verb, d.Before.Sequence)
}

// Disorders checks, per subscription and key, that the first success of each
// event came before each attempt of the next event that arrived here, or that the
// two were in one batch, in their order.
func (r *Receiver) Disorders() []Disorder {
	type event struct {
		first     Delivery
		all       []Delivery
		succeeded int // number of the first 2xx; 0: none
	}
	places := make(map[place]map[int64]*event)
	for _, d := range r.Events() {
		at := place{d.Subscription, d.Key}
		if places[at] == nil {
			places[at] = make(map[int64]*event)
		}
		e := places[at][d.Sequence]
		if e == nil {
			e = &event{first: d}
			places[at][d.Sequence] = e
		}
		e.all = append(e.all, d)
		if d.Succeeded() && (e.succeeded == 0 || d.Answered < e.succeeded) {
			e.succeeded = d.Answered
		}
	}
	rides := func(before, next Delivery) bool { return before.Arrived == next.Arrived && before.place < next.place }
	var faults []Disorder
	for _, events := range places {
		sequences := slices.Sorted(maps.Keys(events))
		for i := 1; i < len(sequences); i++ {
			before, next := events[sequences[i-1]], events[sequences[i]]
			early := slices.ContainsFunc(next.all, func(d Delivery) bool {
				return (before.succeeded == 0 || before.succeeded > d.Arrived) &&
					!slices.ContainsFunc(before.all, func(b Delivery) bool { return rides(b, d) })
			})
			if early || before.succeeded == 0 {
				faults = append(faults, Disorder{before.first, next.first, before.succeeded == 0})
			}
		}
	}
	slices.SortFunc(faults, func(a, b Disorder) int { return cmp.Compare(a.Next.Arrived, b.Next.Arrived) })
	return faults
}

// Check returns, as text, everything about the deliveries that rowcall never
// does, faults or not: a wrong signature, a changed body under the same id, an
// event tried before the one before it was acknowledged. Events that never
// succeeded are left to the caller (Disorders, Never).
func (r *Receiver) Check() []string {
	var faults []string
	bodies := make(map[string][]byte)
	for _, d := range r.Deliveries() {
		if d.Invalid != nil {
			faults = append(faults, fmt.Sprintf("delivery %s: %v", d.WebhookID, d.Invalid))
		}
		if first, seen := bodies[d.WebhookID]; !seen {
			bodies[d.WebhookID] = d.Body
		} else if !bytes.Equal(first, d.Body) {
			faults = append(faults, fmt.Sprintf("delivery %s: another body under the same id", d.WebhookID))
		}
	}
	for _, d := range r.Disorders() {
		if !d.Never {
			faults = append(faults, d.String())
		}
	}
	return faults
}
