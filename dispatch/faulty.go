package dispatch

import (
	"math/bits"
	"time"

	"github.com/rowcall/rowcall/store"
)

const (
	// faultSample is how many verdicts are remembered, and faultMost how many of
	// them may be failures of the expression before its lane holds: from then on
	// every event would become a row, for a fault that an edit mends.
	faultSample = 40
	faultMost   = 20
)

// faults are the last verdicts of an expression: a bit each, set where it failed.
type faults uint64

func (f *faults) add(failed bool) {
	*f <<= 1
	if failed {
		*f |= 1
	}
	*f &= 1<<faultSample - 1
}

func (f faults) tooMany() bool { return bits.OnesCount64(uint64(f)) >= faultMost }

// stick holds e until its subscription is edited, or a person retries it or
// discards it: an expression failed on it, and will again.
func (l *lane) stick(e *entry, fault error) {
	e.state = faulty
	e.reason, e.status, e.errText = faultReason(fault), 0, errorText(fault)
	e.due = time.Time{}
	if e.firstFailed.IsZero() {
		now := time.Now()
		e.firstFailed, e.heldMS = now, l.heldNow(now)
	}
	if !l.scolded {
		l.scolded = true
		l.s.log.Warn().Str("subscription", string(l.sub.ID)).Int64("offset", int64(e.offset)).Str("reason", string(e.reason)).
			Err(fault).Msg("an expression of the subscription fails: such events wait until it is edited")
	}
}

// feelFault takes note of a verdict, nil where there was one. When too many
// events fail, the lane holds.
func (l *lane) feelFault(sample *faults, fault error) {
	sample.add(fault != nil)
	if fault == nil || !sample.tooMany() || l.hold != HoldNone {
		return
	}
	l.hold, l.holdError = HoldFilter, errorText(fault)
	l.keepTime(time.Now())
	l.healthDirty = true
	l.reopen = true // without its window, and what of it was not looked at
	l.s.log.Warn().Str("subscription", string(l.sub.ID)).Str("reason", string(HoldFilter)).Err(fault).
		Msg("an expression fails on most events: the subscription is held until it is edited")
	l.mark()
	poke(l.s.reclaim)
}

// landFault holds e, on whose payload an expression failed: nothing was sent.
func (l *lane) landFault(e *entry, fault error) {
	if e.discarded {
		l.end(e)
		return
	}
	fresh := e.reason != faultReason(fault) // else it was counted when it failed first
	l.stick(e, fault)
	if e.waits == 0 || e.mustRow() {
		l.toRow(e)
	}
	l.unload(e)
	if fresh {
		l.feelFault(&l.transformSample, fault)
	}
}

func faultReason(fault error) Reason {
	if isTransform(fault) {
		return ReasonTransformError
	}
	return ReasonFilterError
}

// isFaulty reports whether a row waits for an edit that has not come.
func (l *lane) isFaulty(d *store.Delivery) bool {
	return d.State == store.Blocked && d.Version == l.sub.Version &&
		(d.Reason == string(ReasonFilterError) || d.Reason == string(ReasonTransformError))
}
