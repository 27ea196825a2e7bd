package api

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rowcall/rowcall/store"
)

// anonymousActor stands in the audit trail for whoever has no key.
const anonymousActor = "anonymous"

// The audit trail gets a row for a burst of failed sign-ins, not for each of them,
// and no more rows than these, whatever the number of addresses that are tried
// from: it is never pruned.
const (
	burstsAtOnce = 10
	burstEvery   = time.Minute
)

// burstRows says which bursts get a row. It is safe for concurrent use.
type burstRows struct {
	mu      sync.Mutex
	limiter *rate.Limiter
	without int // since the last row
}

func newBurstRows() *burstRows {
	return &burstRows{limiter: rate.NewLimiter(rate.Every(burstEvery), burstsAtOnce)}
}

// take reports whether a burst gets a row, and how many before it got none.
func (b *burstRows) take(now time.Time) (row bool, without int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.limiter.AllowN(now, 1) {
		b.without++
		return false, 0
	}
	without, b.without = b.without, 0
	return true, without
}

// recordBurst has a burst of failed sign-ins audited; object is what was tried from,
// or the key that was tried.
func (a *API) recordBurst(ctx context.Context, object string, remote netip.Addr, wait time.Duration) {
	row, without := a.bursts.take(time.Now())
	if !row {
		return
	}
	note := fmt.Sprintf("more than %d sign-ins failed within a minute: held back for %s", failuresAllowed, wait)
	if without > 0 {
		note += fmt.Sprintf("; %d bursts before it have no row", without)
	}
	// Whoever hangs up is recorded too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyTimeout)
	defer cancel()
	ctx = store.WithChange(ctx, &store.Change{Actor: anonymousActor, Remote: remote.Unmap().String(), Action: "failed-sign-ins", Note: note})
	a.log.Warn().Str("object", object).Str("remote", remote.Unmap().String()).Dur("held_back", wait).Int("without_row", without).Msg("sign-ins fail in a burst")
	if err := a.store.Record(ctx, object); err != nil {
		a.log.Error().Err(err).Msg("burst of failed sign-ins is not in the audit trail")
	}
}
