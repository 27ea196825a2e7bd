package api

import (
	"sync"
	"time"
)

const (
	failuresAllowed = 10               // a minute
	firstBlock      = time.Minute      // doubles with every further burst
	longestBlock    = 15 * time.Minute // up to this
	maxTracked      = 10_000           // names counted at once
)

// failures counts failed sign-ins by name (an address, a key's id) and says
// when a name has had too many. It bounds its memory: at maxTracked names the
// one that failed longest ago is forgotten. The zero value is ready for use.
type failures struct {
	mu    sync.Mutex
	names map[string]*failureCount
}

type failureCount struct {
	since   time.Time // start of the minute that count is of
	count   int
	last    time.Time
	blocked time.Time // no further failure is looked at before
	bursts  int
}

// add counts a failure. It returns how long the name is to wait, 0 while it is
// within its allowance, and whether this failure made it so. Failures of a blocked
// name do not make its wait longer.
func (f *failures) add(name string, now time.Time) (wait time.Duration, began bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.names[name]
	if c == nil {
		if f.names == nil {
			f.names = map[string]*failureCount{}
		}
		if len(f.names) >= maxTracked {
			f.forget(now)
		}
		c = &failureCount{since: now}
		f.names[name] = c
	}
	if now.Sub(c.last) > 2*longestBlock {
		c.bursts = 0
	}
	c.last = now
	if now.Before(c.blocked) {
		return c.blocked.Sub(now), false
	}
	if now.Sub(c.since) >= time.Minute {
		c.since, c.count = now, 0
	}
	c.count++
	if c.count <= failuresAllowed {
		return 0, false
	}
	wait = min(firstBlock<<min(c.bursts, 10), longestBlock)
	c.bursts++
	c.blocked, c.since, c.count = now.Add(wait), now.Add(wait), 0
	return wait, true
}

// forget makes room: names that are over, else the one that failed longest ago.
func (f *failures) forget(now time.Time) {
	oldest, at := "", now.Add(time.Hour)
	for name, c := range f.names {
		if now.Sub(c.last) > 2*longestBlock {
			delete(f.names, name)
			continue
		}
		if c.last.Before(at) {
			oldest, at = name, c.last
		}
	}
	if len(f.names) >= maxTracked {
		delete(f.names, oldest)
	}
}
