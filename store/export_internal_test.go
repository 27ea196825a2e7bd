package store

import (
	"context"
	"errors"
	"fmt"
	"time"
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

// Summarize summarizes everywhere.
func (s *Store) Summarize(ctx context.Context) error { return s.summarize(ctx, 0, summarized{}) }

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

// ListSQL are the queries of a page of a list of deliveries between two places.
func (s *Store) ListSQL(ctx context.Context, f *DeliveryFilter, from, to DeliveryPlace) (sql [2]string, args [2][]any, err error) {
	runs, err := s.runs(ctx, f)
	sql[0], args[0] = reachSQL(runs, from, leastRows)
	sql[1], args[1] = deliveriesSQL(f, runs, from, to, 101)
	return sql, args, err
}

// LaneDeliveriesSQL reads what a lane has that is not dead.
const LaneDeliveriesSQL = laneDeliveriesSQL

// AttemptsSQL and EventsSQL are those of the other lists.
func (s *Store) AttemptsSQL(ctx context.Context, f *AttemptFilter, from, until time.Time) (string, []any, error) {
	of := *f
	_, err := s.selectLanes(ctx, &of)
	sql, args := attemptsSQL(&of, from, until, 101)
	return sql, args, err
}

func EventsSQL(f *EventFilter, from, past Offset) (string, []any) {
	return eventsSQL(f, from, past, 101, 1<<20)
}

// EventByPositionSQL finds events of the log, KeptByPositionSQL and KeptByPublicIDSQL
// those that only deliveries have.
const (
	EventByPositionSQL = eventByPositionSQL

	KeptByPositionSQL = keptByPositionSQL
	KeptByPublicIDSQL = keptByPublicIDSQL
)

// GroupsSQL groups deliveries that changed since a time, and counts their keys.
func GroupsSQL() [2]string {
	return [2]string{fmt.Sprintf(deliveryGroupsSQL, changedSince), fmt.Sprintf(groupKeysSQL, changedSince)}
}
