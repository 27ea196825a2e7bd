package postgres

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store/storetest"
)

func connect(t *testing.T, at string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

// To a role that may not see of others since when their transactions are open,
// they would all be open for 0s.
func TestWhoHoldsASlotUpIsNamedWithAnAgeOnlyWhereItIsKnown(t *testing.T) {
	t.Parallel()
	at, err := url.Parse(storetest.EmptyURL(t))
	if err != nil {
		t.Fatal(err)
	}
	su, holder, waiter := connect(t, at.String()), connect(t, at.String()), connect(t, at.String())
	run := func(c *pgx.Conn, sql string) {
		t.Helper()
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	role := strings.TrimPrefix(at.Path, "/") + "_plain"
	run(su, `CREATE ROLE `+quote(role)+` LOGIN PASSWORD 'secret'`)
	t.Cleanup(func() {
		if _, err := su.Exec(context.WithoutCancel(t.Context()), `DROP ROLE `+quote(role)); err != nil {
			t.Error(err)
		}
	})
	run(holder, `BEGIN; SELECT pg_advisory_xact_lock(1)`)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = waiter.Exec(ctx, `SELECT pg_advisory_lock(1)`)
	}()
	defer func() { cancel(); <-ended }()

	said := func() string {
		t.Helper()
		at.User = url.UserPassword(role, "secret")
		c, err := openOrdinary(t.Context(), Config{Name: "test", URL: at.String()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(30 * time.Second); ; <-tick.C {
			text, err := c.blocker(t.Context(), int32(waiter.PgConn().PID()))
			if err != nil {
				t.Fatal(err)
			}
			if text != "" {
				return text
			}
			if time.Now().After(end) {
				t.Fatal("nobody is waited for")
			}
		}
	}
	named := fmt.Sprintf("pid %d (", holder.PgConn().PID())
	remedy := "GRANT pg_monitor TO " + quote(role)
	if text := said(); !strings.HasPrefix(text, named) || !strings.Contains(text, remedy) || strings.Contains(text, "0s") {
		t.Errorf("without pg_monitor: %s", text)
	}
	run(su, remedy)
	if text := said(); !strings.HasPrefix(text, named) || !strings.Contains(text, "idle in transaction), open for ") || strings.Contains(text, "pg_monitor") {
		t.Errorf("with pg_monitor: %s", text)
	}
}
