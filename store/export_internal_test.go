package store

import (
	"context"
	"errors"
)

// What tests of the package's outside cannot wait for.

// SetSpans bounds the partitions made from now on.
func (s *Store) SetSpans(least, most Offset) { s.spans = spans{least, most} }

// Retain does one round of retention; GrowAttempts makes the days' partitions.
func (s *Store) Retain(ctx context.Context) error       { return s.retain(ctx) }
func (s *Store) GrowAttempts(ctx context.Context) error { return s.growAttempts(ctx) }

// CountLog counts what was appended.
func (s *Store) CountLog(ctx context.Context) error { return s.countLog(ctx) }

// Bound frees room at the log's bound.
func (s *Store) Bound(ctx context.Context) error { return s.bound(ctx) }

// AnnounceLag says which sources lag.
func (s *Store) AnnounceLag(ctx context.Context) error { return s.announceLag(ctx) }

// BeginRetention does the first step of removing the oldest partition, as if the
// process was killed behind it.
func (s *Store) BeginRetention(ctx context.Context) error {
	var first, past Offset
	var name string
	var detaching bool
	err := s.pool.QueryRow(ctx, expiredPartitionSQL, s.config.Retention).Scan(&first, &past, &name, &detaching)
	return errors.Join(err, s.leavePartition(ctx, first, past, nil))
}

// LeavePartition is the step of retention in which deliveries get their events.
func (s *Store) LeavePartition(ctx context.Context, first, past Offset) error {
	return s.leavePartition(ctx, first, past, nil)
}

// KeepAndLeave does the steps of removing a partition up to that one, with what
// happens between them.
func (s *Store) KeepAndLeave(ctx context.Context, first, past Offset, between func()) error {
	kept, err := s.keepRanges(ctx, first, past)
	if err != nil {
		return err
	}
	between()
	return s.leavePartition(ctx, first, past, kept)
}

// DropJobs is dropJobs.
func (s *Store) DropJobs(ctx context.Context) error { return s.dropJobs(ctx) }

// ForgetBalances has all balances counted anew.
func (s *Store) ForgetBalances() {
	s.backlogs.mu.Lock()
	defer s.backlogs.mu.Unlock()
	s.backlogs.balances = balances{}
}

// DropRelationsSQL removes the versions of tables that nothing names.
const DropRelationsSQL = dropRelationsSQL
