package store

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"
)

// streak is a run of failures of one thing: said once when it begins, and once
// when it ends.
type streak struct {
	failures int
	since    time.Time
}

// note counts an outcome and reports whether it was a failure.
func (k *streak) note(log zerolog.Logger, what string, err error) bool {
	switch {
	case err != nil:
		if k.failures == 0 {
			k.since = time.Now()
			log.Warn().Err(err).Str("doing", what).Msg("store fails, trying again")
		}
		k.failures++
	case k.failures > 0:
		log.Info().Str("doing", what).Int("failures", k.failures).Dur("dur", time.Since(k.since)).Msg("store works again")
		*k = streak{}
	}
	return err != nil
}

// pause is how long to wait before the next try: 50 ms doubled with every
// failure up to 5 s, less up to half of it at random.
func (k *streak) pause() time.Duration {
	most := min(50*time.Millisecond<<min(k.failures-1, 7), 5*time.Second)
	return most/2 + rand.N(most/2)
}

// sleep waits for d or for the end of ctx, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
