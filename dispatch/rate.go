package dispatch

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rowcall/rowcall/subscriptions"
)

// rates are the requests that subscriptions may get a second, by all of their
// lanes. They outlive lanes and sessions: one that is opened anew has spent what it
// had spent before. Safe for concurrent use.
type rates struct {
	mu   sync.Mutex
	byID map[subscriptions.ID]*rate.Limiter
}

func newRates() *rates { return &rates{byID: make(map[subscriptions.ID]*rate.Limiter)} }

// of is a subscription's limiter; nil: there is no limit.
func (r *rates) of(id subscriptions.ID, limit *subscriptions.RateLimit) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if limit == nil {
		delete(r.byID, id)
		return nil
	}
	limiter := r.byID[id]
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Limit(limit.PerSecond), burst(limit.PerSecond))
		r.byID[id] = limiter
	}
	if limiter.Limit() != rate.Limit(limit.PerSecond) {
		limiter.SetLimit(rate.Limit(limit.PerSecond))
		limiter.SetBurst(burst(limit.PerSecond))
	}
	return limiter
}

// forget drops what is kept of a subscription whose lane is not ours any more.
func (r *rates) forget(id subscriptions.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
}

// burst is how many requests may go at once after a pause: those of 20 ms, so
// that timers need not be exact, and a lane that is opened does not flood.
func burst(perSecond float64) int { return max(1, int(perSecond/50)) }

// paced reports whether the rate lets one more request go. Where it does not, the
// lane is woken when some may: at high rates not for each.
func (l *lane) paced(now time.Time) bool {
	return (l.rate == nil || l.pacedBy(l.rate, now)) && (l.replay == nil || l.pacedReplay(now))
}

// pacedReplay reports whether a replay's own rate, and live events, let one more
// request go.
func (l *lane) pacedReplay(now time.Time) bool {
	return (l.replay.pace == nil || l.pacedBy(l.replay.pace, now)) && (!l.s.yielding.applies(now) || l.pacedBy(l.s.yielding.limiter, now))
}

func (l *lane) pacedBy(limiter *rate.Limiter, now time.Time) bool {
	tokens := limiter.TokensAt(now)
	if tokens >= 1 {
		return true
	}
	want := max(1, float64(limiter.Burst())/2)
	wait := time.Duration((want - tokens) / float64(limiter.Limit()) * float64(time.Second))
	l.paceAt = now.Add(wait + time.Microsecond) // past what rounding takes off
	l.setTimer()
	return false
}
