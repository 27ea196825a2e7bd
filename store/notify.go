package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Topic is a kind of change that other parts want to hear of.
type Topic string

const (
	TopicSubscriptions Topic = "subscriptions" // a subscription was made, changed or deleted
	TopicIntents       Topic = "intents"       // somebody asked for a retry or discard
	TopicGaps          Topic = "gaps"          // a gap was recorded or accepted
)

// channel is the one channel that every instance listens on. Its payloads are
// topics, and the new head of the log in decimal digits.
const channel = "rowcall"

// querier is a connection, a pool or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const notifySQL = `SELECT pg_notify('rowcall', $1)`

// notify tells every instance that something of the topic changed, when the
// transaction q commits.
func (s *Store) notify(ctx context.Context, q querier, topic Topic) error {
	if _, err := q.Exec(ctx, notifySQL, string(topic)); err != nil {
		return fmt.Errorf("notify of %s: %w", topic, err)
	}
	return nil
}

// Changes returns a channel that receives a topic after something of it
// changed, from whichever instance, and every topic once after the listening
// connection was lost. Topics that come faster than they are read are merged.
func (s *Store) Changes() (changes <-chan Topic, stop func()) { panic("unwritten") }
