package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/rowcall/rowcall/store"
)

// The retry of a dead range is a replay of what the range has, as it was given up:
// its patterns and its filter, wherever its events are kept. It does not overflow
// and compacts nothing, so that whatever it is cut short at, a row names what it
// tried, and its cursor what it did not come to: that is the range's again.

// retries reports whether the lane retries a dead range.
func (r *replay) retries() bool { return r != nil && r.DeadRange != 0 }

// overflowing reports whether keys of the lane may overflow.
func (l *lane) overflowing() bool { return !l.rules.orders() && !l.replay.retries() }

// prepareReplay gives the subscription of a replay's lane what the replay asks
// for. What a retry that ended early leaves is its dead range's again.
func (s *session) prepareReplay(ctx context.Context, c *store.Lane) error {
	r := c.Replay
	switch {
	case r.DeadRange == 0 && r.Filter != nil:
		c.Subscription.Spec = c.Subscription.WithFilter(*r.Filter)
	case r.DeadRange != 0:
		c.Subscription.Filter, c.Subscription.Compact = r.Filter, false
		if r.State == store.JobCancelled || r.State == store.JobFailed {
			return s.store.ReturnDeadRange(ctx, c.ID, c.Epoch)
		}
	}
	return nil
}

// readFor reads the next page for a lane that reads by itself, with a permit;
// false: ctx has ended. The next one begins at next.
func (s *session) readFor(ctx context.Context, l *lane, permits chan struct{}) (events []store.Event, next store.Offset, ok bool) {
	if !l.replay.retries() {
		if events = s.read(ctx, l.position(), permits); events == nil {
			return nil, 0, false
		}
		return events, events[len(events)-1].Offset + 1, true
	}
	failing := false
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		select {
		case permits <- struct{}{}:
		case <-ctx.Done():
			return nil, 0, false
		}
		events, next, err := s.store.ReadRange(ctx, l.position(), l.replay.Past, pageEvents, smallPage)
		if err == nil {
			return events, next, true
		}
		<-permits
		if !failing && !errors.Is(err, context.Canceled) {
			failing = true
			s.log.Warn().Err(err).Str("replay", string(l.replay.Job)).Msg("cannot read the dead range, trying again")
		}
		select {
		case <-ctx.Done():
			return nil, 0, false
		case <-time.After(wait):
		}
	}
}
