package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

const (
	// holdGrace is how long a lane may go on after a start, or after a gap, before its
	// events are too old: they were held by nobody's endpoint. Where hold_limit.age is
	// shorter, it is that.
	holdGrace = time.Minute
	// holdShare is the part of hold_limit.age, at most a minute, that passes between
	// two times that a lane gives up what is too old: each has it opened anew.
	holdShare = 64
	// Reasons of dead ranges, and of deliveries that went with them.
	reasonHoldAge   = "hold_limit_age"
	reasonHoldBytes = "hold_limit_bytes"
	reasonLogFull   = "log_full"
)

// holdLimits is when lanes gave up what they held.
type holdLimits struct {
	begun time.Time // when the session did, or a gap was last found or accepted
	ends  map[store.LaneID]time.Time
}

// limitHolds has lanes give up what they have held for longer, or more of, than
// their hold_limit lets them, and what the bound of the log asks for. A lane
// does so between two lives: it is stopped, what is in flight ends and settles,
// then the store moves its cursor, and it is opened anew.
func (s *session) limitHolds(ctx context.Context) error {
	holdings, err := s.store.Holdings(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	before := map[time.Duration]store.Offset{} // offsets below which the log is older
	for _, h := range holdings {
		l := s.lanes[h.Lane]
		if l == nil || l.ending != nil || l.isDone() {
			continue
		}
		end, err := s.holdEnd(ctx, l, h, now, before)
		if err != nil {
			return err
		}
		if end == nil {
			continue
		}
		s.holds.ends[h.Lane] = now
		l.ending = end
		s.retire(l, false)
		defer s.reroute()
	}
	return nil
}

// holdEnd is what a lane is to give up; nil: nothing.
func (s *session) holdEnd(ctx context.Context, l *lane, h store.Holding, now time.Time, before map[time.Duration]store.Offset) (*store.HoldEnd, error) {
	end := &store.HoldEnd{Lane: l.id, Epoch: l.epoch}
	if h.MustPass > h.Cursor || h.Overflow != 0 && h.MustPass > h.Overflow {
		end.Past, end.Drop, end.Overflows, end.Reason = h.MustPass, true, true, reasonLogFull
		return end, nil
	}
	if l.replay != nil {
		return nil, nil // it holds nothing: it delivers again
	}
	limit := l.sub.Outage.HoldLimit
	end.Drop = limit.Then == subscriptions.HoldDrop
	age := limit.Age.D()
	// What was there before the subscription has been held since then.
	if now.Sub(l.sub.CreatedAt) > age && now.Sub(s.holds.begun) >= min(age, holdGrace) && now.Sub(s.holds.ends[h.Lane]) >= min(age/holdShare, time.Minute) {
		past, known := before[age]
		if !known {
			var err error
			if past, err = s.store.LoggedBefore(ctx, age); err != nil {
				return nil, err
			}
			before[age] = past
		}
		end.Rows = l.owesBefore(past)
		if end.Rows || past > h.Cursor && h.Waiting.Events > 0 {
			end.Past, end.Reason = past, reasonHoldAge
			return end, nil
		}
	}
	if limit.Bytes == nil || h.Waiting.Bytes <= *limit.Bytes {
		return nil, nil
	}
	held, err := s.store.CountHeld(ctx, l.sub.Events, h.Cursor, s.store.Head())
	if err != nil || held.Bytes <= *limit.Bytes {
		return nil, err
	}
	// An eighth is left free, or the next event would have the lane opened anew.
	past, err := s.store.LastBytes(ctx, l.sub.Events, h.Cursor, *limit.Bytes/8*7)
	if err != nil || past <= h.Cursor {
		return nil, err
	}
	end.Past, end.Reason = past, reasonHoldBytes
	return end, nil
}

// owesBefore reports whether the lane, while it cannot deliver, has a delivery
// that is not dead of an event below past. One that can leaves them to their
// retry schedule.
func (l *lane) owesBefore(past store.Offset) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heldFrom.IsZero() {
		return false
	}
	for at, e := range l.rows {
		if at < past && e.state != lying {
			return true
		}
	}
	return false
}

// endHold does what limitHolds decided for a lane, which has stopped and settled.
func (s *session) endHold(ctx context.Context, l *lane) error {
	if l.ending == nil || l.wasAbandoned() {
		return nil
	}
	ended, err := s.store.EndHold(ctx, *l.ending)
	if errors.Is(err, store.ErrFenced) {
		return nil // its next owner decides anew
	}
	if err != nil {
		return err
	}
	then, reason, n := subscriptions.HoldDeadLetter, l.ending.Reason, ended.Events.Events+ended.Deliveries
	if l.ending.Drop {
		then = subscriptions.HoldDrop
	}
	if n > 0 {
		if _, only := takesNotices(&l.sub); !only {
			s.notices.died(&l.sub, reason, ended.Range.From, n, l.ending.Drop)
		}
		s.metrics.heldEnded.WithLabelValues(then, reason).Add(float64(n))
		s.log.Warn().Str("subscription", string(l.sub.ID)).Str("reason", reason).Str("then", then).
			Int64("from", int64(ended.Range.From)).Int64("past", int64(ended.Range.Past)).
			Int64("events", n).Int64("bytes", ended.Events.Bytes).Msg("events were held for too long and are given up")
	}
	l.ending = nil
	return nil
}

func (l *lane) wasAbandoned() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.abandoned
}
