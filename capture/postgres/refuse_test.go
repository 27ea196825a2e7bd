package postgres_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rowcall/rowcall/capture/postgres"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// as is the source's address for another user or database.
func (w *world) as(user, password, database string) string {
	w.t.Helper()
	u, err := url.Parse(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	if user != "" {
		u.User = url.UserPassword(user, password)
	}
	if database != "" {
		u.Path = "/" + database
	}
	return u.String()
}

// role makes a role of the test's own.
func (w *world) role(suffix, options string) (name string) {
	w.t.Helper()
	name = w.name + suffix
	quoted := pgx.Identifier{name}.Sanitize()
	w.exec(`CREATE ROLE ` + quoted + ` LOGIN PASSWORD 'secret' ` + options)
	w.t.Cleanup(func() {
		ctx := context.WithoutCancel(w.t.Context())
		for _, sql := range []string{`DROP OWNED BY ` + quoted + ` CASCADE`, `DROP ROLE ` + quoted} {
			if _, err := w.source.Exec(ctx, sql); err != nil {
				w.t.Errorf("%s: %v", sql, err)
			}
		}
	})
	return name
}

func TestASourceThatCannotWorkIsRefusedWithItsRemedy(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		prepare func(w *world, config *postgres.Config)
		reason  string
		hint    string
	}{
		"wrong password": {func(w *world, config *postgres.Config) {
			config.URL = w.as(w.role("_r", ""), "wrong", "")
		}, "wrong user or password", "ROWCALL_SOURCE_URL"},
		"no TLS": {func(w *world, config *postgres.Config) {
			config.URL = strings.Replace(w.as("", "", ""), "sslmode=disable", "sslmode=require", 1)
		}, "speaks no TLS", "sslmode=disable into ROWCALL_SOURCE_URL"},
		"no such database": {func(w *world, config *postgres.Config) {
			config.URL = w.as("", "", "no_such_database")
		}, "no such database", "ROWCALL_SOURCE_URL"},
		"no right to replicate": {func(w *world, config *postgres.Config) {
			config.URL = w.as(w.role("_r", ""), "secret", "")
		}, "has no right to replicate", "REPLICATION;"},
		"no right to create the publication": {func(w *world, config *postgres.Config) {
			config.URL = w.as(w.role("_r", "REPLICATION"), "secret", "")
		}, "may not create a publication", "GRANT CREATE ON DATABASE"},
		"a publication for all tables": {func(w *world, config *postgres.Config) {
			w.exec(`CREATE PUBLICATION ` + pgx.Identifier{w.slot()}.Sanitize() + ` FOR ALL TABLES`)
		}, "FOR ALL TABLES", "DROP PUBLICATION"},
		"a publication of whole schemas": {func(w *world, config *postgres.Config) {
			w.exec(`CREATE PUBLICATION ` + pgx.Identifier{w.slot()}.Sanitize() + ` FOR TABLES IN SCHEMA public`)
		}, "whole schemas", "DROP PUBLICATION"},
		"a publication of our own tables": {func(w *world, config *postgres.Config) {
			w.exec(`CREATE SCHEMA rowcall`, `CREATE TABLE rowcall.events (n bigint PRIMARY KEY)`,
				`CREATE PUBLICATION `+pgx.Identifier{w.slot()}.Sanitize()+` FOR TABLE rowcall.events`)
		}, "its own writes", "DROP PUBLICATION"},
		"a slot that is not ours": {func(w *world, config *postgres.Config) {
			w.exec(`SELECT pg_create_logical_replication_slot('` + w.slot() + `', 'pgoutput')`)
		}, "another installation", "ROWCALL_SOURCE_NAME"},
		"a slot of another plugin": {func(w *world, config *postgres.Config) {
			w.exec(`SELECT pg_create_physical_replication_slot('` + w.slot() + `')`)
		}, "is not ours", "drop it"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
			config := w.config()
			test.prepare(w, &config)
			w.start(config)
			w.awaitRefusal(test.reason, test.hint)
		})
	}
}

func (w *world) awaitRefusal(reason, hint string) {
	w.t.Helper()
	src := w.awaitState(store.SourceRefused)
	if !strings.Contains(src.Reason, reason) || !strings.Contains(src.Hint, hint) {
		w.t.Errorf("refused because %q, hint %q; want %q and %q in them", src.Reason, src.Hint, reason, hint)
	}
}

func TestAServerThatCannotWorkIsRefusedAndReportedByCheck(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		settings map[string]string
		prepare  string
		reason   string
		hint     string
	}{
		"wal_level is replica": {
			map[string]string{"wal_level": "replica"},
			"SELECT",
			"wal_level is replica", "ALTER SYSTEM SET wal_level = 'logical'",
		},
		"no slot is left": {
			map[string]string{"max_replication_slots": "1"},
			"SELECT pg_create_physical_replication_slot('other')", "no replication slot is left", "max_replication_slots",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := storetest.Cluster(t, test.settings)
			w := newWorldAt(t, cluster.URL("postgres"), storetest.Open(t))
			w.exec(test.prepare)
			w.start(w.config())
			w.awaitRefusal(test.reason, test.hint)
			w.wantFinding(w.config(), "fault", test.reason)
		})
	}
}

func TestAWorkingSourceNeedsNoSuperuser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	role := w.role("_r", "REPLICATION")
	quoted := pgx.Identifier{role}.Sanitize()
	database := pgx.Identifier{strings.TrimPrefix(mustURL(t, w.url).Path, "/")}.Sanitize()
	w.exec(`GRANT CREATE ON DATABASE `+database+` TO `+quoted,
		`CREATE TABLE mine (n bigint PRIMARY KEY)`, `ALTER TABLE mine OWNER TO `+quoted,
		`CREATE TABLE theirs (n bigint PRIMARY KEY)`)
	config := w.config()
	config.URL = w.as(role, "secret", "")
	w.start(config)
	w.awaitState(store.SourceStreaming)
	w.exec(`INSERT INTO mine VALUES (1)`, `INSERT INTO theirs VALUES (2)`)
	w.awaitRows(1)
	if r := w.relation("theirs"); r.Captured || !strings.Contains(r.Remedy, "ADD TABLE") {
		t.Errorf("a table of another owner: %+v", r)
	}
	w.wantFinding(config, "warning", "theirs")
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestASlotHeldBySomebodyElseIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.capture()()
	free := w.hold("somebody")
	w.start(w.config())
	src := w.awaitState(store.SourceWaiting)
	if !strings.Contains(src.Reason, "in use by pid") || !strings.Contains(src.Reason, "somebody") {
		t.Errorf("waits because %q", src.Reason)
	}
	w.exec(`INSERT INTO things VALUES (1)`)
	free()
	w.awaitState(store.SourceStreaming)
	w.awaitRows(1)
}

func TestOurOwnFormerConnectionIsEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.capture()()
	w.hold("rowcall/" + w.name)
	w.exec(`INSERT INTO things VALUES (1)`)
	w.start(w.config())
	w.awaitRows(1)
}

// hold streams from the slot under a name of its own, confirming nothing.
func (w *world) hold(name string) (free func()) {
	w.t.Helper()
	config, err := pgconn.ParseConfig(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	config.RuntimeParams["replication"] = "database"
	config.RuntimeParams["application_name"] = name
	conn, err := pgconn.ConnectConfig(w.t.Context(), config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.eventually(func() string { // the one before may still be leaving
		err := pglogrepl.StartReplication(w.t.Context(), conn, w.slot(), 0, pglogrepl.StartReplicationOptions{
			Mode: pglogrepl.LogicalReplication, PluginArgs: []string{"proto_version '1'", fmt.Sprintf("publication_names '%s'", w.slot())},
		})
		if err != nil {
			return err.Error()
		}
		return ""
	})
	free = func() { _ = conn.Close(w.t.Context()) }
	w.t.Cleanup(func() { _ = conn.Close(w.t.Context()) })
	return free
}

// A pooler that knows nothing of replication says so in its own way.
func TestAPoolerInBetweenIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			backend := pgproto3.NewBackend(conn, conn)
			if _, err := backend.ReceiveStartupMessage(); err == nil {
				backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "unsupported startup parameter: lock_timeout"})
				_ = backend.Flush()
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	config := w.config()
	config.URL = "postgres://somebody@" + listener.Addr().String() + "/shop?sslmode=disable"
	w.start(config)
	w.awaitRefusal("pooler", "database server itself")
	w.wantFinding(config, "fault", "pooler")
}

func TestASourceThatIsDownIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := w.config()
	config.URL = "postgres://somebody@" + listener.Addr().String() + "/shop?sslmode=disable"
	_ = listener.Close()
	stop := w.start(config)
	w.awaitState(store.SourceWaiting)
	before := time.Now()
	stop()
	if took := time.Since(before); took > time.Second {
		t.Errorf("a capture that waits took %s to stop", took)
	}
}
