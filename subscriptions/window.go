package subscriptions

import (
	"errors"
	"time"

	"github.com/robfig/cron/v3"
)

const (
	minWindow = time.Minute
	maxWindow = 7 * day
	// maxOpenings is how many openings in a row are looked at to see whether a
	// window closes between them.
	maxOpenings = 1000
)

// Openings are the times of a Window.
type Openings struct {
	cron   cron.Schedule
	length time.Duration
}

// ParseWindow reads a Window, in the bounds that Validate checks.
func ParseWindow(w Window) (Openings, error) {
	if err := checkCron(w.Cron); err != nil {
		return Openings{}, err
	}
	schedule, err := cron.ParseStandard(w.Cron) // checked above: it neither panics nor fails
	return Openings{cron: schedule, length: w.For.D()}, err
}

// At reports whether the window is open at a time, and until when that is
// certain: then it may close, or opens. It opens at the times of the expression,
// and closes once For has passed since, unless another opening follows at once.
// Where it never opens again, until is zero. Pure.
func (o Openings) At(now time.Time) (open bool, until time.Time) {
	// The first opening that is not over yet.
	first := o.cron.Next(now.UTC().Add(-o.length))
	switch {
	case first.IsZero():
		return false, time.Time{}
	case first.After(now):
		return false, first
	}
	return true, first.Add(o.length)
}

// checkWindow reports what keeps openings from making sense: they may follow each
// other at once, as Saturday and Sunday do, but not overlap, and a window that
// never closes is none. from, the moment from which openings are looked at, is of
// no account: any will do.
func checkWindow(w Window, from time.Time) error {
	o, err := ParseWindow(w)
	if err != nil {
		return err
	}
	closes := false
	at := o.cron.Next(from)
	for range maxOpenings {
		next := o.cron.Next(at)
		if next.IsZero() {
			return nil // within the years that a schedule looks ahead it opens once
		}
		if next.Sub(at) < o.length {
			return errors.New("must not be longer than the time between two openings")
		}
		closes = closes || next.Sub(at) > o.length
		at = next
	}
	if !closes {
		return errors.New("must be shorter: a window that never closes is none, and null says so")
	}
	return nil
}
