package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

func TestTopicsReachEveryInstanceAndAreMerged(t *testing.T) {
	t.Parallel()
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t), Instance: "a"}
	a := storetest.OpenWith(t, config)
	config.Instance = "b"
	b := storetest.OpenWith(t, config)
	conn := connect(t, config.URL)
	for name, s := range map[string]*store.Store{"a": a, "b": b} {
		changes, stop := s.Changes()
		next := func() store.Topic {
			select {
			case topic := <-changes:
				return topic
			case <-time.After(20 * time.Second):
				t.Fatalf("%s: nothing heard", name)
				return ""
			}
		}
		// Until the listening connection stands, topics may go unheard: ask again.
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			for next() != store.TopicIntents {
			}
		}()
		wait(t, "a topic is heard", func() bool {
			exec(t, conn, `SELECT pg_notify('rowcall', 'intents')`)
			select {
			case <-heard:
				return true
			default:
				return false
			}
		})
		// A burst that nobody reads is one of each; what is no topic is none.
		exec(t, conn, `SELECT pg_notify('rowcall', 'subscriptions'), pg_notify('rowcall', 'nonsense'), pg_notify('rowcall', '')`)
		exec(t, conn, `SELECT pg_notify('rowcall', 'subscriptions'), pg_notify('rowcall', n::text) FROM generate_series(-3, 3) n`)
		exec(t, conn, `SELECT pg_notify('rowcall', 'gaps')`)
		var got []store.Topic
		for !slices.Contains(got, store.TopicGaps) || !slices.Contains(got, store.TopicSubscriptions) { // in any order
			got = append(got, next())
		}
		count := 0
		for _, topic := range got {
			if topic == store.TopicSubscriptions {
				count++
			}
		}
		if count < 1 || count > 2 || len(got) > 6 {
			t.Fatalf("%s: heard %v", name, got)
		}
		stop()
		stop()
		if _, open := <-changes; open {
			for range changes {
			}
		}
	}
}
