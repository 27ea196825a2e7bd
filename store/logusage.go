package store

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// LogUsage is what the log weighs, and who keeps it from getting lighter.
type LogUsage struct {
	LogStats
	Retention time.Duration
	OldestAt  time.Time // commit time of the oldest event; zero: there is none
	Pins      []LogPin  // the worst first
}

// LogPin is a lane that has not passed all of the log: retention keeps what lies
// from its cursor on.
type LogPin struct {
	Backlog
	Pinned int64 // bytes of the log on disk from the cursor on, by its share of the offsets
}

// LogUsage measures the log and names at most limit lanes that pin it.
func (s *Store) LogUsage(ctx context.Context, limit int) (LogUsage, error) {
	u := LogUsage{Retention: s.config.Retention}
	var err error
	if u.LogStats, err = s.LogStats(ctx); err != nil {
		return u, err
	}
	times, err := s.eventTimes(ctx, []Offset{u.Oldest})
	if err != nil {
		return u, fmt.Errorf("measure log: %w", err)
	}
	if at := times[u.Oldest]; at != 0 {
		u.OldestAt = time.UnixMicro(at).UTC()
	}
	lanes, err := s.Backlogs(ctx)
	if err != nil {
		return u, err
	}
	lanes = slices.DeleteFunc(lanes, func(b Backlog) bool { return b.Cursor >= u.Head })
	slices.SortStableFunc(lanes, func(a, b Backlog) int { return int(a.Cursor - b.Cursor) })
	for _, b := range lanes[:min(limit, len(lanes))] {
		share := float64(u.Head-max(b.Cursor, u.Oldest)) / float64(max(u.Head-u.Oldest, 1))
		u.Pins = append(u.Pins, LogPin{Backlog: b, Pinned: int64(share * float64(u.Bytes))})
	}
	return u, nil
}
