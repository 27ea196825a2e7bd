package web

import (
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

// ribbon is how the last 24 hours went: bands side by side in a box of 960 by 10,
// and the same in words.
type ribbon struct {
	Bands []band // oldest first; empty: not known
	Text  string
}

// band is a time in which all tries went alike.
type band struct {
	State             state
	From, To          time.Time
	X, Wid            int
	Delivered, Failed *int64 // nil: not known
}

// For is how long it was.
func (b band) For() time.Duration { return b.To.Sub(b.From) }

// Text says how they went, and how many there were.
func (b band) Text() string {
	text := b.State.Word
	if b.Delivered != nil && *b.Delivered > 0 {
		text += ", " + number(b.Delivered) + " delivered"
	}
	if b.Failed != nil && *b.Failed > 0 {
		text += ", " + number(b.Failed) + " failed"
	}
	return text
}

// How tries went, in the order in which a ribbon's words have it.
const (
	wentParked = iota
	wentNone
	wentRecovering
	wentSome
	wentFailed // nothing is kept of what did not
	wentAll
	wentNothing
	wentUnknown
)

func bandStates() []state {
	return []state{
		{"hold", "parked"},
		{"hold", "none delivered"},
		{"warn", "recovering"},
		{"warn", "some failed"},
		{"warn", "tries failed"},
		{"ok", "all delivered"},
		{"idle", "nothing sent"},
		{"idle", "not known"},
	}
}

// went says how tries went that were delivered, nil where only failures are kept,
// and failed.
func went(delivered *int64, failed int64) state {
	n := wentNothing
	switch {
	case delivered == nil && failed > 0:
		n = wentFailed
	case delivered == nil:
		n = wentUnknown
	case *delivered > 0 && failed > 0:
		n = wentSome
	case *delivered > 0:
		n = wentAll
	case failed > 0:
		n = wentNone
	}
	return bandStates()[n]
}

// ribbonOf draws how the tries of each quarter of an hour went. What is kept of an
// endpoint's health is how it is: that it stands, or recovers, is drawn since it does,
// and what it was before by its tries alone.
func ribbonOf(r *client.BoardRow, now time.Time) ribbon {
	if r.Day == nil {
		return ribbon{Text: unknown}
	}
	var as state
	since := now
	switch {
	case r.Since == nil:
	case r.Condition == "parked" || r.Condition == "probing":
		as, since = bandStates()[wentParked], *r.Since
	case r.Condition == "recovering":
		as, since = bandStates()[wentRecovering], *r.Since
	}
	var of ribbon
	for i := range r.Day.Failed {
		b := band{From: r.Day.From.Add(quarter * time.Duration(i)), Failed: &r.Day.Failed[i]}
		if r.Day.Delivered != nil {
			b.Delivered = &r.Day.Delivered[i]
		}
		b.To, b.State = b.From.Add(quarter), went(b.Delivered, *b.Failed)
		if b.To.After(now) {
			b.To = now
		}
		switch {
		case !since.Before(b.To):
		case since.After(b.From): // its counts stand where it was not yet
			before := b
			before.To, b.From = since, since
			of.add(before)
			b.State, b.Delivered, b.Failed = as, nil, nil
		default:
			b.State = as
		}
		of.add(b)
	}
	of.place(r.Day.From)
	return of
}

const (
	quarter    = 15 * time.Minute
	ribbonWide = 960
)

// add puts a band behind the others, or makes the last longer where it is alike.
func (r *ribbon) add(next band) {
	if len(r.Bands) == 0 || r.Bands[len(r.Bands)-1].State != next.State {
		r.Bands = append(r.Bands, next)
		return
	}
	last := &r.Bands[len(r.Bands)-1]
	last.To, last.Delivered, last.Failed = next.To, plus(last.Delivered, next.Delivered), plus(last.Failed, next.Failed)
}

// plus adds what is known.
func plus(a, b *int64) *int64 {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	return new(*a + *b)
}

// place says where bands lie, and all of them in words, worst first.
func (r *ribbon) place(from time.Time) {
	at := func(t time.Time) int { return int(t.Sub(from) * ribbonWide / (24 * time.Hour)) }
	lengths := map[state]time.Duration{}
	for i := range r.Bands {
		b := &r.Bands[i]
		b.X, b.Wid = at(b.From), at(b.To)-at(b.From)
		lengths[b.State] += b.For()
	}
	if n := len(r.Bands); n > 0 { // to the edge, and what is new is seen
		last := &r.Bands[n-1]
		last.X = min(last.X, ribbonWide-10)
		last.Wid = ribbonWide - last.X
	}
	var parts []string
	for _, s := range bandStates() {
		switch length := lengths[s]; {
		case length > 0 && len(lengths) == 1:
			parts = append(parts, s.Word)
		case length > 0:
			parts = append(parts, s.Word+" for "+words(length))
		}
	}
	r.Text = strings.Join(parts, ", ")
}
