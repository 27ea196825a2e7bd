package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Topic is a kind of change that other parts want to hear of.
type Topic string

const (
	TopicSubscriptions Topic = "subscriptions" // a subscription was made, changed or deleted
	TopicIntents       Topic = "intents"       // somebody asked for a retry or discard
	TopicGaps          Topic = "gaps"          // a gap was recorded or accepted
	TopicJobs          Topic = "jobs"          // a job was made, paused, resumed or cancelled
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

// changes are those who want to hear of topics.
type changes struct {
	mu        sync.Mutex
	listeners map[*listener]struct{}
}

// allTopics are sent after a time in which notifications may have been lost.
var allTopics = []Topic{TopicSubscriptions, TopicIntents, TopicGaps, TopicJobs}

// listener merges topics that come faster than they are read.
type listener struct {
	mu      sync.Mutex
	pending []Topic
	wake    chan struct{} // holds one
}

// Changes returns a channel that receives a topic after something of it
// changed, from whichever instance, and every topic once after the listening
// connection was lost. Topics that come faster than they are read are merged.
// stop ends it, waits for the end, and closes the channel.
func (s *Store) Changes() (changes <-chan Topic, stop func()) {
	l := &listener{wake: make(chan struct{}, 1)}
	s.changes.mu.Lock()
	if s.changes.listeners == nil {
		s.changes.listeners = map[*listener]struct{}{}
	}
	s.changes.listeners[l] = struct{}{}
	s.changes.mu.Unlock()

	out, quit, ended := make(chan Topic), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(out)
		l.forward(out, quit)
	}()
	return out, sync.OnceFunc(func() {
		s.changes.mu.Lock()
		delete(s.changes.listeners, l)
		s.changes.mu.Unlock()
		close(quit)
		<-ended
	})
}

// forward sends what is pending until quit is closed.
func (l *listener) forward(out chan<- Topic, quit <-chan struct{}) {
	for {
		select {
		case <-l.wake:
		case <-quit:
			return
		}
		for topic, ok := l.take(); ok; topic, ok = l.take() {
			select {
			case out <- topic:
			case <-quit:
				return
			}
		}
	}
}

func (l *listener) take() (Topic, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return "", false
	}
	topic := l.pending[0]
	l.pending = l.pending[1:]
	return topic, true
}

func (l *listener) put(topics ...Topic) {
	l.mu.Lock()
	for _, topic := range topics {
		if !slices.Contains(l.pending, topic) {
			l.pending = append(l.pending, topic)
		}
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// tell passes topics on to all listeners. It never waits for one.
func (c *changes) tell(topics ...Topic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for l := range c.listeners {
		l.put(topics...)
	}
}

// listen hears of heads and topics until ctx ends.
func (s *Store) listen(ctx context.Context) error {
	var streak streak
	for {
		err := s.listenOnce(ctx, func() { streak.note(s.log, "listen", nil) })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		streak.note(s.log, "listen", err)
		if err := sleep(ctx, streak.pause()); err != nil {
			return err
		}
	}
}

// listenSilence is how long the listening connection may be silent before it is
// asked for a sign of life: a connection that only reads does not notice that
// its peer hangs.
const listenSilence = 15 * time.Second

// listenOnce listens over one connection until it breaks, which is its error.
func (s *Store) listenOnce(ctx context.Context, connected func()) error {
	config, err := pgx.ParseConfig(s.config.URL)
	if err != nil {
		return fmt.Errorf("parse database url: %w", err)
	}
	harden(&config.Config)
	config.RuntimeParams["application_name"] = "rowcall listen"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	// Whatever was said before is lost to us.
	s.changes.tell(allTopics...)
	if err := s.readHead(ctx, conn); err != nil {
		return err
	}
	connected()
	for {
		silence, cancel := context.WithTimeout(ctx, listenSilence)
		said, err := conn.WaitForNotification(silence)
		cancel()
		switch {
		case err == nil:
			s.hear(said.Payload)
		case ctx.Err() != nil:
			return ctx.Err()
		case pgconn.Timeout(err) && !conn.IsClosed():
			alive, cancel := context.WithTimeoutCause(ctx, connectTimeout, errSlow)
			err := conn.Ping(alive)
			cancel()
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
		default:
			return fmt.Errorf("listen: %w", err)
		}
	}
}

// hear passes on one notification.
func (s *Store) hear(payload string) {
	if next, err := strconv.ParseInt(payload, 10, 64); err == nil {
		s.head.hear(Offset(next))
		return
	}
	if topic := Topic(payload); slices.Contains(allTopics, topic) {
		s.changes.tell(topic)
	}
}
