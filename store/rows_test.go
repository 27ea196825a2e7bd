package store_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

// world is one database, and the instances on it.
type world struct {
	t      testing.TB
	config store.Config
	conn   *pgx.Conn
}

func newWorld(t testing.TB) *world {
	t.Helper()
	// Dead letters of tests died when the test says, which may be long ago.
	config := store.Config{URL: storetest.URL(t), Cipher: storetest.Cipher(t), DeadRetention: 100 * 365 * 24 * time.Hour}
	conn, err := pgx.Connect(t.Context(), config.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return &world{t: t, config: config, conn: conn}
}

// instance runs an instance, or the next life of one that was left. What is
// returned leaves it as a killed process does: its store keeps believing that
// it has the lease.
func (w *world) instance(name string) (s *store.Store, leave func()) {
	w.t.Helper()
	config := w.config
	config.Instance = name
	s = storetest.OpenIdle(w.t, config)
	leave = storetest.Run(w.t, s)
	w.t.Cleanup(leave)
	if _, err := s.Lease(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return s, leave
}

// expire ends the lease of an instance that was left, as time would.
func (w *world) expire(name string) {
	w.t.Helper()
	w.exec(`UPDATE rowcall.leases SET expires_at = now() - interval '1 second' WHERE instance = $1`, name)
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.conn.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// one is the single value that a query returns.
func one[T any](w *world, sql string, args ...any) T {
	w.t.Helper()
	var value T
	if err := w.conn.QueryRow(w.t.Context(), sql, args...).Scan(&value); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// plan is what the server says to EXPLAIN with options.
func (w *world) plan(options, sql string, args ...any) string {
	w.t.Helper()
	rows, err := w.conn.Query(w.t.Context(), "EXPLAIN "+options+" "+sql, args...)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, sql)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.t.Fatalf("%v\n%s", err, sql)
	}
	return strings.Join(lines, "\n")
}

// hash gives deliveries that order no key, and were put in by SQL, what Settle gives them.
func (w *world) hash() {
	w.t.Helper()
	w.exec(`UPDATE rowcall.deliveries d SET key_hash = hashtextextended(e.key, 0), old_key_hash = hashtextextended(e.old_key, 0)
FROM rowcall.events e WHERE d.keys = '{}' AND e."offset" = d."offset"`)
}

// subscribe makes a subscription that starts at offset at.
func subscribe(t testing.TB, s *store.Store, name string, at store.Start) *subscriptions.Subscription {
	t.Helper()
	sub := &subscriptions.Subscription{
		ID:      subscriptions.NewID(),
		Spec:    subscriptions.Spec{Name: name, Events: []string{"**"}, Endpoint: subscriptions.Endpoint{URL: "https://example.com/" + name}},
		Secrets: []subscriptions.Secret{subscriptions.NewSigningSecret()},
	}
	if err := s.CreateSubscription(t.Context(), sub, at); err != nil {
		t.Fatal(err)
	}
	return sub
}

// claim claims lanes and returns them by the name of their subscription.
func claim(t testing.TB, s *store.Store) map[string]store.Lane {
	t.Helper()
	lanes, _, err := s.ClaimLanes(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]store.Lane{}
	for _, l := range lanes {
		byName[l.Subscription.Name] = l
	}
	return byName
}

// settle settles what must neither be fenced nor refused.
func settle(t testing.TB, s *store.Store, set store.Settlement) {
	t.Helper()
	fenced, faulty, err := s.Settle(t.Context(), set)
	if err != nil || len(fenced)+len(faulty) > 0 {
		t.Fatalf("settle: fenced %v, faulty %v, error %v", fenced, faulty, err)
	}
}

// fill appends n events in one transaction, from offset 1.
func fill(t testing.TB, s *store.Store, n int) {
	t.Helper()
	mustAppend(t, s, source(t, s, "shop"), batch(100, n))
}

// cursors are the effective cursors by the name of the subscription.
func (w *world) cursors(s *store.Store) map[string]store.Offset {
	w.t.Helper()
	backlogs, err := s.Backlogs(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	found := map[string]store.Offset{}
	for _, b := range backlogs {
		found[one[string](w, `SELECT name FROM rowcall.subscriptions WHERE id = $1`, b.Subscription)] = b.Cursor
	}
	return found
}

// micro is a time as the database keeps it.
func micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// says fails unless do has every instance told of the topic.
func (w *world) says(topic store.Topic, do func()) {
	w.t.Helper()
	w.exec(`LISTEN rowcall`)
	do()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	for {
		said, err := w.conn.WaitForNotification(ctx)
		if err != nil {
			w.t.Fatalf("nothing was said of %s: %v", topic, err)
		}
		if said.Payload == string(topic) {
			break
		}
	}
	w.exec(`UNLISTEN rowcall`)
}

var compareSecrets = cmp.Comparer(func(a, b subscriptions.Secret) bool { return a.Equal(b) })

func diff(t *testing.T, what string, want, got any, options ...cmp.Option) {
	t.Helper()
	if d := cmp.Diff(want, got, append(options, compareSecrets)...); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}
